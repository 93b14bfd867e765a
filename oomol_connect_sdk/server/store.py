"""What the server keeps: tasks and the append-only journal of their events, in SQLite."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from .hub import Hub
from .records import (
    ENDED,
    ENGINE,
    JOB,
    REQUEST,
    SERVER,
    UNFINISHED,
    JournalEntry,
    StoredEvent,
    TaskRecord,
    now_ms,
)
from .removals import holds_uploads
from .schema import StoreError, last_position, open_reader, open_writer
from .sqlite_threads import ReaderThreads, WriterThread
from .task_rows import (
    TaskFilter,
    TaskPage,
    columns,
    insert_task,
    json_text,
    select_page,
    select_task_to_run,
    select_tasks,
    update_task,
)

__all__ = [
    "ENDED",
    "ENGINE",
    "JOB",
    "REQUEST",
    "SERVER",
    "UNFINISHED",
    "FilesRemoved",
    "JournalEntry",
    "Store",
    "StoreError",
    "StoredEvent",
    "TaskFilter",
    "TaskPage",
    "TaskRecord",
    "is_full",
    "now_ms",
]

T = TypeVar("T")


#: Characters of events that are read at once for a log; one event may pass it.
LOG_SIZE = 4 * 1024 * 1024


def is_full(events: Sequence[StoredEvent]) -> bool:
    """Whether events of a log end because they are many, so that there may be more."""
    return sum(len(event.text) for event in events) >= LOG_SIZE


class FilesRemoved(Exception):
    """The files that a task needs were removed together with the task they came with."""


class Store:
    """Tasks and events in one SQLite file.

    A write's awaitable ends when the write is on disk; writes that wait share a commit, and
    after it ``hub`` tells who watches their tasks. Events and changes of tasks stand in one
    order: the ids of events and the revisions of tasks are taken from the same ascending
    numbers. Made and used on one event loop. Raises StoreError when the file can't be used, for
    instance because a newer version of this package wrote it.
    """

    def __init__(self, database: Path) -> None:
        connection = open_writer(database)
        #: Used in the writer thread only.
        self._positions = itertools.count(last_position(connection) + 1)
        self._writer = WriterThread(connection)
        self._readers = ReaderThreads(lambda: open_reader(database))
        self.hub = Hub()

    @property
    def commits(self) -> int:
        """How many transactions were committed since the store was opened."""
        return self._writer.commits

    async def create_task(self, task: TaskRecord) -> TaskRecord:
        """Store a new task and return it.

        When there is one with the same idempotency key, nothing is stored and that one returned.
        Raises FilesRemoved for a task that repeats one whose files are gone.
        """

        def write(db: sqlite3.Connection) -> TaskRecord:
            earlier = _task_of_key(db, task.idempotency_key)
            if earlier is not None:
                return earlier
            if task.rerun_of and task.uploads_session_id:
                _check_uploads(db, task.uploads_session_id)
            stored = replace(task, revision=next(self._positions))
            insert_task(db, stored)
            return stored

        return await self._writer.write(
            write, lambda stored: self.hub.notify(stored.id, stored.client)
        )

    async def update_task(self, task_id: str, **changes: Any) -> None:
        """Change columns of a task; ``updated_at`` and ``revision`` follow by themselves."""
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
        row = columns({**changes, "updated_at": now_ms()}) if changes else None

        def write(db: sqlite3.Connection) -> str | None:
            client = _client(db, task_id)
            db.executemany(_INSERT_EVENT, [(next(self._positions), client, *row) for row in rows])
            if row is not None:
                # Taken after the ids of the events: whoever is shown this change has those.
                update_task(db, task_id, {**row, "revision": next(self._positions)})
            return client

        await self._writer.write(write, lambda client: self.hub.notify(task_id, client))

    async def mark_pending(self, task_id: str) -> None:
        """Note that an accepted task waits for its turn; one that has started is left alone."""
        statement = (
            "UPDATE tasks SET status = 'pending', updated_at = ?, revision = ? "
            "WHERE id = ? AND status = 'created'"
        )

        def write(db: sqlite3.Connection) -> str | None:
            db.execute(statement, (now_ms(), next(self._positions), task_id))
            return _client(db, task_id)

        await self._writer.write(write, lambda client: self.hub.notify(task_id, client))

    async def give_stop_reason(
        self, task_id: str, session_id: str, entry: JournalEntry, error: Mapping[str, Any]
    ) -> None:
        """Note why a task is about to be stopped: an event, and its error if that is how it ends.

        Nothing is noted about a task that has ended meanwhile.
        """
        row = _event_row(task_id, session_id, entry)
        statement = f"UPDATE tasks SET stop_error = ? WHERE id = ? AND status IN {UNFINISHED}"

        def write(db: sqlite3.Connection) -> str | None:
            client = _client(db, task_id)
            if db.execute(statement, (json_text(error), task_id)).rowcount:
                db.execute(_INSERT_EVENT, (next(self._positions), client, *row))
            return client

        await self._writer.write(write, lambda client: self.hub.notify(task_id, client))

    async def task(self, task_id: str) -> TaskRecord | None:
        """Return one task; None when there is none of this id."""
        tasks = await self._tasks("WHERE id = ?", task_id)
        return tasks[0] if tasks else None

    async def task_to_run(self, task_id: str) -> TaskRecord | None:
        """Return one task with the ``cache`` of its run; None when there is none of this id."""
        return await self._readers.read(lambda db: select_task_to_run(db, task_id))

    async def task_of_key(self, idempotency_key: str) -> TaskRecord | None:
        """Return the task that was created with this key; None when there is none."""
        return await self._readers.read(lambda db: _task_of_key(db, idempotency_key))

    async def tasks(self) -> list[TaskRecord]:
        """Return all tasks, the newest first."""
        return await self._tasks("ORDER BY number DESC")

    async def page(
        self, wanted: TaskFilter, *, cursor: int | None = None, limit: int | None = None
    ) -> TaskPage:
        """Return the newest tasks, at most ``limit``, or go on where ``cursor`` points."""
        return await self.read(lambda db: select_page(db, wanted, cursor, limit))

    async def unfinished(self) -> list[TaskRecord]:
        """Return the tasks that have not ended, in the order of their creation."""
        return await self._tasks(f"WHERE status IN {UNFINISHED} ORDER BY number")

    async def logs(
        self, task_id: str, after_id: int = 0, limit: int | None = None
    ) -> list[StoredEvent]:
        """Return the events of a task with ids above ``after_id``, in order.

        They are the first ``limit``, or fewer: up to the one with which they are full.
        """
        shown = f"task_id = ? AND id > ? AND origin != '{REQUEST}'"
        return await self._events(shown, task_id, after_id, limit=limit, size=LOG_SIZE)

    async def session_events(self, session_id: str) -> list[StoredEvent]:
        """Return all events of a session, in order."""
        return await self._events("session_id = ?", session_id)

    async def has_session(self, session_id: str) -> bool:
        """Whether a task has this session."""
        return bool(await self._tasks("WHERE session_id = ?", session_id))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the reads of ``work``, which all see the same moment."""

        def read(db: sqlite3.Connection) -> T:
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("COMMIT")

        return await self._readers.read(read)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the writes of ``work``, all or none; nobody is told of them."""
        return await self._writer.write(work)

    def close(self) -> None:
        """Finish what waits and close the file."""
        self.hub.close()
        self._readers.close()
        self._writer.close()

    async def _tasks(self, condition: str, *values: Any) -> list[TaskRecord]:
        return await self._readers.read(lambda db: select_tasks(db, condition, *values))

    async def _events(
        self,
        condition: str,
        *values: Any,
        limit: int | None = None,
        size: float = math.inf,
    ) -> list[StoredEvent]:
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE {condition} ORDER BY id LIMIT ?"
        parameters = (*values, -1 if limit is None else limit)

        def read(db: sqlite3.Connection) -> list[StoredEvent]:
            events: list[StoredEvent] = []
            total = 0
            for row in db.execute(query, parameters):
                events.append(StoredEvent(*row))
                total += len(events[-1].text)
                if total >= size:
                    break
            return events

        return await self._readers.read(read)


_EVENT_COLUMNS = "id, session_id, node_id, type, origin, event, created_at"
_INSERT_EVENT = (
    "INSERT INTO events "
    "(id, client, task_id, session_id, node_id, type, origin, event, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _task_of_key(db: sqlite3.Connection, key: str | None) -> TaskRecord | None:
    if key is None:
        return None
    tasks = select_tasks(db, "WHERE idempotency_key = ?", key)
    return tasks[0] if tasks else None


def _check_uploads(db: sqlite3.Connection, session_id: str) -> None:
    if not holds_uploads(db, session_id):
        raise FilesRemoved("The files that came with the task were removed with it.")


def _client(db: sqlite3.Connection, task_id: str) -> str | None:
    row = db.execute("SELECT client FROM tasks WHERE id = ?", (task_id,)).fetchone()
    return row[0] if row else None


def _event_row(task_id: str, session_id: str, entry: JournalEntry) -> tuple[Any, ...]:
    event = entry.event
    stacks = event.get("stacks")
    node_id = stacks[-1]["node_id"] if stacks else "none"
    row = (task_id, session_id, node_id, event["type"], entry.origin)
    return (*row, entry.text, entry.created_at)
