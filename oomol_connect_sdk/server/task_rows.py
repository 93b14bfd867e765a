"""The statements about tasks: records in and out of their table, filters, pages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .records import TaskRecord

#: Characters after which a page is full; one task may pass it.
PAGE_SIZE = 4 * 1024 * 1024


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks are meant; what is not given leaves none out."""

    statuses: Sequence[str] = ()
    client: str | None = None
    #: A task must have all of them, with these values.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskPage:
    """Some tasks of a list, the newest first, and where the list goes on; None at its end."""

    tasks: Sequence[TaskRecord]
    next_cursor: int | None


def insert_task(db: sqlite3.Connection, task: TaskRecord) -> None:
    """Store a new task and its labels."""
    row = columns({name: getattr(task, name) for name in _COLUMNS})
    number = db.execute(_INSERT, row).lastrowid
    labels = [(key, value, number) for key, value in (task.labels or {}).items()]
    db.executemany("INSERT INTO labels (key, value, number) VALUES (?, ?, ?)", labels)


def update_task(db: sqlite3.Connection, task_id: str, row: Mapping[str, Any]) -> None:
    """Change columns of a task to values that ``columns`` made."""
    assignments = ", ".join(f"{name} = :{name}" for name in row)
    db.execute(f"UPDATE tasks SET {assignments} WHERE id = :id", {**row, "id": task_id})


def select_tasks(db: sqlite3.Connection, condition: str, *values: Any) -> list[TaskRecord]:
    """Return the tasks that a ``WHERE`` and ``ORDER BY`` give."""
    return [task for task, _ in select_sized_tasks(db, condition, *values)]


def select_sized_tasks(
    db: sqlite3.Connection, condition: str, *values: Any
) -> Iterator[tuple[TaskRecord, int]]:
    """Yield the tasks that a ``WHERE`` and ``ORDER BY`` give, and how many characters each has."""
    for row in db.execute(f"SELECT {_SHOWN} FROM tasks {condition}", values):
        yield _task(row), sum(len(value) for value in row if isinstance(value, str))


def select_task_to_run(db: sqlite3.Connection, task_id: str) -> TaskRecord | None:
    """Return a task with all that its run needs; None when there is none of this id."""
    row = db.execute(f"SELECT {_ALL} FROM tasks WHERE id = ?", (task_id,)).fetchone()
    return _task(row) if row else None


def select_page(
    db: sqlite3.Connection, wanted: TaskFilter, cursor: int | None, limit: int | None
) -> TaskPage:
    """Return at most ``limit`` tasks from where ``cursor`` points on; fewer large ones."""
    # Indexes give the numbers, so that no row is read but those that are answered.
    conditions, values = _conditions(wanted, cursor)
    query = f"SELECT number FROM tasks WHERE {conditions} ORDER BY number DESC LIMIT ?"
    one_more = -1 if limit is None else limit + 1
    numbers = [number for (number,) in db.execute(query, (*values, one_more))]
    tasks: list[TaskRecord] = []
    total = 0
    for number in numbers[:limit]:
        for task, size in select_sized_tasks(db, "WHERE number = ?", number):
            tasks.append(task)
            total += size
        if total >= PAGE_SIZE:
            break
    return TaskPage(tasks, number if 0 < len(tasks) < len(numbers) else None)


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return these fields of a record as they are stored."""
    return {
        name: json_text(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in values.items()
    }


def json_text(value: Any) -> str:
    """Return ``value`` as it is stored: ASCII, on one line, also NaN and lone surrogates."""
    return json.dumps(value, separators=(",", ":"))


_COLUMNS = tuple(TaskRecord.__dataclass_fields__)
_JSON_COLUMNS = frozenset(
    ("input_values", "result", "node_results", "error", "labels", "nodes", "cache")
)
# The reason of a stop is noted before the stop, and counts only if that is how the task ended.
_ERROR = "CASE status WHEN 'stopped' THEN COALESCE(error, stop_error) ELSE error END"
_ALL = ", ".join(_ERROR if name == "error" else name for name in _COLUMNS)
# What nobody is shown is not read: only whether there is something.
_HAS_CACHE = "CASE WHEN cache IS NOT NULL THEN '{}' END"
_SHOWN = ", ".join({"error": _ERROR, "cache": _HAS_CACHE}.get(name, name) for name in _COLUMNS)
_INSERT = (
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
)


def _conditions(wanted: TaskFilter, cursor: int | None) -> tuple[str, list[Any]]:
    conditions = ["TRUE"]
    values: list[Any] = []
    if cursor is not None:
        conditions.append("number < ?")
        values.append(cursor)
    if wanted.statuses:
        conditions.append(f"status IN ({', '.join('?' * len(wanted.statuses))})")
        values += wanted.statuses
    if wanted.client is not None:
        conditions.append("client = ?")
        values.append(wanted.client)
    for label in wanted.labels.items():
        conditions.append("number IN (SELECT number FROM labels WHERE key = ? AND value = ?)")
        values += label
    return " AND ".join(conditions), values


def _task(row: Sequence[Any]) -> TaskRecord:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _JSON_COLUMNS:
        if values[name] is not None:
            values[name] = json.loads(values[name])
    return TaskRecord(**values)
