from __future__ import annotations

import email.utils
import gzip
import threading
import time
from typing import Any, Callable, Iterable, Iterator, List

import pytest
from raw_server import CLOSE, RawCall, RawServer, TaskTable, answer, dripping
from scripted import task

from oomol_connect_sdk import (
    ApiError,
    BadAnswerError,
    OomolConnectError,
    TimeoutError,
    _http,
    answers,
)

FAST = {"interval_ms": 5, "backoff_strategy": "fixed"}
CREATE = "POST /api/v1/tasks"
TOKEN = "api-very-secret"

RUNNING = answer({"task": task("running", "t0")})
PACKED = gzip.compress(b'{"task": {"id": "t0", "status": "running"}}')


def in_seconds(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


FAULTS = {
    "nothing before the head": [CLOSE],
    "half a head": [RUNNING[:20], CLOSE],
    "no body": [RUNNING[: RUNNING.index(b"{")], CLOSE],
    "half a body": [RUNNING[:-20], CLOSE],
    "a content length too large": [
        RUNNING.replace(b"content-length: ", b"content-length: 9"),
        CLOSE,
    ],
    "a content length that is none": [RUNNING.replace(b"length: ", b"length: x"), CLOSE],
    "a content length too small": [answer(b'{"task": {"id": "t0", "st', connection="close"), CLOSE],
    "no HTTP": [b"220 mail.example.com ESMTP\r\n", CLOSE],
    "gzip that is cut": [answer(PACKED[:-12], content_encoding="gzip")],
    "gzip that is none": [answer(b"{}", content_encoding="gzip")],
    "HTML": [answer(b"<html>Welcome</html>", content_type="text/html")],
    "an empty body": [answer(b"")],
    "JSON of another kind": [answer([1, 2])],
    "JSON without what was asked for": [answer({"success": True})],
    "text in no encoding": [answer(b"\xff\xfe\xfd")],
    "500": [answer({"message": "broken"}, 500)],
    "502 with HTML": [answer(b"<html>Bad gateway</html>", 502, content_type="text/html")],
    "429 with seconds": [answer({}, 429, retry_after="0")],
    "429 with a date": [answer({}, 429, retry_after=in_seconds(-5))],
    "503 with nonsense": [answer({}, 503, retry_after="soon")],
    "503 with an odd digit": [
        answer({}, 503).replace(b"\r\n\r\n", b"\r\nretry-after: \xb2\r\n\r\n")
    ],
    "404 once": [answer({"message": "not yet"}, 404)],
    "nesting without end": [answer(b'{"a":' * 100_000)],
    "a number without end": [answer(b'{"task": ' + b"9" * 10_000 + b"}")],
}


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    """Start raw servers."""
    servers: List[RawServer] = []

    def start(answers_: Callable[[RawCall], Iterable[bytes]]) -> RawServer:
        server = RawServer(answers_)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_on_the_way_harms_a_run(
    face: Callable[..., Any], raw: Callable[..., RawServer], fault: str
) -> None:
    pieces = FAULTS[fault]
    table = TaskTable(look=[pieces], logs=[pieces])
    server = raw(table)
    rows: List[Any] = []
    client = face(base_url=server.url)
    result = client.tasks.run({"blockId": "p::b"}, {**FAST, "on_log": rows.append})
    assert result["result"] == {"of": "t0"}
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert result["logs"] == rows
    assert server.count(CREATE) == 1
    assert table.stopped == []


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_on_the_way_makes_two_tasks_of_one(
    face: Callable[..., Any], raw: Callable[..., RawServer], fault: str
) -> None:
    table = TaskTable(create=[FAULTS[fault]])
    server = raw(table)
    resent = fault in ("429 with seconds", "429 with a date")
    client = face(base_url=server.url)
    if resent:
        assert client.tasks.run({"blockId": "p::b"}, FAST)["task_id"] == "t0"
    else:
        with pytest.raises(ApiError) as caught:
            client.tasks.run({"blockId": "p::b"}, FAST)
        error = caught.value
        assert error.idempotency_key
        assert error.status >= 400 or isinstance(error, BadAnswerError) or error.outcome_unknown
    assert server.count(CREATE) == 1 + resent


def test_a_create_is_repeated_with_its_key_where_the_server_replays(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    table = TaskTable(create=[[answer({}, 500)], [CLOSE], FAULTS["half a body"]])
    table.features = "idempotency"
    server = raw(table)
    client = face(base_url=server.url)
    client.tasks.list()
    assert client.tasks.create({"blockId": "p::b"})["id"] == "t0"
    keys = {call.headers["idempotency-key"] for call in server.calls if call.route == CREATE}
    assert server.count(CREATE) == 4
    assert len(keys) == 1


def test_a_storm_of_errors_is_borne_within_the_deadline(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    table = TaskTable(look=[[answer({"message": "storm"}, 500)]] * 1000)
    server = raw(table)
    started = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "timeout_ms": 1000})
    assert time.monotonic() - started < 4
    assert caught.value.stopped
    assert table.stopped == ["t0"]
    # The pauses between errors grow: a server in trouble is not hammered.
    assert len(server.calls) < 12


@pytest.mark.parametrize(
    "retry_after",
    ["3600", in_seconds(3600 * 24 * 365), "9" * 400],
    ids=["seconds", "date", "number without end"],
)
def test_a_server_cannot_pause_a_wait_past_its_deadline(
    face: Callable[..., Any], raw: Callable[..., RawServer], retry_after: str
) -> None:
    table = TaskTable(look=[[answer({}, 429, retry_after=retry_after)]] * 10)
    server = raw(table)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "timeout_ms": 300})
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("where", ["look", "logs"])
@pytest.mark.parametrize("fault", ["drip in the head", "drip in the body", "silence"])
def test_no_slow_answer_stretches_the_deadline(
    face: Callable[..., Any], raw: Callable[..., RawServer], where: str, fault: str
) -> None:
    slow = {
        "drip in the head": lambda: dripping(RUNNING),
        "drip in the body": dripping_body,
        "silence": silence,
    }[fault]
    looks = 1 if where == "logs" else 3
    server = raw(TaskTable(looks, **{where: [slow() for _ in range(9)]}))
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, {**FAST, "timeout_ms": 400})
    assert time.monotonic() - started < 3


def test_silence_behind_a_late_head_does_not_stretch_the_deadline(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    def late() -> Iterable[bytes]:
        time.sleep(2.0)
        yield RUNNING[: RUNNING.index(b"{")]
        time.sleep(8.0)
        yield CLOSE

    server = raw(TaskTable(look=[late()]))
    options = {"timeout_ms": 3000, "on_timeout": "detach"}
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)
    # A patience that began anew with the head would last until the fifth second.
    assert time.monotonic() - started < 4.7


def dripping_body() -> Iterable[bytes]:
    yield RUNNING[: RUNNING.index(b"{")]
    yield from dripping(RUNNING[RUNNING.index(b"{") :])


def silence() -> Iterable[bytes]:
    time.sleep(2)
    yield CLOSE


def test_a_restart_in_the_middle_is_not_noticed(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    table = TaskTable(looks=6)
    server = raw(table)

    def restart(record: Any) -> None:
        if table.looks["t0"] == 3:
            server.stop()
            threading.Timer(1.0, server.start).start()

    rows: List[Any] = []
    options = {**FAST, "on_progress": restart, "on_log": rows.append}
    result = face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)
    assert result["result"] == {"of": "t0"}
    assert [row["id"] for row in rows] == list(range(1, 8))
    assert server.count(CREATE) == 1


@pytest.mark.parametrize("jump", [10 * 365 * 86400, -10 * 365 * 86400])
def test_a_jump_of_the_wall_clock_changes_nothing(
    face: Callable[..., Any],
    raw: Callable[..., RawServer],
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    server = raw(TaskTable(looks=6))
    real = time.time

    def jumped(record: Any) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        monkeypatch.setattr(answers, "wall_clock", lambda: real() + jump)

    options = {**FAST, "on_progress": jumped, "timeout_ms": 20_000}
    started = time.monotonic()
    assert face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)["result"]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["look", "logs", "create", "stop", "list"])
def test_a_redirect_to_another_host_is_refused_and_told_nothing(
    face: Callable[..., Any], raw: Callable[..., RawServer], kind: str
) -> None:
    elsewhere = raw(lambda call: [answer({})])
    away = f"http://localhost:{elsewhere.port}/api/v1/tasks/t0"
    server = raw(
        TaskTable(looks=1, **{kind: [[answer({}, status, location=away)] for status in (302, 307)]})
    )
    client = face(base_url=server.url, api_token=TOKEN)
    with pytest.raises(ApiError, match="was redirected"):
        use(client, kind)
    assert elsewhere.received == b""
    assert TOKEN.encode() in server.received


def use(client: Any, kind: str) -> None:
    if kind == "list":
        client.tasks.list()
    elif kind == "stop":
        client.tasks.stop("t0")
    else:
        client.tasks.run({"blockId": "p::b"}, FAST)


@pytest.mark.parametrize("kind", ["look", "logs"])
def test_an_answer_beyond_the_limit_is_an_error_and_read_no_further(
    face: Callable[..., Any],
    raw: Callable[..., RawServer],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(_http, "MAX_ANSWER", 100_000)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
        while True:
            sent += 65536
            yield b" " * 65536

    server = raw(TaskTable(looks=1, **{kind: [endless()]}))
    with pytest.raises(ApiError, match="more than 100000 bytes"):
        face(base_url=server.url).tasks.run({"blockId": "p::b"}, FAST)
    assert sent < 50_000_000


def test_packed_answers_count_as_large_as_they_unpack(
    face: Callable[..., Any], raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "MAX_ANSWER", 100_000)
    bomb = answer(gzip.compress(b" " * 10_000_000), content_encoding="gzip")
    server = raw(TaskTable(list=[[bomb]]))
    with pytest.raises(ApiError, match="more than 100000 bytes"):
        face(base_url=server.url).tasks.list()


def test_an_endless_refusal_is_read_no_further_than_the_limit(
    face: Callable[..., Any], raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "MAX_ANSWER", 100_000)

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 500 X\r\n\r\n"
        while True:
            yield b"x" * 65536

    server = raw(lambda call: endless())
    with pytest.raises(ApiError, match="more than 100000 bytes"):
        face(base_url=server.url, max_retries=0).tasks.list()


def lies(features: str, table: TaskTable, **headers: str) -> Callable[[RawCall], Iterable[bytes]]:
    """Serve a poll-only table under a header that promises more."""

    def lie(call: RawCall) -> Iterable[bytes]:
        kind, task_id = table.kind(call)
        if "/events" in call.path:
            return [answer({"message": "no such thing"}, 404, oomol_connect_features=features)]
        value = {**table.value(kind, task_id), "success": True}
        return [answer(value, oomol_connect_features=features, **headers)]

    return lie


ALL_FEATURES = "events, wait, logs-after, idempotency, pages, files"


@pytest.mark.parametrize("headers", [{}, {"etag": '"never-changes"'}, {"ETag": "\xfc"}])
@pytest.mark.parametrize("listens", [True, False])
def test_a_server_that_promises_what_it_has_not_is_polled(
    face: Callable[..., Any], raw: Callable[..., RawServer], headers: Any, listens: bool
) -> None:
    table = TaskTable(looks=4)
    server = raw(lies(ALL_FEATURES, table, **headers))
    rows: List[Any] = []
    options = {"interval_ms": 50, "backoff_strategy": "fixed"}
    if listens:
        options["on_log"] = rows.append  # type: ignore[assignment]
    result = face(base_url=server.url).tasks.run({"blockId": "p::b"}, options)
    assert result["result"] == {"of": "t0"}
    assert [row["id"] for row in rows] == ([1, 2, 3, 4, 5] if listens else [])
    assert len(server.calls) < 30


@pytest.mark.parametrize("listens", [True, False])
def test_a_held_request_that_is_answered_at_once_is_not_repeated_without_a_pause(
    face: Callable[..., Any], raw: Callable[..., RawServer], listens: bool
) -> None:
    def unchanged(call: RawCall) -> Iterable[bytes]:
        if "if-none-match" in call.headers:
            return [b'HTTP/1.1 304 X\r\netag: "a"\r\n\r\n']
        headers = {"etag": '"a"', "oomol_connect_features": "wait, logs-after"}
        value = {"task": task("running"), "logs": [], "success": True}
        return [answer(value, **headers)]

    server = raw(unchanged)
    options: Any = {"interval_ms": 100, "backoff_strategy": "fixed", "timeout_ms": 2500}
    if listens:
        options["on_log"] = print
    with pytest.raises(TimeoutError):
        face(base_url=server.url).tasks.wait_for_completion("t1", options)
    assert len(server.calls) < 100


def test_a_token_is_sent_to_its_own_server_only(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    own = raw(TaskTable())
    other = raw(TaskTable())
    client = face(base_url=own.url, api_token=TOKEN)
    client.tasks.list()
    with pytest.raises((OomolConnectError, ValueError)):
        client.tasks.get(f"@127.0.0.1:{other.port}/x")
    assert TOKEN.encode() in own.received
    assert other.received == b""


def test_many_tasks_survive_a_server_that_fails_every_third_time(
    face: Callable[..., Any], raw: Callable[..., RawServer]
) -> None:
    table = TaskTable(looks=3)
    faults = [pieces for name, pieces in FAULTS.items() if "without end" not in name]
    turn = 0

    def hostile(call: RawCall) -> Iterable[bytes]:
        nonlocal turn
        kind, task_id = table.kind(call)
        turn += 1
        if kind in ("look", "list", "logs") and turn % 3 == 0:
            return faults[turn // 3 % len(faults)]
        return [table.good(kind, task_id)]

    server = raw(hostile)
    rows: List[Any] = []
    requests = [{"blockId": "p::b", "inputValues": {"n": n}} for n in range(24)]
    client = face(base_url=server.url)
    items = client.tasks.map(requests, {**FAST, "on_log": lambda row: rows.append(row)}, limit=8)
    assert [item.error for item in items] == [None] * 24
    assert server.count(CREATE) == len(table.looks) == 24
    results = {item.result["task_id"]: item.result for item in items}
    assert len(results) == 24
    for task_id, result in results.items():
        assert result["result"] == {"of": task_id}
        assert [row["id"] for row in result["logs"]] == sorted(
            {row["id"] for row in result["logs"]}
        )
    assert len(rows) == sum(len(result["logs"]) for result in results.values())
