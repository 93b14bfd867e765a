"""Which task runs when: the local dispatcher, in the server's own event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .deadlines import Deadlines
from .runner import TaskRunner
from .store import SERVER, JournalEntry, Store, TaskRecord, now_ms

logger = logging.getLogger(__name__)


class LocalDispatcher:
    """Runs the tasks it is given, at most ``max_tasks`` at once, and stops them at their deadlines.

    Of those that wait the one with the highest priority starts first, and of these the one that
    came first. ``max_tasks`` is four a CPU and at least eight unless given. ``new_runner`` makes
    the runner of a task id.
    """

    def __init__(
        self,
        store: Store,
        new_runner: Callable[[str], TaskRunner],
        *,
        max_tasks: int | None = None,
    ) -> None:
        self._store = store
        self._new_runner = new_runner
        self._max_tasks = max_tasks or max(8, 4 * (os.cpu_count() or 1))
        self._waiting = _Waiting()
        self._running: dict[str, _Run] = {}
        self._deadlines = Deadlines(self._stop_late)
        self._closed = False

    async def start(self) -> None:
        """Take up the tasks that had not ended when the last server did."""
        for task in await self._store.unfinished():
            self._add(task)
        self._fill()

    async def submit(self, task: TaskRecord) -> None:
        """Run this stored task as soon as there is room."""
        self._add(task)
        self._fill()
        if task.id in self._waiting:
            await self._store.mark_pending(task.id)

    async def stop(self, task_id: str) -> None:
        """End this task now; one that waits never starts, one that has ended is left alone."""
        run = self._running.get(task_id)
        if run is not None:
            run.runner.stop()
            await asyncio.shield(run.task)
        elif self._waiting.remove(task_id):
            self._deadlines.remove(task_id)
            await self._store.update_task(task_id, status="stopped")

    async def settled(self, task_id: str) -> None:
        """Wait until a task that has ended leaves no process or write under way."""
        run = self._running.get(task_id)
        if run is not None:
            await asyncio.wait([run.task])

    async def close(self) -> None:
        """End what runs, so that the next start takes it up again."""
        self._closed = True
        runs = list(self._running.values())
        for run in runs:
            run.runner.suspend()
        if runs:
            await asyncio.wait([run.task for run in runs])
        await self._deadlines.close()

    def _add(self, task: TaskRecord) -> None:
        if task.deadline is None or task.deadline > now_ms():
            self._waiting.add(task.id, task.priority or 0)
        else:
            self._waiting.hold(task.id)
        if task.deadline is not None:
            self._deadlines.add(task.id, task.deadline)

    def _fill(self) -> None:
        while len(self._running) < self._max_tasks and not self._closed:
            task_id = self._waiting.pop()
            if task_id is None:
                return
            self._run(task_id)

    def _run(self, task_id: str) -> None:
        runner = self._new_runner(task_id)
        task = asyncio.create_task(runner.run(), name=f"task {task_id}")
        self._running[task_id] = _Run(runner, task)
        task.add_done_callback(lambda done: self._finished(task_id, done))

    def _finished(self, task_id: str, done: asyncio.Task[None]) -> None:
        del self._running[task_id]
        self._deadlines.remove(task_id)
        if not done.cancelled() and done.exception() is not None:
            logger.error(
                "Task %s can't be stored; it is taken up again when the server is restarted.",
                task_id,
                exc_info=done.exception(),
            )
        self._fill()

    async def _stop_late(self, task_id: str) -> None:
        task = await self._store.task(task_id)
        if task is None or task.ended:
            return
        if self._waiting.remove(task_id):
            entry, error = _lateness(task, "before it could start")
            changes = {"status": "stopped", "error": error}
            await self._store.append_events(task_id, task.session_id, [entry], changes)
        else:
            entry, error = _lateness(task, "while it ran")
            await self._store.give_stop_reason(task_id, task.session_id, entry, error)
            await self.stop(task_id)


@dataclass(frozen=True)
class _Run:
    runner: TaskRunner
    task: asyncio.Task[None]


class _Waiting:
    """Ids of the tasks that wait: the highest priority first, then the longest wait."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._order: list[tuple[int, int, str]] = []
        self._counter = itertools.count()

    def add(self, task_id: str, priority: int) -> None:
        self._ids.add(task_id)
        heapq.heappush(self._order, (-priority, next(self._counter), task_id))

    def hold(self, task_id: str) -> None:
        """Add a task that must not start."""
        self._ids.add(task_id)

    def remove(self, task_id: str) -> bool:
        """Take a task out; False when it does not wait."""
        waits = task_id in self._ids
        self._ids.discard(task_id)
        return waits

    def pop(self) -> str | None:
        """Take out the task whose turn it is; None when there is none."""
        while self._order:
            task_id = heapq.heappop(self._order)[2]
            if self.remove(task_id):
                return task_id
        return None

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._ids


def _lateness(task: TaskRecord, when: str) -> tuple[JournalEntry, dict[str, Any]]:
    """Return the event and the error of a task whose deadline passed."""
    message = f"The task was stopped: its deadline passed {when}."
    event = {
        "type": "BlockWarning",
        "session_id": task.session_id,
        "stacks": [],
        "warning": message,
    }
    return JournalEntry(event, SERVER), {"message": message, "nodePath": []}
