"""The async face's connection to the server's event stream: kept open, resumed, given up."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .answers import endpoint
from .errors import ApiError, OomolConnectError
from .events import EventDecoder, ServerEvent
from .transport import Transport

#: Seconds without a byte after which the stream counts as broken; its heartbeat is 15.
SILENCE = 40.0

#: Seconds that the stream stays open for the next wait after the last one.
LINGER = 5.0

#: Seconds that a connection must last to be connected again at once when it breaks.
STABLE = 10.0

_logger = logging.getLogger("oomol_connect_sdk")


class EventStream:
    """The stream of what happens to the tasks that one client created.

    ``deliver`` gets every event once and in order, also over broken connections; ``lost`` is
    called when the stream breaks. One that the server refuses is not asked for again.
    """

    def __init__(
        self,
        transport: Transport,
        deliver: Callable[[ServerEvent], None],
        lost: Callable[[], None],
    ) -> None:
        #: Whether the server is connected, so that changes come by themselves.
        self.live = False
        #: Whether log rows come as well.
        self.with_rows = False
        self._transport = transport
        self._deliver = deliver
        self._lost = lost
        self._refused = False
        self._last_id = ""
        self._task: asyncio.Task[None] | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    def start(self, *, with_rows: bool) -> None:
        """Connect unless that is done; rows come only if the first wait asked for them."""
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        if self._task is None and not self._refused and "events" in self._transport.features:
            self.with_rows = with_rows
            self._task = asyncio.get_running_loop().create_task(self._run())

    def idle(self) -> None:
        """Nobody waits any more: disconnect in a moment, unless somebody does again."""
        if self._task is not None and self._goodbye is None:
            self._goodbye = asyncio.get_running_loop().call_later(LINGER, self.stop)

    def stop(self) -> None:
        """Disconnect."""
        task, self._task = self._task, None
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        self.live = self.with_rows = False
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Disconnect and wait until that is done."""
        task = self._task
        self.stop()
        if task is not None:
            await asyncio.wait({task})

    async def _run(self) -> None:
        failures = 0
        while not self._refused:
            began = self._transport.io.now()
            try:
                await self._read()
            except ApiError as error:
                self._refused = not error.transient
            except Exception as error:
                # The waits do without; what is wrong in general they learn from their own looks.
                _logger.warning("no event stream, tasks are polled instead: %s", error)
                self._refused = True
            self.live = False
            self._lost()
            lasted = self._transport.io.now() - began
            failures = 0 if lasted >= STABLE else failures + 1
            await asyncio.sleep(min(10.0, 0.05 * 2 ** min(failures, 10)))

    async def _read(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        params: Any = {"client": self._transport.client_id}
        if not self.with_rows:
            params["logs"] = "0"
        decoder = EventDecoder()
        async with self._transport.stream(
            endpoint("v1", "events"),
            params=params,
            headers=headers,
            timeout=SILENCE,
            out_of_turn=True,
        ) as streamed:
            kind = streamed.headers.get("content-type", "no content type")
            if not kind.lower().startswith("text/event-stream"):
                raise OomolConnectError(f"the server answered {kind} instead of events")
            async for chunk in streamed.chunks:
                # Not before: a proxy may let the head through and keep back what follows.
                self.live = True
                for event in decoder.feed(chunk):
                    self._take(event)

    def _take(self, event: ServerEvent) -> None:
        # An event that can't be read is not asked for again.
        if event.id.isascii() and event.id.isprintable():
            self._last_id = event.id or self._last_id
        self._deliver(event)


class EarlyEvents:
    """Events of tasks that nobody follows yet, kept while tasks are being created."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._creations: Dict[object, float] = {}
        self._events: Dict[str, Tuple[float, List[ServerEvent]]] = {}

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Enclose the creation of a task."""
        creation = object()
        self._creations[creation] = self._loop.time()
        try:
            yield
        finally:
            del self._creations[creation]
            self._clear()

    def keep(self, task_id: str, event: ServerEvent) -> None:
        """Keep an event if its task may be one that is being created."""
        if self._creations:
            self._events.setdefault(task_id, (self._loop.time(), []))[1].append(event)

    def pop(self, task_id: str) -> List[ServerEvent]:
        """Return what was kept of a task."""
        return self._events.pop(task_id, (0.0, []))[1]

    def _clear(self) -> None:
        """Drop the tasks that are older than all creations under way."""
        # Both are in the order of time.
        oldest = next(iter(self._creations.values()), math.inf)
        while self._events:
            task_id, (first, _) = next(iter(self._events.items()))
            if first >= oldest:
                return
            del self._events[task_id]
