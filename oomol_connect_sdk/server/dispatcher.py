"""Which task runs when: the local dispatcher, in the server's own event loop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .runner import TaskRunner
from .store import Store

logger = logging.getLogger(__name__)


class LocalDispatcher:
    """Runs the tasks it is given, in order, at most ``max_tasks`` at once.

    ``max_tasks`` is four a CPU and at least eight unless given. ``new_runner`` makes the runner of
    a task id.
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
        self._waiting: deque[str] = deque()
        self._running: dict[str, _Run] = {}
        self._closed = False

    async def start(self) -> None:
        """Take up the tasks that had not ended when the last server did."""
        for task in await self._store.unfinished():
            self._waiting.append(task.id)
        self._fill()

    async def submit(self, task_id: str) -> None:
        """Run this stored task as soon as there is room."""
        self._waiting.append(task_id)
        self._fill()
        if task_id not in self._running:
            await self._store.mark_pending(task_id)

    async def stop(self, task_id: str) -> None:
        """End this task now; one that waits never starts, one that has ended is left alone."""
        run = self._running.get(task_id)
        if run is not None:
            run.runner.stop()
            await asyncio.shield(run.task)
        elif task_id in self._waiting:
            self._waiting.remove(task_id)
            await self._store.update_task(task_id, status="stopped")

    async def close(self) -> None:
        """End what runs, so that the next start takes it up again."""
        self._closed = True
        runs = list(self._running.values())
        for run in runs:
            run.runner.suspend()
        if runs:
            await asyncio.wait([run.task for run in runs])

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._max_tasks and not self._closed:
            self._run(self._waiting.popleft())

    def _run(self, task_id: str) -> None:
        runner = self._new_runner(task_id)
        task = asyncio.create_task(runner.run(), name=f"task {task_id}")
        self._running[task_id] = _Run(runner, task)
        task.add_done_callback(lambda done: self._finished(task_id, done))

    def _finished(self, task_id: str, done: asyncio.Task[None]) -> None:
        del self._running[task_id]
        if not done.cancelled() and done.exception() is not None:
            logger.error(
                "Task %s can't be stored; it is taken up again when the server is restarted.",
                task_id,
                exc_info=done.exception(),
            )
        self._fill()


@dataclass(frozen=True)
class _Run:
    runner: TaskRunner
    task: asyncio.Task[None]
