"""SQLite off the event loop: one thread that writes and groups commits, a few that read."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: The most writes that share one transaction.
_BATCH = 1_000


class StoreClosed(Exception):
    """The store was closed; nothing more is read or written."""


@dataclass(frozen=True)
class _Request:
    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    committed: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class _Outcome:
    request: _Request
    value: Any = None
    error: Exception | None = None


class WriterThread:
    """Runs writes in the order they come, all that wait in one transaction.

    A write's awaitable ends after the commit that holds it. At most ``max_waiting`` writes are
    under way; further callers wait for room. A write that fails takes back its own changes only.
    """

    def __init__(self, connection: sqlite3.Connection, *, max_waiting: int = 2_000) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(max_waiting)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        #: Transactions committed so far.
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run ``work`` in a transaction and return what it returned once that is on disk.

        Then ``committed`` is called with it on the event loop, in the order of the writes and
        also when the caller was cancelled meanwhile.
        """
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise StoreClosed("The store is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._requests.put(_Request(work, future, committed))
        return await future

    def close(self) -> None:
        """Commit what waits, then end the thread and close the connection."""
        if not self._closed:
            self._closed = True
            self._requests.put(None)
            self._thread.join()

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._take()
            if batch:
                outcomes = self._commit(batch)
                self._loop.call_soon_threadsafe(self._answer, outcomes)
        self._connection.close()

    def _take(self) -> tuple[list[_Request], bool]:
        """Wait for a request and take all that wait behind it; False when it is time to end."""
        batch: list[_Request] = []
        request = self._requests.get()
        while request is not None:
            batch.append(request)
            if len(batch) == _BATCH or self._requests.empty():
                return batch, True
            request = self._requests.get()
        return batch, False

    def _commit(self, batch: list[_Request]) -> list[_Outcome]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(request) for request in batch]
            self._connection.execute("COMMIT")
        except Exception as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return [_Outcome(request, error=error) for request in batch]
        self.commits += 1
        return outcomes

    def _attempt(self, request: _Request) -> _Outcome:
        self._connection.execute("SAVEPOINT attempt")
        try:
            outcome = _Outcome(request, request.work(self._connection))
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction: no write of this batch holds.
            self._connection.execute("ROLLBACK TO attempt")
            outcome = _Outcome(request, error=error)
        self._connection.execute("RELEASE attempt")
        return outcome

    def _answer(self, outcomes: Iterable[_Outcome]) -> None:
        for outcome in outcomes:
            self._room.release()
            committed = outcome.request.committed
            if committed is not None and outcome.error is None:
                committed(outcome.value)
            _resolve(outcome)


class ReaderThreads:
    """Runs reads on connections of their own, so that a long one delays nobody's write."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, count: int = 2) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._run, args=[connect()], name=f"store-reader-{number}", daemon=True
            )
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a connection that sees every write whose awaitable has ended."""
        if self._closed:
            raise StoreClosed("The store is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._requests.put(_Request(work, future))
        return await future

    def close(self) -> None:
        """Answer what waits, then end the threads and close their connections."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._requests.put(None)
            for thread in self._threads:
                thread.join()

    def _run(self, connection: sqlite3.Connection) -> None:
        while (request := self._requests.get()) is not None:
            try:
                outcome = _Outcome(request, request.work(connection))
            except Exception as error:
                outcome = _Outcome(request, error=error)
            self._loop.call_soon_threadsafe(_resolve, outcome)
        connection.close()


def _resolve(outcome: _Outcome) -> None:
    future = outcome.request.future
    if future.done():  # Its caller was cancelled meanwhile.
        return
    if outcome.error is None:
        future.set_result(outcome.value)
    else:
        future.set_exception(outcome.error)
