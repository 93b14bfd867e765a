"""What one client may cost the server: headers, time, memory."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from servers import PATIENCE, ServerProcess

from oomol_connect_sdk.server import LocalServer, http_protocol
from oomol_connect_sdk.server.store import JOB, JournalEntry, Store, TaskRecord

StartProcess = Callable[..., ServerProcess]

START = b"GET /packages HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def connect(server: LocalServer) -> socket.socket:
    address = httpx.URL(server.base_url)
    assert address.port is not None
    return socket.create_connection((address.host, address.port), PATIENCE)


def sent_until_refused(connection: socket.socket, start: bytes, more: bytes) -> int:
    """Send more and more until the server has enough; return how many bytes it took."""
    connection.sendall(start)
    sent = 0
    try:
        while sent < 100 * 2**20:
            sent += connection.send(more)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (START + b"X-Long: ", b"x" * 4096),
        (START, b"X-Many: header\r\n" * 100),
        (b"GET /", b"x" * 4096),
        (CHUNKED + b"1;", b"extension" * 100),
        (CHUNKED + b"0\r\n", b"Trailer: x\r\n" * 100),
    ],
    ids=["one header", "many headers", "path", "chunk extension", "trailers"],
)
def test_headers_without_end_are_refused(server: LocalServer, start: bytes, more: bytes) -> None:
    with connect(server) as connection:
        # What waits in the buffers of both ends is sent, but not taken.
        assert sent_until_refused(connection, start, more) < 20 * 2**20
    assert httpx.get(f"{server.base_url}/ui").status_code == 200


def test_headers_that_are_too_large_are_told_so(server: LocalServer) -> None:
    with connect(server) as connection:
        connection.sendall(START + b"X-Long: " + b"x" * http_protocol.HEAD_LIMIT)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["success"] is False


def test_large_headers_within_the_limit_are_taken(server: LocalServer) -> None:
    headers = {"X-Long": "x" * (http_protocol.HEAD_LIMIT - 2_000)}
    assert httpx.get(f"{server.base_url}/ui", headers=headers).status_code == 200


@pytest.mark.parametrize("start", [b"", START], ids=["silent", "half a request"])
def test_a_connection_that_sends_no_request_in_time_is_ended(
    shop: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIME", 0.1)
    with LocalServer([shop], token="") as server, connect(server) as connection:
        connection.sendall(start)
        assert connection.recv(1) == b""
        with connect(server) as other:
            other.sendall(START + b"\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
            # Also when there was a request before.
            other.sendall(START)
            rest = b""
            while part := other.recv(65536):
                rest += part
            assert b"HTTP/1.1" not in rest


def test_a_body_may_take_its_time(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIME", 0.1)
    body = b'{"manifest": "shop::add", "inputValues": {"a": 1}}'
    head = b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with LocalServer([shop], token="") as server, connect(server) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        for byte in body[:10]:
            connection.sendall(bytes([byte]))
            time.sleep(0.03)
        connection.sendall(body[10:])
        assert connection.recv(12) == b"HTTP/1.1 200"


async def fill(database: Path, number: int, size: int) -> None:
    store = Store(database)
    for index in range(number):
        task = TaskRecord(
            id=f"task-{index}",
            session_id=f"session-{index}",
            project_id="sales_0123456789ab",
            project_name="sales",
            manifest_path="/packages/sales/tasks/summary/task.oo.yaml",
            input_values=None,
            created_at=1,
            updated_at=1,
            status="completed",
            result={"text": "x" * size},
        )
        await store.create_task(task)
    store.close()


async def test_the_list_of_all_tasks_is_whole_and_never_in_memory_at_once(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    await fill(tmp_path / "data" / "connect.sqlite3", 120, 1_000_000)
    process = start_process()
    before = process.memory
    most = before
    size = 0
    head = b""
    with process.connection.http.stream("GET", "/v1/tasks") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        for part in answer.iter_raw():
            size += len(part)
            head = (head + part)[:200]
            most = max(most, process.memory)
    assert size > 120_000_000
    assert head.startswith(b'{"tasks":[{"id":"task-119"')
    assert most - before < 80 * 2**20


async def test_a_list_of_many_tasks_holds_each_once(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    await fill(tmp_path / "data" / "connect.sqlite3", 1_201, 10)
    connection = start_process().connection
    tasks = connection.http.get("/v1/tasks").json()["tasks"]
    assert [task["id"] for task in tasks] == [f"task-{n}" for n in reversed(range(1_201))]
    chosen = connection.http.get("/v1/tasks", params={"status": "failed"}).json()
    assert chosen == {"tasks": []}


def test_many_silent_connections_keep_nobody_out(server: LocalServer) -> None:
    silent = [connect(server) for _ in range(200)]
    try:
        answers: list[int] = []
        ask = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{server.base_url}/ui").status_code)
        )
        ask.start()
        ask.join(PATIENCE)
        assert answers == [200]
    finally:
        for connection in silent:
            connection.close()


async def test_a_long_log_is_whole_and_never_in_memory_at_once(
    start_process: StartProcess, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    database = tmp_path / "data" / "connect.sqlite3"
    await fill(database, 1, 10)
    store = Store(database)
    for number in range(120):
        event = {"type": "BlockLog", "log": f"{number}:" + "x" * 1_000_000}
        await store.append_events("task-0", "session-0", [JournalEntry(event, JOB)])
    store.close()
    process = start_process()
    most = before = process.memory
    body = bytearray()
    with process.connection.http.stream("GET", "/v1/tasks/task-0/logs") as answer:
        assert answer.headers["Content-Type"] == "application/json"
        for part in answer.iter_raw():
            body += part
            most = max(most, process.memory)
    rows = json.loads(body)["logs"]
    assert [row["event"]["log"].partition(":")[0] for row in rows] == [str(n) for n in range(120)]
    assert most - before < 80 * 2**20
    for limit in (1, 4, 5, 6, 20):
        some = process.connection.http.get("/v1/tasks/task-0/logs", params={"limit": limit}).json()
        assert some == {"logs": rows[:limit], "success": True}
