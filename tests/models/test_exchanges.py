"""What ``on_exchange`` is told."""

from __future__ import annotations

from typing import Any

import pytest
from faces import ModelsFace
from openai_server import OpenAIServer, broken, chunk, failure, stream

from oomol_connect_sdk.errors import ApiError

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


def test_an_exchange_tells_what_was_sent_and_what_came(make: Any, openai: OpenAIServer) -> None:
    seen: list[Any] = []
    make(on_exchange=seen.append).chat("hi", credentials={"key": SECRET})
    (exchange,) = seen
    assert exchange.service == "an OpenAI-compatible service"
    assert (exchange.method, exchange.url) == ("POST", f"{openai.url}/chat/completions")
    assert exchange.body == {**openai.calls[0].json, "credentials": "***"}
    assert (exchange.status, exchange.error) == (200, None)
    assert exchange.answer["choices"][0]["message"]["content"] == "Echo: hi"
    assert exchange.seconds > 0


def test_every_attempt_is_an_exchange(make: Any, openai: OpenAIServer) -> None:
    seen: list[Any] = []
    openai.script(broken, failure(503, "later"))
    make(on_exchange=seen.append).chat("hi")
    assert [exchange.status for exchange in seen] == [None, 503, 200]
    assert [exchange.error is None for exchange in seen] == [False, False, True]
    assert seen[1].answer["error"]["message"] == "later"


def test_a_stream_is_one_exchange_with_all_its_events(make: Any, openai: OpenAIServer) -> None:
    seen: list[Any] = []
    openai.script(failure(503, "later"), stream(chunk("x"), chunk(finish="stop")))
    models = make(on_exchange=seen.append)
    ask(models, "stream")
    assert [exchange.status for exchange in seen] == [503, 200]
    assert seen[1].answer == [chunk("x"), chunk(finish="stop")]
    pieces = models.stream("a b c d")
    next(pieces)
    pieces.close()
    assert len(seen) == 3
    assert len(seen[2].answer) == 1


def test_a_stream_that_breaks_is_an_exchange_with_an_error(make: Any, openai: OpenAIServer) -> None:
    seen: list[Any] = []
    openai.script(stream(chunk("x"), {"error": {"message": "it broke"}}))
    with pytest.raises(ApiError):
        ask(make(on_exchange=seen.append), "stream")
    (exchange,) = seen
    assert (exchange.status, exchange.error) == (200, "it broke")
    assert exchange.answer == [chunk("x")]


@WAYS
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_an_observer_that_raises_harms_nothing(
    make: Any, openai: OpenAIServer, way: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(exchange: Any) -> None:
        raise RuntimeError("observer is broken")

    async def coroutine(exchange: Any) -> None:
        plain(exchange)

    observer = plain if kind == "function" else coroutine
    assert ask(make(on_exchange=observer), way) == "Echo: hi"
    assert "on_exchange failed" in caplog.text
    assert "observer is broken" in caplog.text
