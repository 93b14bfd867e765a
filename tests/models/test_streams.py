from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from faces import ModelsFace
from hypothesis import given
from hypothesis import strategies as st
from openai_server import (
    BREAK,
    PATIENCE,
    Call,
    OpenAIServer,
    broken,
    chunk,
    completion,
    event,
    failure,
    respond,
    stream,
)

from oomol_connect_sdk import events
from oomol_connect_sdk.errors import ApiError, BadAnswerError, ConnectionFailedError
from oomol_connect_sdk.models import Models, Piece, PieceJoiner, SyncModels, ToolCall, ToolCallPiece

DONE = chunk(finish="stop")


@pytest.fixture
def models(openai: OpenAIServer, models_face: ModelsFace) -> Any:
    return models_face(openai.url, model="gpt-4o-mini", retry_delay=0.001)


def text_of(pieces: Any) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    "text", ["a\u2028b\u2029c\x85d\x0be\x1cf", "\r\n\r\n", "data: x\n\n", "🙂"]
)
def test_text_is_cut_at_no_other_line_end_than_the_streams_own(
    models: Any, openai: OpenAIServer, text: str
) -> None:
    openai.script(stream(chunk(text), DONE))
    assert text_of(models.stream("hi")) == text


def test_a_stream_may_drip_and_be_cut_anywhere(models: Any, openai: OpenAIServer) -> None:
    drops = [bytes([byte]) for byte in event(chunk("å🙂")) + event(DONE)]
    openai.script(stream(b": hello\n\n", *drops))
    assert text_of(models.stream("hi")) == "å🙂"


def test_a_huge_line_is_one_piece(models: Any, openai: OpenAIServer) -> None:
    text = "x" * 5_000_000
    openai.script(stream(chunk(text), DONE))
    assert text_of(models.stream("hi")) == text


def test_events_are_limited_in_size(
    models: Any, openai: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 10_000)
    openai.script(stream(*[chunk("x" * 5000)] * 4, chunk("x" * 20_000), DONE))
    pieces = models.stream("hi")
    assert [len(next(pieces).text) for _ in range(4)] == [5000] * 4
    with pytest.raises(BadAnswerError, match="more than 10000 bytes"):
        next(pieces)


def test_the_content_type_may_be_written_in_any_case(models: Any, openai: OpenAIServer) -> None:
    kind = "Text/Event-Stream; charset=utf-8"
    openai.script(stream(chunk("x"), DONE, **{"Content-Type": kind}))
    assert text_of(models.stream("hi")) == "x"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_any_line_end_will_do(models: Any, openai: OpenAIServer, end: str) -> None:
    body = (event(chunk("x")) + event(DONE)).decode().replace("\n", end).encode()
    openai.script(stream(b"\xef\xbb\xbf" + body, done=False))
    assert text_of(models.stream("hi")) == "x"


def test_a_piece_is_given_as_soon_as_it_has_come(models: Any, openai: OpenAIServer) -> None:
    seen = threading.Event()
    openai.script(stream(chunk("x"), lambda: seen.wait(PATIENCE), DONE))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    assert not seen.is_set()
    seen.set()
    assert next(pieces).finish == "stop"


def test_done_may_be_missing_where_the_finish_was_told(models: Any, openai: OpenAIServer) -> None:
    openai.script(stream(chunk("x"), DONE, done=False))
    assert text_of(models.stream("hi")) == "x"


def test_the_finish_may_be_missing_where_done_comes(models: Any, openai: OpenAIServer) -> None:
    openai.script(stream(chunk("x")))
    assert text_of(models.stream("hi")) == "x"


def test_nothing_is_waited_for_behind_done(models: Any, openai: OpenAIServer) -> None:
    over = threading.Event()
    waited: list[bool] = []
    end = b"data: [DONE]\n\n"
    openai.script(stream(chunk("x"), end, lambda: waited.append(over.wait(PATIENCE))))
    assert text_of(models.stream("hi")) == "x"
    assert waited == []
    over.set()


def test_a_stream_that_ends_in_the_middle_is_no_answer(models: Any, openai: OpenAIServer) -> None:
    openai.script(stream(chunk("x"), done=False))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    with pytest.raises(BadAnswerError, match="in the middle of the answer"):
        next(pieces)


@pytest.mark.parametrize("answer", [stream(cut=True), broken, failure(503, "later")])
def test_a_stream_is_sent_again_before_its_first_piece(
    models: Any, openai: OpenAIServer, answer: Any
) -> None:
    openai.script(answer, answer)
    assert text_of(models.stream("hi")) == "Echo: hi"
    assert len(openai.calls) == 3
    assert (models.stats.requests, models.stats.errors) == (1, 0)


@pytest.mark.parametrize(
    "answer", [stream(), stream(done=False), stream(b": only a comment\n\n", done=False)]
)
def test_a_stream_without_a_piece_is_no_answer(
    models: Any, openai: OpenAIServer, answer: Any
) -> None:
    openai.script(*[answer] * 3)
    with pytest.raises(BadAnswerError, match="ended its stream"):
        list(models.stream("hi"))
    assert len(openai.calls) == 3


def test_a_stream_is_never_sent_again_after_its_first_piece(
    models: Any, openai: OpenAIServer
) -> None:
    openai.script(stream(chunk("x"), cut=True))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    with pytest.raises(ConnectionFailedError):
        next(pieces)
    assert len(openai.calls) == 1
    assert (models.stats.requests, models.stats.errors) == (1, 1)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ({"message": "too fast", "code": 429}, 429, "too fast"),
        ({"message": "too fast", "code": "429"}, 429, "too fast"),
        ({"message": "it broke", "code": "server_error"}, 500, "it broke"),
        ({"message": "odd", "code": "²²²"}, 500, "odd"),
        ("just text", 500, "just text"),
        (["odd"], 500, "HTTP status 500"),
    ],
)
def test_an_error_inside_a_stream_is_raised(
    models: Any, openai: OpenAIServer, error: Any, status: int, message: str
) -> None:
    openai.script(stream(chunk("x"), {"error": error}))
    pieces = models.stream("hi")
    assert next(pieces).text == "x"
    with pytest.raises(ApiError, match=message) as caught:
        next(pieces)
    assert (caught.value.status, caught.value.request_id) == (status, "req-1")
    assert len(openai.calls) == 1


def test_an_answer_that_is_no_stream_is_refused(models: Any, openai: OpenAIServer) -> None:
    openai.script(*[respond(completion("whole"))] * 3)
    with pytest.raises(BadAnswerError, match="instead of an event stream"):
        list(models.stream("hi"))


def test_data_that_is_no_json_is_refused(models: Any, openai: OpenAIServer) -> None:
    openai.script(stream(chunk("x"), b"data: {oops\n\n"))
    pieces = models.stream("hi")
    next(pieces)
    with pytest.raises(BadAnswerError, match="no JSON object"):
        next(pieces)


def test_a_request_that_cannot_be_sent_is_told_by_the_first_step(models: Any) -> None:
    pieces = models.stream([])
    with pytest.raises(ValueError, match="messages must not be empty"):
        next(pieces)


def test_streams_that_are_given_up_give_their_connections_back(
    models: Any, openai: OpenAIServer
) -> None:
    for _ in range(150):
        openai.script(endless)
        pieces = models.stream("hi")
        assert next(pieces).text == "x"
        pieces.close()
    openai.wait_for(lambda: len(openai.connections) <= 1)
    assert models.stats.requests == 150
    assert models.stats.errors == 0
    assert models.chat("hi").text == "Echo: hi"


def test_streams_that_are_used_up_leave_no_connections_behind(
    models: Any, openai: OpenAIServer
) -> None:
    for _ in range(150):
        assert text_of(models.stream("hi")) == "Echo: hi"
    openai.wait_for(lambda: len(openai.connections) <= 1)


async def test_a_stream_that_is_cancelled_gives_its_connection_back(openai: OpenAIServer) -> None:
    over = threading.Event()
    async with Models(openai.url, model="m") as models:
        for _ in range(20):
            openai.script(stream(chunk("x"), lambda: over.wait(PATIENCE), DONE))
            came = asyncio.Event()

            async def read(came: asyncio.Event = came) -> None:
                async for _ in models.stream("hi"):
                    came.set()

            task = asyncio.ensure_future(read())
            await came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await models.chat("hi")).text == "Echo: hi"
        over.set()
        await asyncio.to_thread(openai.wait_for, lambda: len(openai.connections) <= 1)


async def test_a_stream_that_is_left_without_closing_gives_its_connection_back(
    openai: OpenAIServer,
) -> None:
    openai.script(*[endless] * 120)
    async with Models(openai.url, model="m") as models:
        for _ in range(120):
            async for piece in models.stream("hi"):
                assert piece.text == "x"
                break
        assert (await models.chat("hi")).text == "Echo: hi"
        await asyncio.to_thread(openai.wait_for, lambda: len(openai.connections) <= 1)


async def test_two_hundred_streams_at_once_wait_for_their_turns(openai: OpenAIServer) -> None:
    over = threading.Event()
    openai.script(*[stream(chunk("x"), lambda: over.wait(PATIENCE), DONE)] * 200)

    async def read(models: Models) -> str:
        return "".join([piece.text async for piece in models.stream("hi")])

    async with Models(openai.url, model="m") as models:
        reading = asyncio.gather(*(read(models) for _ in range(200)))
        await asyncio.to_thread(openai.wait_for, lambda: openai.peak >= 100)
        # Time for those to come that should not.
        await asyncio.sleep(0.3)
        assert openai.peak == 100
        over.set()
        assert await reading == ["x"] * 200
        assert models.stats.requests == 200


def test_threads_share_one_blocking_client(openai: OpenAIServer) -> None:
    results: list[str] = []
    with SyncModels(openai.url, model="m") as models:

        def ask(number: int) -> None:
            results.append(text_of(models.stream(f"{number}")))

        threads = [threading.Thread(target=ask, args=[number]) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert models.stats.requests == 40
    assert sorted(results) == sorted(f"Echo: {number}" for number in range(40))


def endless(call: Call) -> Iterable[bytes]:
    yield from list(stream(chunk("x"), done=False)(call))[:-1]
    # Nobody reads any more: writing fails sooner or later.
    for _ in range(1_000_000):
        yield from list(stream(chunk("y" * 10_000), done=False)(call))[1:-1]
    yield BREAK


# Pieces of tool calls


ARGUMENTS = st.lists(st.text(max_size=3), min_size=1, max_size=4)


@given(
    st.lists(ARGUMENTS, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(["index", "id", "both"]),
)
def test_interleaved_pieces_of_calls_are_told_apart(
    calls: list[list[str]], random: Any, marked: str
) -> None:
    left = {number: list(parts) for number, parts in enumerate(calls)}
    order: list[int] = []
    joiner = PieceJoiner()
    while any(left.values()):
        number = random.choice([number for number, parts in left.items() if parts])
        first = number not in order
        order.extend([number] if first else [])
        part = ToolCallPiece(
            index=None if marked == "id" else number,
            id="" if marked == "index" else f"id-{number}",
            name=f"tool-{number}" if first else "",
            arguments=left[number].pop(0),
        )
        joiner.add(Piece(tool_calls=(part,)))
    expected = order if marked == "id" else sorted(order)
    got = joiner.reply().tool_calls
    assert [call.name for call in got] == [f"tool-{number}" for number in expected]
    assert [call.arguments for call in got] == ["".join(calls[number]) for number in expected]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [(None, "", "f", '{"a"'), (None, "", "", ":1}"), (None, "", "g", "{}")], id="no marks"
        ),
        pytest.param(
            [(0, "x", "f", '{"a"'), (0, "", "", ":1}"), (0, "y", "g", "{"), (0, "", "", "}")],
            id="one index for all",
        ),
        pytest.param(
            [(None, "x", "f", '{"a"'), (None, "", "", ":1}"), (None, "y", "g", "{}")],
            id="ids at the beginning only",
        ),
        pytest.param(
            [(0, "x", "f", '{"a"'), (0, "x", "f", ":1}"), (1, "y", "g", "{}")], id="all repeated"
        ),
        pytest.param(
            [(0, "x", "f", ""), (0, "other", "", '{"a":1}'), (1, "y", "g", "{}")],
            id="a new id in every piece",
        ),
    ],
)
def test_careless_marks_of_calls_are_borne_with(pieces: list[Any]) -> None:
    joiner = PieceJoiner()
    for piece in pieces:
        joiner.add(Piece(tool_calls=(ToolCallPiece(*piece),)))
    first, second = joiner.reply().tool_calls
    assert (first.name, first.arguments) == ("f", '{"a":1}')
    assert (second.name, second.arguments) == ("g", "{}")


def test_a_call_without_an_id_gets_one() -> None:
    joiner = PieceJoiner()
    joiner.add(Piece(tool_calls=(ToolCallPiece(0, "", "f", "{}"), ToolCallPiece(1, "", "g", ""))))
    assert joiner.reply().tool_calls == (ToolCall("call_0", "f", "{}"), ToolCall("call_1", "g", ""))


@pytest.mark.parametrize("arguments", ["{", "[]", "5", "null", '{"a":' * 100_000])
def test_arguments_that_are_no_object_are_a_bad_answer(arguments: str) -> None:
    with pytest.raises(BadAnswerError, match="the tool 'f' with arguments that are no JSON object"):
        ToolCall("c", "f", arguments).parsed()
    assert ToolCall("c", "f", "").parsed() == {}
