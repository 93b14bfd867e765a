"""The database's schema: how it is opened, and how an older one becomes the current one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .data_directory import DataDirectoryError


class StoreError(DataDirectoryError):
    """The database of a data directory can't be used."""


def open_writer(database: Path) -> sqlite3.Connection:
    """Return the connection that writes, on a schema that is current; raises StoreError."""
    # Each thread has a connection of its own; this one is only made here and handed over.
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    try:
        _migrate(connection, database)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # The log of writes would keep the size of its largest burst for ever.
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    """Return a connection that can only read."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def last_position(connection: sqlite3.Connection) -> int:
    """Return the highest position that an event or a change of a task was ever stored with."""
    (position,) = connection.execute(
        "SELECT MAX("
        "COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0),"
        "COALESCE((SELECT MAX(revision) FROM tasks), 0))"
    ).fetchone()
    return int(position)


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


_TASKS_AND_EVENTS = """
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
    """

# What may be large stands last in its row: a filter or an index never has to read across it.
# The changes of old tasks are given positions behind all old events.
_REVISIONS_AND_OPTIONS = """
    CREATE TABLE new_tasks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        session_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        project_name TEXT NOT NULL,
        manifest_path TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        progress REAL,
        revision INTEGER NOT NULL,
        client TEXT,
        idempotency_key TEXT,
        request_hash TEXT,
        priority INTEGER,
        deadline INTEGER,
        rerun_of TEXT,
        uploads_session_id TEXT,
        labels TEXT,
        stop_error TEXT,
        error TEXT,
        input_values TEXT,
        result TEXT,
        node_results TEXT
    );
    INSERT INTO new_tasks (
        number, id, session_id, project_id, project_name, manifest_path, created_at, updated_at,
        status, progress, revision, error, input_values, result, node_results
    )
    SELECT
        number, id, session_id, project_id, project_name, manifest_path, created_at, updated_at,
        status, progress, number + COALESCE((SELECT MAX(id) FROM events), 0), error, input_values,
        result, node_results
    FROM tasks ORDER BY number;
    DROP TABLE tasks;
    ALTER TABLE new_tasks RENAME TO tasks;
    CREATE INDEX tasks_unfinished ON tasks (number)
        WHERE status IN ('created', 'pending', 'running');
    CREATE INDEX tasks_by_status ON tasks (status, number);
    CREATE INDEX tasks_of_client ON tasks (client, number) WHERE client IS NOT NULL;
    CREATE INDEX changes_of_client ON tasks (client, revision) WHERE client IS NOT NULL;
    CREATE INDEX changes ON tasks (revision);
    CREATE UNIQUE INDEX task_of_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE TABLE labels (
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (key, value, number)
    ) WITHOUT ROWID;
    ALTER TABLE events ADD COLUMN client TEXT;
    CREATE INDEX events_of_client ON events (client, id) WHERE client IS NOT NULL;
    """

_PARTIAL_RUNS = """
    ALTER TABLE tasks ADD COLUMN nodes TEXT;
    ALTER TABLE tasks ADD COLUMN cache TEXT;
    """

_REMOVALS = """
    CREATE TABLE removals (
        task_id TEXT NOT NULL PRIMARY KEY,
        session_id TEXT NOT NULL,
        uploads_session_id TEXT
    ) WITHOUT ROWID;
    CREATE INDEX tasks_of_uploads ON tasks (uploads_session_id)
        WHERE uploads_session_id IS NOT NULL;
    """

_MIGRATIONS = (_TASKS_AND_EVENTS, _REVISIONS_AND_OPTIONS, _PARTIAL_RUNS, _REMOVALS)
