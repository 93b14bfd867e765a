"""What goes over HTTP: retries, secrets, limits, and who may watch."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from faces import ModelsFace
from openai_server import (
    BREAK,
    PATIENCE,
    Call,
    OpenAIServer,
    broken,
    chunk,
    completion,
    failure,
    head,
    respond,
    stream,
)

from oomol_connect_sdk import _http
from oomol_connect_sdk.errors import ApiError, ConnectionFailedError
from oomol_connect_sdk.models import Models, SyncModels, retry

SECRET = "sk-very-secret"


@pytest.fixture
def make(openai: OpenAIServer, models_face: ModelsFace) -> Any:
    def make(**options: Any) -> Any:
        return models_face(openai.url, **{"model": "m", "retry_delay": 0.001, **options})

    return make


def ask(models: Any, way: str) -> str:
    if way == "chat":
        text: str = models.chat("hi").text
        return text
    return "".join(piece.text for piece in models.stream("hi"))


WAYS = pytest.mark.parametrize("way", ["chat", "stream"])


@WAYS
@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_passes_by_is_asked_again(
    make: Any, openai: OpenAIServer, way: str, status: int
) -> None:
    openai.script(failure(status, "later"), failure(status, "later"))
    assert ask(make(), way) == "Echo: hi"
    assert len(openai.calls) == 3
    assert len({call.body for call in openai.calls}) == 1


@WAYS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_is_final_is_not_asked_again(
    make: Any, openai: OpenAIServer, way: str, status: int
) -> None:
    openai.script(failure(status, "never"))
    models = make(api_key=SECRET)
    with pytest.raises(ApiError, match="never") as caught:
        ask(models, way)
    assert caught.value.status == status
    assert len(openai.calls) == 1


@WAYS
@pytest.mark.parametrize("tries", [0, 1, 4])
def test_the_tries_are_counted(make: Any, openai: OpenAIServer, way: str, tries: int) -> None:
    openai.script(*[failure(503, "later")] * 5)
    with pytest.raises(ApiError, match="later"):
        ask(make(max_retries=tries), way)
    assert len(openai.calls) == tries + 1


@WAYS
def test_a_broken_connection_is_made_anew(make: Any, openai: OpenAIServer, way: str) -> None:
    openai.script(broken, broken)
    assert ask(make(), way) == "Echo: hi"


def test_an_answer_that_is_cut_short_is_asked_for_again(make: Any, openai: OpenAIServer) -> None:
    def cut(call: Call) -> Iterable[bytes]:
        return [head(200, {"Content-Length": "1000"}) + b'{"choices"', BREAK]

    openai.script(cut)
    assert make().chat("hi").text == "Echo: hi"


@WAYS
def test_an_html_page_is_no_answer(make: Any, openai: OpenAIServer, way: str) -> None:
    page = respond(b"<html>Sign in</html>", Content_Type="text/html")
    openai.script(page, page, page)
    with pytest.raises(ApiError, match="text/html instead of JSON: '<html>Sign in"):
        ask(make(), way)


@WAYS
def test_nobody_there_is_said(make: Any, openai: OpenAIServer, way: str) -> None:
    openai.stop()
    with pytest.raises(ConnectionFailedError) as caught:
        ask(make(api_key=SECRET), way)
    assert caught.value.status == 0
    assert SECRET not in str(caught.value)
    openai.start()


@pytest.mark.parametrize("as_date", [False, True])
def test_the_pause_a_service_asks_for_is_made(
    make: Any, openai: OpenAIServer, as_date: bool
) -> None:
    asked = formatdate(time.time() + 2.0, usegmt=True) if as_date else "1"
    openai.script(failure(429, "slowly", Retry_After=asked))
    begun = time.monotonic()
    assert make().chat("hi").text == "Echo: hi"
    # The date has no fractions of a second.
    assert time.monotonic() - begun > 0.9


def test_a_pause_that_is_too_long_is_cut(
    make: Any, openai: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_RETRY_AFTER", 0.01)
    openai.script(failure(429, "slowly", Retry_After="9" * 400))
    assert make().chat("hi").text == "Echo: hi"


def test_the_pause_is_told_in_the_error(make: Any, openai: OpenAIServer) -> None:
    openai.script(failure(429, "slowly", Retry_After="17"))
    with pytest.raises(ApiError) as caught:
        make(max_retries=0).chat("hi")
    assert caught.value.retry_after == 17.0


@WAYS
def test_a_silent_service_is_given_up(make: Any, openai: OpenAIServer, way: str) -> None:
    over = threading.Event()

    def silent(call: Call) -> Iterable[bytes]:
        over.wait(PATIENCE)
        return [BREAK]

    openai.script(silent)
    with pytest.raises(ConnectionFailedError):
        ask(make(timeout=0.05, max_retries=0), way)
    over.set()


def test_the_timeout_counts_from_piece_to_piece(make: Any, openai: OpenAIServer) -> None:
    parts: list[Any] = [chunk("x"), lambda: time.sleep(0.25)] * 4
    openai.script(stream(*parts, chunk(finish="stop")))
    assert ask(make(timeout=0.8, max_retries=0), "stream") == "xxxx"


@WAYS
@pytest.mark.parametrize("target", ["https://elsewhere.invalid/v1", "/other"])
def test_redirects_are_refused(make: Any, openai: OpenAIServer, way: str, target: str) -> None:
    openai.script(respond(b"", 307, Location=target))
    with pytest.raises(ApiError, match="redirected") as caught:
        ask(make(api_key=SECRET), way)
    assert caught.value.status == 307
    assert len(openai.calls) == 1


@WAYS
@pytest.mark.parametrize("status", [200, 400])
def test_answers_are_limited_in_size(
    make: Any, openai: OpenAIServer, way: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "MAX_ANSWER", 10_000)
    openai.script(respond(completion("x" * 20_000), status))
    with pytest.raises(ApiError, match="more than 10000 bytes"):
        ask(make(), way)
    assert len(openai.calls) == 1


# Secrets


def sources(kind: str, keys: list[str]) -> Any:
    """A function that gives the keys in turn, the last one for ever."""

    def plain() -> str:
        return keys.pop(0) if len(keys) > 1 else keys[0]

    async def coroutine() -> str:
        await asyncio.sleep(0)
        return plain()

    return plain if kind == "function" else coroutine


KINDS = pytest.mark.parametrize("kind", ["function", "coroutine"])


@WAYS
@KINDS
@pytest.mark.parametrize("option", ["api_key", "bearer_token"])
def test_a_key_that_ran_out_is_asked_for_once_more(
    make: Any, openai: OpenAIServer, way: str, kind: str, option: str
) -> None:
    openai.keys = {"new"}
    seen: list[Any] = []
    models = make(**{option: sources(kind, ["old", "new"])}, on_exchange=seen.append)
    assert ask(models, way) == "Echo: hi"
    assert ask(models, way) == "Echo: hi"
    sent = [call.headers["authorization"] for call in openai.calls]
    assert sent == ["Bearer old", "Bearer new", "Bearer new"]
    assert [exchange.status for exchange in seen] == [401, 200, 200]


@WAYS
@KINDS
def test_a_key_that_is_refused_twice_is_refused(
    make: Any, openai: OpenAIServer, way: str, kind: str
) -> None:
    openai.keys = {"other"}
    with pytest.raises(ApiError, match="Incorrect API key") as caught:
        ask(make(api_key=sources(kind, ["a", "b", "c"])), way)
    assert caught.value.status == 401
    assert len(openai.calls) == 2


async def test_many_requests_with_a_key_that_ran_out_all_succeed(openai: OpenAIServer) -> None:
    openai.keys = {"old"}
    current = ["old"]

    async def key() -> str:
        await asyncio.sleep(0)
        return current[0]

    async with Models(openai.url, model="m", api_key=key) as models:
        await models.chat("hi")
        openai.keys = {"new"}
        current[0] = "new"
        replies = await asyncio.gather(*(models.chat("hi") for _ in range(50)))
    assert [reply.text for reply in replies] == ["Echo: hi"] * 50


async def test_a_coroutine_gives_the_blocking_client_its_key_inside_a_running_loop(
    openai: OpenAIServer,
) -> None:
    openai.keys = {"new"}
    source = sources("coroutine", ["old", "new"])
    with SyncModels(openai.url, model="m", api_key=source) as models:
        assert models.chat("hi").text == "Echo: hi"


@pytest.mark.parametrize("given", [None, 5, "", "bad\nkey", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_named_and_not_shown(
    make: Any, openai: OpenAIServer, given: Any
) -> None:
    with pytest.raises((TypeError, ValueError), match="api_key must be") as caught:
        make(api_key=lambda: given).chat("hi")
    assert "schlüssel" not in str(caught.value)
    assert "bad" not in str(caught.value)
    assert openai.calls == []


def test_a_header_of_the_callers_own_replaces_the_key(make: Any, openai: OpenAIServer) -> None:
    models = make(api_key=SECRET, headers={"authorization": "Basic abc", "X-Team": "blue"})
    models.chat("hi")
    assert openai.calls[0].headers["authorization"] == "Basic abc"
    assert openai.calls[0].headers["x-team"] == "blue"


@WAYS
def test_secrets_are_shown_nowhere(
    make: Any, openai: OpenAIServer, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[Any] = []
    headers = {"X-Session-Token": "tok-secret", "Cookie": "cook-secret", "X-Plain": "plain"}
    models = make(api_key=SECRET, headers=headers, on_exchange=seen.append)
    ask(models, way)
    openai.script(failure(400, "no"))
    with pytest.raises(ApiError) as caught:
        ask(models, way)
    for shown in (repr(models), repr(caught.value), str(caught.value), caplog.text, repr(seen)):
        assert "secret" not in shown
    assert openai.calls[0].headers["authorization"] == f"Bearer {SECRET}"
    assert seen[0].headers["Authorization"] == "***"
    assert seen[0].headers["X-Plain"] == "plain"


# A client of the user's own


@WAYS
async def test_a_client_of_the_users_own_is_used_and_left_open(
    openai: OpenAIServer, way: str
) -> None:
    def mark(request: httpx.Request) -> None:
        request.headers["x-mark"] = "theirs"

    async def mark_later(request: httpx.Request) -> None:
        mark(request)

    with httpx.Client(event_hooks={"request": [mark]}, follow_redirects=True) as client:
        with SyncModels(openai.url, model="m", http_client=client) as blocking:
            ask(blocking, way)
        assert not client.is_closed
    async with httpx.AsyncClient(event_hooks={"request": [mark_later]}) as other:
        async with Models(openai.url, model="m", http_client=other) as models:
            assert (await models.chat("hi")).text == "Echo: hi"
            assert [piece.text async for piece in models.stream("hi")][1:3] == ["Echo:", " hi"]
        assert not other.is_closed
    assert [call.headers.get("x-mark") for call in openai.calls] == ["theirs"] * 3


@pytest.mark.parametrize("way", ["chat", "stream"])
def test_requests_are_seen_by_those_who_mock_httpx(
    httpx_mock: Any, models_face: ModelsFace, way: str
) -> None:
    if way == "chat":
        httpx_mock.add_response(json=completion("mocked"))
    else:
        lines = b'data: {"choices": [{"delta": {"content": "mocked"}}]}\n\ndata: [DONE]\n\n'
        httpx_mock.add_response(content=lines, headers={"content-type": "text/event-stream"})
    models = models_face("https://models.example/v1", model="m", api_key=SECRET)
    assert ask(models, way) == "mocked"
    (request,) = httpx_mock.get_requests()
    assert str(request.url) == "https://models.example/v1/chat/completions"


def test_a_service_that_was_started_anew_is_found_again(make: Any, openai: OpenAIServer) -> None:
    models = make()
    models.chat("hi")
    openai.stop()
    openai.start(openai.port)
    assert models.chat("hi").text == "Echo: hi"
