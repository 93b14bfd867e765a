from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Connection, ServerProcess, wait_until

from oomol_connect_sdk.server import LocalServer

StartProcess = Callable[..., ServerProcess]


class Gated:
    """A task that waits until it is let go."""

    def __init__(self, connection: Connection, directory: Path) -> None:
        self._gate = directory / "gate"
        inputs = {"file": str(directory / "runs"), "gate": str(self._gate)}
        self.id = connection.create("shop::gated", inputs)
        # Its block has begun to wait, so nothing changes until the gate is opened.
        wait_until(lambda: len(connection.logs(self.id)) >= 5)
        wait_until(lambda: connection.task(self.id)["status"] == "running")

    def open_later(self) -> float:
        """Open the gate in a moment, and return when."""
        threading.Timer(0.3, self._gate.touch).start()
        return time.monotonic() + 0.3


@pytest.fixture
def gated(connection: Connection, tmp_path: Path) -> Iterator[Gated]:
    task = Gated(connection, tmp_path)
    yield task
    connection.stop(task.id)


def get(connection: Connection, path: str, **headers: Any) -> httpx.Response:
    names = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return connection.http.get(path, headers=names)


def test_every_answer_about_a_task_has_its_tag(connection: Connection, gated: Gated) -> None:
    running = get(connection, f"/v1/tasks/{gated.id}")
    assert running.headers["ETag"].startswith('"')
    assert get(connection, f"/v1/tasks/{gated.id}").headers["ETag"] == running.headers["ETag"]
    stopped = connection.http.post(f"/v1/tasks/{gated.id}/stop")
    assert stopped.headers["ETag"] != running.headers["ETag"]
    body = {"manifest": "shop::add", "inputValues": {"a": 1}}
    created = connection.http.post("/v1/tasks", json=body)
    task_id = created.json()["task"]["id"]
    connection.wait(task_id)
    ended = get(connection, f"/v1/tasks/{task_id}")
    assert created.headers["ETag"] != ended.headers["ETag"]
    again = connection.http.post(f"/v1/tasks/{task_id}/rerun")
    assert again.headers["ETag"] not in (created.headers["ETag"], ended.headers["ETag"])


def test_a_known_task_is_not_sent_again(connection: Connection, gated: Gated) -> None:
    path = f"/v1/tasks/{gated.id}"
    etag = get(connection, path).headers["ETag"]
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = get(connection, path, If_None_Match=condition)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag
        assert "Preference-Applied" not in answer.headers
    assert get(connection, path, If_None_Match='"other"').status_code == 200


def test_a_held_request_is_answered_when_the_task_changes(
    connection: Connection, gated: Gated
) -> None:
    path = f"/v1/tasks/{gated.id}"
    etag = get(connection, path).headers["ETag"]
    opened = gated.open_later()
    while True:
        answer = get(connection, path, If_None_Match=etag, Prefer="wait=20")
        arrived = time.monotonic()
        assert answer.status_code == 200
        assert answer.headers["Preference-Applied"] == "wait=20"
        assert answer.headers["ETag"] != etag
        etag = answer.headers["ETag"]
        if answer.json()["task"]["status"] == "completed":
            break
    assert arrived >= opened
    delay = time.time() * 1000 - answer.json()["task"]["updated_at"]
    assert delay < 100


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=1", "wait=1"),
        ("respond-async, WAIT = 1 ; x=y", "wait=1"),
        ('wait="1"', "wait=1"),
        ("wait=0", "wait=0"),
        ("wait=-1", None),
        ("wait=soon", None),
        ("waiting=1", None),
    ],
)
def test_a_held_request_ends_unchanged_when_its_time_is_over(
    connection: Connection, gated: Gated, prefer: str, applied: str | None
) -> None:
    path = f"/v1/tasks/{gated.id}"
    etag = get(connection, path).headers["ETag"]
    began = time.monotonic()
    answer = get(connection, path, If_None_Match=etag, Prefer=prefer)
    assert answer.status_code == 304
    assert answer.headers.get("Preference-Applied") == applied
    assert (time.monotonic() - began >= 1) is (applied == "wait=1")


def test_a_request_is_held_for_a_minute_at_most(connection: Connection) -> None:
    task = connection.run("shop::add", {"a": 1})
    path = f"/v1/tasks/{task['id']}"
    etag = get(connection, path).headers["ETag"]
    # A task that has ended never changes: there is nothing to wait for.
    answer = get(connection, path, If_None_Match=etag, Prefer="wait=3600")
    assert answer.status_code == 304
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_held_logs_are_answered_with_the_next_row_and_at_the_end(
    connection: Connection, gated: Gated
) -> None:
    path = f"/v1/tasks/{gated.id}/logs"
    rows = connection.logs(gated.id)
    first = get(connection, f"{path}?limit=2", Prefer="wait=20")
    assert first.json()["logs"] == rows[:2]
    assert first.headers["Preference-Applied"] == "wait=20"
    opened = gated.open_later()
    while connection.task(gated.id)["status"] == "running":
        answer = get(connection, f"{path}?after={rows[-1]['id']}", Prefer="wait=20").json()["logs"]
        assert time.monotonic() >= opened
        rows += answer
    rows += get(connection, f"{path}?after={rows[-1]['id']}", Prefer="wait=20").json()["logs"]
    assert rows == connection.logs(gated.id)
    began = time.monotonic()
    rest = get(connection, f"{path}?after={rows[-1]['id']}", Prefer="wait=20")
    assert rest.json()["logs"] == []
    assert time.monotonic() - began < 5


def test_pages_of_logs_leave_out_no_row(connection: Connection) -> None:
    task = connection.run("shop::chat", {"lines": 50})
    rows: list[dict[str, Any]] = []
    path = f"/v1/tasks/{task['id']}/logs"
    while page := connection.http.get(
        path, params={"after": rows[-1]["id"] if rows else 0, "limit": 7}
    ).json()["logs"]:
        assert len(page) <= 7
        rows += page
    assert rows == connection.logs(task["id"])


def test_a_held_request_of_an_unknown_task_is_refused_at_once(connection: Connection) -> None:
    assert get(connection, "/v1/tasks/nobody", Prefer="wait=20").status_code == 404
    assert get(connection, "/v1/tasks/nobody/logs", Prefer="wait=20").status_code == 404


def test_a_client_that_goes_away_leaves_nothing_behind(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process()
    connection = process.connection
    task = Gated(connection, tmp_path)
    etag = get(connection, f"/v1/tasks/{task.id}").headers["ETag"]
    address = connection.http.base_url
    descriptors = Path(f"/proc/{process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    request = (
        f"GET /v1/tasks/{task.id} HTTP/1.1\r\nHost: localhost\r\n"
        f"If-None-Match: {etag}\r\nPrefer: wait=60\r\n\r\n"
    )
    clients = []
    for _ in range(200):
        client = socket.create_connection((address.host, address.port))
        client.sendall(request.encode())
        clients.append(client)
    wait_until(lambda: len(list(descriptors.iterdir())) >= before + 200)
    for client in clients:
        client.close()
    wait_until(lambda: len(list(descriptors.iterdir())) <= before)
    # Nobody is waited for either.
    began = time.monotonic()
    assert process.terminate() == 0
    assert time.monotonic() - began < 5


def test_a_server_that_stops_answers_what_it_holds(shop: Path, tmp_path: Path) -> None:
    server = LocalServer([shop], token="")
    server.start()
    connection = Connection(server.base_url, "")
    task = Gated(connection, tmp_path)
    etag = get(connection, f"/v1/tasks/{task.id}").headers["ETag"]
    stopping = threading.Timer(0.3, server.stop)
    stopping.start()
    began = time.monotonic()
    answer = get(connection, f"/v1/tasks/{task.id}", If_None_Match=etag, Prefer="wait=60")
    assert answer.status_code == 304
    assert time.monotonic() - began < 2
    stopping.join()
    connection.http.close()
