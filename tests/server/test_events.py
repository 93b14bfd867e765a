from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Connection, Event, ServerProcess, wait_until
from test_store import record

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.app import HttpLimits, create_app
from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.data_directory import DataDirectory
from oomol_connect_sdk.server.store import Store

StartProcess = Callable[..., ServerProcess]


def rows(events: list[Event]) -> list[dict[str, Any]]:
    return [
        {**row, "task_id": event.data["task_id"]}
        for event in events
        if event.name == "logs"
        for row in event.data["logs"]
    ]


def until_ended(events: Iterator[Event], task_ids: list[str]) -> list[Event]:
    """Return the events up to that with which the last of these tasks ends."""
    missing, seen = set(task_ids), []
    while missing:
        seen.append(next(events))
        missing -= {task_id for task_id in missing if seen[-1].ends(task_id)}
    return seen


def test_a_stream_tells_all_rows_and_the_end_of_a_clients_tasks(connection: Connection) -> None:
    with connection.events(client="tells") as events:
        task_ids = [connection.create("shop::add", {"a": n}, client="tells") for n in range(3)]
        stranger = connection.create("shop::add", {"a": 9}, client="someone else")
        seen = until_ended(events, task_ids)
    assert {row["task_id"] for row in rows(seen)} == set(task_ids)
    for task_id in task_ids:
        own = [event for event in seen if task_id in str(event.data)]
        assert own[-1].task == connection.task(task_id)
        expected = [{**row, "task_id": task_id} for row in connection.logs(task_id)]
        assert [row for row in rows(own) if row["task_id"] == task_id] == expected
    assert [event.id for event in seen] == sorted(event.id for event in seen)
    told = [event for event in seen if event.name == "logs"]
    assert all(event.id == event.data["logs"][-1]["id"] for event in told)
    connection.wait(stranger)


def test_tasks_are_named_one_by_one(connection: Connection) -> None:
    first, second, third = (connection.create("shop::add", {"a": n}) for n in range(3))
    for task_id in (first, second, third):
        connection.wait(task_id)
    with connection.events(task=[first, third]) as events:
        seen = until_ended(events, [first, third])
    assert {row["task_id"] for row in rows(seen)} == {first, third}
    with connection.events(task=second, logs=0) as events:
        (only,) = until_ended(events, [second])
    assert only.task == connection.task(second)


def test_a_stream_goes_on_after_an_id(connection: Connection) -> None:
    done = connection.create("shop::add", {"a": 1}, client="goes-on")
    connection.wait(done)
    with connection.events(client="goes-on") as events:
        seen = until_ended(events, [done])
    for number, event in enumerate(seen[:-1]):
        with connection.events(client="goes-on", last_event_id=event.id) as events:
            assert until_ended(events, [done]) == seen[number + 1 :]
        with connection.events(client="goes-on", after=event.id) as events:
            assert next(events) == seen[number + 1]


def test_a_resumed_stream_tells_of_unfinished_tasks_but_not_of_those_that_ended_before(
    connection: Connection, tmp_path: Path
) -> None:
    gates = {"file": str(tmp_path / "runs"), "gate": str(tmp_path / "gate")}
    waits = connection.create("shop::gated", gates, client="unfinished")
    wait_until(lambda: len(connection.logs(waits)) >= 5)
    done = connection.create("shop::add", {"a": 1}, client="unfinished")
    connection.wait(done)
    # Its end stands right behind its last row, and nothing behind that.
    last = connection.logs(done)[-1]["id"]
    with connection.events(client="unfinished", last_event_id=last + 1) as events:
        told = next(events)
        while told.name == "logs":
            told = next(events)
        assert told.task is not None
        assert (told.task["id"], told.task["status"]) == (waits, "running")
        (tmp_path / "gate").touch()
        assert done not in str(until_ended(events, [waits]))


def test_a_stream_that_names_nobody_is_refused(connection: Connection) -> None:
    for query, status in (
        ({}, 400),
        ({"client": ""}, 400),
        ({"client": "ü"}, 400),
        ({"client": "x" * 129}, 400),
        ({"task": "nobody"}, 404),
        ({"task": [str(number) for number in range(501)]}, 400),
        ({"client": "me", "after": "x"}, 400),
    ):
        answer = connection.http.get("/v1/events", params=query)
        assert answer.status_code == status, (query, answer.text)
        assert answer.json()["success"] is False


def test_only_the_headers_of_a_stream_can_be_asked_for(connection: Connection) -> None:
    answer = connection.http.head("/v1/events", params={"client": "me"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")


async def test_a_silent_stream_says_that_it_lives(shop: Path) -> None:
    async with open_service([shop]) as service:
        app = create_app(service, token=None, hosts=None, limits=HttpLimits(heartbeat=0.01))
        sent: list[bytes] = []
        for_ever = asyncio.Event()

        async def receive() -> Any:
            await for_ever.wait()

        async def send(message: Any) -> None:
            sent.append(message.get("body"))
            if len(sent) == 5:
                raise ConnectionError

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/events",
            "query_string": b"client=me",
            "headers": [],
        }
        with pytest.raises(ConnectionError):
            await app(scope, receive, send)
        assert sent == [None, b"retry: 1000\n\n", b": \n\n", b": \n\n", b": \n\n"]


def test_an_event_arrives_soon_after_it_happened(connection: Connection) -> None:
    delays = []
    with connection.events(client="soon", logs=0) as events:
        for _ in range(20):
            task_id = connection.create("shop::add", {"a": 1}, client="soon")
            until_ended(events, [task_id])
            delays.append(time.time() * 1000 - connection.task(task_id)["updated_at"])
    assert sorted(delays)[len(delays) // 2] < 50


def test_no_row_is_lost_repeated_or_reordered_over_kills_of_the_server(
    start_process: StartProcess,
) -> None:
    seen: list[Event] = []
    task_ids: list[str] = []
    for round_ in range(4):
        process = start_process(max_tasks=3)
        connection = process.connection
        last = max((event.id for event in seen), default=0)
        with connection.events(client="me", last_event_id=last) as events:
            for _ in range(3):
                task_ids.append(connection.create("shop::chat", {"lines": 2_000}, client="me"))
            if round_ == 3:
                ended = {event.task["id"] for event in seen if event.task and is_end(event)}
                seen += until_ended(events, [i for i in task_ids if i not in ended])
                break
            # What arrives after the kill was answered before it.
            killing = threading.Timer(0.3 + 0.1 * round_, process.kill_only)
            killing.start()
            with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError, StopIteration):
                while True:
                    seen.append(next(events))
            killing.join()
        process.kill()
    log_ids = [row["id"] for row in rows(seen)]
    assert log_ids == sorted(set(log_ids))
    for task_id in task_ids:
        expected = [{**row, "task_id": task_id} for row in connection.logs(task_id)]
        assert len(expected) >= 2_000
        assert [row for row in rows(seen) if row["task_id"] == task_id] == expected
        ends = [event for event in seen if event.ends(task_id)]
        assert [event.task for event in ends] == [connection.task(task_id)]
        assert ends[0].id > expected[-1]["id"]


def is_end(event: Event) -> bool:
    return event.task is not None and event.ends(event.task["id"])


def test_a_reader_that_does_not_read_costs_no_memory(start_process: StartProcess) -> None:
    process = start_process()
    connection = process.connection
    address = connection.http.base_url
    connection.wait(connection.create("shop::chat", {"lines": 100}, client="slow"))
    before = process.memory
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            reader = stack.enter_context(socket.create_connection((address.host, address.port)))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(b"GET /v1/events?client=slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.wait(connection.create("shop::chat", {"lines": 40_000}, client="slow"))
        grown = process.memory - before
    print(f"memory grew by {grown / 2**20:.1f} MB for 20 slow readers")
    # The rows alone are more than 10 MB for each reader.
    assert grown < 60 * 2**20


def test_a_thousand_streams_are_served_at_once(start_process: StartProcess) -> None:
    connection = start_process().connection
    address = connection.http.base_url
    with contextlib.ExitStack() as stack:
        streams = []
        for number in range(1_000):
            stream = socket.create_connection((address.host, address.port))
            stack.enter_context(stream)
            request = f"GET /v1/events?client=c{number}&logs=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            stream.sendall(request.encode())
            streams.append(stack.enter_context(stream.makefile("rb")))
        for stream_ in streams:
            while b"retry" not in stream_.readline():
                pass
        for number in range(0, 1_000, 100):
            connection.create("shop::add", {"a": number}, client=f"c{number}")
        for number in range(0, 1_000, 100):
            while b'"completed"' not in (line := streams[number].readline()):
                assert line
        assert connection.http.get("/packages").status_code == 200


def test_one_stream_tells_of_ten_thousand_tasks(
    start_process: StartProcess, shop: Path, tmp_path: Path
) -> None:
    count = 10_000
    # Far enough away that the server has started and the stream is open.
    deadline = int(time.time() * 1000) + 4_000
    asyncio.run(store_tasks(tmp_path / "data", shop, count, deadline))
    connection = start_process(max_tasks=1).connection
    with connection.events(client="many") as events:
        ended = 0
        while ended < count:
            ended += is_end(next(events))
        delay = time.time() - deadline / 1000
    print(f"{count} tasks that ended at once were told within {delay:.1f} s")
    assert delay < 20


async def store_tasks(data_dir: Path, shop: Path, count: int, deadline: int) -> None:
    """Store tasks that wait behind one that never ends, until their deadline."""
    directory = DataDirectory(data_dir)
    store = Store(directory.database)
    blocker = record("blocker", manifest_path=str(shop / "tasks/forever/task.oo.yaml"))
    inputs = [{"nodeId": "_", "inputs": [{"handle": "file", "value": str(data_dir / "pids")}]}]
    await store.create_task(replace(blocker, input_values=inputs))
    waiting = (record(f"t{number}", client="many", deadline=deadline) for number in range(count))
    await asyncio.gather(*map(store.create_task, waiting))
    store.close()
    directory.close()


def test_a_server_that_stops_ends_its_streams_at_once(shop: Path) -> None:
    server = LocalServer([shop], token="")
    server.start()
    connection = Connection(server.base_url, "")
    with connection.events(client="me") as events:
        task_id = connection.create("shop::add", {"a": 1}, client="me")
        until_ended(events, [task_id])
        began = time.monotonic()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert list(events) == []
        stopping.join()
    assert time.monotonic() - began < 1.5
    connection.http.close()
