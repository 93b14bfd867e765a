"""What the server keeps: tasks and the append-only journal of their events, in SQLite."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data_directory import DataDirectoryError
from .sqlite_threads import ReaderThreads, WriterThread

#: Event of a message that a job sent: an input of the engine, fed back to it at replay.
JOB = "job"
#: Event that the engine made by itself: made again at replay, and not written twice.
ENGINE = "engine"
#: Event about the run itself, such as its stop: no part of a replay.
SERVER = "server"

UNFINISHED = ("created", "pending", "running")
ENDED = ("completed", "failed", "stopped")


class StoreError(DataDirectoryError):
    """The database of a data directory can't be used."""


@dataclass(frozen=True)
class TaskRecord:
    """One task as it is stored; times are Unix milliseconds."""

    id: str
    session_id: str
    project_id: str
    #: Name of the package that holds the manifest.
    project_name: str
    #: Absolute path of the manifest that runs.
    manifest_path: str
    #: The wire's ``NodeInputs[]``; None when the client gave none.
    input_values: Sequence[Mapping[str, Any]] | None
    created_at: int
    updated_at: int
    status: str = "created"
    #: Percent.
    progress: float | None = None
    result: Mapping[str, Any] | None = None
    node_results: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


@dataclass(frozen=True)
class JournalEntry:
    """One event on its way into the journal."""

    event: Mapping[str, Any]
    #: JOB, ENGINE or SERVER.
    origin: str
    #: Unix milliseconds.
    created_at: int = field(default_factory=lambda: now_ms())


@dataclass(frozen=True)
class StoredEvent:
    """One event of the journal; ids ascend over all tasks and are never used again."""

    id: int
    session_id: str
    node_id: str
    type: str
    origin: str
    #: The event as JSON text.
    text: str
    created_at: int

    @property
    def event(self) -> dict[str, Any]:
        """The event as it was appended."""
        event: dict[str, Any] = json.loads(self.text)
        return event


class Store:
    """Tasks and events in one SQLite file.

    A write's awaitable ends when the write is on disk; writes that wait share a commit. Made
    and used on one event loop. Raises StoreError when the file can't be used, for instance
    because a newer version of this package wrote it.
    """

    def __init__(self, database: Path) -> None:
        connection = _open(database)
        self._writer = WriterThread(connection)
        self._readers = ReaderThreads(lambda: _reader(database))

    @property
    def commits(self) -> int:
        """How many transactions were committed since the store was opened."""
        return self._writer.commits

    async def create_task(self, task: TaskRecord) -> None:
        """Store a new task."""
        row = _row({name: getattr(task, name) for name in _TASK_COLUMNS})
        statement = _insert("tasks", row)
        await self._writer.write(lambda db: db.execute(statement, row))

    async def update_task(self, task_id: str, **changes: Any) -> None:
        """Change columns of a task; ``updated_at`` follows by itself."""
        await self.append_events(task_id, "", (), changes)

    async def append_events(
        self,
        task_id: str,
        session_id: str,
        entries: Iterable[JournalEntry],
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        """Append events to the journal and change columns of their task, in one transaction."""
        rows = [_event_row(task_id, session_id, entry) for entry in entries]
        row = _row({**changes, "updated_at": now_ms()}) if changes else {}

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_INSERT_EVENT, rows)
            if row:
                assignments = ", ".join(f"{name} = :{name}" for name in row)
                db.execute(f"UPDATE tasks SET {assignments} WHERE id = :id", {**row, "id": task_id})

        await self._writer.write(write)

    async def mark_pending(self, task_id: str) -> None:
        """Note that an accepted task waits for its turn; one that has started is left alone."""
        statement = (
            "UPDATE tasks SET status = 'pending', updated_at = ? "
            "WHERE id = ? AND status = 'created'"
        )
        await self._writer.write(lambda db: db.execute(statement, (now_ms(), task_id)))

    async def task(self, task_id: str) -> TaskRecord | None:
        """Return one task; None when there is none of this id."""
        tasks = await self._tasks("WHERE id = ?", task_id)
        return tasks[0] if tasks else None

    async def tasks(self) -> list[TaskRecord]:
        """Return all tasks, the newest first."""
        return await self._tasks("ORDER BY number DESC")

    async def unfinished(self) -> list[TaskRecord]:
        """Return the tasks that have not ended, in the order of their creation."""
        return await self._tasks(f"WHERE status IN {UNFINISHED} ORDER BY number")

    async def logs(self, task_id: str, after_id: int = 0) -> list[StoredEvent]:
        """Return the events of a task with ids above ``after_id``, in order."""
        return await self._events("task_id = ? AND id > ?", task_id, after_id)

    async def session_events(self, session_id: str) -> list[StoredEvent]:
        """Return all events of a session, in order."""
        return await self._events("session_id = ?", session_id)

    def close(self) -> None:
        """Finish what waits and close the file."""
        self._readers.close()
        self._writer.close()

    async def _tasks(self, condition: str, *values: Any) -> list[TaskRecord]:
        query = f"SELECT {', '.join(_TASK_COLUMNS)} FROM tasks {condition}"
        return await self._readers.read(lambda db: list(map(_task, db.execute(query, values))))

    async def _events(self, condition: str, *values: Any) -> list[StoredEvent]:
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE {condition} ORDER BY id"
        return await self._readers.read(
            lambda db: [StoredEvent(*row) for row in db.execute(query, values)]
        )


def now_ms() -> int:
    """Return the time as Unix milliseconds."""
    return int(time.time() * 1000)


_MIGRATIONS = (
    """
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
    """,
)

_TASK_COLUMNS = tuple(TaskRecord.__dataclass_fields__)
_JSON_COLUMNS = ("input_values", "result", "node_results", "error")
_EVENT_COLUMNS = "id, session_id, node_id, type, origin, event, created_at"
_INSERT_EVENT = (
    "INSERT INTO events (task_id, session_id, node_id, type, origin, event, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def _open(database: Path) -> sqlite3.Connection:
    # Each thread has a connection of its own; this one is only made here and handed over.
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    try:
        _migrate(connection, database)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, database: Path) -> None:
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{database} can't be read as an SQLite database: {error}") from error
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"{database} was written by a newer version of oomol-connect-sdk (its schema is "
            f"{version}, this version knows up to {len(_MIGRATIONS)}). Update oomol-connect-sdk "
            "or choose another data directory; nothing was changed."
        )
    for number in range(version, len(_MIGRATIONS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {_MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )


def _reader(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _insert(table: str, row: Mapping[str, Any]) -> str:
    placeholders = ", ".join(f":{name}" for name in row)
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({placeholders})"


def _row(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _text(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in columns.items()
    }


def _task(row: Sequence[Any]) -> TaskRecord:
    values = dict(zip(_TASK_COLUMNS, row, strict=True))
    for name in _JSON_COLUMNS:
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return TaskRecord(**values)


def _event_row(task_id: str, session_id: str, entry: JournalEntry) -> tuple[Any, ...]:
    event = entry.event
    stacks = event.get("stacks")
    node_id = stacks[-1]["node_id"] if stacks else "none"
    text = _text(event)
    return (task_id, session_id, node_id, event["type"], entry.origin, text, entry.created_at)


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
