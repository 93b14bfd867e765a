"""How long ended tasks are kept, and how they go: with their log, their key and their files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from .data_directory import DataDirectory
from .removals import (
    Removal,
    begin_removal,
    delete_events,
    end_removal,
    excess_tasks,
    first_events,
    holds_uploads,
    next_removal,
)
from .store import Store, now_ms

logger = logging.getLogger(__name__)

#: Ended tasks that are kept when nothing else is asked for.
KEPT_TASKS = 10_000
#: Seconds after its end in which a task is kept in any case, for those who wait for it.
GRACE = 3600.0
#: Seconds between two looks for tasks to remove.
_PAUSE = 60.0
#: The most tasks that are taken out of the lists at once.
_TASKS_AT_ONCE = 100
#: The most events that are deleted in one transaction.
_EVENTS_AT_ONCE = 500


class Retention:
    """Removes ended tasks: those beyond the ``keep`` that ended last, and those it is told to.

    A task first leaves all lists, in one transaction that also notes what is left to do; then its
    events go in small transactions, and its directories. A server that is killed in between goes
    on at its next start. Files that came with a task stay as long as a task that repeats it.
    """

    def __init__(
        self,
        store: Store,
        directory: DataDirectory,
        *,
        keep: int = KEPT_TASKS,
        grace: float = GRACE,
    ) -> None:
        self._store = store
        self._directory = directory
        self._keep = keep
        self._grace = grace
        self._wake = asyncio.Event()
        self._closed = False
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what the last server left, then remove what becomes too much."""
        self._work = asyncio.create_task(self._run(), name="retention")

    async def remove(self, task_id: str) -> bool:
        """Take an ended task out of all lists; its events and files follow in the background.

        False when there is no such task, or it has not ended.
        """
        begun = await self._store.write(lambda db: begin_removal(db, task_id))
        self._wake.set()
        return begun

    async def close(self) -> None:
        """End after the step under way."""
        self._closed = True
        self._wake.set()
        if self._work is not None:
            await self._work

    async def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                await self.sweep()
            except Exception:
                logger.exception("Old tasks can't be removed; this is tried again.")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _PAUSE)

    async def sweep(self) -> None:
        """Finish what was begun, and remove all tasks that are too many."""
        await self._finish()
        while not self._closed:
            ended_before = now_ms() - int(self._grace * 1000)
            excess = await self._store.read(
                partial(
                    excess_tasks, keep=self._keep, ended_before=ended_before, limit=_TASKS_AT_ONCE
                )
            )
            if not excess:
                return
            await asyncio.gather(*map(self.remove, excess))
            await self._finish()

    async def _finish(self) -> None:
        while not self._closed:
            removal = await self._store.read(next_removal)
            if removal is None:
                return
            await self._finish_one(removal)

    async def _finish_one(self, removal: Removal) -> None:
        task_id = removal.task_id
        while not self._closed:
            last, sessions = await self._store.read(
                lambda db: first_events(db, task_id, _EVENTS_AT_ONCE)
            )
            # Before the events that name them: a task that started over had several.
            await self._remove_directories(*sessions)
            if last is None:
                break
            await self._store.write(partial(delete_events, task_id=task_id, upto=last))
        else:
            return
        await self._remove_directories(removal.session_id, removal.uploads_session_id)
        await self._store.write(lambda db: end_removal(db, task_id))

    async def _remove_directories(self, *session_ids: str | None) -> None:
        for session_id in session_ids:
            if session_id is not None and not await self._holds_uploads(session_id):
                await asyncio.to_thread(self._directory.remove_session, session_id)

    async def _holds_uploads(self, session_id: str) -> bool:
        return await self._store.read(lambda db: holds_uploads(db, session_id))
