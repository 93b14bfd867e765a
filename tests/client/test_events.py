from __future__ import annotations

import time
from typing import Iterable, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomol_connect_sdk import BadAnswerError, events
from oomol_connect_sdk.events import EventDecoder, ServerEvent

LINE_TEXT = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))
FIELD = LINE_TEXT.filter(lambda text: not text.startswith(" "))
EVENT = st.builds(
    ServerEvent, FIELD.filter(bool), FIELD, st.lists(LINE_TEXT, min_size=1).map("\n".join)
)


def encoded(event: ServerEvent, end: str, noise: str) -> bytes:
    lines = [f":{noise}", f"id: {event.id}", f"event: {event.name}", f"retry: {noise}"]
    lines += [f"data: {line}" for line in event.data.split("\n")]
    return "".join(line + end for line in [*lines, ""]).encode()


def decoded(pieces: Iterable[bytes]) -> List[ServerEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@given(
    st.lists(EVENT, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    LINE_TEXT,
    st.lists(st.integers(min_value=0, max_value=500)),
)
def test_events_are_the_same_however_they_are_cut(
    sent: List[ServerEvent], end: str, noise: str, cuts: List[int]
) -> None:
    body = b"".join(encoded(event, end, noise) for event in sent)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:stop] for start, stop in zip(edges, edges[1:])]
    expected = decoded([body])
    assert decoded(pieces) == expected
    assert decoded(body[index : index + 1] for index in range(len(body))) == expected
    trimmed = [event.data.rstrip("\r") for event in expected]
    assert [text.split("\n")[0] for text in trimmed] == [text.data.split("\n")[0] for text in sent]


@given(st.lists(EVENT, max_size=3), EVENT, st.data())
def test_an_event_that_is_cut_short_is_not_given(
    sent: List[ServerEvent], last: ServerEvent, data: st.DataObject
) -> None:
    tail = encoded(last, "\n", "")
    kept = data.draw(st.integers(min_value=0, max_value=len(tail) - 1))
    body = b"".join(encoded(event, "\n", "") for event in sent) + tail[:kept]
    assert len(decoded([body])) == len(sent)


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_no_bytes_break_the_decoder(pieces: List[bytes]) -> None:
    decoded(pieces)


def test_fields_have_their_defaults() -> None:
    body = b": hello\n\ndata\n\nid: 7\ndata:a\ndata: b\n\nevent: x\n\ndata: c\n\n"
    assert decoded([body]) == [
        ServerEvent("message", "", ""),
        ServerEvent("message", "7", "a\nb"),
        ServerEvent("message", "7", "c"),
    ]


@pytest.mark.parametrize("data", ["", "{", "[1]", "5", "null", '"text"', '{"a":' * 100_000])
def test_data_that_is_no_object_is_an_error(data: str) -> None:
    with pytest.raises(BadAnswerError, match="no JSON object"):
        ServerEvent("task", "1", data).json()


def test_an_event_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 1000)
    small = b"data: " + b"x" * 400 + b"\n\n"
    assert len(decoded([small * 10])) == 10
    with pytest.raises(BadAnswerError, match="more than 1000 bytes"):
        decoded([b"data: ", *[b"x" * 100] * 10])
    with pytest.raises(BadAnswerError, match="more than 1000 bytes"):
        decoded([b"data: x\n"] * 200)


def test_a_large_event_costs_in_proportion() -> None:
    started = time.monotonic()
    (event,) = decoded([b"data: ", *[b"x" * 4096] * 10_000, b"\n\n"])
    assert len(event.data) == 40_960_000
    assert time.monotonic() - started < 3
