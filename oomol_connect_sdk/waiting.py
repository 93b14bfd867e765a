"""The wait for one task: looks, callbacks, deadline, errors on the way, and how it ends."""

from __future__ import annotations

import logging
import math
from typing import Awaitable, Callable, List, Tuple, TypeVar

from ._io import IO
from .errors import ApiError, OomolConnectError, TaskFailedError, TaskStoppedError, TimeoutError
from .logs import LogReader, is_ended, reason_of
from .polling import Wait
from .task_api import TaskApi
from .types import Task, TaskLog

#: How long a wait bears with a server that can't be reached, in seconds without one answer.
ERROR_BUDGET = 120.0

#: How often in a row a wait is told that the task does not exist before it believes it.
NOT_FOUND_LIMIT = 3

#: Seconds the server gets to answer the request that stops a task nobody waits for any more.
STOP_GRACE = 3.0

_KNOWN_STATUSES = ("created", "pending", "running", "completed", "failed", "stopped")

_logger = logging.getLogger("oomol_connect_sdk")

Value = TypeVar("Value")


class TaskWait:
    """One wait for one task. Only what the server says of the task ends it well or badly."""

    def __init__(
        self, api: TaskApi, task_id: str, options: Wait, *, keep_logs: bool = False
    ) -> None:
        self._api = api
        self._io: IO = api.transport.io
        self._task_id = task_id
        self._options = options
        self._keep_logs = keep_logs
        self._deadline = Deadline(self._io.now, options.timeout)
        self._started = self._io.now()
        self._budget = ErrorBudget(self._io.now)
        self._task: Task | None = None
        self._warned = False
        self._reader = LogReader(lambda: api.logs(task_id, attempts=1))

    async def completed(self) -> Task:
        """Wait until the task is over and return its last record.

        Raises TaskFailedError, TaskStoppedError, TimeoutError, or the ApiError of a server
        that refuses or can't be reached for two minutes on end. When the wait is cut short by
        anything else (cancellation, Ctrl-C, an error in a callback), ``on_cancel`` decides
        whether the task is stopped.
        """
        try:
            return await self._until_over()
        except _OutOfTimeError as late:
            raise await self._timed_out() from late.__cause__
        except (OomolConnectError, GeneratorExit):
            raise
        except BaseException:
            if self._options.on_cancel == "stop":
                await self._stop()
            raise

    @property
    def logs(self) -> List[TaskLog]:
        """The log rows read so far; with ``keep_logs`` the whole log once the wait is over."""
        return self._reader.rows

    async def _until_over(self) -> Task:
        attempt = 0
        while True:
            task = await self._persistently(self._look)
            await self._tell(task)
            if is_ended(task):
                return await self._ended(task)
            await self._pause(self._options.pause(attempt, self._io.now() - self._started))
            attempt += 1

    async def _look(self) -> Task:
        remaining = self._deadline.remaining
        if remaining <= 0:
            raise _OutOfTimeError
        bound = None if math.isinf(remaining) else remaining
        self._task = await self._api.get(self._task_id, total=bound, attempts=1)
        return self._task

    async def _tell(self, task: Task) -> None:
        if task["status"] not in _KNOWN_STATUSES and not self._warned:
            self._warned = True
            _logger.warning("task %s has the unknown status %r", self._task_id, task["status"])
        if self._options.on_log is not None or (self._keep_logs and is_ended(task)):
            for row in await self._persistently(self._reader.new_rows):
                if self._options.on_log is not None:
                    await self._io.call(self._options.on_log, row)
        if self._options.on_progress is not None:
            await self._io.call(self._options.on_progress, task)

    async def _ended(self, task: Task) -> Task:
        if task["status"] == "completed":
            return task
        if task["status"] == "stopped":
            raise TaskStoppedError(f"task {self._task_id} was stopped", self._task_id, task)
        reason, node_id = await self._reason(task)
        place = f" at node {node_id}" if node_id else ""
        ending = "" if task["status"] == "failed" else f" with status {task['status']!r}"
        raise TaskFailedError(
            f"task {self._task_id} failed{place}{ending}: {reason or 'the server gave no reason'}",
            self._task_id,
            task,
            reason=reason,
            node_id=node_id,
            logs=self._reader.rows,
        )

    async def _reason(self, task: Task) -> Tuple[str | None, str | None]:
        if "error" not in task:
            try:
                await self._reader.new_rows()
            except ApiError as error:
                # The failure is what matters; its reason is then only said to be unknown.
                _logger.warning("the log of task %s can't be read: %s", self._task_id, error)
        return reason_of(task, self._reader.rows)

    async def _persistently(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """Ask until an answer comes, the trouble lasts too long, or the time is over."""
        while True:
            try:
                value = await ask()
            except ApiError as error:
                await self._pause(self._budget.spend(error), because=error)
            else:
                self._budget.reset()
                return value

    async def _pause(self, seconds: float, because: ApiError | None = None) -> None:
        """Sleep, but wake for a last look before the deadline; after that, time is over."""
        remaining = self._deadline.remaining
        if remaining <= 0:
            raise _OutOfTimeError from because
        last_look = min(0.5, 0.1 * (self._options.timeout or 0.0))
        before_last_look = remaining - last_look
        await self._io.sleep(min(seconds, before_last_look if before_last_look > 0 else remaining))

    async def _timed_out(self) -> TimeoutError:
        stopped = self._options.on_timeout == "stop" and await self._stop()
        fate = "it was stopped" if stopped else "it was left running"
        last = f"last seen {self._task['status']}" if self._task else "never seen"
        return TimeoutError(
            f"task {self._task_id} was not over after {self._options.timeout:g} s ({last}); {fate}",
            self._task_id,
            self._task,
            stopped=stopped,
        )

    async def _stop(self) -> bool:
        try:
            await self._api.stop(self._task_id, total=STOP_GRACE, attempts=1)
        except ApiError as error:
            _logger.warning("task %s could not be stopped: %s", self._task_id, error)
            return False
        return True


class Deadline:
    """One monotonic point in time that clamps every pause and request of a wait."""

    def __init__(self, now: Callable[[], float], seconds: float | None) -> None:
        self._now = now
        self._end = math.inf if seconds is None else now() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left: infinite without a timeout, never negative."""
        return max(0.0, self._end - self._now())


class ErrorBudget:
    """How much trouble a wait bears before it fails: any good answer wipes it clean."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failing_since: float | None = None
        self._errors = 0
        self._not_found = 0

    def reset(self) -> None:
        """Forget the trouble: an answer came."""
        self._failing_since = None
        self._errors = 0
        self._not_found = 0

    def spend(self, error: ApiError) -> float:
        """Return the pause before asking again, in seconds, or raise the error when it is final."""
        self._errors += 1
        self._not_found = self._not_found + 1 if error.status == 404 else 0
        if self._failing_since is None:
            self._failing_since = self._now()
        bearable = error.transient or 0 < self._not_found < NOT_FOUND_LIMIT
        if not bearable or self._now() - self._failing_since >= ERROR_BUDGET:
            raise error
        pause: float = min(5.0, 0.1 * 2 ** min(self._errors, 10))
        return max(pause, min(error.retry_after or 0.0, 60.0))


class _OutOfTimeError(Exception):
    """The deadline passed while the server could not be asked."""
