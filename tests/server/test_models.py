"""Flows that ask a language model: the endpoint, the blocks, and what blocks are told of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai_server import OpenAIServer, chunk, failure, openai_server, stream
from package_sources import write_files

from oomol_connect_sdk import (
    ApiError,
    OomolConnectClient,
    SyncOomolConnectClient,
    TaskFailedError,
)
from oomol_connect_sdk.models import Models, SyncModels
from oomol_connect_sdk.server import LocalServer

PACKAGE = {
    "package.oo.yaml": "name: letters\nversion: 1.0.0\n",
    "flows/answer/flow.oo.yaml": """
title: Answers a letter
nodes:
  - node_id: draft
    task: models::llm
    inputs_from:
      - {handle: system, value: Be kind.}
      - {handle: files, value: null}
      - {handle: messages, value: null}
      - {handle: model, value: null}
      - {handle: temperature, value: null}
      - {handle: max_tokens, value: null}
  - node_id: sign
    task: self::sign
    inputs_from:
      - {handle: text, from_node: [{node_id: draft, output_handle: text}]}
      - {handle: name, value: Ada}
""",
    "tasks/sign/task.oo.yaml": """
description: Signs a text.
executor: {name: python, options: {entry: sign.py}}
inputs_def:
  - {handle: text, json_schema: {type: string}}
  - {handle: name, description: Who signs., json_schema: {type: string}, value: Ada}
outputs_def: [{handle: signed}]
""",
    "tasks/sign/sign.py": """
def main(inputs, context):
    if not inputs["text"]:
        raise ValueError("nothing to sign")
    return {"signed": inputs["text"] + " -- " + inputs["name"]}
""",
    # As public blocks do it that know nothing of this package.
    "tasks/plain/task.oo.yaml": """
executor: {name: python, options: {entry: plain.py}}
outputs_def: [{handle: text}, {handle: variables}]
""",
    "tasks/plain/plain.py": """
import json, os, urllib.request

def main(inputs, context):
    service = context.oomol_llm_env
    body = {"model": service["models"][0], "messages": [{"role": "user", "content": "Hi"}]}
    request = urllib.request.Request(
        service["base_url_v1"] + "/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": "Bearer " + service["api_key"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        text = json.load(answer)["choices"][0]["message"]["content"]
    return {"text": text, "variables": dict(os.environ)}
""",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        server.keys = {"sk-upstream"}
        yield server


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages") / "letters"
    write_files(root, PACKAGE)
    return root


@pytest.fixture(scope="module")
def options(upstream: OpenAIServer) -> dict[str, Any]:
    return {"url": upstream.url, "api_key": "sk-upstream", "model": "gpt-4o-mini"}


@pytest.fixture(scope="module")
def server(letters: Path, options: dict[str, Any]) -> Iterator[LocalServer]:
    with LocalServer([letters], models=options) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[SyncOomolConnectClient]:
    with SyncOomolConnectClient(base_url=server.base_url, api_token=server.token) as client:
        yield client


@pytest.fixture(scope="module")
def told(client: SyncOomolConnectClient) -> dict[str, Any]:
    """What blocks are told of the endpoint."""
    result: dict[str, Any] = client.tasks.run({"blockId": "letters::plain"})["result"]
    return result


def logged(rows: list[Any]) -> str:
    return "".join(row["event"]["log"] for row in rows if row["type"] == "BlockLog")


async def test_a_flow_with_the_llm_block_runs_on_the_embedded_server(
    letters: Path, options: dict[str, Any], upstream: OpenAIServer
) -> None:
    heard: list[Any] = []
    async with OomolConnectClient.local(packages=[letters], models=options) as client:
        result = await client.tasks.run(
            {
                "flowName": "answer",
                "inputValues": [
                    {"nodeId": "draft", "inputs": [{"handle": "prompt", "value": "Dear you"}]}
                ],
            },
            {"on_log": heard.append},
        )
        assert (await client.models.chat("Directly")).text == "Echo: Directly"
    assert result["result"] == {"signed": "Echo: Dear you -- Ada"}
    assert "Echo: Dear you" in logged(heard)
    asked = upstream.calls[-2].json
    assert asked["model"] == "gpt-4o-mini"
    assert [message["content"] for message in asked["messages"]] == ["Be kind.", "Dear you"]


def test_the_same_flow_runs_on_a_server_of_its_own(
    letters: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_MODELS_API_KEY", options["api_key"])
    command = [sys.executable, "-m", "oomol_connect_sdk", "serve", "--port", "0"]
    command += ["--package", str(letters), "--models-url", options["url"]]
    command += ["--models-model", options["model"]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split()[-1]
            with SyncOomolConnectClient(base_url=address) as client:
                inputs = [{"nodeId": "draft", "inputs": [{"handle": "prompt", "value": "Hi"}]}]
                result = client.tasks.run({"flowName": "answer", "inputValues": inputs})
        finally:
            process.terminate()
            process.wait(30)
    assert result["result"] == {"signed": "Echo: Hi -- Ada"}
    assert "Echo: Hi" in logged(result["logs"])


def test_the_answer_is_logged_while_it_comes(
    client: SyncOomolConnectClient, upstream: OpenAIServer
) -> None:
    seen = threading.Event()

    def hear(row: Any) -> None:
        if row["type"] == "BlockLog" and "first" in row["event"]["log"]:
            seen.set()

    # The pieces are logged a few times a second.
    later = [chunk(" second"), lambda: seen.wait(30), chunk(" third"), chunk(finish="stop")]
    upstream.script(stream(chunk("first"), lambda: time.sleep(0.3), *later))
    result = client.tasks.run(
        {"blockId": "models::llm", "inputValues": {"prompt": "Go"}}, {"on_log": hear}
    )
    assert seen.is_set()
    assert result["result"]["text"] == "first second third"
    assert logged(result["logs"]) == "first second third"


def test_the_llm_block_goes_on_with_a_conversation_and_takes_files(
    client: SyncOomolConnectClient, upstream: OpenAIServer, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("a note", encoding="utf-8")
    first = client.tasks.run({"blockId": "models::llm", "inputValues": {"prompt": "One"}})
    assert first["result"]["usage"]["total_tokens"] == 12
    second = client.tasks.run(
        {
            "blockId": "models::llm",
            "inputValues": {
                "prompt": "Two",
                "messages": first["result"]["messages"],
                "files": [str(tmp_path / "note.txt")],
                "temperature": 0.5,
                "model": "text-only",
            },
        }
    )
    asked = upstream.calls[-1].json
    assert (asked["model"], asked["temperature"]) == ("text-only", 0.5)
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][-1]["content"][1]["file"]["filename"] == "note.txt"
    assert [m["role"] for m in second["result"]["messages"]][-1] == "assistant"


def test_the_agent_block_uses_other_blocks_as_tools(client: SyncOomolConnectClient) -> None:
    result = client.tasks.run(
        {
            "blockId": "models::llm-agent",
            "inputValues": {
                "prompt": 'call letters__sign {"text": "Dear", "name": "Bob"}\n'
                'call letters__sign {"text": ""}',
                "tools": ["letters::sign"],
            },
        }
    )["result"]
    assert '{"signed": "Dear -- Bob"}' in result["text"]
    assert "nothing to sign" in result["text"]
    good, bad = sorted(result["calls"], key=lambda call: "error" in call)
    assert good == {
        "block": "letters::sign",
        "inputs": {"text": "Dear", "name": "Bob"},
        "outputs": {"signed": "Dear -- Bob"},
    }
    assert "nothing to sign" in bad["error"]
    assert result["usage"]["requests"] == 2


def test_a_block_that_is_no_tool_is_named(client: SyncOomolConnectClient) -> None:
    with pytest.raises(TaskFailedError) as caught:
        client.tasks.run(
            {
                "blockId": "models::llm-agent",
                "inputValues": {"prompt": "x", "tools": ["letters::none"]},
            }
        )
    assert "letters::none" in str(caught.value.reason)


def test_public_blocks_find_the_endpoint_and_no_secret(told: dict[str, Any]) -> None:
    assert told["text"] == "Echo: Hi"
    names = {name for name in told["variables"] if name.startswith("OOMOL_")}
    assert names == {
        "OOMOL_LLM_API_KEY",
        "OOMOL_LLM_BASE_URL",
        "OOMOL_LLM_BASE_URL_V1",
        "OOMOL_LLM_MODELS",
    }
    assert "sk-upstream" not in str(told)


def test_the_endpoint_asks_for_its_own_key(server: LocalServer) -> None:
    path = f"{server.base_url}/llm/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    for headers in ({}, {"Authorization": server.token}, {"Authorization": "Bearer wrong"}):
        answer = httpx.post(path, json=body, headers=headers)
        assert answer.status_code == 401
    foreign = httpx.post(path, json=body, headers={"Host": "evil.example"})
    assert foreign.status_code == 400


def test_a_server_without_a_service_has_no_endpoint_and_no_blocks(letters: Path) -> None:
    with LocalServer([letters], token="") as server:
        assert httpx.post(f"{server.base_url}/llm/v1/chat/completions", json={}).status_code == 404
        blocks = httpx.get(f"{server.base_url}/v1/blocks").json()["blocks"]
        assert not [block for block in blocks if block["package"] == "models"]


@pytest.fixture(scope="module")
def endpoint(told: dict[str, Any]) -> dict[str, str]:
    """The variables by which the blocks of the server find the endpoint."""
    variables: dict[str, str] = told["variables"]
    return variables


def test_the_endpoint_is_a_service_like_any_other(
    endpoint: dict[str, str], upstream: OpenAIServer
) -> None:
    with SyncModels(
        endpoint["OOMOL_LLM_BASE_URL_V1"],
        api_key=endpoint["OOMOL_LLM_API_KEY"],
        model="gpt-4o-mini",
        max_retries=0,
    ) as models:
        assert models.chat("Hi").text == "Echo: Hi"
        assert "".join(piece.text for piece in models.stream("Two words")) == "Echo: Two words"
        assert [row["id"] for row in models.list()] == ["gpt-4o-mini", "text-only"]
        tools = [{"type": "function", "function": {"name": "f"}}]
        (call,) = models.chat('call f {"a": 1}', tools=tools).tool_calls
        assert (call.name, call.parsed()) == ("f", {"a": 1})


async def test_what_goes_wrong_upstream_is_told(
    endpoint: dict[str, str], upstream: OpenAIServer
) -> None:
    async with Models(
        endpoint["OOMOL_LLM_BASE_URL_V1"],
        api_key=endpoint["OOMOL_LLM_API_KEY"],
        model="m",
        max_retries=0,
    ) as models:
        upstream.script(failure(400, "no such model"))
        with pytest.raises(ApiError, match="no such model") as caught:
            await models.chat("Hi")
        assert caught.value.status == 400
        upstream.script(failure(401, "bad key"))
        with pytest.raises(ApiError, match="bad key") as caught:
            await models.chat("Hi")
        assert caught.value.status == 502
        upstream.script(failure(400, "not now"))
        with pytest.raises(ApiError, match="not now"):
            await anext(models.stream("Hi"))
        upstream.script(stream(chunk("par"), {"error": {"message": "broke", "code": 503}}))
        with pytest.raises(ApiError, match="broke"):
            [piece async for piece in models.stream("Hi")]
        for wrong in ({"messages": "x"}, {"messages": [], "tools": "os"}, {}):
            async with httpx.AsyncClient() as http:
                answer = await http.post(
                    endpoint["OOMOL_LLM_BASE_URL_V1"] + "/chat/completions",
                    json=wrong,
                    headers={"Authorization": f"Bearer {endpoint['OOMOL_LLM_API_KEY']}"},
                )
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_reader_that_goes_away_ends_the_stream_upstream(
    endpoint: dict[str, str], upstream: OpenAIServer
) -> None:
    upstream.script(stream(*[chunk("x")] * 200_000))
    async with Models(
        endpoint["OOMOL_LLM_BASE_URL_V1"], api_key=endpoint["OOMOL_LLM_API_KEY"], model="m"
    ) as models:
        pieces = models.stream("Hi")
        await anext(pieces)
        await pieces.aclose()
    await asyncio.to_thread(upstream.wait_for, lambda: upstream._busy == 0)
