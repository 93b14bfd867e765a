"""Tamar Model Manager over a real gRPC connection, on both faces."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from faces import ModelsFace
from openai_server import chunk, completion, tool_call
from tamar_server import (
    PATIENCE,
    TLS_NAME,
    Failure,
    TamarServer,
    fails,
    function_call,
    google_raw,
    item,
    says,
    tamar_server,
)

from oomol_connect_sdk.errors import (
    ApiError,
    BadAnswerError,
    ConnectionFailedError,
    NotSupported,
    OomolConnectError,
)
from oomol_connect_sdk.models import (
    ModelPool,
    Models,
    PieceJoiner,
    Reply,
    SyncModelPool,
    SyncModels,
    Tool,
    Usage,
    tamar_tokens,
)
from oomol_connect_sdk.models.tamar_wire import wire

KEY = "a secret key that is long enough for HS256"
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

WAYS = pytest.mark.parametrize("way", ["chat", "stream"])


@pytest.fixture
def server() -> Iterator[TamarServer]:
    with tamar_server() as running:
        yield running


@pytest.fixture
def make(server: TamarServer, models_face: ModelsFace) -> Any:
    def make(**options: Any) -> Any:
        return models_face(server.url, **{"model": "m", "retry_delay": 0.001, **options})

    return make


def joined(pieces: Any) -> Reply:
    joiner = PieceJoiner()
    for piece in pieces:
        joiner.add(piece)
    return joiner.reply()


def ask(models: Any, way: str, messages: Any = "hi", **options: Any) -> Reply:
    if way == "stream":
        return joined(models.stream(messages, **options))
    reply: Reply = models.chat(messages, **options)
    return reply


# What is sent.


@WAYS
def test_a_request_says_what_the_service_wants_to_know(
    make: Any, server: TamarServer, way: str
) -> None:
    user = {"org_id": "org", "user_id": "me", "client_type": "sdk"}
    reply = ask(make(**user), way, "Hello there", temperature=0.5, max_tokens=1000)
    assert reply.text == "Echo: Hello there"
    (call,) = server.calls
    assert call.method == "Invoke"
    streaming = {"stream": True} if way == "stream" else {}
    assert call.request == {
        "provider": "openai",
        "channel": "normal",
        "invoke_type": "chat-completions",
        **streaming,
        **user,
        "extra": {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello there"}],
            "temperature": 0.5,
            "max_tokens": 1000,
            **streaming,
        },
    }


@pytest.mark.parametrize("provider", ["openai", "azure", "google"])
def test_provider_channel_and_invoke_type_are_sent_as_they_are_given(
    make: Any, server: TamarServer, provider: str
) -> None:
    models = make(provider="somebody", client_type="usual")
    given = {"provider": provider, "channel": "vertexai", "invoke_type": "chat-completions"}
    models.chat("hi", **given, region="eu", client_type="other")
    request = server.calls[0].request
    assert {name: request[name] for name in given} == given
    assert (request["region"], request["client_type"]) == ("eu", "other")
    assert request["extra"] == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    models.chat("hi")
    request = server.calls[1].request
    assert (request["provider"], request["client_type"]) == ("somebody", "usual")
    assert "region" not in request


def test_a_google_model_is_told_the_messages_in_googles_words(
    make: Any, server: TamarServer
) -> None:
    reply = make(provider="google").chat("Hello", model="gemini-pro", temperature=0.7)
    assert reply.text == "Echo: Hello"
    request = server.calls[0].request
    assert (request["channel"], request["invoke_type"]) == ("normal", "generation")
    assert request["extra"] == {
        "model": "gemini-pro",
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "temperature": 0.7,
    }


class Part:
    """What other makers' message types have in common: pydantic's ``model_dump``."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self._fields


@pytest.mark.parametrize("provider", ["google", "openai"])
def test_a_part_of_googles_goes_to_any_provider(
    make: Any, server: TamarServer, provider: str
) -> None:
    address = "https://images.example.com/photo.jpeg"
    file = Part(file_data={"file_uri": address, "mime_type": "image/jpeg"})
    content = [{"type": "text", "text": "What is shown?"}, file]
    make().chat([{"role": "user", "content": content}], provider=provider)
    extra = server.calls[0].extra
    if provider == "google":
        parts = extra["contents"][0]["parts"]
        sent = {"file_uri": address, "mime_type": "image/jpeg"}
        assert parts == [{"text": "What is shown?"}, {"file_data": sent}]
    else:
        parts = extra["messages"][0]["content"]
        assert parts[1] == {"type": "image_url", "image_url": {"url": address}}


def test_the_content_of_a_file_goes_to_google_as_its_own_client_writes_bytes(
    make: Any, server: TamarServer
) -> None:
    make(provider="google").chat("look", files=[("x.png", b"\x89PNG")])
    _, part = server.calls[0].extra["contents"][0]["parts"]
    assert part == {"inline_data": {"mime_type": "image/png", "data": "bytes:iVBORw=="}}


@pytest.mark.parametrize("provider", ["openai", "google"])
@WAYS
def test_tools_are_called_and_their_results_heard(
    make: Any, server: TamarServer, way: str, provider: str
) -> None:
    models = make(provider=provider)
    weather = Tool("weather", parameters={"type": "object", "properties": {"city": {}}})
    text = 'call weather {"city": "Kyoto"}\ncall weather {"city": "Nara"}'
    messages: list[Any] = [{"role": "user", "content": text}]
    reply = ask(models, way, messages, tools=[weather])
    assert [call.parsed() for call in reply.tool_calls] == [{"city": "Kyoto"}, {"city": "Nara"}]
    assert len({call.id for call in reply.tool_calls}) == 2
    messages.append(reply.message())
    for call, result in zip(reply.tool_calls, ["rain", "sun"], strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert ask(models, way, messages, tools=[weather]).text == "Tools: rain | sun"


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"provider": 5}, TypeError, "provider must be text, not 5"),
        ({"channel": ["normal"]}, TypeError, "channel must be text"),
        ({"top_p": 10**400}, ValueError, "can't hold this request"),
        ({"user": "\ud800"}, ValueError, "can't hold this request"),
        ({"provider": "google", "contents": []}, TypeError, "'contents' is no parameter"),
    ],
)
@WAYS
def test_what_cannot_be_sent_is_named(
    make: Any, server: TamarServer, way: str, options: Any, error: type, named: str
) -> None:
    with pytest.raises(error, match=named):
        ask(make(), way, **options)
    assert server.calls == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"jwt_secret_key": KEY, "api_key": "token"}, "not both"),
        ({"headers": {"bad name": "x"}}, "no header 'bad name'"),
        ({"headers": {"x-bin": "x"}}, "no header 'x-bin'"),
    ],
)
def test_options_that_contradict_or_cannot_be_sent_are_refused(
    make: Any, options: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make(**options)


def test_an_address_is_a_host_and_a_port(models_face: ModelsFace) -> None:
    with pytest.raises(ValueError, match="a host and a port only"):
        models_face("tamar+grpc://localhost:50051/v1")


def test_what_the_service_lacks_is_said(make: Any) -> None:
    models = make()
    with pytest.raises(NotSupported, match="Tamar Model Manager has no list of models"):
        models.list()
    with pytest.raises(NotSupported, match="Tamar Model Manager has no feedback"):
        models.feedback("id", "thumbs_up", True)


# Tokens.


def test_tokens_are_made_of_the_key_for_the_user(make: Any, server: TamarServer) -> None:
    server.jwt_secret_key = KEY
    models = make(jwt_secret_key=KEY, org_id="org", user_id="me")
    before = time.time()
    assert models.chat("hi").text == "Echo: hi"
    assert list(models.stream("hi"))
    models.chat("hi", user_id="you")
    first, second, other = server.calls
    token = first.metadata["authorization"].removeprefix("Bearer ")
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, KEY, ["HS256"])
    assert (claims["org_id"], claims["user_id"]) == ("org", "me")
    assert int(before) + 3600 <= claims["exp"] <= time.time() + 3600
    assert set(claims) == {"org_id", "user_id", "exp"}
    assert second.metadata["authorization"] == first.metadata["authorization"]
    assert other.claims["user_id"] == "you"


def test_a_short_key_makes_the_same_tokens_without_a_warning() -> None:
    claims = {"org_id": "ü", "user_id": "", "exp": 4102444800}
    token = tamar_tokens.signed(claims, "short")
    with warnings.catch_warnings():
        # Newer releases of the library that reads it do warn.
        warnings.simplefilter("ignore")
        assert jwt.decode(token, "short", ["HS256"]) == claims


def test_a_made_token_is_used_until_a_minute_before_its_end(
    make: Any, server: TamarServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1_000_000.0, 1_003_539.0, 1_003_540.0, 1_003_541.0])
    monkeypatch.setattr(tamar_tokens, "time", SimpleNamespace(time=lambda: next(clock)))
    models = make(jwt_secret_key=KEY)
    for _ in range(4):
        models.chat("hi")
    ends = [call.claims["exp"] for call in server.calls]
    assert ends == [1_003_600, 1_003_600, 1_007_140, 1_007_140]


@WAYS
@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_made_token_that_is_refused_is_made_again_once(
    make: Any,
    server: TamarServer,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    max_retries: int,
) -> None:
    ticks = itertools.count(1_000_000)
    monkeypatch.setattr(tamar_tokens, "time", SimpleNamespace(time=lambda: next(ticks)))
    models = make(jwt_secret_key=KEY, max_retries=max_retries)
    server.script(fails("UNAUTHENTICATED"))
    assert ask(models, way).text == "Echo: hi"
    first, second = server.calls
    assert second.claims["exp"] > first.claims["exp"]
    server.script(*[fails("UNAUTHENTICATED", "wrong key")] * 3)
    with pytest.raises(ApiError, match="wrong key") as caught:
        ask(models, way)
    assert caught.value.status == 401
    assert len(server.calls) == 4


@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("option", ["api_key", "bearer_token"])
def test_a_token_is_asked_for_and_again_when_it_is_refused(
    make: Any, server: TamarServer, kind: str, option: str
) -> None:
    tokens = iter(["one", "two", "three"])

    def plain() -> str:
        return next(tokens)

    async def coroutine() -> str:
        return next(tokens)

    models = make(**{option: plain if kind == "function" else coroutine})
    server.tokens = {"one"}
    models.chat("hi")
    list(models.stream("hi"))
    server.tokens = {"two"}
    assert models.batch([{"messages": "hi"}])[0].text == "Echo: hi"
    sent = [call.metadata["authorization"] for call in server.calls]
    assert sent == ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]


def test_a_ready_token_that_is_refused_is_not_sent_again(make: Any, server: TamarServer) -> None:
    server.tokens = {"other"}
    with pytest.raises(ApiError) as caught:
        make(api_key="ready").chat("hi")
    assert caught.value.status == 401
    assert "ready" not in str(caught.value)
    assert len(server.calls) == 1


def test_without_a_token_none_is_sent_and_headers_are_metadata(
    make: Any, server: TamarServer
) -> None:
    make(headers={"X-Tenant": "t"}).chat("hi")
    assert "authorization" not in server.calls[0].metadata
    assert server.calls[0].metadata["x-tenant"] == "t"
    assert server.calls[0].metadata["user-agent"].startswith("oomol-connect-sdk/")
    make(headers={"Authorization": "Bearer own"}, jwt_secret_key=KEY).chat("hi")
    assert server.calls[1].metadata["authorization"] == "Bearer own"


# What comes back.


def test_an_answer_is_read_from_the_services_fields(make: Any, server: TamarServer) -> None:
    raw = completion("not this", finish="length", usage=None)
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}
    server.script(says(item("this", raw, usage, request_id="served-1")))
    reply = make().chat("hi")
    assert reply.text == "this"
    assert reply.usage == Usage(1, 2, 3, 0.5)
    assert (reply.finish, reply.id, reply.model) == ("length", "chatcmpl-1", "gpt-4o-mini-2024")
    assert reply.request_id == "served-1"
    assert reply.raw == raw


def test_a_google_answer_is_read(make: Any, server: TamarServer) -> None:
    raw = google_raw({"text": "x"}, function_call("f", a=1), usage_metadata={})
    usage = {"prompt_token_count": 3, "candidates_token_count": 4, "total_token_count": 9}
    server.script(says(item("x", raw, usage)), says(item("x", {**raw, "usage_metadata": usage})))
    for _ in range(2):
        reply = make(provider="google").chat("hi")
        assert (reply.text, reply.finish, reply.id) == ("x", "STOP", "google-1")
        assert reply.usage == Usage(3, 4, 9)
        assert reply.model == "gemini-2024"
        assert [(call.name, call.parsed()) for call in reply.tool_calls] == [("f", {"a": 1})]


@WAYS
@pytest.mark.parametrize("raw", [None, "no JSON", "[" * 100_000, "[1]", "{}", "1e999", '"text"'])
def test_the_text_counts_whatever_the_raw_answer_is(
    make: Any, server: TamarServer, way: str, raw: str | None
) -> None:
    server.script(says(item("Hello", raw, raw)))
    reply = ask(make(), way)
    assert (reply.text, reply.usage, reply.tool_calls) == ("Hello", None, ())


@WAYS
@pytest.mark.parametrize(
    "raw",
    [
        {"choices": 5},
        {"choices": [5]},
        {"choices": [{"message": {"tool_calls": [5]}, "delta": {"tool_calls": [5]}}]},
        {**completion(), "id": 5},
    ],
)
def test_a_completion_that_is_none_is_an_error_with_its_request(
    make: Any, server: TamarServer, way: str, raw: Any
) -> None:
    server.script(says(item("Hello", raw, request_id="served-1")))
    with pytest.raises(BadAnswerError) as caught:
        ask(make(), way)
    assert caught.value.request_id == "served-1"
    assert len(server.calls) == 1


def test_every_call_has_a_request_id_of_its_own_kept_over_its_tries(
    make: Any, server: TamarServer
) -> None:
    server.script(fails("UNAVAILABLE"), fails("ABORTED"))
    models = make()
    reply = models.chat("hi")
    other = joined(models.stream("hi"))
    sent = [call.metadata["x-request-id"] for call in server.calls]
    assert sent == [reply.request_id] * 3 + [other.request_id]
    assert reply.request_id != other.request_id
    assert re.fullmatch(UUID, reply.request_id)


def test_pieces_come_as_they_are_sent(make: Any, server: TamarServer) -> None:
    turn = threading.Event()
    server.script(
        says(item("a"), lambda: turn.wait(PATIENCE), item("b", usage={"total_tokens": 3}))
    )
    pieces = make().stream("hi")
    assert next(pieces).text == "a"
    turn.set()
    last = next(pieces)
    assert (last.text, last.usage) == ("b", Usage(total_tokens=3))
    assert list(pieces) == []


def test_tool_calls_are_put_together_from_pieces(make: Any, server: TamarServer) -> None:
    parts = [
        chunk(tools=[tool_call(0, "f", "")]),
        chunk(tools=[tool_call(1, "g", "")]),
        chunk(tools=[tool_call(0, None, '{"a":', None), tool_call(1, None, "{}", None)]),
        chunk(tools=[tool_call(0, None, " 1}", None)]),
        chunk(finish="tool_calls"),
    ]
    server.script(says(*[item("", part) for part in parts]))
    reply = joined(make().stream("hi"))
    assert [(call.name, call.parsed()) for call in reply.tool_calls] == [("f", {"a": 1}), ("g", {})]
    assert reply.finish == "tool_calls"


# What goes wrong.


@WAYS
@pytest.mark.parametrize(
    "code",
    ["UNAVAILABLE", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"],
)
def test_what_may_pass_is_tried_again(make: Any, server: TamarServer, way: str, code: str) -> None:
    server.script(fails(code), fails(code))
    assert ask(make(), way).text == "Echo: hi"
    assert len(server.calls) == 3
    server.script(*[fails(code)] * 3)
    with pytest.raises(ApiError, match=f"failed with {code}: the server says so") as caught:
        ask(make(), way)
    assert caught.value.request_id == server.calls[-1].metadata["x-request-id"]
    assert len(server.calls) == 6


def make_token() -> str:
    return "made"


@WAYS
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("FAILED_PRECONDITION", 400),
        ("OUT_OF_RANGE", 400),
        ("INTERNAL", 500),
        ("UNKNOWN", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
    ],
)
def test_what_does_not_pass_is_an_error_at_once(
    make: Any, server: TamarServer, way: str, code: str, status: int
) -> None:
    server.script(fails(code, "because"))
    with pytest.raises(ApiError, match=f"Invoke failed with {code}: because") as caught:
        ask(make(api_key="ready" if status == 401 else make_token), way)
    assert caught.value.status == status
    assert caught.value.request_id == server.calls[0].metadata["x-request-id"]
    assert len(server.calls) == 1


@WAYS
def test_a_call_that_takes_too_long_ends(make: Any, server: TamarServer, way: str) -> None:
    forever = threading.Event()
    server.script(says(lambda: forever.wait(PATIENCE), item("late")))
    with pytest.raises(ApiError, match="DEADLINE_EXCEEDED") as caught:
        ask(make(timeout=0.2, max_retries=0), way)
    assert caught.value.status == 504
    forever.set()


@WAYS
def test_a_provider_that_fails_is_an_error_that_is_not_tried_again(
    make: Any, server: TamarServer, way: str
) -> None:
    raw = {"error": {"code": 429}}
    server.script(says({**item("", raw), "error": "quota exceeded", "request_id": "served-1"}))
    models = make()
    with pytest.raises(ApiError, match="the provider failed: quota exceeded") as caught:
        ask(models, way)
    error = caught.value
    assert (error.status, error.request_id, error.response) == (200, "served-1", raw)
    assert len(server.calls) == 1
    assert models.stats.errors == 1


@pytest.mark.parametrize("end", [Failure("UNAVAILABLE"), {"error": "it broke"}])
def test_a_stream_that_breaks_is_not_sent_again(make: Any, server: TamarServer, end: Any) -> None:
    server.script(says(item("a"), item("b"), end))
    pieces = make().stream("hi")
    assert [next(pieces).text, next(pieces).text] == ["a", "b"]
    with pytest.raises(ApiError, match=r"the server says so|it broke") as caught:
        next(pieces)
    assert caught.value.request_id == server.calls[0].metadata["x-request-id"]
    assert len(server.calls) == 1


@WAYS
def test_an_answer_without_a_message_is_asked_for_again(
    make: Any, server: TamarServer, way: str
) -> None:
    server.script(says())
    assert ask(make(), way).text == "Echo: hi"
    server.script(says())
    with pytest.raises(BadAnswerError, match="ended without an answer") as caught:
        ask(make(max_retries=0), way)
    assert caught.value.request_id == server.calls[-1].metadata["x-request-id"]


@WAYS
def test_nobody_there_is_said(models_face: ModelsFace, way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    models = models_face(
        f"tamar+grpc://127.0.0.1:{port}", model="m", max_retries=1, retry_delay=0.01
    )
    with pytest.raises(ConnectionFailedError) as caught:
        ask(models, way)
    assert caught.value.status == 0
    assert caught.value.request_id


def test_a_server_that_restarts_is_found_again(make: Any, server: TamarServer) -> None:
    models = make(max_retries=8, retry_delay=0.05)
    models.chat("before")
    server.stop()
    begun = threading.Timer(0.3, server.start, [server.port])
    begun.start()
    assert models.chat("after").text == "Echo: after"
    begun.join()


def test_something_that_is_no_grpc_server_is_an_error(models_face: ModelsFace) -> None:
    from openai_server import openai_server

    with openai_server() as other:
        models = models_face(f"tamar+grpc://127.0.0.1:{other.port}", model="m", max_retries=0)
        with pytest.raises(ApiError):
            models.chat("hi")


# Batches.


def test_a_batch_is_one_call_whose_answers_find_their_places(
    make: Any, server: TamarServer
) -> None:
    requests: list[Any] = [
        {"messages": "first", "custom_id": "q1", "priority": 1, "user_id": "me"},
        {"messages": "second", "custom_id": "q2", "priority": 2, "user_id": "me"},
        {"messages": "third", "custom_id": "q3", "provider": "google", "user_id": "me"},
    ]
    replies = make().batch(requests)
    assert [reply.text for reply in replies] == ["Echo: first", "Echo: second", "Echo: third"]
    assert [reply.custom_id for reply in replies] == ["q1", "q2", "q3"]
    (call,) = server.calls
    assert call.method == "BatchInvoke"
    sent = call.request["items"]
    assert [item["custom_id"] for item in sent] == ["q1", "q2", "q3"]
    assert [item.get("priority") for item in sent] == [1, 2, None]
    assert [item["provider"] for item in sent] == ["openai", "openai", "google"]
    assert {reply.request_id for reply in replies} == {call.metadata["x-request-id"]}


@pytest.mark.parametrize("ids", [[None, None, None], ["a", "a", "a#1"], ["a", None, ""]])
def test_a_batch_needs_no_names_and_may_have_the_same_twice(make: Any, ids: list[Any]) -> None:
    texts = ["x", "y", "z"]
    replies = make().batch(
        [{"messages": text, "custom_id": id} for text, id in zip(texts, ids, strict=True)]
    )
    assert [reply.text for reply in replies] == ["Echo: x", "Echo: y", "Echo: z"]
    assert [reply.custom_id for reply in replies] == ids


def test_a_batch_that_is_answered_without_names_keeps_the_order(
    make: Any, server: TamarServer
) -> None:
    server.script_batch(says({"items": [item("one"), item("two")]}))
    replies = make().batch([{"messages": "a", "custom_id": "a"}, {"messages": "b"}])
    assert [(reply.text, reply.custom_id) for reply in replies] == [("one", "a"), ("two", None)]


def test_answers_of_which_some_have_no_name_are_not_guessed(make: Any, server: TamarServer) -> None:
    server.script_batch(says({"items": [{"custom_id": "b", **item("for b")}, item("for whom?")]}))
    first, second = make().batch([{"messages": "x", "custom_id": id} for id in "ab"])
    assert isinstance(first.error, BadAnswerError)
    assert second.text == "for b"


def test_one_failure_of_a_batch_is_one_replys_error(make: Any, server: TamarServer) -> None:
    items = [
        {"custom_id": "c", **item("fine")},
        {"custom_id": "b", "error": "quota exceeded", "request_id": "served-b"},
        {"custom_id": "d", **item("", {"choices": 5})},
        {"custom_id": "stranger", **item("for nobody")},
    ]
    server.script_batch(says({"request_id": "served", "items": items}))
    models = make()
    replies = models.batch([{"messages": "x", "custom_id": id} for id in "abcd"])
    assert [reply.custom_id for reply in replies] == ["a", "b", "c", "d"]
    assert [reply.text for reply in replies] == ["", "", "fine", ""]
    missing, failed, fine, odd = (reply.error for reply in replies)
    assert isinstance(missing, BadAnswerError)
    assert "no answer" in str(missing)
    assert isinstance(failed, ApiError)
    assert (failed.request_id, failed.status) == ("served-b", 200)
    assert fine is None
    assert isinstance(odd, BadAnswerError)
    assert [reply.request_id for reply in replies] == ["served", "served-b", "served", "served"]
    assert (models.stats.requests, models.stats.errors) == (4, 3)


def test_a_batch_is_tried_again_as_a_whole(make: Any, server: TamarServer) -> None:
    server.script_batch(fails("UNAVAILABLE"))
    assert make().batch([{"messages": "x"}])[0].text == "Echo: x"
    assert len(server.calls) == 2


def test_a_batch_that_fails_as_a_whole_is_the_error_of_each_reply(
    make: Any, server: TamarServer
) -> None:
    server.script_batch(fails("PERMISSION_DENIED", "not you"))
    replies = make().batch([{"messages": "x", "custom_id": id} for id in "ab"])
    assert [reply.custom_id for reply in replies] == ["a", "b"]
    for reply in replies:
        assert isinstance(reply.error, ApiError)
        assert "BatchInvoke failed with PERMISSION_DENIED: not you" in str(reply.error)
        assert reply.request_id == server.calls[0].metadata["x-request-id"]


def test_a_batch_is_of_one_user_when_tokens_are_made(make: Any, server: TamarServer) -> None:
    requests = [{"messages": "x", "user_id": user} for user in ("me", "you")]
    with pytest.raises(ValueError, match="one user's token"):
        make(jwt_secret_key=KEY).batch(requests)
    assert server.calls == []
    assert len(make(api_key="for-all").batch(requests)) == 2


# Connections.


def test_tls_with_a_certificate_for_another_name(models_face: ModelsFace) -> None:
    with tamar_server(tls=True) as server:
        trusted = {"root_certificates": server.root_certificates, "model": "m", "max_retries": 0}
        models = models_face(server.url, default_authority=TLS_NAME, **trusted)
        assert models.chat("hi").text == "Echo: hi"
        assert joined(models.stream("hi")).text == "Echo: hi"
        with pytest.raises(ConnectionFailedError):
            models_face(server.url, **trusted).chat("hi")
        with pytest.raises(ConnectionFailedError):
            models_face(server.url, default_authority=TLS_NAME, model="m", max_retries=0).chat("hi")


def test_large_messages_pass(make: Any, server: TamarServer) -> None:
    text = "x" * 6_000_000
    assert make().chat(text).text == f"Echo: {text}"


def test_clients_of_a_pool_share_a_connection(models_face: ModelsFace, server: TamarServer) -> None:
    pool: Any = SyncModelPool() if models_face.blocking else ModelPool()
    first = models_face.wrap(pool.client(server.url, api_key="one", model="m"))
    second = models_face.wrap(pool.client(server.url, api_key="two", model="m"))
    assert first.chat("Hi").text == second.chat("Hi").text == "Echo: Hi"
    assert [c.metadata["authorization"] for c in server.calls] == ["Bearer one", "Bearer two"]
    assert len(pool._face.connections) == 1
    first.close()
    assert second.chat("Still?").text == "Echo: Still?"
    models_face.wrap(pool).close()


def test_a_stream_that_is_given_up_is_cancelled(make: Any, server: TamarServer) -> None:
    forever = threading.Event()
    server.script(says(item("a"), lambda: forever.wait(PATIENCE), item("b")))
    models = make()
    pieces = models.stream("hi")
    next(pieces)
    pieces.close()
    assert server.calls[0].over.wait(PATIENCE)
    forever.set()
    assert models.chat("hi").text == "Echo: hi"


def hanging(server: TamarServer, way: str) -> threading.Event:
    """Have the next call answered only when the event is set."""
    forever = threading.Event()
    script = server.script_batch if way == "batch" else server.script
    script(says(lambda: forever.wait(PATIENCE), {}))
    return forever


async def answered(models: Models, way: str) -> Any:
    if way == "chat":
        return await models.chat("hi")
    if way == "stream":
        return [piece async for piece in models.stream("hi")]
    return await models.batch([{"messages": "hi"}])


@pytest.mark.parametrize("way", ["chat", "stream", "batch"])
async def test_a_call_that_is_cancelled_here_is_cancelled_there(
    server: TamarServer, way: str
) -> None:
    forever = hanging(server, way)
    async with Models(server.url, model="m") as models:
        task = asyncio.ensure_future(answered(models, way))
        await asyncio.to_thread(server.wait_for, lambda: bool(server.calls))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.calls[0].over.wait, PATIENCE)
        assert (await models.chat("hi")).text == "Echo: hi"
    assert len(server.calls) == 2
    forever.set()


@pytest.mark.parametrize("way", ["chat", "stream", "batch"])
async def test_closing_ends_the_calls_that_are_under_way(server: TamarServer, way: str) -> None:
    forever = hanging(server, way)
    models = Models(server.url, model="m", retry_delay=0.001)
    task = asyncio.ensure_future(answered(models, way))
    await asyncio.to_thread(server.wait_for, lambda: bool(server.calls))
    await models.close()
    with pytest.raises(OomolConnectError, match="has been closed"):
        await task
    assert len(server.calls) == 1
    forever.set()


@pytest.mark.parametrize("way", ["chat", "stream", "batch"])
def test_closing_ends_the_calls_of_other_threads(server: TamarServer, way: str) -> None:
    forever = hanging(server, way)
    models = SyncModels(server.url, model="m", retry_delay=0.001)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            models.batch([{"messages": "hi"}]) if way == "batch" else ask(models, way)
        except OomolConnectError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    server.wait_for(lambda: bool(server.calls))
    models.close()
    thread.join(PATIENCE)
    assert [str(error) for error in caught] == [
        "the connection to Tamar Model Manager has been closed"
    ]
    assert len(server.calls) == 1
    forever.set()


async def test_a_closed_client_does_not_try_again(server: TamarServer) -> None:
    async def close(exchange: Any) -> None:
        await models.close()

    server.script(fails("UNAVAILABLE"))
    models = Models(server.url, model="m", retry_delay=0.001, on_exchange=close)
    with pytest.raises(OomolConnectError, match="has been closed"):
        await models.chat("hi")
    assert len(server.calls) == 1


def test_a_closed_blocking_client_does_not_try_again(server: TamarServer) -> None:
    def close(exchange: Any) -> None:
        models.close()

    server.script(fails("UNAVAILABLE"))
    models = SyncModels(server.url, model="m", retry_delay=0.001, on_exchange=close)
    with pytest.raises(OomolConnectError, match="has been closed"):
        models.chat("hi")
    assert len(server.calls) == 1


async def test_many_calls_run_at_once(server: TamarServer) -> None:
    meeting = threading.Barrier(8)
    server.script(*[says(lambda: meeting.wait(PATIENCE), item(str(n))) for n in range(8)])
    async with Models(server.url, model="m") as models:
        replies = await asyncio.gather(*(models.chat("hi") for _ in range(8)))
    assert sorted(reply.text for reply in replies) == [str(n) for n in range(8)]


def test_many_threads_share_one_client(server: TamarServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    meeting = threading.Barrier(8)
    server.script(*[says(lambda: meeting.wait(PATIENCE), item(str(n))) for n in range(8)])
    with SyncModels(server.url, model="m") as models, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(models.chat, ["hi"] * 8))
    assert sorted(reply.text for reply in replies) == [str(n) for n in range(8)]


def test_one_client_serves_several_event_loops(server: TamarServer) -> None:
    models = Models(server.url, model="m")

    async def once() -> str:
        return (await models.chat("hi")).text

    async def last() -> str:
        async with models:
            return await once()

    assert [asyncio.run(once()), asyncio.run(once()), asyncio.run(last())] == ["Echo: hi"] * 3


# What is told of it.


def test_every_attempt_is_an_exchange(make: Any, server: TamarServer) -> None:
    seen: list[Any] = []
    server.script(fails("UNAVAILABLE", "later"))
    make(on_exchange=seen.append, jwt_secret_key=KEY).chat("hi")
    failed, good = seen
    assert (failed.status, failed.answer) == ("UNAVAILABLE", None)
    assert "UNAVAILABLE: later" in failed.error
    assert (good.status, good.error) == ("OK", None)
    assert (good.service, good.method) == ("Tamar Model Manager", "Invoke")
    assert good.url == f"grpc://{server.address}"
    assert good.body["extra"]["messages"] == [{"role": "user", "content": "hi"}]
    assert good.answer["content"] == "Echo: hi"
    assert good.headers["authorization"] == "***"
    assert good.headers["x-request-id"] == server.calls[0].metadata["x-request-id"]
    assert KEY not in repr(seen)
    assert server.calls[0].metadata["authorization"] not in repr(seen)
    assert good.seconds > 0


def test_a_stream_and_a_batch_are_one_exchange_each(make: Any, server: TamarServer) -> None:
    seen: list[Any] = []
    models = make(on_exchange=seen.append)
    list(models.stream("a b"))
    models.batch([{"messages": "x"}, {"messages": "y"}])
    stream, batch = seen
    assert [part["content"] for part in stream.answer if part.get("content")] == [
        "Echo:",
        " a",
        " b",
    ]
    assert (batch.method, batch.status) == ("BatchInvoke", "OK")
    assert [part["content"] for part in batch.answer["items"]] == ["Echo: y", "Echo: x"]
    assert len(batch.body["items"]) == 2


def test_a_stream_that_is_given_up_or_breaks_is_told_as_far_as_it_came(
    make: Any, server: TamarServer
) -> None:
    seen: list[Any] = []
    models = make(on_exchange=seen.append)
    pieces = models.stream("a b c")
    next(pieces)
    pieces.close()
    server.script(says(item("a"), {"error": "it broke"}))
    with pytest.raises(ApiError):
        list(models.stream("hi"))
    given_up, broken = seen
    assert (given_up.status, given_up.error, len(given_up.answer)) == ("OK", None, 1)
    assert (broken.status, broken.error) == ("OK", "the provider failed: it broke")
    assert broken.answer[0]["content"] == "a"


# Where the options come from.


def test_the_environment_names_the_service(
    server: TamarServer, models_face: ModelsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tokens = {"ready"}
    for name, value in {
        "ADDRESS": server.address,
        "JWT_TOKEN": "ready",
        "GRPC_USE_TLS": "false",
        "GRPC_MAX_RETRIES": "1",
        "GRPC_RETRY_DELAY": "0.001",
    }.items():
        monkeypatch.setenv(f"MODEL_MANAGER_SERVER_{name}", value)
    models = models_face()
    assert models.chat("hi", model="m").text == "Echo: hi"
    server.script(*[fails("UNAVAILABLE")] * 3)
    with pytest.raises(ConnectionFailedError):
        models.chat("hi", model="m")
    assert len(server.calls) == 3


def test_a_file_of_variables_names_the_service_with_tls(
    models_face: ModelsFace, tmp_path: Path
) -> None:
    with tamar_server(tls=True) as server:
        server.jwt_secret_key = KEY
        lines = {
            "ADDRESS": server.address,
            "GRPC_USE_TLS": "true",
            "GRPC_DEFAULT_AUTHORITY": TLS_NAME,
            "JWT_SECRET_KEY": KEY,
        }
        text = "".join(f"MODEL_MANAGER_SERVER_{name}={value}\n" for name, value in lines.items())
        (tmp_path / ".env").write_text(text)
        models = models_face(root_certificates=server.root_certificates)
        assert models.chat("hi", model="m").text == "Echo: hi"
        assert len(server.calls) == 1


# The bytes on the wire, written down by hand from the numbers of the fields.


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_request_is_these_bytes() -> None:
    values = ["openai", "normal", "chat-completions", True, "org", "me", "sdk", 300, "q1"]
    names = "provider channel invoke_type stream org_id user_id client_type priority custom_id"
    fields = dict(zip(names.split(), values, strict=True))
    item = wire().request_item({**fields, "region": "eu"}, {"model": "m"})
    value = field(3, b"m")
    entry = field(1, b"model") + field(2, value)
    expected = (
        b"\x0a\x06openai\x12\x06normal\x1a\x10chat-completions\x20\x01\x2a\x03org\x32\x02me"
        b"\x3a\x03sdk\x40\xac\x02\x4a\x02q1" + field(10, field(1, entry)) + b"\x5a\x02eu"
    )
    assert item.SerializeToString() == expected
    assert wire().ModelRequest(items=[item]).SerializeToString() == field(1, expected)


def test_an_optional_field_that_is_zero_is_sent() -> None:
    item = wire().request_item({"priority": 0, "custom_id": None}, {})
    assert item.SerializeToString() == b"\x40\x00\x52\x00"


def test_an_answer_is_these_bytes() -> None:
    answer = b"\x0a\x04text\x12\x02{}\x1a\x04null\x22\x03bad\x2a\x02q1\x32\x03req"
    item = wire().ModelResponseItem.FromString(answer)
    assert (item.content, item.usage, item.raw_response) == ("text", "{}", "null")
    assert (item.error, item.custom_id, item.request_id) == ("bad", "q1", "req")
    whole = wire().ModelResponse.FromString(field(1, b"id") + field(2, answer))
    assert whole.request_id == "id"
    assert list(whole.items) == [item]


def test_what_a_newer_service_adds_is_passed_over() -> None:
    item = wire().ModelResponseItem.FromString(b"\x0a\x02hi" + field(15, b"new"))
    assert item.content == "hi"


# What it needs.


def test_the_missing_extra_is_named(
    models_face: ModelsFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    models = models_face("tamar+grpc://127.0.0.1:1", model="m")
    with pytest.raises(OomolConnectError, match=r"pip install 'oomol-connect-sdk\[tamar\]'"):
        models.chat("hi")
