from __future__ import annotations

from typing import Any

import pytest
from faces import ModelsFace
from openai_server import (
    MODELS,
    USAGE,
    OpenAIServer,
    chunk,
    completion,
    failure,
    respond,
    stream,
    tool_call,
    usage_chunk,
)

from oomol_connect_sdk.errors import ApiError, BadAnswerError, NotSupported
from oomol_connect_sdk.models import PieceJoiner, ToolCall, Usage

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
SPENT = Usage(7, 5, 12)


@pytest.fixture
def models(openai: OpenAIServer, models_face: ModelsFace) -> Any:
    return models_face(openai.url, api_key="sk-1", model="gpt-4o-mini", retry_delay=0.001)


def joined(pieces: Any) -> Any:
    joiner = PieceJoiner()
    for piece in pieces:
        joiner.add(piece)
    return joiner.reply()


def test_an_answer_has_its_text_and_what_it_took(models: Any, openai: OpenAIServer) -> None:
    reply = models.chat("hi", temperature=0.2, max_tokens=5)
    assert (reply.text, reply.finish, reply.usage) == ("Echo: hi", "stop", SPENT)
    assert (reply.id, reply.model, reply.request_id) == ("chatcmpl-1", "gpt-4o-mini-2024", "req-1")
    assert reply.raw["object"] == "chat.completion"
    assert (reply.error, reply.custom_id, reply.tool_calls) == (None, None, ())
    (call,) = openai.calls
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.headers["authorization"] == "Bearer sk-1"
    assert call.json == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.2,
        "max_tokens": 5,
    }


def test_a_conversation_goes_on_with_the_messages_of_replies(models: Any) -> None:
    first = models.chat('call weather {"city": "Kyoto"}', tools=[WEATHER])
    assert first.finish == "tool_calls"
    assert first.tool_calls == (ToolCall("call_0", "weather", '{"city": "Kyoto"}'),)
    assert first.tool_calls[0].parsed() == {"city": "Kyoto"}
    result = {"role": "tool", "tool_call_id": "call_0", "content": "rain"}
    second = models.chat([{"role": "user", "content": "…"}, first.message(), result])
    assert second.text == "Tools: rain"


def test_a_stream_gives_the_same_as_a_whole_answer(models: Any, openai: OpenAIServer) -> None:
    pieces = list(models.stream("one two three"))
    assert [piece.text for piece in pieces if piece.text] == ["Echo:", " one", " two", " three"]
    whole = joined(pieces)
    assert (whole.text, whole.finish, whole.usage) == ("Echo: one two three", "stop", SPENT)
    assert (whole.id, whole.model, whole.request_id) == ("chatcmpl-1", "gpt-4o-mini-2024", "req-1")
    assert len(whole.raw) == len(pieces)
    assert openai.calls[0].headers["accept"] == "text/event-stream"
    assert openai.calls[0].json["stream"] is True
    assert openai.calls[0].json["stream_options"] == {"include_usage": True}


def test_tools_are_called_in_a_stream(models: Any) -> None:
    text = 'call weather {"city": "Kyoto"}\ncall weather {"city": "Nara"}'
    whole = joined(models.stream(text, tools=[WEATHER]))
    assert [call.parsed()["city"] for call in whole.tool_calls] == ["Kyoto", "Nara"]
    assert [call.id for call in whole.tool_calls] == ["call_0", "call_1"]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([chunk("x"), chunk(finish="stop"), usage_chunk()], id="without choices"),
        pytest.param([chunk("x"), chunk(finish="stop"), chunk(usage=USAGE)], id="an empty delta"),
        pytest.param([chunk("x"), chunk(finish="stop", usage=USAGE)], id="the finish"),
        pytest.param([chunk("x", usage=USAGE), chunk(finish="stop", usage=None)], id="a piece"),
        pytest.param(
            [
                chunk("x", usage={"prompt_tokens": 7, "completion_tokens": 1}),
                chunk(finish="stop", usage={"prompt_tokens": 7, "completion_tokens": 5}),
            ],
            id="every piece",
        ),
    ],
)
def test_the_usage_of_a_stream_is_found_wherever_it_stands(
    models: Any, openai: OpenAIServer, parts: list[Any]
) -> None:
    openai.script(stream(*parts))
    whole = joined(models.stream("hi"))
    assert (whole.text, whole.finish, whole.usage) == ("x", "stop", SPENT)
    assert models.stats.total_tokens == 12


def test_usage_that_nobody_counted_is_not_made_up(models: Any, openai: OpenAIServer) -> None:
    openai.script(respond(completion(usage=None)), stream(chunk("x"), chunk(finish="stop")))
    assert models.chat("hi").usage is None
    assert joined(models.stream("hi")).usage is None
    assert (models.stats.requests, models.stats.uncounted, models.stats.total_tokens) == (2, 2, 0)


@pytest.mark.parametrize("status", [400, 422])
def test_a_service_without_stream_options_is_asked_without_them_from_then_on(
    models: Any, openai: OpenAIServer, status: int
) -> None:
    openai.script(failure(status, "Unrecognized request argument: stream_options"))
    assert joined(models.stream("a")).text == "Echo: a"
    assert joined(models.stream("b")).text == "Echo: b"
    assert ["stream_options" in call.json for call in openai.calls] == [True, False, False]
    assert (models.stats.requests, models.stats.errors) == (2, 0)


def test_stream_options_of_the_caller_are_not_taken_back(models: Any, openai: OpenAIServer) -> None:
    openai.script(failure(400, "Unrecognized request argument: stream_options"))
    with pytest.raises(ApiError, match="stream_options"):
        list(models.stream("a", stream_options={"include_usage": False}))
    assert [call.json["stream_options"] for call in openai.calls] == [{"include_usage": False}]


def test_another_refusal_is_not_blamed_on_stream_options(models: Any, openai: OpenAIServer) -> None:
    openai.script(failure(400, "no such model"))
    with pytest.raises(ApiError, match="no such model"):
        list(models.stream("a"))
    assert len(openai.calls) == 1


def test_stream_options_are_not_to_blame_once_pieces_have_come(
    models: Any, openai: OpenAIServer
) -> None:
    error = {"message": "stream_options", "code": 400}
    openai.script(stream(chunk("x"), {"error": error}))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    with pytest.raises(ApiError, match="stream_options"):
        next(pieces)
    assert len(openai.calls) == 1


def test_a_finish_of_stop_does_not_hide_tool_calls(models: Any, openai: OpenAIServer) -> None:
    openai.script(respond(completion(None, tools=[("weather", {})], finish="stop")))
    reply = models.chat("hi", tools=[WEATHER])
    assert (reply.text, reply.finish, reply.tool_calls[0].name) == ("", "stop", "weather")
    assert reply.message()["content"] is None


def test_arguments_that_come_decoded_are_text_again(models: Any, openai: OpenAIServer) -> None:
    body = completion(None, tools=[("weather", {})])
    body["choices"][0]["message"]["tool_calls"][0] = {
        "function": {"name": "weather", "arguments": {"city": "Kyoto"}}
    }
    openai.script(respond(body))
    assert models.chat("hi").tool_calls == (ToolCall("call_0", "weather", '{"city": "Kyoto"}'),)


def test_content_in_parts_is_joined(models: Any, openai: OpenAIServer) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "thinking"}, {"type": "text", "text": "b"}]
    openai.script(respond(completion(parts)), stream(chunk(parts), chunk(finish="stop")))
    assert models.chat("hi").text == "ab"
    assert joined(models.stream("hi")).text == "ab"


def test_of_several_choices_the_first_is_read(models: Any, openai: OpenAIServer) -> None:
    second = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    both = chunk("me")
    both["choices"].insert(0, second)
    only_second = {**chunk(), "choices": [second]}
    openai.script(stream(both, only_second, chunk(finish="stop")))
    whole = joined(models.stream("hi", n=2))
    assert (whole.text, whole.finish) == ("me", "stop")
    assert whole.raw[1]["choices"] == [second]


NO_COMPLETIONS: list[Any] = [
    {},
    [],
    5,
    None,
    "text",
    {"choices": None},
    {"choices": "abc"},
    {"choices": {"0": {}}},
    {"choices": []},
    {"choices": ["abc"]},
    {"choices": [None]},
    {"choices": [{}]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": "text"}]},
    {"choices": [{"message": {"content": 5}}]},
    {"choices": [{"message": {"content": {"text": "a"}}}]},
    {"choices": [{"message": {"content": "a"}, "finish_reason": {}}]},
    {"choices": [{"message": {"tool_calls": {"a": 1}}}]},
    {"choices": [{"message": {"tool_calls": "abc"}}]},
    {"choices": [{"message": {"tool_calls": [None]}}]},
    {"choices": [{"message": {"tool_calls": [{}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": "f"}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"name": 5}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"id": 5, "function": {"name": "f"}}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}}]},
    {"id": 5, "choices": [{"message": {"content": "a"}}]},
    {"model": [], "choices": [{"message": {"content": "a"}}]},
]


@pytest.mark.parametrize("body", NO_COMPLETIONS, ids=str)
def test_what_is_no_completion_is_a_bad_answer(
    models: Any, openai: OpenAIServer, body: Any
) -> None:
    openai.script(*[respond(body)] * 3)
    with pytest.raises(BadAnswerError):
        models.chat("hi")
    assert models.stats.errors == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"choices": "abc"},
        {"choices": {"0": {}}},
        {"choices": 5},
        {"choices": ["abc"]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {}, "finish_reason": 5}]},
        {"choices": [{"delta": {"tool_calls": {"a": 1}}}]},
        {"choices": [{"delta": {"tool_calls": ["abc"]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"id": 5}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": []}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": 5}}]}}]},
        {"id": 5},
        {"model": 5},
        [],
        5,
        "text",
    ],
    ids=str,
)
def test_a_chunk_of_the_wrong_shape_is_a_bad_answer(
    models: Any, openai: OpenAIServer, bad: Any
) -> None:
    openai.script(stream(chunk("x"), bad, chunk(finish="stop")))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    with pytest.raises(BadAnswerError):
        next(pieces)
    assert (models.stats.requests, models.stats.errors) == (1, 1)


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None}, "finish_reason": ""}]},
        {"usage": {"prompt_tokens": float("inf"), "completion_tokens": "5"}, "error": None},
        chunk(role="assistant"),
        chunk(""),
    ],
    ids=str,
)
def test_a_chunk_that_says_nothing_harms_nothing(
    models: Any, openai: OpenAIServer, part: Any
) -> None:
    openai.script(stream(part, chunk("x"), part, chunk(finish="stop"), part))
    whole = joined(models.stream("hi"))
    assert (whole.text, whole.finish, whole.usage, whole.tool_calls) == ("x", "stop", None, ())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (failure(400, "Bad thing", "bad"), "Bad thing"),
        (respond({"error": "text only"}, 400), "text only"),
        (respond({"detail": "Not Found"}, 404), "Not Found"),
        (respond(b"plain words", 400, Content_Type="text/plain"), "plain words"),
        (respond(b"", 400), "POST /v1/chat/completions answered with HTTP status 400"),
        (respond({"error": {}}, 400), "POST /v1/chat/completions answered with HTTP status 400"),
        (respond({"detail": [{"msg": "no"}]}, 422), "HTTP status 422"),
        (respond(b"<html>Forbidden", 403, Content_Type="text/html"), "<html>Forbidden"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_refusal_says_why(
    models: Any, openai: OpenAIServer, answer: Any, message: str, streaming: bool
) -> None:
    openai.script(answer)
    with pytest.raises(ApiError) as caught:
        list(models.stream("hi")) if streaming else models.chat("hi")
    assert message in str(caught.value)
    assert caught.value.status in (400, 403, 404, 422)
    assert caught.value.request_id == "req-1"
    assert len(openai.calls) == 1


def test_the_models_are_listed(models: Any, openai: OpenAIServer) -> None:
    assert models.list() == MODELS
    openai.script(respond({"object": "list"}))
    with pytest.raises(BadAnswerError, match="without 'data'"):
        models.list()


@pytest.mark.parametrize(
    "use",
    [
        lambda models: models.applications(),
        lambda models: models.application("x"),
        lambda models: models.feedback("chatcmpl-1", "thumbs_up", True),
        lambda models: models.files,
    ],
)
def test_what_such_a_service_lacks_is_said(models: Any, openai: OpenAIServer, use: Any) -> None:
    with pytest.raises(NotSupported, match="an OpenAI-compatible service has no"):
        use(models)
    assert openai.calls == []


def test_pieces_of_tool_calls_need_no_order(models: Any, openai: OpenAIServer) -> None:
    openai.script(
        stream(
            chunk(tools=[tool_call(1, "second", "")]),
            chunk(tools=[tool_call(0, "first", '{"a"')]),
            chunk(tools=[tool_call(1, None, '{"b"', None), tool_call(0, None, ": 1}", None)]),
            chunk(tools=[tool_call(1, None, ": 2}", None)]),
            chunk(finish="stop"),
        )
    )
    assert joined(models.stream("hi")).tool_calls == (
        ToolCall("call_0", "first", '{"a": 1}'),
        ToolCall("call_1", "second", '{"b": 2}'),
    )
