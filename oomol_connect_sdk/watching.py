"""How a wait learns of its task: the pace of its looks, and the direct way, one task at a time."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Callable, ContextManager, List

from typing_extensions import Protocol

from .logs import LogReader
from .polling import Wait
from .task_api import TaskApi
from .types import Task, TaskLog

#: The longest that a server is asked to hold a request, in seconds.
LONGEST_HOLD = 25.0

#: Seconds after which the answer to a look is given up, even while bytes still come.
LONGEST_LOOK = 60.0

# A system's clock takes no pause of years.
_LONGEST_PAUSE = 86400.0


class OutOfTimeError(Exception):
    """The deadline of a wait passed."""


class WatchClosedError(Exception):
    """The client was closed while somebody waited."""


class Deadline:
    """One monotonic point in time that clamps every pause and request of a wait.

    On the blocking face one request may outlast it where it goes through an httpx client that the
    caller brought, or through a proxy: httpx's patience begins anew with every byte, so a server
    that sends the *head* of an answer byte by byte is waited for until that is whole.
    """

    def __init__(self, now: Callable[[], float], seconds: float | None) -> None:
        self._now = now
        self.end = math.inf if seconds is None else now() + seconds
        #: When to look for the last time, so that the answer still comes before the end.
        self.last_look = self.end - min(0.5, 0.1 * (seconds or 0.0))

    @property
    def remaining(self) -> float:
        """Seconds left: infinite without a timeout, never negative."""
        return max(0.0, self.end - self._now())

    def check(self) -> float | None:
        """Return the seconds left, None for no limit; OutOfTimeError when there are none."""
        remaining = self.remaining
        if remaining <= 0:
            raise OutOfTimeError
        return None if math.isinf(remaining) else remaining

    def clamp(self, moment: float) -> float:
        """Return the moment, or the last look or the end when they come first."""
        return min(moment, self.last_look if self._now() < self.last_look else self.end)


class Pace:
    """When to look at one task: after the pauses that its wait asked for."""

    def __init__(
        self, now: Callable[[], float], options: Wait, deadline: Deadline, *, at_once: bool
    ) -> None:
        self.deadline = deadline
        self._now = now
        self._pause = options.pause
        self._started = now()
        self._attempt = 0
        self._at_once = at_once

    @property
    def hurried(self) -> bool:
        """Whether the next look comes at once."""
        return self._at_once

    def hurry(self) -> None:
        """Have the next look come at once."""
        self._at_once = True

    def after(self, seconds: float) -> float:
        """Return the moment so many seconds from now, or the last one before the deadline."""
        return self.deadline.clamp(self._now() + seconds)

    def next_look(self) -> float:
        """Return when to look next, on the clock of the face."""
        now = self._now()
        if self._at_once:
            self._at_once = False
            return now
        pause = min(self._pause(self._attempt, now - self._started), _LONGEST_PAUSE)
        self._attempt += 1
        return self.deadline.clamp(now + pause)


@dataclass(frozen=True)
class Demand:
    """What a wait wants to learn of its task.

    ``own``: this client created the task. ``fresh``: it did so just now, and nothing was missed.
    ``known``: the task as it was last seen. ``every_look``: tell of each look, changed or not.
    ``keeps_rows``: the whole log is wanted in the end; ``hears_rows``: each row when it comes.
    """

    own: bool = False
    fresh: bool = False
    known: Task | None = None
    every_look: bool = False
    keeps_rows: bool = False
    hears_rows: bool = False


class Follow(Protocol):
    """One wait's view of its task."""

    reader: LogReader

    async def next(self) -> Task:
        """Return the task when it is time, or when it is known to have changed.

        Raises OutOfTimeError, WatchClosedError, or the error of a look that failed.
        """
        ...

    async def new_rows(self, task: Task) -> List[TaskLog]:
        """Return the log rows since the last call; all that are left when the task is over."""
        ...

    def close(self) -> None:
        """End the view."""
        ...


class Watch(Protocol):
    """Where waits get their views from; one a client."""

    def follow(self, task_id: str, pace: Pace, demand: Demand) -> Follow:
        """Begin to follow a task."""
        ...

    def creating(self) -> ContextManager[None]:
        """Enclose the creation of a task that is followed at once."""
        ...

    async def close(self) -> None:
        """Cut short the waits and end what runs in the background."""
        ...


class DirectWatch:
    """Each wait asks for its own task: a held request where the server offers it, or a look."""

    def __init__(self, api: TaskApi) -> None:
        self._api = api

    def follow(self, task_id: str, pace: Pace, demand: Demand) -> Follow:
        """Begin to follow a task."""
        return DirectFollow(self._api, task_id, pace, hears_rows=demand.hears_rows)

    def creating(self) -> ContextManager[None]:
        """Enclose the creation of a task: nothing is to be done here."""
        return nullcontext()

    async def close(self) -> None:
        """Nothing runs in the background."""


class DirectFollow:
    """Looks at one task by itself."""

    def __init__(self, api: TaskApi, task_id: str, pace: Pace, *, hears_rows: bool) -> None:
        self.reader = LogReader()
        self._api = api
        self._io = api.transport.io
        self._task_id = task_id
        self._pace = pace
        self._hears_rows = hears_rows
        self._tag: str | None = None
        self._last: Task | None = None
        self._waiting_rows: List[TaskLog] = []

    async def next(self) -> Task:
        """Return the task after the next pause, or as soon as the server says it changed."""
        moment = self._pace.next_look()
        task = await self._hold() if moment > self._io.now() else None
        if task is None or task == self._last:
            # The pause is kept also when a server says that it holds requests and does not.
            await self._io.sleep(max(0.0, moment - self._io.now()))
            task = await self._look()
        self._last = task
        return task

    async def new_rows(self, task: Task) -> List[TaskLog]:
        """Fetch what is new in the log."""
        # Rows that came before an error are told the next time.
        await fetch_rows(
            self._api,
            self._task_id,
            self.reader,
            deadline=self._pace.deadline,
            fresh=self._waiting_rows,
        )
        rows, self._waiting_rows = self._waiting_rows, []
        return rows

    def close(self) -> None:
        """Nothing is held open between two looks."""

    async def _hold(self) -> Task | None:
        """Have the server answer when there is something new; None when nothing was."""
        # What is left goes to looks: the server holds whole seconds.
        seconds = min(LONGEST_HOLD, self._pace.deadline.remaining - 1)
        if self._tag is None or seconds < 1:
            return None
        total = self._pace.deadline.check()
        if self._hears_rows:
            rows = await self._api.logs(
                self._task_id, after=self.reader.last_id, hold=seconds, total=total, attempts=1
            )
            self._waiting_rows += self.reader.take(rows)
            return await self._look() if self._waiting_rows else None
        task, self._tag = await self._api.look(
            self._task_id, total=total, hold=seconds, unless=self._tag
        )
        return task

    async def _look(self) -> Task:
        self._pace.deadline.check()
        total = min(LONGEST_LOOK, self._pace.deadline.remaining)
        task, self._tag = await self._api.look(self._task_id, total=total)
        assert task is not None  # Only a held request may be answered without the task.
        return task


async def fetch_rows(
    api: TaskApi,
    task_id: str,
    reader: LogReader,
    *,
    attempts: int | None = 1,
    deadline: Deadline | None = None,
    fresh: List[TaskLog] | None = None,
) -> None:
    """Fetch the log from where the reader is, or all of it where the server has no cursor.

    Rows that are new to the reader are added to ``fresh`` as they come, also when an error
    follows. Raises OutOfTimeError when it takes longer than the deadline allows.
    """
    while True:
        total = deadline.check() if deadline else None
        rows = await api.logs(task_id, after=reader.last_id, total=total, attempts=attempts)
        new = reader.take(rows)
        if fresh is not None:
            fresh += new
        if not new or not api.pages_logs or len(rows) < api.LOG_PAGE:
            return
