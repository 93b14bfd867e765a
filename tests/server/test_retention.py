"""Ended tasks go: those that are too many, and those that are deleted."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import PATIENCE, Connection, ServerProcess, wait_until

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.data_directory import DataDirectory
from oomol_connect_sdk.server.feed import Selection, TaskEvent, read_feed
from oomol_connect_sdk.server.retention import Retention
from oomol_connect_sdk.server.store import JOB, FilesRemoved, JournalEntry, Store, TaskRecord

StartProcess = Callable[..., ServerProcess]


def record(task_id: str, **changes: Any) -> TaskRecord:
    task = TaskRecord(
        id=task_id,
        session_id=f"session-{task_id}",
        project_id="sales_0123456789ab",
        project_name="sales",
        manifest_path="/packages/sales/tasks/summary/task.oo.yaml",
        input_values=None,
        created_at=1,
        updated_at=1,
        status="completed",
    )
    return replace(task, **changes)


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(tmp_path / "data")
    yield directory
    directory.close()


@pytest.fixture
async def store(directory: DataDirectory) -> AsyncIterator[Store]:
    store = Store(directory.database)
    yield store
    store.close()


async def add(
    store: Store, directory: DataDirectory, task: TaskRecord, *, events: int = 1
) -> TaskRecord:
    entries = [JournalEntry({"type": "BlockLog", "log": "x"}, JOB) for _ in range(events)]
    stored = await store.create_task(task)
    await store.append_events(task.id, task.session_id, entries)
    (directory.session(task.session_id) / "file").write_text("some")
    (directory.temporary(task.session_id) / "file").write_text("some")
    return stored


async def ids(store: Store) -> list[str]:
    return [task.id for task in await store.tasks()]


async def test_the_tasks_that_ended_first_go_with_all_they_left(
    store: Store, directory: DataDirectory
) -> None:
    for number in range(5):
        task = record(f"t{number}", idempotency_key=f"k{number}", labels={"n": str(number)})
        await add(store, directory, task, events=1_200)
    # The first one ended last.
    await store.update_task("t0", status="failed")
    await Retention(store, directory, keep=2, grace=-1).sweep()
    assert await ids(store) == ["t4", "t0"]
    assert {path.name for path in (directory.root / "sessions").iterdir()} == {
        "session-t0",
        "session-t4",
    }
    assert {path.name for path in (directory.root / "temporary").iterdir()} == {
        "session-t0",
        "session-t4",
    }
    database = directory.database
    assert rows(database, "SELECT DISTINCT task_id FROM events ORDER BY 1") == [("t0",), ("t4",)]
    assert rows(database, "SELECT value FROM labels ORDER BY 1") == [("0",), ("4",)]
    assert rows(database, "SELECT * FROM removals") == []
    assert await store.task_of_key("k1") is None
    assert (await store.create_task(record("again", idempotency_key="k1"))).id == "again"


async def test_tasks_that_have_not_ended_neither_count_nor_go(
    store: Store, directory: DataDirectory
) -> None:
    for number, status in enumerate(["running", "completed", "created", "stopped", "pending"]):
        await add(store, directory, record(f"t{number}", status=status))
    await Retention(store, directory, keep=0, grace=-1).sweep()
    assert await ids(store) == ["t4", "t2", "t0"]


async def test_no_task_goes_soon_after_its_end(store: Store, directory: DataDirectory) -> None:
    await add(store, directory, record("old"))
    await add(store, directory, record("new"))
    await store.update_task("new", status="completed")
    await Retention(store, directory, keep=0, grace=3600).sweep()
    assert await ids(store) == ["new"]


async def test_a_task_is_removed_once(store: Store, directory: DataDirectory) -> None:
    await add(store, directory, record("done"))
    await add(store, directory, record("open", status="running"))
    retention = Retention(store, directory)
    assert await retention.remove("done")
    assert not await retention.remove("done")
    assert not await retention.remove("open")
    assert not await retention.remove("nobody")
    assert await ids(store) == ["open"]


async def test_what_was_begun_is_finished_by_the_next_server(
    store: Store, directory: DataDirectory
) -> None:
    await add(store, directory, record("t1"), events=700)
    assert await Retention(store, directory).remove("t1")
    # The first server ends here.
    assert await ids(store) == []
    assert directory.session_path("session-t1").exists()
    await Retention(store, directory).sweep()
    assert not directory.session_path("session-t1").exists()
    assert rows(directory.database, "SELECT * FROM events") == []
    assert rows(directory.database, "SELECT * FROM removals") == []


async def test_events_that_are_still_to_go_are_shown_to_nobody(
    store: Store, directory: DataDirectory
) -> None:
    await add(store, directory, record("gone", client="me"), events=3)
    kept = await add(store, directory, record("kept", client="me"))
    assert await Retention(store, directory).remove("gone")
    page = await store.read(lambda db: read_feed(db, Selection("me", ["gone"]), 0))
    shown = {item.task_id if isinstance(item, TaskEvent) else item.id for item in page.items}
    assert shown == {kept.id}
    assert not page.full


async def test_a_task_that_started_over_leaves_no_directory(
    store: Store, directory: DataDirectory
) -> None:
    await add(store, directory, record("t1", uploads_session_id="session-t1"))
    for session_id in ("second", "third"):
        await store.append_events(
            "t1", session_id, [JournalEntry({"type": "BlockLog"}, JOB)], {"session_id": session_id}
        )
        directory.session(session_id)
    await Retention(store, directory, keep=0, grace=-1).sweep()
    assert list((directory.root / "sessions").iterdir()) == []


async def test_given_files_stay_as_long_as_a_task_that_repeats_theirs(
    store: Store, directory: DataDirectory
) -> None:
    given = "session-first"
    await add(store, directory, record("first", uploads_session_id=given))
    retention = Retention(store, directory, keep=0, grace=-1)
    again = record("again", rerun_of="first", uploads_session_id=given, status="running")
    await add(store, directory, again)
    await retention.sweep()
    assert await ids(store) == ["again"]
    assert (directory.session_path(given) / "file").exists()
    await store.update_task("again", status="completed")
    await retention.sweep()
    assert list((directory.root / "sessions").iterdir()) == []
    late = record("late", rerun_of="again", uploads_session_id=given)
    with pytest.raises(FilesRemoved):
        await store.create_task(late)
    assert await ids(store) == []


async def test_positions_of_removed_tasks_are_never_given_again(
    store: Store, directory: DataDirectory
) -> None:
    await add(store, directory, record("t1"))
    await store.update_task("t1", status="completed")
    task = await store.task("t1")
    assert task is not None
    await Retention(store, directory, keep=0, grace=-1).sweep()
    store.close()
    after = Store(directory.database)
    assert (await after.create_task(record("t2"))).revision > task.revision
    after.close()


async def fill(database: Path, tasks: int) -> None:
    database.parent.mkdir()
    store = Store(database)
    for number in range(tasks):
        await store.create_task(record(f"t{number}"))
    store.close()


async def test_a_server_removes_old_tasks_by_itself(shop: Path, tmp_path: Path) -> None:
    await fill(tmp_path / "data" / "connect.sqlite3", 230)
    with LocalServer([shop], data_dir=tmp_path / "data", keep_tasks=3) as server:
        connection = Connection(server.base_url, server.token)
        wait_until(lambda: len(connection.http.get("/v1/tasks").json()["tasks"]) <= 3)
        tasks = connection.http.get("/v1/tasks").json()["tasks"]
        assert [task["id"] for task in tasks] == ["t229", "t228", "t227"]
        connection.http.close()


def test_the_command_line_says_how_many_tasks_are_kept(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path / "data" / "connect.sqlite3", 12))
    words = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--keep-tasks", "10"]
    process = subprocess.Popen(
        [sys.executable, "-m", "oomol_connect_sdk", *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    base_url = process.stderr.readline().split()[-1]
    connection = Connection(base_url, "")
    wait_until(lambda: len(connection.http.get("/v1/tasks").json()["tasks"]) == 10)
    connection.http.close()
    process.send_signal(signal.SIGINT)
    process.stderr.close()
    assert process.wait(PATIENCE) == 0


def test_a_deleted_task_is_gone_with_its_log_and_files(shop: Path, tmp_path: Path) -> None:
    with LocalServer([shop], data_dir=tmp_path / "data") as server:
        connection = Connection(server.base_url, server.token)
        task = connection.run("shop::leave", {"secret": str(tmp_path / "secret")})
        kept = connection.run("shop::add", {"a": 1})
        path = f"/v1/tasks/{task['id']}"
        answer = connection.http.delete(path)
        assert answer.status_code == 200
        assert answer.json() == {"task": task, "success": True}
        gone = [
            connection.http.get(path),
            connection.http.get(path + "/logs"),
            connection.http.get(path + "/files"),
            connection.http.post(path + "/rerun"),
            connection.http.delete(path),
        ]
        assert [answer.status_code for answer in gone] == [404] * 5
        assert [row["id"] for row in connection.http.get("/v1/tasks").json()["tasks"]] == [
            kept["id"]
        ]
        directory = Path(task["result"]["directory"])
        wait_until(lambda: not directory.exists(), "the removal of the task's directory")
        connection.http.close()


def test_a_task_that_runs_or_waits_is_not_deleted(shop: Path, tmp_path: Path) -> None:
    with LocalServer([shop], max_tasks=1) as server:
        connection = Connection(server.base_url, server.token)
        gate = tmp_path / "gate"
        inputs = {"file": str(tmp_path / "pid"), "gate": str(gate)}
        tasks = [connection.create("shop::gated", inputs) for _ in range(2)]
        for task_id in tasks:
            answer = connection.http.delete(f"/v1/tasks/{task_id}")
            assert answer.status_code == 409
            assert "stop it" in answer.json()["message"]
        gate.touch()
        for task_id in tasks:
            connection.wait(task_id)
            assert connection.http.delete(f"/v1/tasks/{task_id}").status_code == 200
        connection.http.close()


def test_the_files_of_a_deleted_task_serve_the_task_that_repeats_it(
    shop: Path, tmp_path: Path
) -> None:
    with LocalServer([shop], data_dir=tmp_path / "data") as server:
        connection = Connection(server.base_url, server.token)
        answer = connection.http.post(
            "/v1/tasks",
            data={"manifest": "shop::press"},
            files={"files": ("cover.txt", b"a cover")},
        )
        first = connection.wait(answer.json()["task"]["id"])
        rerun = connection.http.post(f"/v1/tasks/{first['id']}/rerun").json()["task"]["id"]
        connection.wait(rerun)
        assert connection.http.delete(f"/v1/tasks/{first['id']}").status_code == 200
        again = connection.http.post(f"/v1/tasks/{rerun}/rerun").json()["task"]["id"]
        assert connection.wait(again)["result"]["cover"] == "cover.txt: a cover"
        names = connection.http.get(f"/v1/tasks/{again}/files").json()["files"]
        assert [file["name"] for file in names] == ["uploads/0/cover.txt"]
        for task_id in (rerun, again):
            assert connection.http.delete(f"/v1/tasks/{task_id}").status_code == 200
        sessions = tmp_path / "data" / "sessions"
        wait_until(lambda: not list(sessions.iterdir()), "the removal of all directories")
        connection.http.close()


@pytest.mark.parametrize("round_trips", [0, 1, 2, 4, 8])
def test_a_server_killed_while_it_deletes_leaves_no_half_of_a_task(
    start_process: StartProcess, tmp_path: Path, round_trips: int
) -> None:
    process = start_process()
    tasks = [process.connection.run("shop::chat", {"lines": 3_000}) for _ in range(2)]
    kept = process.connection.run("shop::add", {"a": 1})
    for task in tasks:
        assert process.connection.http.delete(f"/v1/tasks/{task['id']}").status_code == 200
    for _ in range(round_trips):
        process.connection.http.get("/packages")
    process.kill()

    connection = start_process().connection
    listed: httpx.Response = connection.http.get("/v1/tasks")
    assert listed.json()["tasks"] == [kept]
    data = tmp_path / "data"
    wait_until(
        lambda: not rows(data / "connect.sqlite3", "SELECT * FROM removals"), "the end of removals"
    )
    of_others = f"SELECT COUNT(*) FROM events WHERE task_id != '{kept['id']}'"
    assert rows(data / "connect.sqlite3", of_others) == [(0,)]
    assert [path.name for path in (data / "sessions").iterdir()] == [kept["session_id"]]
    assert connection.logs(kept["id"])
