"""The write side of one task's run: its events and state on their way into the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from .store import JournalEntry, Store

#: Events that only inform: losing the last ones in a crash changes nothing about the run.
_PATIENT = frozenset(
    {"BlockLog", "BlockLogJSON", "BlockMessage", "BlockPreview", "BlockProgress", "BlockWarning"}
)
#: Seconds that patient events wait for company.
_LINGER = 0.02
#: The most events that may wait for their commit.
_ROOM = 2_000


class Journal:
    """Hands events and task changes to the store in order, as many as wait in one transaction.

    What moves the run forward is written at once; what a block prints is collected for a moment.
    ``size`` is how many bytes of the session are stored already.
    """

    def __init__(self, store: Store, task_id: str, session_id: str, size: int = 0) -> None:
        #: Bytes of the session's events, stored or on their way.
        self.size = size
        self._store = store
        self._task_id = task_id
        self._session_id = session_id
        self._entries: list[JournalEntry] = []
        self._changes: dict[str, Any] = {}
        self._urgent = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def add(self, event: Mapping[str, Any], origin: str) -> None:
        """Append an event."""
        entry = JournalEntry(event, origin)
        self.size += len(entry.text)
        self._entries.append(entry)
        if event["type"] not in _PATIENT:
            self._urgent.set()
        self._write()

    def change(self, **changes: Any) -> None:
        """Change columns of the task, not before the events added so far."""
        self._changes.update(changes)
        self._write()

    async def room(self) -> None:
        """Wait while too many events are not committed; raises what the store raised."""
        if self._writing is not None and self._writing.done():
            self._writing.result()
        if len(self._entries) >= _ROOM:
            await self.flush()

    async def flush(self) -> None:
        """Wait until all is on disk; raises what the store raised."""
        self._urgent.set()
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def _write(self) -> None:
        if self._writing is None or _succeeded(self._writing):
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._entries or self._changes:
            if not self._urgent.is_set():
                await self._linger()
            self._urgent.clear()
            entries, self._entries = self._entries, []
            changes, self._changes = self._changes, {}
            await self._store.append_events(self._task_id, self._session_id, entries, changes)

    async def _linger(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._urgent.wait(), _LINGER)


def _succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and task.exception() is None
