"""The wait for one task: what it tells its caller, what it bears with, and how it ends."""

from __future__ import annotations

import logging
from typing import Awaitable, Callable, List, Tuple, TypeVar

from ._io import IO
from .errors import ApiError, OomolConnectError, TaskFailedError, TaskStoppedError, TimeoutError
from .logs import is_ended, reason_of
from .polling import Wait
from .task_api import TaskApi
from .types import Task, TaskLog
from .watching import (
    Deadline,
    Demand,
    OutOfTimeError,
    Pace,
    Watch,
    WatchClosedError,
    fetch_rows,
)

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
    """One wait for one task. Only what the server says of the task ends it well or badly.

    ``known`` is the task as the call that created it saw it; ``own`` says that this client created
    it; ``keep_logs`` reads the whole log in the end, ``hear_logs`` each row as soon as it comes.
    """

    def __init__(
        self,
        api: TaskApi,
        watch: Watch,
        task_id: str,
        options: Wait,
        *,
        known: Task | None = None,
        own: bool = False,
        keep_logs: bool = False,
        hear_logs: bool = False,
    ) -> None:
        self._api = api
        self._io: IO = api.transport.io
        self._task_id = task_id
        self._options = options
        self._keep_logs = keep_logs
        self._deadline = Deadline(self._io.now, options.timeout)
        self._pace = Pace(self._io.now, options, self._deadline, at_once=known is None)
        self._budget = ErrorBudget(self._io.now)
        self._task = known
        self._told: Task | None = None
        self._warned = False
        self._hears = hear_logs or options.on_log is not None
        demand = Demand(
            own=own or known is not None,
            fresh=known is not None,
            known=known,
            every_look=options.on_progress is not None,
            keeps_rows=keep_logs or self._hears,
            hears_rows=self._hears,
        )
        self._follow = watch.follow(task_id, self._pace, demand)

    async def completed(self) -> Task:
        """Wait until the task is over and return its last record.

        Raises TaskFailedError, TaskStoppedError, TimeoutError, or the ApiError of a server
        that refuses or can't be reached for two minutes on end. When the wait is cut short by
        anything else (cancellation, Ctrl-C, the end of the client, an error in a callback),
        ``on_cancel`` decides whether the task is stopped.
        """
        try:
            return await self._until_over()
        except OutOfTimeError as late:
            raise await self._timed_out() from late.__cause__
        except WatchClosedError:
            await self._cut_short()
            raise self._closed_error() from None
        except (OomolConnectError, GeneratorExit):
            raise
        except BaseException:
            await self._cut_short()
            raise
        finally:
            self._follow.close()

    @property
    def logs(self) -> List[TaskLog]:
        """The log rows read so far; with ``keep_logs`` the whole log once the wait is over."""
        return self._follow.reader.rows

    async def step(self) -> Tuple[Task, List[TaskLog]]:
        """Wait for the next sight of the task; return it with the log rows that are new.

        Raises TimeoutError, or the ApiError of a server that can't be borne with.
        """
        try:
            return await self._step()
        except OutOfTimeError as late:
            raise await self._timed_out() from late.__cause__
        except WatchClosedError:
            raise self._closed_error() from None

    def close(self) -> None:
        """End a wait that goes by steps."""
        self._follow.close()

    async def stop(self) -> bool:
        """Ask the server to stop the task; return whether it agreed in time."""
        try:
            await self._api.stop(self._task_id, total=STOP_GRACE, attempts=1)
        except OomolConnectError as error:
            _logger.warning("task %s could not be stopped: %s", self._task_id, error)
            return False
        return True

    async def _until_over(self) -> Task:
        while True:
            task, rows = await self._step()
            for row in rows:
                if self._options.on_log is not None:
                    await self._io.call(self._options.on_log, row)
            if self._options.on_progress is not None and task is not self._told:
                self._told = task
                await self._io.call(self._options.on_progress, task)
            if is_ended(task):
                return await self._ended(task)

    async def _step(self) -> Tuple[Task, List[TaskLog]]:
        self._deadline.check()
        task = await self._persistently(self._next)
        rows: List[TaskLog] = []
        if self._hears or (self._keep_logs and is_ended(task)):
            rows = await self._persistently(lambda: self._follow.new_rows(task))
        return task, rows

    async def _next(self) -> Task:
        if self._task is not None and is_ended(self._task):
            return self._task
        task = await self._follow.next()
        if task["status"] not in _KNOWN_STATUSES and not self._warned:
            self._warned = True
            _logger.warning("task %s has the unknown status %r", self._task_id, task["status"])
        self._task = task
        return task

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
            logs=self.logs,
        )

    async def _reason(self, task: Task) -> Tuple[str | None, str | None]:
        if "error" not in task:
            try:
                reader = self._follow.reader
                await fetch_rows(self._api, self._task_id, reader, deadline=self._deadline)
            except (ApiError, OutOfTimeError) as error:
                # The failure is what matters; its reason is then only said to be unknown.
                _logger.warning("the log of task %s can't be read: %s", self._task_id, error)
        return reason_of(task, self.logs)

    async def _persistently(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """Ask until an answer comes, the trouble lasts too long, or the time is over."""
        while True:
            try:
                value = await ask()
            except ApiError as error:
                pause = self._budget.spend(error)
                now = self._io.now()
                await self._io.sleep(max(0.0, self._deadline.clamp(now + pause) - now))
                if self._deadline.remaining <= 0:
                    raise OutOfTimeError from error
                self._pace.hurry()
            else:
                self._budget.reset()
                return value

    async def _cut_short(self) -> None:
        if self._options.on_cancel == "stop":
            await self.stop()

    def _closed_error(self) -> OomolConnectError:
        return OomolConnectError(f"the client was closed before task {self._task_id} was over")

    async def _timed_out(self) -> TimeoutError:
        stopped = self._options.on_timeout == "stop" and await self.stop()
        fate = "it was stopped" if stopped else "it was left running"
        last = f"last seen {self._task['status']}" if self._task else "never seen"
        return TimeoutError(
            f"task {self._task_id} was not over after {self._options.timeout:g} s ({last}); {fate}",
            self._task_id,
            self._task,
            stopped=stopped,
        )


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
