"""The statements that take ended tasks out of the database, a little at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from .records import ENDED


@dataclass(frozen=True)
class Removal:
    """A task that is in no list any more, and whose events and files are still to go."""

    task_id: str
    session_id: str
    uploads_session_id: str | None


def excess_tasks(db: sqlite3.Connection, keep: int, ended_before: int, limit: int) -> list[str]:
    """Return the ids of ended tasks beyond the ``keep`` that ended last, the oldest first.

    Only those that ended before a time (Unix milliseconds), and at most ``limit``.
    """
    (ended,) = db.execute(f"SELECT COUNT(*) FROM tasks WHERE status IN {ENDED}").fetchone()
    # The plus keeps SQLite from sorting all ended tasks: the first ones of the index are wanted.
    query = (
        f"SELECT id FROM tasks WHERE +status IN {ENDED} AND updated_at < ? "
        "ORDER BY revision LIMIT ?"
    )
    excess = max(0, min(ended - keep, limit))
    return [task_id for (task_id,) in db.execute(query, (ended_before, excess))]


def begin_removal(db: sqlite3.Connection, task_id: str) -> bool:
    """Take a task out of all lists and free its key; False when no such task has ended."""
    row = db.execute(
        "SELECT number, session_id, uploads_session_id, revision, labels FROM tasks "
        f"WHERE id = ? AND status IN {ENDED}",
        (task_id,),
    ).fetchone()
    if row is None:
        return False
    number, session_id, uploads_session_id, revision, labels = row
    _keep_position(db, revision)
    db.execute("INSERT INTO removals VALUES (?, ?, ?)", (task_id, session_id, uploads_session_id))
    given = json.loads(labels).items() if labels else ()
    db.executemany(
        "DELETE FROM labels WHERE key = ? AND value = ? AND number = ?",
        [(key, value, number) for key, value in given],
    )
    db.execute("DELETE FROM tasks WHERE number = ?", (number,))
    return True


def next_removal(db: sqlite3.Connection) -> Removal | None:
    """Return a removal that was begun and not ended."""
    row = db.execute("SELECT task_id, session_id, uploads_session_id FROM removals").fetchone()
    return Removal(*row) if row else None


def first_events(
    db: sqlite3.Connection, task_id: str, limit: int
) -> tuple[int | None, Sequence[str]]:
    """Return the highest id among the first events of a task, and the sessions they are of."""
    query = "SELECT id, session_id FROM events WHERE task_id = ? ORDER BY id LIMIT ?"
    rows = db.execute(query, (task_id, limit)).fetchall()
    last = rows[-1][0] if rows else None
    return last, list(dict.fromkeys(session_id for _, session_id in rows))


def delete_events(db: sqlite3.Connection, task_id: str, upto: int) -> None:
    """Delete the events of a task whose ids are not above ``upto``."""
    db.execute("DELETE FROM events WHERE task_id = ? AND id <= ?", (task_id, upto))


def end_removal(db: sqlite3.Connection, task_id: str) -> None:
    """Forget a removal: nothing of its task is left."""
    db.execute("DELETE FROM removals WHERE task_id = ?", (task_id,))


def holds_uploads(db: sqlite3.Connection, session_id: str) -> bool:
    """Whether a task that is kept was given files that are in the directory of this session."""
    query = "SELECT 1 FROM tasks WHERE uploads_session_id = ?"
    return db.execute(query, (session_id,)).fetchone() is not None


def _keep_position(db: sqlite3.Connection, position: int) -> None:
    """Note a position as given, since the highest one may be that of the task that goes."""
    updated = db.execute(
        "UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'events'", (position,)
    )
    if not updated.rowcount:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (position,))
