"""Blocks and flows of a real local server as tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import OpenAIServer

from oomol_connect_sdk import OomolConnectClient, OomolConnectError, SyncOomolConnectClient
from oomol_connect_sdk.models import (
    ChatAgent,
    RuntimeConfig,
    SyncChatAgent,
    block_tool,
)

pytest.importorskip("starlette", reason="part of the server extra")

PACKAGE = {
    "package.oo.yaml": "name: words\nversion: 1.0.0\n",
    "tasks/count/task.oo.yaml": """
description: Counts the words of a text.
executor: {name: python, options: {entry: count.py}}
inputs_def:
  - {handle: text, json_schema: {type: string, "ui:widget": text}}
  - {handle: least, description: The shortest word, json_schema: {type: integer}, value: 1}
outputs_def: [{handle: words}]
""",
    "tasks/count/count.py": """
def main(inputs, context):
    if not inputs["text"]:
        raise ValueError("there is no text")
    return {"words": sum(len(word) >= inputs["least"] for word in inputs["text"].split())}
""",
    "flows/twice/flow.oo.yaml": """
description: Counts twice.
nodes:
  - {node_id: first, task: "self::count", inputs_from: [{handle: least, value: 1}]}
  - node_id: second
    task: self::count
    inputs_from:
      - {handle: text, value: a bb ccc dddd}
      - {handle: least, from_node: [{node_id: first, output_handle: words}]}
""",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages") / "words"
    for name, text in PACKAGE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def client(package: Path) -> Iterator[SyncOomolConnectClient]:
    with SyncOomolConnectClient.local(packages=[package]) as client:
        yield client


def test_a_block_is_described_by_its_manifest(client: SyncOomolConnectClient) -> None:
    tool = block_tool(client, "words::count")
    assert tool.definition()["function"] == {
        "name": "words__count",
        "description": "Counts the words of a text.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "least": {"type": "integer", "description": "The shortest word"},
            },
            "required": ["text"],
        },
    }
    named = block_tool(client, "words::count", name="count words!", description="Count.")
    assert (named.name, named.description) == ("count_words_", "Count.")


def test_a_flow_offers_the_open_inputs_of_its_nodes(client: SyncOomolConnectClient) -> None:
    tool = block_tool(client, "twice")
    assert list(tool.parameters["properties"]) == ["first.text"]
    assert tool.handler is not None
    assert tool.handler(**{"first.text": "a b c"}) == {"words": 2}


def test_a_block_that_is_not_there_is_named(client: SyncOomolConnectClient) -> None:
    with pytest.raises(OomolConnectError, match="no block and no flow 'words::none'"):
        block_tool(client, "words::none")


def test_a_model_runs_a_block_as_a_task(
    client: SyncOomolConnectClient, openai: OpenAIServer
) -> None:
    models = SyncOomolConnectClient(
        base_url="http://unused", models={"url": openai.url, "api_key": "k", "model": "m"}
    ).models
    with SyncChatAgent(models, RuntimeConfig(display_stream_output=False)) as agent:
        agent.register_tool(block_tool(client, "words::count"))
        assert agent.chat('call words__count {"text": "a bb ccc", "least": 2}') == (
            'Tools: {"words": 2}'
        )
        failed = agent.chat('call words__count {"text": ""}')
        assert "TaskFailedError" in failed
        assert "there is no text" in failed
    models.close()


async def test_the_same_on_the_asynchronous_face(package: Path, openai: OpenAIServer) -> None:
    options: Any = {"url": openai.url, "api_key": "k", "model": "m"}
    async with OomolConnectClient.local(packages=[package], models=options) as client:
        agent = ChatAgent(client.models, RuntimeConfig(display_stream_output=False))
        agent.register_tool(await block_tool(client, "words::count"))
        answer = await agent.chat(
            'call words__count {"text": "a b"}\ncall words__count {"text": "a b c"}'
        )
        assert answer == 'Tools: {"words": 2} | {"words": 3}'
