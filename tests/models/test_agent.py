"""Conversations: memory, files, tools, callbacks, counts, captures and configuration files."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import (
    BREAK,
    OpenAIServer,
    chunk,
    completion,
    failure,
    respond,
    stream,
    tool_call,
    usage_chunk,
)

from oomol_connect_sdk import ApiError, ToolError
from oomol_connect_sdk.models import (
    ChatAgent,
    ModelConfig,
    Models,
    Reply,
    RuntimeConfig,
    SyncChatAgent,
    SyncModels,
    Tool,
)
from oomol_connect_sdk.models.exchanges import logger

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20

Make = Callable[..., Any]


@pytest.fixture
def agent(models_face: ModelsFace, openai: OpenAIServer) -> Make:
    """Make agents of one face that ask the server and print nothing unless told to."""

    def make(runtime: RuntimeConfig | None = None, **config: Any) -> Any:
        kind = SyncChatAgent if models_face.blocking else ChatAgent
        settings = {"api_base_url": openai.url, "api_key": "sk-hidden", "model": "m", **config}
        quiet = RuntimeConfig(display_stream_output=False)
        return models_face.wrap(kind(ModelConfig(**settings), runtime or quiet))

    return make


@pytest.fixture
def own_logger() -> Iterator[logging.Logger]:
    """The package's logger, put back as it was."""
    handlers, level = list(logger.handlers), logger.level
    yield logger
    for handler in [item for item in logger.handlers if item not in handlers]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def said(server: OpenAIServer, number: int = -1) -> list[Any]:
    messages: list[Any] = server.calls[number].json["messages"]
    return messages


def test_a_conversation_is_remembered_with_its_system_prompt(
    agent: Make, openai: OpenAIServer
) -> None:
    it = agent()
    it.set_system_prompt("Be brief.")
    assert it.chat("My name is Ada.") == "Echo: My name is Ada."
    assert it.chat("What is my name?") == "Echo: What is my name?"
    assert [(m["role"], m["content"]) for m in said(openai)] == [
        ("system", "Be brief."),
        ("user", "My name is Ada."),
        ("assistant", "Echo: My name is Ada."),
        ("user", "What is my name?"),
    ]
    it.clear_history()
    it.add_message("user", "Before.")
    it.chat("Now.")
    assert [m["content"] for m in said(openai)] == ["Be brief.", "Before.", "Now."]


def test_the_parameters_of_the_model_are_sent_and_can_be_changed_for_a_call(
    agent: Make, openai: OpenAIServer
) -> None:
    it = agent(max_tokens=20, seed=3, stop=["\n"], reasoning_effort="low")
    it.chat("Hi", temperature=0.1)
    body = openai.calls[-1].json
    assert {key: body[key] for key in body if key != "messages"} == {
        "model": "m",
        "temperature": 0.1,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "max_tokens": 20,
        "seed": 3,
        "stop": ["\n"],
        "reasoning_effort": "low",
    }


def test_a_turn_that_fails_leaves_the_conversation_as_it_was(
    agent: Make, openai: OpenAIServer
) -> None:
    it = agent()
    it.chat("One")
    openai.script(failure(400, "no"), stream(chunk("par"), BREAK, done=False))
    with pytest.raises(ApiError, match="no"):
        it.chat("Two")
    with pytest.raises(ApiError):
        list(it.chat_stream("Three"))
    assert [message["content"] for message in it.history] == ["One", "Echo: One"]
    assert it.get_stats()["errors"] == 2


def test_images_and_videos_go_with_the_question(
    agent: Make, openai: OpenAIServer, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "cat.mp4").write_bytes(b"moving")
    (tmp_path / "cat.pdf").write_bytes(b"%PDF")
    it = agent()
    it.chat("What?", [tmp_path / "cat.png"], [tmp_path / "cat.mp4"], files=["cat.pdf"])
    text, image, video, file = said(openai)[0]["content"]
    assert text == {"type": "text", "text": "What?"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert video["video_url"]["url"] == "data:video/mp4;base64,bW92aW5n"
    assert file["file"]["filename"] == "cat.pdf"
    with pytest.raises(ValueError, match=r"'cat\.pdf' is no image"):
        it.chat("What?", ["cat.pdf"])
    with pytest.raises(FileNotFoundError):
        it.chat("What?", ["dog.png"])
    assert len(openai.calls) == 1


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """Tell the weather."""
    return {"city": city, "days": days, "sky": "clear"}


def test_tools_are_called_until_the_model_answers(agent: Make, openai: OpenAIServer) -> None:
    it = agent()
    it.register_tool(weather)
    it.register_tool(
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},
        lambda a, b: a + b,
    )
    answer = it.chat('call weather {"city": "Kyoto"}\ncall add {"a": 1, "b": 2}')
    assert answer == 'Tools: {"city": "Kyoto", "days": 1, "sky": "clear"} | 3'
    calls, first, second = said(openai)[1:]
    assert [call["function"]["name"] for call in calls["tool_calls"]] == ["weather", "add"]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("call_0", "call_1")
    offered = openai.calls[0].json["tools"]
    assert offered[0]["function"]["parameters"]["required"] == ["city"]
    assert [message["role"] for message in it.history] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]


def test_tools_are_called_in_a_stream_whose_pieces_are_joined(
    agent: Make, openai: OpenAIServer
) -> None:
    openai.script(
        stream(
            chunk("Let me see. "),
            chunk(tools=[tool_call(0, "weather", "")]),
            chunk(tools=[tool_call(1, "weather", '{"city": ')]),
            chunk(tools=[tool_call(0, None, '{"city": "Kyoto"}', None)]),
            chunk(tools=[tool_call(1, None, '"Oslo"}', None)]),
            chunk(finish="stop"),
            usage_chunk(),
        )
    )
    it = agent()
    it.register_tool(weather)
    text = "".join(it.chat_stream("Weather?"))
    assert text.startswith('Let me see. Tools: {"city": "Kyoto"')
    assert '"Oslo"' in text
    assert [m.get("content") for m in said(openai)][1] == "Let me see. "


async def test_several_tools_run_at_once(openai: OpenAIServer) -> None:
    both, arrived = asyncio.Event(), []

    async def meet(name: str) -> str:
        arrived.append(name)
        if len(arrived) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 10)
        return name

    async with ChatAgent(ModelConfig(api_base_url=openai.url, api_key="k")) as it:
        it.register_tool(meet)
        answer = await it.chat('call meet {"name": "a"}\ncall meet {"name": "b"}')
    assert answer == "Tools: a | b"


def test_a_coroutine_tool_works_on_both_faces(agent: Make) -> None:
    async def slow(word: str) -> str:
        await asyncio.sleep(0)
        return word.upper()

    it = agent()
    it.register_tool(slow)
    assert it.chat('call slow {"word": "yes"}') == "Tools: YES"


def test_what_goes_wrong_with_a_tool_is_told_to_the_model(
    agent: Make, openai: OpenAIServer
) -> None:
    def broken() -> None:
        raise RuntimeError("out of order")

    it = agent()
    it.register_tool(broken)
    it.register_tool(weather)
    assert it.chat("call broken") == "Tools: Error: RuntimeError: out of order"
    assert "there is no tool 'nothing', only broken, weather" in it.chat("call nothing")
    assert "unexpected keyword argument 'x'" in it.chat('call weather {"city": "x", "x": 1}')
    openai.script(respond(completion(None, tools=[("weather", "[not json")])))
    assert "no JSON object" in it.chat("go")


def test_a_tool_error_of_a_handler_ends_the_chat(agent: Make) -> None:
    def forbidden() -> None:
        raise ToolError("not today")

    it = agent()
    it.register_tool(forbidden)
    with pytest.raises(ToolError, match="not today"):
        it.chat("call forbidden")
    assert it.history == []


def test_a_model_that_never_stops_calling_tools_is_stopped(
    agent: Make, openai: OpenAIServer
) -> None:
    it = agent(RuntimeConfig(max_tool_iterations=2, display_stream_output=False))
    it.register_tool(weather)
    again = completion(None, tools=[("weather", {"city": "x"})])
    openai.script(*[respond(again)] * 3)
    with pytest.raises(ToolError, match="after 2 rounds"):
        it.chat("go")
    assert len(openai.calls) == 3


def test_a_tool_without_a_handler_is_refused(agent: Make) -> None:
    it = agent()
    with pytest.raises(ValueError, match="'bare' needs a handler"):
        it.register_tool(Tool("bare"))
    it.register_tool(Tool("bare"), lambda: "here")
    assert it.chat("call bare") == "Tools: here"
    it.clear_tools()
    assert it.chat("call bare") == "Echo: call bare"


def test_a_stream_is_shown_when_that_is_wanted(
    agent: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "".join(agent(RuntimeConfig()).chat_stream("Hello there")) == "Echo: Hello there"
    assert capsys.readouterr().out == "Echo: Hello there\n"
    list(agent().chat_stream("Hello"))
    assert capsys.readouterr().out == ""


def test_callbacks_get_every_reply_and_every_piece_and_can_harm_nothing(
    agent: Make, caplog: pytest.LogCaptureFixture
) -> None:
    replies: list[Reply] = []
    pieces: list[str] = []

    def hear(piece: Any) -> None:
        pieces.append(piece.text)
        raise RuntimeError("deaf")

    it = agent(
        RuntimeConfig(
            response_callback=replies.append,
            stream_chunk_callback=hear,
            display_stream_output=False,
        )
    )
    it.register_tool(weather)
    it.chat('call weather {"city": "x"}')
    assert "".join(it.chat_stream("Two words")) == "Echo: Two words"
    assert [bool(reply.tool_calls) for reply in replies] == [True, False, False]
    assert replies[-1].text == "".join(pieces) == "Echo: Two words"
    assert "deaf" in caplog.text


def test_tokens_times_and_errors_are_counted(agent: Make, openai: OpenAIServer) -> None:
    it = agent()
    it.chat("One")
    list(it.chat_stream("Two"))
    openai.script(failure(400, "no"), respond(completion(usage=None)))
    with pytest.raises(ApiError):
        it.chat("Three")
    it.chat("Four")
    summary = it.get_stats()
    assert summary["seconds"] > 0
    assert summary["average_seconds"] == summary["seconds"] / 4
    assert {key: summary[key] for key in summary if "seconds" not in key} == {
        "requests": 4,
        "successes": 3,
        "errors": 1,
        "success_rate": 0.75,
        "prompt_tokens": 14,
        "completion_tokens": 10,
        "total_tokens": 24,
        "uncounted": 1,
    }
    it.stats.reset()
    assert it.get_stats()["requests"] == 0


def test_counting_can_be_left_out(agent: Make) -> None:
    it = agent(RuntimeConfig(capture_token_usage=False, capture_latency=False))
    it.chat("One")
    assert it.get_stats()["total_tokens"] == 0
    assert it.get_stats()["seconds"] == 0


def test_traffic_is_logged_without_its_secrets(
    agent: Make, own_logger: logging.Logger, tmp_path: Path
) -> None:
    it = agent(
        RuntimeConfig(
            enable_logging=True,
            save_logs_to_file="traffic.log",
            capture_http_traffic=True,
            display_stream_output=False,
        )
    )
    it.chat("A question")
    text = (tmp_path / "traffic.log").read_text(encoding="utf-8")
    assert "A question" in text
    assert "Echo: A question" in text
    assert "/chat/completions" in text
    assert "sk-hidden" not in text
    assert logging.getLogger().handlers == logging.root.handlers


def test_debugging_saves_each_exchange_as_a_file(agent: Make, tmp_path: Path) -> None:
    it = agent(RuntimeConfig(enable_debug=True, display_stream_output=False))
    it.chat("One")
    list(it.chat_stream("Two"))
    files = sorted((tmp_path / "debug").iterdir())
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert [record["body"]["messages"][-1]["content"] for record in records] == ["One", "Two"]
    assert records[0]["answer"]["choices"][0]["message"]["content"] == "Echo: One"
    assert records[1]["answer"][1]["choices"][0]["delta"] == {"content": "Echo:"}
    assert "sk-hidden" not in files[0].read_text(encoding="utf-8")
    quiet = agent(RuntimeConfig(enable_debug=True, debug_save_requests=False))
    quiet.chat("Three")
    last = json.loads(max((tmp_path / "debug").iterdir()).read_text(encoding="utf-8"))
    assert "body" not in last
    assert "answer" in last


def test_configuration_comes_from_a_file_and_from_code_together(tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(
        "model: {model: qwen-plus, temperature: 0.2, api_key: k}\n"
        "runtime: {max_tool_iterations: 3, log_level: DEBUG}\n",
        encoding="utf-8",
    )
    config = ModelConfig.from_yaml(path, temperature=0.9)
    assert (config.model, config.temperature, config.top_p) == ("qwen-plus", 0.9, 1.0)
    runtime = RuntimeConfig.from_yaml(path)
    assert (runtime.max_tool_iterations, runtime.log_level) == (3, "DEBUG")
    assert "k'" not in repr(config)
    path.write_text("model: {modle: x}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"chat\.yaml: model has no 'modle'; it has api_base_url"):
        ModelConfig.from_yaml(path)


@pytest.mark.parametrize(
    ("kind", "wrong", "fault"),
    [
        (ModelConfig, {"temperature": 2.5}, "temperature must be at least 0 and at most 2"),
        (ModelConfig, {"top_p": "1"}, "top_p must be a number"),
        (ModelConfig, {"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        (RuntimeConfig, {"log_level": "LOUD"}, "log_level must be one of"),
        (RuntimeConfig, {"max_tool_iterations": 0}, "max_tool_iterations must be at least 1"),
        (RuntimeConfig, {"response_callback": 1}, "response_callback must be a function"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(kind: Any, wrong: Any, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        kind(**wrong)


def test_an_agent_on_a_client_of_the_callers_leaves_it_open(openai: OpenAIServer) -> None:
    with SyncModels(openai.url, api_key="k", model="m") as models:
        with SyncChatAgent(models, RuntimeConfig(display_stream_output=False)) as it:
            assert it.chat("Hi") == "Echo: Hi"
        assert models.chat("Still?").text == "Echo: Still?"


def test_an_agent_takes_no_client_of_the_other_face(openai: OpenAIServer) -> None:
    wrong: Any = SyncModels(openai.url, model="m")
    with pytest.raises(TypeError, match="models must be Models or a ModelConfig, not SyncModels"):
        ChatAgent(wrong)
    wrong = Models(openai.url, model="m")
    with pytest.raises(TypeError, match="models must be SyncModels or a ModelConfig, not Models"):
        SyncChatAgent(wrong)


def test_capturing_needs_connections_of_the_agents_own(openai: OpenAIServer) -> None:
    models = Models(openai.url, api_key="k", model="m")
    with pytest.raises(ValueError, match="on_exchange"):
        ChatAgent(models, RuntimeConfig(capture_http_traffic=True))


def test_an_empty_question_is_refused(agent: Make, openai: OpenAIServer) -> None:
    with pytest.raises(TypeError, match="text must be non-empty"):
        agent().chat("")
    assert openai.calls == []
