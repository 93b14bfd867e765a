"""What happened to some tasks, in order and in pages: the source of event streams."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

from .records import REQUEST, UNFINISHED, StoredEvent, TaskRecord
from .schema import last_position
from .task_rows import select_sized_tasks

#: Characters after which a page is full; one event or task may pass it.
PAGE_SIZE = 128 * 1024
#: What an item takes besides its own texts.
_ITEM_SIZE = 500


@dataclass(frozen=True)
class Selection:
    """The tasks a feed is about: those of a client, and single ones."""

    client: str | None = None
    task_ids: Sequence[str] = ()
    #: Whether their events are wanted, beside the changes of the tasks themselves.
    logs: bool = True


@dataclass(frozen=True)
class TaskEvent:
    """An event of the journal together with what its task has to say about it."""

    event: StoredEvent
    task_id: str
    project_name: str
    manifest_path: str


FeedItem = Union[TaskEvent, TaskRecord]


@dataclass(frozen=True)
class FeedPage:
    """A part of a feed; the next one begins after ``cursor``."""

    items: Sequence[FeedItem]
    cursor: int
    #: Whether it ends because it is full, not because there is nothing more.
    full: bool


def read_feed(db: sqlite3.Connection, selection: Selection, after: int) -> FeedPage:
    """Return what stands after a position: events, and each task at its last change.

    A task that changes moves behind its own events, and one that has ended stays there. A
    position that was never given is of another database: then the feed begins at its start.
    """
    if after > last_position(db):
        after = 0
    return _page(_sized_items(db, selection, after), after)


def read_unfinished(
    db: sqlite3.Connection, selection: Selection, changed_upto: int, cursor: int
) -> FeedPage:
    """Return the unfinished tasks whose last change is not above a position, oldest first.

    ``cursor`` is that of the page before, and 0 for the first one.
    """
    condition, values = _selected(selection)
    query = (
        f"SELECT number FROM tasks WHERE {condition} AND status IN {UNFINISHED} "
        "AND revision <= ? AND number > ? ORDER BY number"
    )
    numbers = db.execute(query, (*values, changed_upto, cursor))
    tasks = (
        (number, task, size)
        for (number,) in numbers
        for task, size in select_sized_tasks(db, "WHERE number = ?", number)
    )
    return _page(tasks, cursor)


def _page(sized_items: Iterable[tuple[int, FeedItem, int]], cursor: int) -> FeedPage:
    items: list[FeedItem] = []
    total = 0
    for cursor, item, size in sized_items:
        items.append(item)
        total += size + _ITEM_SIZE
        if total >= PAGE_SIZE:
            return FeedPage(items, cursor, full=True)
    return FeedPage(items, cursor, full=False)


def _sized_items(
    db: sqlite3.Connection, selection: Selection, after: int
) -> Iterator[tuple[int, FeedItem, int]]:
    # Only positions are merged, and indexes hold them: what is not in the page is never read.
    positions = heapq.merge(_changes(db, selection, after), *_event_ids(db, selection, after))
    for position, _ in itertools.groupby(positions):
        found = _event(db, position) if selection.logs else None
        if found is not None:
            yield position, found, len(found.event.text)
        else:
            for task, size in select_sized_tasks(db, "WHERE revision = ?", position):
                yield position, task, size


def _changes(db: sqlite3.Connection, selection: Selection, after: int) -> Iterator[int]:
    condition, values = _selected(selection)
    query = f"SELECT revision FROM tasks WHERE {condition} AND revision > ? ORDER BY revision"
    return _first_column(db, query, *values, after)


def _event_ids(db: sqlite3.Connection, selection: Selection, after: int) -> Iterator[Iterator[int]]:
    if not selection.logs:
        return
    shown = f"id > ? AND origin != '{REQUEST}'"
    query = f"SELECT id FROM events WHERE {{}} = ? AND {shown} ORDER BY id"
    if selection.client is not None:
        yield _first_column(db, query.format("client"), selection.client, after)
    for task_id in selection.task_ids:
        yield _first_column(db, query.format("task_id"), task_id, after)


def _event(db: sqlite3.Connection, event_id: int) -> TaskEvent | None:
    row = db.execute(_EVENT, (event_id,)).fetchone()
    return TaskEvent(StoredEvent(*row[:7]), *row[7:]) if row else None


_EVENT = """
    SELECT events.id, events.session_id, node_id, type, origin, event, events.created_at,
        tasks.id, project_name, manifest_path
    FROM events JOIN tasks ON tasks.id = events.task_id WHERE events.id = ?
    """


def _selected(selection: Selection) -> tuple[str, tuple[Any, ...]]:
    named = f"id IN ({', '.join('?' * len(selection.task_ids))})"
    if selection.client is None:
        return named, tuple(selection.task_ids)
    if not selection.task_ids:
        return "client = ?", (selection.client,)
    return f"(client = ? OR {named})", (selection.client, *selection.task_ids)


def _first_column(db: sqlite3.Connection, query: str, *values: Any) -> Iterator[int]:
    return (value for (value,) in db.execute(query, values))
