"""The async face's shared watch: one event stream or shared looks for all waits of a client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List
from urllib.parse import parse_qs

import pytest
from raw_server import CLOSE, PATIENCE, RawCall, RawServer, TaskTable, answer
from scripted import log, task

from oomol_connect_sdk import (
    ApiError,
    OomolConnectClient,
    OomolConnectError,
    SyncOomolConnectClient,
    TimeoutError,
    event_stream,
    shared_watch,
    task_lists,
)

FAST = {"interval_ms": 5, "backoff_strategy": "fixed"}
SLOW = {"interval_ms": 60_000, "backoff_strategy": "fixed"}
CREATE = "POST /api/v1/tasks"
LIST = "GET /api/v1/tasks"
EVENTS = "GET /api/v1/events"
REPOSITORY = Path(__file__).parents[2]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    """Start raw servers."""
    servers: List[RawServer] = []

    def start(answers: Callable[[RawCall], Iterable[bytes]]) -> RawServer:
        server = RawServer(answers)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def event(name: str, number: int, data: Any) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def row_event(number: int, task_id: str = "t0") -> bytes:
    return event("logs", number, {"task_id": task_id, "logs": [log(number, log=str(number))]})


def task_event(number: int, status: str, task_id: str = "t0") -> bytes:
    return event("task", number, {"task": task(status, task_id)})


class StreamTable(TaskTable):
    """Has an event stream, too: each connection gets the next of the scripts.

    The tasks never end by the number of looks, but when a script says so: see `over`.
    """

    def __init__(self, *scripts: Callable[[RawCall], Iterable[bytes]], **faults: Any) -> None:
        super().__init__(looks=10**9, **faults)
        self.features = "events, logs-after"
        self.over = threading.Event()
        self.streams: List[RawCall] = []
        self._scripts = list(scripts)

    def __call__(self, call: RawCall) -> Iterable[bytes]:
        if not call.path.endswith("/events"):
            return super().__call__(call)
        self.streams.append(call)
        number = min(len(self.streams), len(self._scripts)) - 1
        return self._scripts[number](call)

    def task(self, task_id: str) -> Dict[str, Any]:
        return task("completed" if self.over.is_set() else "running", task_id)

    def rows(self, task_id: str) -> List[Any]:
        return [log(number, log=str(number)) for number in range(1, 5)]


def whole_stream(table: StreamTable) -> Iterator[bytes]:
    yield HEAD + b"retry: 1000\n\n"
    yield task_event(1, "running")
    for number in range(1, 5):
        yield row_event(number)
    yield task_event(9, "completed")
    threading.Event().wait(0.2)


async def test_what_the_stream_tells_is_not_asked_for(raw: Callable[..., RawServer]) -> None:
    table = StreamTable(lambda call: whole_stream(table))
    server = raw(table)
    rows: List[Any] = []
    statuses: List[str] = []
    options = {
        **SLOW,
        "on_log": rows.append,
        "on_progress": lambda seen: statuses.append(seen["status"]),
    }
    async with OomolConnectClient(base_url=server.url) as client:
        result = await client.tasks.run({"blockId": "p::b"}, options)
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert result["logs"] == rows
    assert statuses[-1] == "completed"
    assert [call.route for call in server.calls] == [CREATE, EVENTS]
    (stream,) = table.streams
    created = server.calls[0].headers["oomol-connect-client"]
    assert parse_qs(stream.query)["client"] == [created]


async def test_a_stream_that_breaks_goes_on_where_it_was(raw: Callable[..., RawServer]) -> None:
    def broken(call: RawCall) -> Iterable[bytes]:
        yield HEAD + task_event(1, "running") + row_event(1) + row_event(2)
        yield row_event(3)[:-30]
        yield CLOSE

    def repeating(call: RawCall) -> Iterable[bytes]:
        yield HEAD + row_event(1) + row_event(2) + row_event(3) + row_event(2)
        yield row_event(4) + row_event(4) + task_event(9, "completed")
        threading.Event().wait(0.2)

    table = StreamTable(broken, repeating)
    server = raw(table)
    rows: List[Any] = []
    async with OomolConnectClient(base_url=server.url) as client:
        result = await client.tasks.run({"blockId": "p::b"}, {**SLOW, "on_log": rows.append})
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert result["logs"] == rows
    assert [call.headers.get("last-event-id") for call in table.streams] == [None, "2"]


GARBAGE = {
    "no JSON": b"id: 7\nevent: task\ndata: {broken\n\n",
    "no task": b"id: 7\nevent: task\ndata: {}\n\n",
    "half a task": b'event: task\ndata: {"task": {"id": 5}}\n\n',
    "no object": b"event: logs\ndata: [1]\n\n",
    "rows of nobody": b"event: logs\ndata: {}\n\n",
    "no rows": b'id: 7\nevent: logs\ndata: {"task_id": "t0"}\n\n',
    "rows that are none": b'id: 7\nevent: logs\ndata: {"task_id": "t0", "logs": [1, {}]}\n\n',
    "an unknown event": b"event: weather\ndata: {}\n\n",
    "an odd id": 'id: \u00fc\x01\nevent: weather\ndata: {"a": 1}\n\n'.encode(),
    "no text": b"\xff\xfe\n\ndata: \xff\n\n",
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_in_the_stream_harms_no_wait(
    raw: Callable[..., RawServer], garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    def rubbish(call: RawCall) -> Iterable[bytes]:
        yield HEAD + task_event(1, "running") + row_event(1) + GARBAGE[garbage]
        table.over.set()
        yield CLOSE

    table = StreamTable(rubbish)
    server = raw(table)
    rows: List[Any] = []
    async with OomolConnectClient(base_url=server.url) as client:
        result = await client.tasks.run({"blockId": "p::b"}, {**SLOW, "on_log": rows.append})
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert result["logs"] == rows
    assert "never retrieved" not in caplog.text


def silent(call: RawCall) -> Iterable[bytes]:
    yield HEAD
    threading.Event().wait(2)


NO_STREAMS: Dict[str, Any] = {
    "404": lambda call: [answer({"message": "no such thing"}, 404)],
    "500": lambda call: [answer({"message": "broken"}, 500)],
    "HTML": lambda call: [answer(b"<html>Welcome</html>", content_type="text/html")],
    "JSON": lambda call: [answer({})],
    "a redirect": lambda call: [answer({}, 302, location="http://localhost:1/")],
    "nothing at all": lambda call: [CLOSE],
    "a proxy that keeps the events back": silent,
    "silence after the start": lambda call: [HEAD + b": hi\n\n", *silent(call)],
}


@pytest.mark.parametrize("fault", NO_STREAMS)
async def test_without_a_stream_tasks_are_polled(
    raw: Callable[..., RawServer], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "SILENCE", 0.5)
    table = StreamTable(NO_STREAMS[fault])
    server = raw(table)
    rows: List[Any] = []
    options = {"interval_ms": 20, "backoff_strategy": "fixed", "on_log": rows.append}
    async with OomolConnectClient(base_url=server.url) as client:
        running = asyncio.ensure_future(client.tasks.run({"blockId": "p::b"}, options))
        await asyncio.sleep(0.7)
        table.over.set()
        result = await asyncio.wait_for(running, 5)
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert result["logs"] == rows
    refused = fault in ("404", "HTML", "JSON", "a redirect")
    assert len(table.streams) <= (1 if refused else 8)


async def test_a_stream_that_never_says_the_end_is_not_trusted(
    raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_watch, "SAFETY_LOOK", 0.1)

    def forgetful(call: RawCall) -> Iterable[bytes]:
        yield HEAD + task_event(1, "running") + row_event(1)
        table.over.set()
        threading.Event().wait(2)

    table = StreamTable(forgetful)
    server = raw(table)
    async with OomolConnectClient(base_url=server.url) as client:
        result = await client.tasks.run({"blockId": "p::b"}, SLOW)
    assert [row["id"] for row in result["logs"]] == [1, 2, 3, 4]


async def test_a_stream_asks_for_a_new_token_like_every_request(
    raw: Callable[..., RawServer],
) -> None:
    def choosy(call: RawCall) -> Iterable[bytes]:
        if call.headers.get("authorization") != "new":
            return [answer({"message": "expired"}, 401)]
        return whole_stream(table)

    table = StreamTable(choosy)
    server = raw(table)
    tokens = ["old", "new"]
    async with OomolConnectClient(base_url=server.url, api_token=lambda: tokens.pop(0)) as client:
        result = await client.tasks.run({"blockId": "p::b"}, SLOW)
    assert len(result["logs"]) == 4
    assert tokens == []


async def test_an_event_without_end_breaks_only_the_stream(
    raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oomol_connect_sdk.events.MAX_EVENT", 1_000_000)

    def endless(call: RawCall) -> Iterable[bytes]:
        yield HEAD + b"data: "
        table.over.set()
        while True:
            yield b"x" * 65536

    table = StreamTable(endless)
    server = raw(table)
    async with OomolConnectClient(base_url=server.url) as client:
        assert (await client.tasks.run({"blockId": "p::b"}, SLOW))["logs"]


async def run_many(client: OomolConnectClient, count: int, options: Any) -> List[Any]:
    return await asyncio.gather(
        *[client.tasks.run({"blockId": "p::b"}, options) for _ in range(count)]
    )


def created(table: TaskTable, count: int) -> List[str]:
    for _ in range(count):
        table.value("create", "")
    return list(table.looks)


async def wait_for_all(client: OomolConnectClient, ids: Iterable[str], options: Any) -> List[Any]:
    return await asyncio.gather(
        *[client.tasks.wait_for_completion(task_id, options) for task_id in ids]
    )


class TimedTable(TaskTable):
    """Tasks that are over after a time."""

    def __init__(self, seconds: float, **faults: Any) -> None:
        super().__init__(**faults)
        self.end = time.monotonic() + seconds

    def task(self, task_id: str) -> Dict[str, Any]:
        return task("completed" if time.monotonic() > self.end else "running", task_id)


EVERY_50 = {"interval_ms": 50, "backoff_strategy": "fixed"}


async def test_many_waits_share_their_looks(raw: Callable[..., RawServer]) -> None:
    table = TimedTable(0.5)
    server = raw(table)
    async with OomolConnectClient(base_url=server.url) as client:
        tasks = await wait_for_all(client, created(table, 50), EVERY_50)
    assert {seen["id"] for seen in tasks} == set(table.looks)
    assert 1 <= server.count(LIST) < 25
    assert len(server.calls) - server.count(LIST) < 5


LISTS: Dict[str, Callable[[TaskTable], bytes]] = {
    "missing": lambda table: answer({"message": "no such thing"}, 404),
    "not allowed": lambda table: answer({"message": "no"}, 403),
    "of a page": lambda table: answer({"tasks": table.value("list", "")["tasks"][:5]}),
    "empty": lambda table: answer({"tasks": []}),
    "of something else": lambda table: answer({"tasks": [None, 5, {}, {"id": 7}, "t1"]}),
    "broken": lambda table: answer({"message": "broken"}, 500),
    "HTML": lambda table: answer(b"<html>"),
    "too large": lambda table: answer({**table.value("list", ""), "more": "x" * 300_000}),
}


@pytest.mark.parametrize("fault", LISTS)
async def test_a_list_that_does_not_help_is_not_used(
    raw: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(task_lists, "LIST_BYTES_PER_LOOK", 10_000)
    table = TimedTable(0.6)

    def listless(call: RawCall) -> Iterable[bytes]:
        return [LISTS[fault](table)] if call.route == LIST else table(call)

    server = raw(listless)
    async with OomolConnectClient(base_url=server.url) as client:
        tasks = await wait_for_all(client, created(table, 20), EVERY_50)
    assert {seen["id"] for seen in tasks} == set(table.looks)
    assert server.count(LIST) == 1


async def test_a_list_that_fails_late_keeps_no_wait_from_going_on(
    raw: Callable[..., RawServer],
) -> None:
    table = TimedTable(0.3)

    def late(call: RawCall) -> Iterable[bytes]:
        if call.route != LIST:
            return table(call)
        time.sleep(0.5)
        return [answer({"message": "no"}, 403)]

    server = raw(late)
    first, second = (created(table, 20)[:10], created(table, 0)[10:])
    async with OomolConnectClient(base_url=server.url) as client:
        waits = [asyncio.ensure_future(wait_for_all(client, first, EVERY_50))]
        await asyncio.sleep(0.2)
        # These become due while the list is under way.
        waits.append(asyncio.ensure_future(wait_for_all(client, second, EVERY_50)))
        done = await asyncio.wait_for(asyncio.gather(*waits), 5)
    assert [len(tasks) for tasks in done] == [10, 10]


async def test_many_waits_for_one_task_share_its_looks(raw: Callable[..., RawServer]) -> None:
    table = TimedTable(0.5)
    server = raw(table)
    (task_id,) = created(table, 1)
    async with OomolConnectClient(base_url=server.url) as client:
        tasks = await wait_for_all(client, [task_id] * 100, EVERY_50)
    assert len(tasks) == 100
    assert len(server.calls) < 30


async def test_a_slow_callback_delays_no_other_wait(raw: Callable[..., RawServer]) -> None:
    table = TaskTable(looks=3)
    server = raw(table)
    slow, *others = created(table, 6)
    entered = asyncio.Event()
    go_on = asyncio.Event()

    async def dawdle(seen: Any) -> None:
        entered.set()
        await go_on.wait()

    async with OomolConnectClient(base_url=server.url) as client:
        waiting = asyncio.ensure_future(
            client.tasks.wait_for_completion(slow, {**FAST, "on_progress": dawdle})
        )
        await entered.wait()
        await asyncio.wait_for(wait_for_all(client, others, FAST), 5)
        assert not waiting.done()
        go_on.set()
        assert (await waiting)["id"] == slow


async def test_a_cancelled_wait_leaves_the_others_alone(raw: Callable[..., RawServer]) -> None:
    table = TimedTable(0.5)
    server = raw(table)
    ids = created(table, 10)
    async with OomolConnectClient(base_url=server.url) as client:
        waits = [
            asyncio.ensure_future(client.tasks.wait_for_completion(task_id, EVERY_50))
            for task_id in [*ids, ids[0]]
        ]
        await asyncio.sleep(0.1)
        waits[0].cancel()
        waits[5].cancel()
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
    assert cancelled == [index in (0, 5) for index in range(11)]
    assert table.stopped == []


@pytest.mark.parametrize(("on_cancel", "stopped"), [("stop", ["t0"]), ("detach", [])])
async def test_a_cancellation_during_the_create_follows_on_cancel(
    raw: Callable[..., RawServer], on_cancel: str, stopped: List[str]
) -> None:
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    table = TaskTable()

    def slowly(call: RawCall) -> Iterable[bytes]:
        if call.route == CREATE:
            loop.call_soon_threadsafe(arrived.set)
            time.sleep(0.3)
        return table(call)

    server = raw(slowly)
    async with OomolConnectClient(base_url=server.url) as client:
        running = asyncio.ensure_future(
            client.tasks.run({"blockId": "p::b"}, {"on_cancel": on_cancel})
        )
        await arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert table.stopped == stopped
    assert server.count(CREATE) == 1


async def test_a_cancellation_is_never_lost(raw: Callable[..., RawServer]) -> None:
    table = TaskTable(looks=10**9)
    server = raw(table)
    (task_id,) = created(table, 1)

    async def cancel_at_a_look(client: OomolConnectClient, seen: int) -> None:
        looks = 0

        def cancel(_: Any) -> None:
            nonlocal looks
            looks += 1
            if looks == seen:
                # Comes together with whatever the wait is told next.
                asyncio.get_running_loop().call_soon(waiting.cancel)

        options = {**FAST, "interval_ms": 0, "timeout_ms": 60_000}
        options.update(on_progress=cancel, on_log=lambda row: None)
        waiting = asyncio.ensure_future(client.tasks.wait_for_completion(task_id, options))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(waiting), 5)

    async with OomolConnectClient(base_url=server.url) as client:
        for seen in range(1, 6):
            await cancel_at_a_look(client, seen)


async def test_the_end_of_the_client_ends_its_waits(raw: Callable[..., RawServer]) -> None:
    table = TaskTable(looks=10**9)
    server = raw(table)
    (other,) = created(table, 1)
    started = time.monotonic()
    async with OomolConnectClient(base_url=server.url) as client:
        request = {"blockId": "p::b"}
        waits = [
            asyncio.ensure_future(client.tasks.run(request, SLOW)),
            asyncio.ensure_future(client.tasks.run(request, {**SLOW, "on_cancel": "detach"})),
            asyncio.ensure_future(client.tasks.wait_for_completion(other, FAST)),
        ]
        await asyncio.sleep(0.3)
    outcomes = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [OomolConnectError] * 3
    assert all("client was closed" in str(outcome) for outcome in outcomes)
    assert table.stopped in (["t1"], ["t2"])
    assert time.monotonic() - started < 3


async def test_an_error_of_the_callers_token_function_reaches_the_caller(
    raw: Callable[..., RawServer],
) -> None:
    table = TaskTable(looks=5, look=[[answer({}, 401)]])
    server = raw(table)
    tokens = iter(["first"])

    def token() -> str:
        for value in tokens:
            return value
        raise LookupError("no more tokens")

    async with OomolConnectClient(base_url=server.url, api_token=token) as client:
        with pytest.raises(LookupError, match="no more tokens"):
            await asyncio.wait_for(client.tasks.run({"blockId": "p::b"}, FAST), 5)


async def test_a_list_may_ask_for_a_token_that_is_not_to_be_had(
    raw: Callable[..., RawServer],
) -> None:
    table = TaskTable(looks=10**9)
    server = raw(table)
    ids = created(table, 12)

    async def token() -> str:
        raise LookupError("no token")

    async with OomolConnectClient(base_url=server.url, api_token=token) as client:
        waits = [client.tasks.wait_for_completion(task_id, FAST) for task_id in ids]
        outcomes = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
    assert {type(outcome) for outcome in outcomes} == {LookupError}


async def test_deadlines_are_kept_among_many_waits(raw: Callable[..., RawServer]) -> None:
    table = TaskTable(looks=10**9)
    server = raw(table)
    ids = created(table, 30)
    started = time.monotonic()
    async with OomolConnectClient(base_url=server.url) as client:
        waits = [
            client.tasks.wait_for_completion(task_id, {**EVERY_50, "timeout_ms": 100 + 20 * index})
            for index, task_id in enumerate(ids)
        ]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TimeoutError}
    assert time.monotonic() - started < 3


async def test_a_missing_task_fails_alone(raw: Callable[..., RawServer]) -> None:
    table = TimedTable(1.0)
    server = raw(table)
    ids = [*created(table, 20), "gone"]
    async with OomolConnectClient(base_url=server.url) as client:
        waits = [client.tasks.wait_for_completion(task_id, EVERY_50) for task_id in ids]
        *good, bad = await asyncio.gather(*waits, return_exceptions=True)
    assert [seen["status"] for seen in good] == ["completed"] * 20  # type: ignore[index]
    assert isinstance(bad, ApiError)
    assert bad.status == 404


def run_in(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return loop.run_until_complete(asyncio.wait_for(work, PATIENCE))


def test_one_client_serves_loops_that_take_turns(raw: Callable[..., RawServer]) -> None:
    server = raw(TimedTable(0.3))
    client = OomolConnectClient(base_url=server.url)
    loops = [asyncio.new_event_loop() for _ in range(2)]
    for _ in range(3):
        for loop in loops:
            run_in(loop, run_many(client, 12, FAST))
    for loop in loops:
        run_in(loop, client.close())
        loop.close()
    assert server.count(CREATE) == 72


def test_one_client_serves_loops_in_several_threads(raw: Callable[..., RawServer]) -> None:
    table = StreamTable(lambda call: [answer({}, 404)])
    server = raw(table)
    client = OomolConnectClient(base_url=server.url)
    results: List[Any] = []

    async def work() -> None:
        results.extend(await run_many(client, 20, EVERY_50))
        # The loop's own connections are closed, those of the others stay.
        await client._sender.close()

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    table.over.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len({result["task_id"] for result in results}) == 60


PENDING = """
import asyncio, gc, sys
from oomol_connect_sdk import OomolConnectClient

async def main(ready):
    async with OomolConnectClient(base_url=sys.argv[1]) as client:
        waits = [asyncio.ensure_future(client.tasks.run({"blockId": "p::b"})) for _ in range(12)]
        while len((await client.tasks.list())["tasks"]) < 12:
            await asyncio.sleep(0.05)
        if sys.argv[2] == "inside":
            ready.set()
            await asyncio.gather(*waits)
    for wait in waits:
        wait.add_done_callback(lambda done: done.exception())
    ready.set()

async def cut_short():
    ready = asyncio.Event()
    running = asyncio.ensure_future(main(ready))
    await ready.wait()

asyncio.run(cut_short())
gc.collect()
"""


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_end_of_the_loop_with_waits_pending_leaves_no_warning(
    raw: Callable[..., RawServer], where: str
) -> None:
    table = TaskTable(looks=10**9)
    server = raw(table)
    command = [sys.executable, "-W", "error", "-c", PENDING, server.url, where]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(table.stopped) == server.count(CREATE) == 12


BLOCKS = {
    "tasks/tell/task.oo.yaml": """
executor: {name: python, options: {entry: main.py}}
inputs_def: [{handle: number}]
outputs_def: [{handle: number}]
""",
    "tasks/tell/main.py": """
import asyncio

async def main(params, context):
    for line in range(3):
        print("line", line)
        await asyncio.sleep(0.05)
    return {"number": params["number"]}
""",
}


@pytest.fixture
def restarting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local server that a function stops and starts again on the same data and port."""
    if sys.version_info < (3, 10):
        pytest.skip("the local server needs Python 3.10")
    from packages import write_package

    from oomol_connect_sdk.server import LocalServer

    monkeypatch.setenv("OOMOL_CONNECT_CACHE", str(tmp_path / "cache"))
    write_package(tmp_path / "talk-1.0.0", "talk", "1.0.0", BLOCKS)
    servers: List[Any] = []

    def start(port: int) -> Any:
        options: Any = {"data_dir": tmp_path / "data", "token": "t", "port": port}
        server = LocalServer([tmp_path / "talk-1.0.0"], **options)
        server.start()
        servers.append(server)
        return server

    def restart() -> None:
        address = servers[-1].base_url
        servers[-1].stop()
        time.sleep(0.5)
        start(int(address.rpartition(":")[2]))

    yield start(0).base_url, restart
    servers[-1].stop()


def check_the_logs(results: List[Any], heard: Dict[Any, List[Any]]) -> None:
    for number, result in enumerate(results):
        assert result["result"] == {"number": number}
        ids = [row["id"] for row in heard[number]]
        assert ids == sorted(set(ids))
        assert result["logs"] == heard[number]


async def test_200_runs_do_not_notice_a_restart(restarting: Any) -> None:
    url, restart = restarting
    heard: Dict[Any, List[Any]] = {number: [] for number in range(200)}

    async with OomolConnectClient(base_url=url, api_token="t") as client:

        async def run(number: int) -> Any:
            request: Any = {"blockId": "talk::tell", "inputValues": {"number": number}}
            return await client.tasks.run(request, {"on_log": heard[number].append})

        runs = [asyncio.ensure_future(run(number)) for number in range(200)]
        while len((await client.tasks.list())["tasks"]) < 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, restart)
        results = await asyncio.wait_for(asyncio.gather(*runs), 90)
    check_the_logs(results, heard)


def test_200_waits_in_threads_do_not_notice_a_restart(restarting: Any) -> None:
    url, restart = restarting
    heard: Dict[Any, List[Any]] = {number: [] for number in range(200)}

    with SyncOomolConnectClient(base_url=url, api_token="t") as client, ThreadPoolExecutor(
        200
    ) as threads:
        requests: List[Any] = [
            {"blockId": "talk::tell", "inputValues": {"number": number}} for number in range(200)
        ]
        handles = [client.tasks.submit(request) for request in requests]
        waits = [
            threads.submit(handle.run_result, {"on_log": heard[number].append})
            for number, handle in enumerate(handles)
        ]
        restart()
        results = [wait.result(90) for wait in waits]
    check_the_logs(results, heard)
