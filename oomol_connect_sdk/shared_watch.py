"""The async face's watch: all waits of a client share one event stream, or share their looks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import Any, ContextManager, Coroutine, Dict, Iterator, List, Mapping, Set, Tuple

from .errors import ApiError, BadAnswerError
from .event_stream import EarlyEvents, EventStream
from .events import ServerEvent
from .logs import LogReader, is_ended, row_order
from .task_api import TaskApi
from .task_lists import TaskLists
from .types import Task, TaskLog
from .watching import (
    LONGEST_LOOK,
    Demand,
    OutOfTimeError,
    Pace,
    WatchClosedError,
    fetch_rows,
)

#: Seconds between two looks at a task whose changes come by the event stream.
SAFETY_LOOK = 60.0

#: Seconds that waits which the end of the client cuts short get to stop their tasks.
FAREWELL = 4.0

#: Seconds within which looks count as due together.
_TOGETHER = 0.002


class SharedWatch:
    """Follows any number of tasks of one server, in each of the event loops that use it."""

    def __init__(self, api: TaskApi) -> None:
        self._api = api
        self._loops: Dict[asyncio.AbstractEventLoop, LoopWatch] = {}

    def follow(self, task_id: str, pace: Pace, demand: Demand) -> SharedFollow:
        """Begin to follow a task."""
        return self._here().follow(task_id, pace, demand)

    def creating(self) -> ContextManager[None]:
        """Keep what the stream says of a task that is being created until it is followed."""
        return self._here().creating()

    async def close(self) -> None:
        """Cut short the waits of this event loop and disconnect."""
        await self._here().close()

    def _here(self) -> LoopWatch:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            # What belonged to an event loop ended with it.
            living = {key: watch for key, watch in self._loops.items() if not key.is_closed()}
            self._loops = {**living, loop: LoopWatch(self._api, loop)}
        return self._loops[loop]


class LoopWatch:
    """Follows tasks in one event loop."""

    def __init__(self, api: TaskApi, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self._api = api
        self._loop = loop
        self._stream = EventStream(api.transport, self._dispatch, self._look_at_own)
        self._follows: Dict[str, List[SharedFollow]] = {}
        self._early = EarlyEvents(loop)
        self._tickets = itertools.count(1)
        self._due: List[Tuple[float, int, SharedFollow]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._works: Set[asyncio.Task[None]] = set()
        self._looking: Set[str] = set()
        self._lists = TaskLists()
        self._listing = False
        self._list_due: List[SharedFollow] = []

    @property
    def live(self) -> bool:
        """Whether changes of this client's tasks come by themselves."""
        return self._stream.live

    @property
    def streams_rows(self) -> bool:
        """Whether their log rows do, too, as long as the stream is live."""
        return self._stream.with_rows

    def follow(self, task_id: str, pace: Pace, demand: Demand) -> SharedFollow:
        """Begin to follow a task."""
        if demand.own and not self.closed:
            self._stream.start(with_rows=demand.keeps_rows)
        follow = SharedFollow(self, self._api, task_id, pace, demand)
        self._follows.setdefault(task_id, []).append(follow)
        for event in self._early.pop(task_id):
            follow.take(event)
        return follow

    def creating(self) -> ContextManager[None]:
        """Keep what the stream says of a task that is being created until it is followed."""
        return self._early.creating()

    def schedule(self, follow: SharedFollow, moment: float) -> None:
        """Look at the task of this wait at a moment, on the loop's clock, and not at another."""
        follow.due = moment
        if moment < follow.queued:
            follow.queued = moment
            heapq.heappush(self._due, (moment, next(self._tickets), follow))
            self._arm()

    def forget(self, follow: SharedFollow) -> None:
        """A wait is over."""
        follows = self._follows.get(follow.task_id, [])
        if follow in follows:
            follows.remove(follow)
        if not follows:
            self._follows.pop(follow.task_id, None)
        if not self._follows:
            self._due.clear()
            self._stream.idle()

    async def close(self) -> None:
        """Cut short the waits, give them the time to stop their tasks, and disconnect."""
        self.closed = True
        leaving = [follow for follow in self._every_follow() if follow.waiting]
        for follow in leaving:
            follow.fail(WatchClosedError())
        if leaving:
            await asyncio.wait([follow.left for follow in leaving], timeout=FAREWELL)
        if self._timer is not None:
            self._timer.cancel()
        works = list(self._works)
        for work in works:
            work.cancel()
        await asyncio.gather(self._stream.close(), *works, return_exceptions=True)

    def _arm(self) -> None:
        if not self._due:
            return
        moment = self._due[0][0]
        if self._timer is not None:
            if self._timer.when() <= moment:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._tick)

    def _tick(self) -> None:
        self._timer = None
        limit = self._loop.time() + _TOGETHER
        due = []
        while self._due and self._due[0][0] <= limit:
            moment, _, follow = heapq.heappop(self._due)
            if moment != follow.queued:
                continue  # A nearer look was scheduled after this one.
            follow.queued = math.inf
            if follow.waiting and follow.due <= limit:
                due.append(follow)
            elif follow.waiting:
                self.schedule(follow, follow.due)
        self._look(due)
        self._arm()

    def _look(self, due: List[SharedFollow]) -> None:
        if due and self._lists.pay(len(self._follows), self._loop.time()):
            self._list_due += due
            if not self._listing:
                self._listing = True
                self._start(self._look_at_list())
            return
        for task_id in {follow.task_id for follow in due} - self._looking:
            self._looking.add(task_id)
            self._start(self._look_at(task_id))

    def _look_at_own(self) -> None:
        """The stream broke: look at the tasks it told of at once."""
        for follow in list(self._every_follow()):
            if follow.own and follow.waiting:
                self.schedule(follow, self._loop.time())

    async def _look_at(self, task_id: str) -> None:
        try:
            task = await self._api.get(task_id, total=self._patience(task_id), attempts=1)
        except Exception as error:  # Also one of the caller's own token function.
            for follow in self._followers(task_id):
                follow.fail(error)
        else:
            for follow in self._followers(task_id):
                follow.see(task)
        finally:
            self._looking.discard(task_id)

    def _patience(self, task_id: str) -> float:
        remaining = [follow.remaining for follow in self._followers(task_id)]
        return min(LONGEST_LOOK, max(remaining, default=LONGEST_LOOK))

    async def _look_at_list(self) -> None:
        await asyncio.sleep(self._lists.pause(self._loop.time()))
        due, self._list_due = self._list_due, []
        started = self._loop.time()
        try:
            answer, size = await self._api.list(total=LONGEST_LOOK, attempts=1, out_of_turn=True)
        except Exception as error:  # Also one of the caller's own token function.
            self._list_failed(due, error)
        else:
            self._lists.took(started, self._loop.time(), size)
            self._see_list(due, answer["tasks"])
        finally:
            self._listing = False
        # Waits that came while the list was under way want a newer one.
        waiting, self._list_due = self._list_due, []
        self._look([follow for follow in waiting if follow.waiting])

    def _see_list(self, due: List[SharedFollow], rows: List[Any]) -> None:
        tasks = {row["id"]: row for row in rows if _is_task(row)}
        missing = [follow for follow in due if follow.task_id not in tasks]
        if 2 * len(missing) > len(due):
            # It shows only a page, or only some tasks.
            self._lists.failed(self._loop.time(), for_good=True)
        for follow in list(self._every_follow()):
            if follow.task_id in tasks:
                follow.see(tasks[follow.task_id])
        for task_id in {follow.task_id for follow in missing if follow.waiting} - self._looking:
            self._looking.add(task_id)
            self._start(self._look_at(task_id))

    def _list_failed(self, due: List[SharedFollow], error: Exception) -> None:
        for_good = isinstance(error, ApiError) and not error.transient
        self._lists.failed(self._loop.time(), for_good=for_good)
        if for_good:
            self._look([follow for follow in due if follow.waiting])
            return
        for follow in due:
            follow.fail(error)

    def _dispatch(self, event: ServerEvent) -> None:
        """Hand an event to those who follow its task; BadAnswerError when it is none."""
        value = event.json()
        if event.name == "task":
            task: Any = value.get("task")
            if not _is_task(task):
                raise BadAnswerError(f"the event stream sent no task: {event.data[:200]!r}")
            task_id = task["id"]
        else:
            task_id = str(value.get("task_id"))
            if event.name == "logs" and not _are_rows(value.get("logs")):
                raise BadAnswerError(f"the event stream sent no rows: {event.data[:200]!r}")
        follows = self._followers(task_id)
        for follow in follows:
            follow.take(event)
        if not follows:
            self._early.keep(task_id, event)

    def _followers(self, task_id: str) -> List[SharedFollow]:
        return list(self._follows.get(task_id, ()))

    def _every_follow(self) -> Iterator[SharedFollow]:
        return itertools.chain.from_iterable(self._follows.values())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)


class SharedFollow:
    """One wait's view of its task, fed by the watch."""

    def __init__(
        self, watch: LoopWatch, api: TaskApi, task_id: str, pace: Pace, demand: Demand
    ) -> None:
        self.task_id = task_id
        self.own = demand.own
        self.reader = LogReader()
        #: When to look next, and for when the watch has it in its queue.
        self.due = self.queued = math.inf
        #: Done when the view is closed.
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = watch
        self._api = api
        self._pace = pace
        self._demand = demand
        self._latest = demand.known
        self._news: Task | Exception | None = None
        self._future: asyncio.Future[None] | None = None
        # Rows come by themselves only for a task that was followed from its creation on.
        self._gets_rows = demand.fresh and demand.keeps_rows and watch.streams_rows
        self._rows: List[TaskLog] = []
        self._told_to_the_end = False

    @property
    def waiting(self) -> bool:
        """Whether somebody awaits `next` right now."""
        return self._future is not None and not self._future.done()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline of the wait."""
        return self._pace.deadline.remaining

    async def next(self) -> Task:
        """Return the task when it is time, or when it has changed."""
        remaining = self._pace.deadline.check()
        if self._watch.closed:
            raise WatchClosedError
        if self._news is None:
            await self._told(remaining)
        news, self._news = self._news, None
        if isinstance(news, Exception):
            raise news
        assert news is not None  # Whoever ends the pause brings news.
        return news

    async def new_rows(self, task: Task) -> List[TaskLog]:
        """Return what came of the log, and fetch what did not come by itself."""
        missing = is_ended(task) and not self._told_to_the_end
        if missing or not self._streamed_rows:
            # Rows that came before an error are told the next time.
            await fetch_rows(
                self._api,
                self.task_id,
                self.reader,
                deadline=self._pace.deadline,
                fresh=self._rows,
            )
            # More may have come by the stream meanwhile, and in between.
            self._rows.sort(key=row_order)
        rows, self._rows = self._rows, []
        return rows

    def close(self) -> None:
        """End the view."""
        self._watch.forget(self)
        if not self.left.done():
            self.left.set_result(None)

    def take(self, event: ServerEvent) -> None:
        """Take an event of the stream."""
        value = event.json()
        if event.name == "task":
            task: Task = value["task"]
            self._told_to_the_end = is_ended(task) and self._gets_rows
            self._see(task, changed=task != self._latest)
        elif event.name == "logs" and self._gets_rows:
            self._rows += self.reader.take(value["logs"])
            if self._demand.hears_rows and self._latest is not None:
                self._tell(self._latest)

    def see(self, task: Task) -> None:
        """Take the task as a look found it."""
        always = self._demand.every_look or (self._demand.hears_rows and not self._streamed_rows)
        self._see(task, changed=always or _state(task) != _state(self._latest))

    def fail(self, error: Exception) -> None:
        """Take the error of a look; without anybody waiting it does not matter."""
        if self.waiting:
            self._tell(error)

    @property
    def _streamed_rows(self) -> bool:
        return self._gets_rows and self._watch.live

    def _see(self, task: Task, *, changed: bool) -> None:
        if self._latest is not None and is_ended(self._latest):
            return
        self._latest = task
        if changed or is_ended(task):
            self._tell(task)
        elif self.waiting:
            self._watch.schedule(self, self._next_look())

    def _tell(self, news: Task | Exception) -> None:
        self._news = news
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def _told(self, remaining: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        self._watch.schedule(self, self._next_look())
        # asyncio.wait_for may swallow a cancellation that comes together with the news.
        end = None if remaining is None else loop.call_later(remaining, self.fail, OutOfTimeError())
        try:
            await self._future
        finally:
            self._future = None
            if end is not None:
                end.cancel()

    def _next_look(self) -> float:
        streamed = self.own and self._watch.live and not self._pace.hurried
        if streamed and (self._gets_rows or not self._demand.hears_rows):
            return self._pace.after(SAFETY_LOOK)
        return self._pace.next_look()


def _is_task(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("status"), str)
    )


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)


def _state(task: Any) -> Any:
    return None if task is None else (task["status"], task.get("updated_at"), task.get("progress"))
