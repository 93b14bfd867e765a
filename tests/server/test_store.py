from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import PATIENCE

from oomol_connect_sdk.server.data_directory import DataDirectory, DataDirectoryInUse
from oomol_connect_sdk.server.sqlite_threads import StoreClosed, WriterThread
from oomol_connect_sdk.server.store import (
    ENGINE,
    JOB,
    JournalEntry,
    Store,
    StoreError,
    TaskFilter,
    TaskRecord,
)
from oomol_connect_sdk.server.task_rows import select_page, select_tasks


def record(task_id: str, **changes: Any) -> TaskRecord:
    values: dict[str, Any] = {
        "id": task_id,
        "session_id": f"session-{task_id}",
        "project_id": "sales_0123456789ab",
        "project_name": "sales",
        "manifest_path": "/packages/sales/blocks/summary/block.oo.yaml",
        "input_values": None,
        "created_at": 1_700_000_000_000,
        "updated_at": 1_700_000_000_000,
    }
    return TaskRecord(**{**values, **changes})


def log(text: str, **more: Any) -> JournalEntry:
    return JournalEntry({"type": "BlockLog", "log": text, **more}, JOB)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "connect.sqlite3")
    yield store
    store.close()


async def test_a_task_comes_back_as_it_was_stored(store: Store) -> None:
    inputs = [{"nodeId": "_", "inputs": [{"handle": "größe", "value": {"a": [1, None]}}]}]
    task = record("t1", input_values=inputs, progress=12.5, error={"message": "no"})
    stored = await store.create_task(task)
    assert stored == replace(task, revision=stored.revision)
    assert await store.task("t1") == stored
    assert await store.task("t2") is None


async def test_inputs_of_earlier_runs_are_read_for_the_run_of_their_task_only(store: Store) -> None:
    cache = {"node": {"handle": "x" * 100_000}}
    await store.create_task(record("with", cache=cache))
    await store.create_task(record("without"))
    page = await store.page(TaskFilter())
    for tasks in (page.tasks, await store.unfinished(), await store.tasks()):
        assert {task.id: task.cache for task in tasks} == {"with": {}, "without": None}
    shown, to_run = await store.task("with"), await store.task_to_run("with")
    assert shown is not None
    assert replace(shown, cache=cache) == to_run
    assert await store.task_to_run("gone") is None


async def test_tasks_are_listed_newest_first_and_unfinished_ones_oldest_first(
    store: Store,
) -> None:
    for number, status in enumerate(["completed", "running", "created", "failed", "pending"]):
        await store.create_task(record(f"t{number}", status=status))
    assert [task.id for task in await store.tasks()] == ["t4", "t3", "t2", "t1", "t0"]
    assert [task.id for task in await store.unfinished()] == ["t1", "t2", "t4"]


async def test_a_change_of_a_task_moves_its_time_of_update(store: Store) -> None:
    await store.create_task(record("t1"))
    await store.update_task("t1", status="completed", result={"total": 3})
    task = await store.task("t1")
    assert task is not None
    assert (task.status, task.result) == ("completed", {"total": 3})
    assert task.updated_at > task.created_at


async def test_only_a_task_that_has_not_started_becomes_pending(store: Store) -> None:
    await store.create_task(record("waits"))
    await store.create_task(record("runs", status="running"))
    await store.mark_pending("waits")
    await store.mark_pending("runs")
    assert [task.status for task in await store.unfinished()] == ["pending", "running"]


async def test_events_keep_their_order_and_are_read_after_an_id(store: Store) -> None:
    stacks = [{"node_id": "outer"}, {"node_id": "inner"}]
    await store.append_events("t1", "s1", [log("one"), log("two", stacks=stacks)])
    await store.append_events("t2", "s2", [log("of another task")])
    await store.append_events(
        "t1", "s1b", [JournalEntry({"type": "SessionStarted", "stacks": []}, ENGINE, 77)]
    )
    events = await store.logs("t1")
    assert [event.type for event in events] == ["BlockLog", "BlockLog", "SessionStarted"]
    assert [event.node_id for event in events] == ["none", "inner", "none"]
    assert [event.origin for event in events] == [JOB, JOB, ENGINE]
    assert events[1].event == {"type": "BlockLog", "log": "two", "stacks": stacks}
    assert events[2].created_at == 77
    assert await store.logs("t1", events[0].id) == events[1:]
    assert await store.session_events("s1") == events[:2]


async def test_events_and_the_change_of_their_task_are_one_transaction(store: Store) -> None:
    await store.create_task(record("t1"))
    with pytest.raises(sqlite3.Error):
        await store.append_events("t1", "s1", [log("lost")], {"no_such_column": 1})
    assert await store.logs("t1") == []


async def test_a_write_that_fails_takes_no_other_with_it(store: Store) -> None:
    await store.create_task(record("t1"))
    outcomes = await asyncio.gather(
        store.append_events("t1", "s1", [log("before")]),
        store.create_task(record("t1")),
        store.append_events("t1", "s1", [log("after")]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        sqlite3.IntegrityError,
        type(None),
    ]
    assert [event.event["log"] for event in await store.logs("t1")] == ["before", "after"]


async def test_two_thousand_writes_at_once_share_their_commits(store: Store) -> None:
    before = store.commits
    await asyncio.gather(
        *(store.append_events("t1", "s1", [log(str(number))]) for number in range(2_000))
    )
    assert len(await store.logs("t1")) == 2_000
    assert 0 < store.commits - before < 100


async def test_only_so_many_writes_are_under_way_and_the_rest_wait(tmp_path: Path) -> None:
    connection = sqlite3.connect(
        tmp_path / "numbers.sqlite3", isolation_level=None, check_same_thread=False
    )
    connection.execute("CREATE TABLE numbers (number INTEGER)")
    writer = WriterThread(connection, max_waiting=3)
    disk_is_free = threading.Event()

    def insert(number: int) -> None:
        assert disk_is_free.wait(PATIENCE)
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))

    writes = [
        asyncio.create_task(writer.write(lambda _, number=number: insert(number)))
        for number in range(6)
    ]
    await asyncio.wait(writes, timeout=0.05)
    # What is under way is written all the same; what waited for room is not.
    for write in writes:
        write.cancel()
    disk_is_free.set()
    rows = await writer.write(lambda db: db.execute("SELECT number FROM numbers").fetchall())
    writer.close()
    assert rows == [(0,), (1,), (2,)]


async def test_a_cancelled_caller_disturbs_nobody(store: Store) -> None:
    cancelled = asyncio.create_task(store.append_events("t1", "s1", [log("one")]))
    await asyncio.sleep(0)
    cancelled.cancel()
    await store.append_events("t1", "s1", [log("two")])
    assert [event.event["log"] for event in await store.logs("t1")] == ["one", "two"]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "connect.sqlite3")
    store.close()
    with pytest.raises(StoreClosed):
        await store.create_task(record("t1"))
    with pytest.raises(StoreClosed):
        await store.tasks()


async def test_what_was_stored_is_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "connect.sqlite3")
    task = await store.create_task(record("t1"))
    await store.append_events("t1", "s1", [log("one")])
    events = await store.logs("t1")
    store.close()
    store = Store(tmp_path / "connect.sqlite3")
    assert await store.task("t1") == task
    assert await store.logs("t1") == events
    store.close()


async def test_events_and_changes_stand_in_one_order_that_goes_on_after_a_restart(
    tmp_path: Path,
) -> None:
    positions = []
    for _ in range(2):
        store = Store(tmp_path / "connect.sqlite3")
        task = await store.create_task(record(f"t{len(positions)}"))
        await store.append_events(task.id, "s", [log("one"), log("two")], {"progress": 1})
        changed = await store.task(task.id)
        assert changed is not None
        positions += [task.revision, *(event.id for event in await store.logs(task.id))]
        positions.append(changed.revision)
        store.close()
    assert positions == sorted(set(positions))
    assert len(positions) == 8


async def test_a_key_gives_the_task_that_has_it_also_to_many_at_once(store: Store) -> None:
    tasks = [record(f"t{number}", idempotency_key="k") for number in range(50)]
    stored = await asyncio.gather(*map(store.create_task, tasks))
    assert len({task.id for task in stored}) == 1
    assert await store.task_of_key("k") == stored[0]
    assert await store.tasks() == [stored[0]]
    assert await store.task_of_key("other") is None


async def test_the_reason_of_a_stop_counts_only_when_that_is_how_the_task_ends(
    store: Store,
) -> None:
    error = {"message": "too late"}
    for task_id, status in (("late", "stopped"), ("in time", "completed")):
        await store.create_task(record(task_id, status="running"))
        await store.give_stop_reason(task_id, "s", log("too late"), error)
        await store.update_task(task_id, status=status)
    await store.give_stop_reason("in time", "s", log("an event after the end"), error)
    tasks = {task.id: task.error for task in await store.tasks()}
    assert tasks == {"late": error, "in time": None}
    assert len(await store.logs("in time")) == 1


async def test_pages_of_tasks_leave_out_none_and_repeat_none(store: Store) -> None:
    for number in range(10):
        client, label = ("me", {"even": str(number % 2 == 0)}) if number < 6 else (None, None)
        status = "running" if number % 3 else "completed"
        await store.create_task(record(f"t{number}", client=client, labels=label, status=status))

    async def pages(wanted: TaskFilter, limit: int) -> list[list[str]]:
        found, cursor = [], None
        while not found or cursor is not None:
            page = await store.page(wanted, cursor=cursor, limit=limit)
            found.append([task.id for task in page.tasks])
            cursor = page.next_cursor
            # What comes later is newer than all pages, and in none of them.
            await store.create_task(record(f"late{len(found)}-{limit}-{wanted}"))
        return found

    mine = TaskFilter(client="me")
    assert await pages(mine, 4) == [["t5", "t4", "t3", "t2"], ["t1", "t0"]]
    assert await pages(mine, 3) == [["t5", "t4", "t3"], ["t2", "t1", "t0"]]
    assert await pages(TaskFilter(labels={"even": "True"}), 9) == [["t4", "t2", "t0"]]
    assert await pages(TaskFilter(labels={"even": "x"}), 9) == [[]]
    ended = TaskFilter(statuses=("completed",))
    assert await pages(ended, 3) == [["t9", "t6", "t3"], ["t0"]]
    both = TaskFilter(statuses=("completed", "running"), client="me", labels={"even": "False"})
    assert await pages(both, 1) == [["t5"], ["t3"], ["t1"]]
    everything = await store.page(TaskFilter())
    assert list(everything.tasks) == await store.tasks()


async def test_a_page_of_large_tasks_is_short_and_goes_on(store: Store) -> None:
    for number in range(5):
        await store.create_task(record(f"t{number}", result={"text": "x" * 3_000_000}))
    first = await store.page(TaskFilter(), limit=4)
    assert [task.id for task in first.tasks] == ["t4", "t3"]
    second = await store.page(TaskFilter(), cursor=first.next_cursor, limit=4)
    assert [task.id for task in second.tasks] == ["t2", "t1"]
    last = await store.page(TaskFilter(), cursor=second.next_cursor, limit=4)
    assert ([task.id for task in last.tasks], last.next_cursor) == (["t0"], None)


async def test_a_short_page_reads_no_results_but_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "connect.sqlite3")
    for number in range(20):
        await store.create_task(record(f"t{number}", result={"text": "x" * 2_000_000}))
    store.close()
    reader = sqlite3.connect(tmp_path / "connect.sqlite3")
    # So little that SQLite has to read every page it needs.
    reader.execute("PRAGMA cache_size = 10")
    began = time.process_time()
    select_tasks(reader, "ORDER BY number")
    middle = time.process_time()
    for _ in range(4):
        page = select_page(reader, TaskFilter(statuses=["created"]), None, 1)
    end = time.process_time()
    reader.close()
    assert [task.id for task in page.tasks] == ["t19"]
    assert (end - middle) / 4 < (middle - began) / 4


async def test_a_database_of_the_first_schema_keeps_its_tasks_and_events(tmp_path: Path) -> None:
    database = tmp_path / "connect.sqlite3"
    connection = sqlite3.connect(database)
    connection.executescript(_FIRST_SCHEMA)
    connection.close()
    store = Store(database)
    done, open_task = sorted(await store.tasks(), key=lambda task: task.id)
    assert done == TaskRecord(
        id="done",
        session_id="s1",
        project_id="p1",
        project_name="sales",
        manifest_path="/packages/sales",
        input_values=[{"nodeId": "_", "inputs": []}],
        created_at=5,
        updated_at=6,
        status="completed",
        progress=100.0,
        result={"total": 3},
        node_results={},
        revision=done.revision,
    )
    assert (open_task.status, open_task.error) == ("running", {"message": "no"})
    events = await store.logs("done")
    assert [(event.id, event.event) for event in events] == [(7, {"type": "BlockLog"})]
    assert [task.id for task in await store.unfinished()] == ["open"]
    # An event stream shows the end of a task after its events, and new events after all.
    assert open_task.revision > done.revision > events[-1].id
    await store.append_events("open", "s2", [log("new")])
    (event,) = await store.logs("open")
    assert event.id > open_task.revision
    assert (await store.create_task(record("new"))).revision > event.id
    store.close()


async def test_a_newer_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    database = tmp_path / "connect.sqlite3"
    Store(database).close()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=r"newer version.*999.*nothing was changed"):
        Store(database)
    assert contents(tmp_path) == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "connect.sqlite3"
    database.write_bytes(b"this is a letter to a friend, not a database" * 100)
    with pytest.raises(StoreError, match=r"connect\.sqlite3 can't be read"):
        Store(database)


def test_a_data_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path / "data")
    with pytest.raises(DataDirectoryInUse, match="in use by another server process"):
        DataDirectory(tmp_path / "data")
    first.close()
    DataDirectory(tmp_path / "data").close()


def test_a_data_directory_is_free_again_when_its_process_was_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _HOLD_DIRECTORY, str(tmp_path)], stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(DataDirectoryInUse):
            DataDirectory(tmp_path)
        os.kill(owner.pid, signal.SIGKILL)
    DataDirectory(tmp_path).close()


def test_a_temporary_data_directory_is_removed() -> None:
    directory = DataDirectory()
    (directory.session("s1") / "file").write_text("some")
    directory.close()
    assert not directory.root.exists()


_FIRST_SCHEMA = """
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    project_name TEXT NOT NULL,
    manifest_path TEXT NOT NULL,
    input_values TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    progress REAL,
    result TEXT,
    node_results TEXT,
    error TEXT
);
CREATE INDEX tasks_unfinished ON tasks (number)
    WHERE status IN ('created', 'pending', 'running');
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    type TEXT NOT NULL,
    origin TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX events_of_task ON events (task_id, id);
CREATE INDEX events_of_session ON events (session_id, id);
INSERT INTO tasks VALUES (1, 'done', 's1', 'p1', 'sales', '/packages/sales',
    '[{"nodeId":"_","inputs":[]}]', 5, 6, 'completed', 100, '{"total":3}', '{}', NULL);
INSERT INTO tasks VALUES (2, 'open', 's2', 'p1', 'sales', '/packages/sales',
    NULL, 5, 6, 'running', NULL, NULL, NULL, '{"message":"no"}');
INSERT INTO events VALUES (7, 'done', 's1', 'none', 'BlockLog', 'job', '{"type":"BlockLog"}', 5);
PRAGMA user_version = 1;
"""

_HOLD_DIRECTORY = """
import sys, time
from pathlib import Path
from oomol_connect_sdk.server.data_directory import DataDirectory
directory = DataDirectory(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
