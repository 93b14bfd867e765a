"""The decoder of event streams finds what httpx-sse finds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import httpx
import httpx_sse
from hypothesis import given
from hypothesis import strategies as st

from oomol_connect_sdk.events import EventDecoder, ServerEvent

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), max_size=12)
FIELDS = st.one_of(
    st.builds("data: {}".format, TEXT),
    st.builds("data:{}".format, TEXT),
    st.builds("event: {}".format, TEXT),
    st.builds("id: {}".format, TEXT),
    st.builds("retry: {}".format, st.one_of(st.integers(0, 9999).map(str), TEXT)),
    st.builds(": {}".format, TEXT),
    st.builds("{}: {}".format, TEXT, TEXT),
    st.sampled_from(["data", "event", "id", ":", "", "", ""]),
)
LINES = st.lists(st.tuples(FIELDS, st.sampled_from(["\n", "\r\n", "\r"])), max_size=30)
CUTS = st.lists(st.integers(0, 400), max_size=10)


def cut_up(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return [body[start:stop] for start, stop in pairwise(edges)]


def decoded(pieces: Iterable[bytes]) -> list[ServerEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def decoded_by_httpx_sse(pieces: list[bytes]) -> list[ServerEvent]:
    head = {"content-type": "text/event-stream"}
    response = httpx.Response(200, headers=head, content=iter(pieces))
    found = httpx_sse.EventSource(response).iter_sse()
    return [ServerEvent(event.event, event.id, event.data) for event in found]


@given(LINES, CUTS)
def test_events_are_those_that_httpx_sse_finds(lines: list[tuple[str, str]], cuts: Any) -> None:
    pieces = cut_up("".join(line + end for line, end in lines).encode(), cuts)
    # It also gives events without data, which the standard drops.
    expected = [event for event in decoded_by_httpx_sse(pieces) if event.data]
    assert [event for event in decoded(pieces) if event.data] == expected


@given(LINES, CUTS)
def test_a_byte_order_mark_changes_nothing(lines: list[tuple[str, str]], cuts: Any) -> None:
    body = "".join(line + end for line, end in lines).encode()
    if not body.startswith(b"\xef\xbb\xbf"):
        assert decoded(cut_up(b"\xef\xbb\xbf" + body, cuts)) == decoded([body])


def test_an_event_is_given_at_its_carriage_return() -> None:
    decoder = EventDecoder()
    assert list(decoder.feed(b"data: x\r\n\r")) == [ServerEvent("message", "", "x")]
    assert list(decoder.feed(b"\ndata: y\n\n")) == [ServerEvent("message", "", "y")]


def test_an_id_with_a_null_is_ignored() -> None:
    assert decoded([b"id: a\n", b"id: b\0\ndata: x\n\n"]) == [ServerEvent("message", "a", "x")]


def test_a_mark_inside_the_stream_is_text() -> None:
    assert decoded([b"data: x\n\n\xef\xbb\xbfdata: y\n\n"]) == [ServerEvent("message", "", "x")]
