"""The same program against every kind of service: only address, model and key differ."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from dial_server import DEPLOYMENT, KEY, dial_server
from faces import ModelsFace
from openai_server import openai_server
from tensorzero_server import configuration, tensorzero_server

from oomol_connect_sdk.errors import ApiError, ConnectionFailedError, NotSupported
from oomol_connect_sdk.models import PieceJoiner, Reply, Tool, Usage

WEATHER = Tool(
    "weather",
    "Tells the weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
SPENT = Usage(7, 5, 12)
SECRET = "sk-very-secret"
KNOW_NO_MODELS = ("tensorzero+", "tamar+")

Options = dict[str, Any]


@contextmanager
def openai_options() -> Iterator[Options]:
    with openai_server() as server:
        yield {"url": server.url, "model": "gpt-4o-mini", "api_key": SECRET}


@contextmanager
def dial_options() -> Iterator[Options]:
    with dial_server() as server:
        yield {"url": server.url, "model": DEPLOYMENT, "api_key": KEY}


@contextmanager
def tensorzero_options(embedded: bool = False) -> Iterator[Options]:
    pytest.importorskip("tensorzero", reason="needs pip install tensorzero")
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setenv("RUST_LOG", "off")
        patch.setenv("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")
        with openai_server() as upstream:
            config = configuration(Path(directory), upstream.url)
            if embedded:
                yield {"url": f"tensorzero+file://{config}", "model": "m"}
                return
            with tensorzero_server(config) as server:
                yield {"url": f"tensorzero+{server.url}", "model": "m", "api_key": SECRET}


@contextmanager
def tamar_options() -> Iterator[Options]:
    for module, package in (("grpc", "grpcio"), ("jwt", "pyjwt"), ("trustme", "trustme")):
        pytest.importorskip(module, reason=f"needs pip install {package}")
    from tamar_server import tamar_server

    with tamar_server() as server:
        yield {"url": server.url, "model": "gpt-4o-mini", "api_key": SECRET}


COUNTERPARTS: dict[str, Callable[[], AbstractContextManager[Options]]] = {
    "openai": openai_options,
    "dial": dial_options,
    "tensorzero": tensorzero_options,
    "tensorzero-embedded": lambda: tensorzero_options(embedded=True),
    "tamar": tamar_options,
}


@pytest.fixture(scope="module", params=COUNTERPARTS)
def service(request: pytest.FixtureRequest) -> Iterator[Options]:
    """Where a service is, and the model and key that belong to it."""
    with COUNTERPARTS[request.param]() as options:
        yield options


@pytest.fixture
def models(service: Options, models_face: ModelsFace) -> Any:
    return models_face(**service, retry_delay=0.001)


def joined(pieces: Any) -> Reply:
    joiner = PieceJoiner()
    for piece in pieces:
        joiner.add(piece)
    return joiner.reply()


def test_a_question_is_answered(models: Any) -> None:
    reply = models.chat("Hello there")
    assert reply.text == "Echo: Hello there"
    assert reply.usage == SPENT
    assert reply.finish == "stop"
    assert reply.id
    assert reply.raw is not None
    assert (reply.tool_calls, reply.error) == ((), None)


def test_a_stream_gives_the_same_as_a_whole_answer(models: Any) -> None:
    pieces = list(models.stream("one two three"))
    assert len([piece for piece in pieces if piece.text]) > 1
    reply = joined(pieces)
    assert reply.text == "Echo: one two three"
    assert reply.usage == SPENT
    assert reply.finish == "stop"
    assert reply.id


def test_a_conversation_goes_on(models: Any) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
    ]
    messages.append(models.chat(messages).message())
    messages.append({"role": "user", "content": [{"type": "text", "text": "second"}]})
    assert models.chat(messages, temperature=0.5, max_tokens=50).text == "Echo: second"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_tool_is_called_and_its_result_heard(models: Any, streaming: bool) -> None:
    def ask(messages: Any) -> Reply:
        if streaming:
            return joined(models.stream(messages, tools=[WEATHER]))
        reply: Reply = models.chat(messages, tools=[WEATHER])
        return reply

    text = 'call weather {"city": "Kyoto"}\ncall weather {"city": "Nara"}'
    messages: list[Any] = [{"role": "user", "content": text}]
    reply = ask(messages)
    assert [call.name for call in reply.tool_calls] == ["weather", "weather"]
    assert [call.parsed() for call in reply.tool_calls] == [{"city": "Kyoto"}, {"city": "Nara"}]
    messages.append(reply.message())
    for call, result in zip(reply.tool_calls, ["rain", "sun"], strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert ask(messages).text == "Tools: rain | sun"


def test_an_image_goes_along(models: Any) -> None:
    reply = models.chat("look", files=[("x.png", b"\x89PNG\r\n\x1a\n")])
    assert reply.text.startswith("Echo: look ")
    assert "[" in reply.text


def test_a_batch_keeps_its_order(models: Any) -> None:
    requests = [
        {"messages": f"number {n}", "custom_id": f"id-{n}", "priority": n} for n in range(6)
    ]
    replies = models.batch(requests, limit=3)
    assert [reply.text for reply in replies] == [f"Echo: number {n}" for n in range(6)]
    assert [reply.custom_id for reply in replies] == [f"id-{n}" for n in range(6)]
    assert models.batch([]) == []


def test_what_was_asked_is_counted(models: Any) -> None:
    models.chat("a")
    list(models.stream("b"))
    models.batch([{"messages": "c"}, {"messages": "d"}])
    assert (models.stats.requests, models.stats.errors) == (4, 0)
    assert models.stats.total_tokens == 4 * 12


def test_a_stream_may_be_given_up(models: Any) -> None:
    for _ in range(3):
        pieces = models.stream("a b c d e f")
        next(pieces)
        pieces.close()
    assert models.chat("still there").text == "Echo: still there"


def test_the_models_are_listed_where_the_service_knows_them(service: Options, models: Any) -> None:
    if service["url"].startswith(KNOW_NO_MODELS):
        with pytest.raises(NotSupported, match="has no list of models"):
            models.list()
        return
    assert service["model"] in [row["id"] for row in models.list()]


def test_what_goes_over_the_wire_can_be_watched(service: Options, models_face: ModelsFace) -> None:
    seen: list[Any] = []
    models = models_face(**service, on_exchange=seen.append)
    models.chat("hi")
    list(models.stream("hi"))
    assert len(seen) == 2
    assert len({exchange.service for exchange in seen}) == 1
    assert all(exchange.error is None and exchange.answer for exchange in seen)
    assert "Echo: hi" in str(seen[0].answer)
    assert service.get("api_key", SECRET) not in repr(seen)
    assert service.get("api_key", SECRET) not in repr(models)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_cannot_be_sent_is_named(models: Any, streaming: bool) -> None:
    def ask(messages: Any, **options: Any) -> Any:
        if streaming:
            return list(models.stream(messages, **options))
        return models.chat(messages, **options)

    with pytest.raises(ValueError, match="messages must not be empty"):
        ask([])
    with pytest.raises(TypeError, match=r"tools\[0\]"):
        ask("hi", tools=[5])
    with pytest.raises(FileNotFoundError, match="no such file"):
        ask("hi", files=["nowhere.png"])


@pytest.mark.parametrize("streaming", [False, True])
def test_nobody_there_is_said(service: Options, models_face: ModelsFace, streaming: bool) -> None:
    scheme = service["url"].partition("://")[0]
    if scheme == "tensorzero+file":
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone = {**service, "url": f"{scheme}://127.0.0.1:{port}", "max_retries": 1}
    models = models_face(**gone, retry_delay=0.001)
    with pytest.raises(ConnectionFailedError) as caught:
        list(models.stream("hi")) if streaming else models.chat("hi")
    assert isinstance(caught.value, ApiError)
    assert caught.value.status == 0
    assert service.get("api_key", SECRET) not in str(caught.value)
    assert models.stats.errors == 1
