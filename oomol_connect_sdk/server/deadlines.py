"""Waking up when the deadline of a task has passed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .records import now_ms

logger = logging.getLogger(__name__)

#: Seconds of the longest sleep: a clock that was set is noticed within that time.
_LONGEST_SLEEP = 60.0


class Deadlines:
    """Calls ``passed`` with the id of every task whose deadline is over."""

    def __init__(self, passed: Callable[[str], Awaitable[None]]) -> None:
        self._passed = passed
        self._sleeping: dict[str, asyncio.TimerHandle] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def add(self, task_id: str, deadline: int) -> None:
        """Watch the deadline of a task, in Unix milliseconds."""
        left = (deadline - now_ms()) / 1000
        if left <= 0:
            self._sleeping.pop(task_id, None)
            self._call(task_id)
        else:
            loop = asyncio.get_running_loop()
            self._sleeping[task_id] = loop.call_later(
                min(left, _LONGEST_SLEEP), self.add, task_id, deadline
            )

    def remove(self, task_id: str) -> None:
        """Forget a task; one that has no deadline is left alone."""
        sleeping = self._sleeping.pop(task_id, None)
        if sleeping is not None:
            sleeping.cancel()

    async def close(self) -> None:
        """Forget all, and wait for the calls under way."""
        for sleeping in self._sleeping.values():
            sleeping.cancel()
        self._sleeping.clear()
        if self._calls:
            await asyncio.wait(self._calls)

    def _call(self, task_id: str) -> None:
        call = asyncio.create_task(self._call_and_log(task_id))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call_and_log(self, task_id: str) -> None:
        try:
            await self._passed(task_id)
        except Exception:
            logger.exception("Task %s can't be stopped at its deadline.", task_id)
