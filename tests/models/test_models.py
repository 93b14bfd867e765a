"""The client of model services: batches, statistics, what it asks for and gives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import PATIENCE, Call, OpenAIServer, broken, completion, failure, respond

from oomol_connect_sdk.errors import ApiError, ConnectionFailedError
from oomol_connect_sdk.models import Models, Piece, PieceJoiner, Reply, Tool, ToolCall, Usage


@pytest.fixture
def models(openai: OpenAIServer, models_face: ModelsFace) -> Any:
    return models_face(openai.url, model="m", retry_delay=0.001)


def said(openai: OpenAIServer) -> list[str]:
    return [call.json["messages"][-1]["content"] for call in openai.calls]


# Batches


def test_replies_of_a_batch_stand_in_the_order_of_its_requests(models: Any) -> None:
    replies = models.batch(
        [{"messages": f"{n}", "custom_id": f"id-{n}"} for n in range(25)], limit=4
    )
    assert [reply.text for reply in replies] == [f"Echo: {n}" for n in range(25)]
    assert [reply.custom_id for reply in replies] == [f"id-{n}" for n in range(25)]
    assert all(reply.error is None and reply.usage for reply in replies)


def test_a_request_of_a_batch_has_the_keywords_of_chat(models: Any, openai: OpenAIServer) -> None:
    tool = Tool("weather")
    (reply,) = models.batch(
        [
            {
                "messages": [{"role": "user", "content": "call weather {}"}],
                "model": "other",
                "files": [("x.txt", b"text")],
                "tools": [tool],
                "custom_id": 5,
                "temperature": 0.1,
            }
        ]
    )
    body = openai.calls[0].json
    assert (body["model"], body["temperature"]) == ("other", 0.1)
    assert body["tools"] == [tool.definition()]
    assert body["messages"][0]["content"][1]["type"] == "file"
    assert not {"custom_id", "priority", "files"} & set(body)
    assert reply.custom_id == "5"
    assert reply.tool_calls[0].name == "weather"


def test_a_higher_priority_is_sent_first(models: Any, openai: OpenAIServer) -> None:
    priorities = [0, 5, None, -1, 5, 9]
    replies = models.batch(
        [{"messages": f"{n}", "priority": p} for n, p in enumerate(priorities)], limit=1
    )
    assert [reply.text for reply in replies] == [f"Echo: {n}" for n in range(6)]
    assert said(openai) == ["5", "1", "4", "0", "2", "3"]


def test_one_failure_is_the_error_of_one_reply(models: Any, openai: OpenAIServer) -> None:
    openai.script(
        respond(completion("first")), failure(400, "no"), *[broken] * 3, respond({"choices": []})
    )
    replies = models.batch([{"messages": "x", "custom_id": f"{n}"} for n in range(5)], limit=1)
    assert [reply.text for reply in replies] == ["first", "", "", "", "Echo: x"]
    assert [type(reply.error).__name__ for reply in replies] == [
        "NoneType",
        "ApiError",
        "ConnectionFailedError",
        "BadAnswerError",
        "NoneType",
    ]
    assert [reply.custom_id for reply in replies] == ["0", "1", "2", "3", "4"]
    assert (models.stats.requests, models.stats.errors, models.stats.successes) == (5, 3, 2)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ("text", TypeError, "request 1 of the batch must be a mapping with 'messages'"),
        ({}, TypeError, "request 1 of the batch must be a mapping with 'messages'"),
        ({"messages": []}, ValueError, "request 1 of the batch: messages must not be empty"),
        ({"messages": None}, TypeError, "request 1 of the batch: messages must be"),
        ({"messages": "a", "model": 5}, TypeError, "request 1 of the batch: model must be text"),
        ({"messages": "a", "tools": [5]}, TypeError, r"request 1 of the batch: tools\[0\]"),
        ({"messages": "a", "files": [5]}, TypeError, r"request 1 of the batch: files\[0\]"),
        ({"messages": "a", "files": [b""]}, ValueError, "request 1 of the batch: the file"),
        ({"messages": "a", "files": ["none"]}, FileNotFoundError, "no such file.*none"),
        ({"messages": "a", "files": [b"x" * 99]}, ValueError, "request 1 of the batch: .* larger"),
        ({"messages": "a", "top_p": float("inf")}, ValueError, "request 1 of the batch: top_p"),
        ({"messages": "a", "priority": "high"}, TypeError, "the priority of request 1"),
        ({"messages": "a", "priority": True}, TypeError, "the priority of request 1"),
        ({"messages": "a", "priority": False}, TypeError, "the priority of request 1"),
        ({"messages": "a", "priority": 1.5}, TypeError, "the priority of request 1"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_sent_is_named_and_nothing_is_sent(
    models_face: ModelsFace, openai: OpenAIServer, request_: Any, error: Any, message: str
) -> None:
    models = models_face(openai.url, model="m", max_file_size=50)
    with pytest.raises(error, match=message):
        models.batch([{"messages": "good"}, request_])
    assert openai.calls == []


def test_a_key_that_cannot_be_had_ends_a_batch(
    models_face: ModelsFace, openai: OpenAIServer
) -> None:
    asked: list[Any] = ["a", "b", 5]
    openai.script(*[failure(401, "expired")] * 3)
    models = models_face(openai.url, model="m", api_key=lambda: asked.pop(0) if asked else 5)
    with pytest.raises(TypeError, match="api_key must be text"):
        models.batch([{"messages": f"{n}"} for n in range(50)], limit=1)
    assert [call.headers["authorization"] for call in openai.calls] == [
        "Bearer a",
        "Bearer b",
        "Bearer b",
    ]


async def test_a_batch_that_ended_leaves_nothing_under_way(openai: OpenAIServer) -> None:
    over = threading.Event()

    def held(call: Call) -> Iterable[bytes]:
        over.wait(PATIENCE)
        return respond(completion("x"))(call)

    async def key() -> Any:
        if not openai.calls:
            return "first"
        await asyncio.to_thread(openai.wait_for, lambda: len(openai.calls) == 4)
        return 5

    async with Models(openai.url, model="m", api_key=key) as other:
        await other.chat("hi")
        openai.script(failure(401, "expired"), held, held)
        with pytest.raises(TypeError, match="api_key must be text"):
            await other.batch([{"messages": f"{n}"} for n in range(3)])
        over.set()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        await asyncio.to_thread(openai.wait_for, lambda: not openai.connections)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "8"])
def test_an_unusable_limit_is_refused(models: Any, openai: OpenAIServer, limit: Any) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        models.batch([{"messages": "a"}], limit=limit)
    assert openai.calls == []


def test_an_empty_batch_has_no_replies(models: Any, openai: OpenAIServer) -> None:
    assert models.batch([]) == []
    assert models.batch(iter([])) == []
    assert openai.calls == []


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_are_under_way(
    models: Any, openai: OpenAIServer, limit: int
) -> None:
    full = threading.Event()

    def held(call: Call) -> Iterable[bytes]:
        if openai.peak >= limit:
            full.set()
        full.wait(PATIENCE)
        return respond(completion("x"))(call)

    openai.script(*[held] * 12)
    replies = models.batch([{"messages": "x"}] * 12, limit=limit)
    assert [reply.text for reply in replies] == ["x"] * 12
    assert openai.peak == limit


# Statistics


def test_statistics_count_what_was_asked(models: Any, openai: OpenAIServer) -> None:
    assert models.stats.summary() == {
        "requests": 0,
        "successes": 0,
        "errors": 0,
        "success_rate": 1.0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "uncounted": 0,
        "seconds": 0.0,
        "average_seconds": 0.0,
    }
    openai.script(failure(503, "later"))
    models.chat("a")
    list(models.stream("b"))
    models.batch([{"messages": "c"}])
    openai.script(failure(400, "no"))
    with pytest.raises(ApiError):
        models.chat("d")
    stats = models.stats
    assert (stats.requests, stats.successes, stats.errors) == (4, 3, 1)
    assert stats.success_rate == 0.75
    assert (stats.prompt_tokens, stats.completion_tokens, stats.total_tokens) == (21, 15, 36)
    assert stats.average_seconds == stats.seconds / 4 > 0
    assert stats.summary()["success_rate"] == 0.75
    stats.reset()
    assert (stats.requests, stats.total_tokens, stats.seconds) == (0, 0, 0.0)


def test_a_stream_that_is_given_up_counts_once(models: Any) -> None:
    pieces = models.stream("a b c")
    next(pieces)
    pieces.close()
    assert (models.stats.requests, models.stats.errors, models.stats.uncounted) == (1, 0, 1)


# Values


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4}, Usage(1, 2, 4)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, Usage(1, 2, 3)),
        ({"input_tokens": 1, "output_tokens": 2, "cost": 0.5}, Usage(1, 2, 3, 0.5)),
        ({"prompt_tokens": 1.0, "tensorzero_cost": 1}, Usage(1, None, None, 1)),
        ({"prompt_tokens": None, "completion_tokens": 2}, Usage(None, 2)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, 0)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, None),
        ({"prompt_tokens": -1, "completion_tokens": True, "total_tokens": "5"}, None),
        ({}, None),
        (None, None),
        ([1], None),
        ("5", None),
    ],
    ids=str,
)
def test_usage_is_read_in_several_words(value: Any, usage: Any) -> None:
    assert Usage.of(value) == usage


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply("hi"), {"role": "assistant", "content": "hi"}),
        (Reply(), {"role": "assistant", "content": ""}),
        (
            Reply(tool_calls=(ToolCall("c", "f", "{}"),)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        ),
    ],
)
def test_a_reply_goes_on_as_a_message(reply: Reply, message: Any) -> None:
    assert reply.message() == message


def test_replies_cannot_be_changed_and_show_no_raw_answer() -> None:
    reply = Reply("hi", raw={"big": "thing"})
    assert "thing" not in repr(reply)
    with pytest.raises(FrozenInstanceError):
        reply.text = "ho"  # type: ignore[misc]


def test_pieces_tell_as_much_as_they_have_told() -> None:
    joiner = PieceJoiner()
    assert joiner.reply() == Reply(raw=[])
    joiner.add(Piece("a", id="1", model="m"))
    joiner.add(Piece("b", usage=Usage(1, 1, 2)))
    assert joiner.reply().text == "ab"
    joiner.add(Piece(finish="stop", usage=Usage(1, 2, 3)))
    reply = joiner.reply()
    assert (reply.id, reply.model, reply.finish, reply.usage) == ("1", "m", "stop", Usage(1, 2, 3))


# The client


def test_feedback_needs_a_metric(models: Any, openai: OpenAIServer) -> None:
    for metric in ("", None, 5):
        with pytest.raises(TypeError, match="metric must be non-empty text"):
            models.feedback("id", metric, True)
    assert openai.calls == []


def test_a_client_may_be_closed_twice_and_used_again(models: Any) -> None:
    models.chat("a")
    models.close()
    models.close()
    assert models.chat("b").text == "Echo: b"


def test_closing_closes_the_connections(models_face: ModelsFace, openai: OpenAIServer) -> None:
    with models_face(openai.url, model="m") as models:
        models.chat("a")
        openai.wait_for(lambda: len(openai.connections) == 1)
    openai.wait_for(lambda: not openai.connections)


def test_a_tool_may_be_given_as_a_mapping(models: Any, openai: OpenAIServer) -> None:
    function = {"name": "weather", "description": "", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": function}
    models.chat("hi", tools=[tool], tool_choice="auto")
    assert openai.calls[0].json["tools"] == [tool]
    assert openai.calls[0].json["tool_choice"] == "auto"
    with pytest.raises(TypeError, match=r"tools\[1\]"):
        models.chat("hi", tools=[tool, {"name": "weather"}])


def test_an_error_is_one_of_the_packages_own(models: Any, openai: OpenAIServer) -> None:
    openai.script(*[broken] * 3)
    with pytest.raises(ConnectionFailedError) as caught:
        models.chat("hi")
    assert isinstance(caught.value, ApiError)
    assert caught.value.outcome_unknown
