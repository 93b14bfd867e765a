"""Many tasks at once: limits, order, and one item's error that is only that item's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import (
    Any,
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    List,
    Sequence,
    Tuple,
)

from .types import CreateTaskRequest, RunResult

#: Tasks that a batch of the async client has under way at once, unless told otherwise.
ASYNC_LIMIT = 100

#: The same for the blocking client, which needs a thread for each.
THREAD_LIMIT = 16


@dataclass(frozen=True)
class BatchItem:
    """What became of one request of a batch.

    ``index`` is its place among the requests, ``custom_id`` the caller's own name for it. Either
    ``result`` or ``error`` is None.
    """

    index: int
    custom_id: str | None
    result: RunResult | None = None
    error: Exception | None = None

    def value(self) -> Any:
        """Return the values the task gave; raises its error when it failed."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result["result"]


Entry = Tuple[int, CreateTaskRequest]
OnItem = Callable[[BatchItem, int, int], Any]


def entries_of(requests: Iterable[CreateTaskRequest]) -> List[Entry]:
    """Number the requests and put those with the highest ``priority`` first.

    Raises TypeError for a request that is no mapping and for a priority that is no number.
    """
    entries = list(enumerate(requests))
    for index, request in entries:
        if not isinstance(request, Mapping):
            raise TypeError(f"request {index} of the batch must be a mapping, not {request!r}")
        priority = request.get("priority")
        if not isinstance(priority, (int, type(None))):
            raise TypeError(f"the priority of request {index} must be a number, not {priority!r}")
    return sorted(entries, key=lambda entry: -(entry[1].get("priority") or 0))


def limit_of(limit: int | None, default: int) -> int:
    """Return how many tasks may be under way; ValueError for an unusable number."""
    if limit is None:
        return default
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a number of tasks, 1 or more, not {limit!r}")
    return limit


async def run_concurrently(
    run: Callable[[CreateTaskRequest], Awaitable[RunResult]], entries: Sequence[Entry], limit: int
) -> AsyncGenerator[BatchItem, None]:
    """Run the entries in the event loop and give each as it ends.

    When the iteration is given up, what is under way is cancelled.
    """
    import asyncio

    done: asyncio.Queue[BatchItem | BaseException] = asyncio.Queue()
    waiting = iter(entries)

    async def work() -> None:
        for index, request in waiting:
            try:
                item = _item(index, request, result=await run(request))
            except Exception as error:
                item = _item(index, request, error=error)
            except BaseException as error:
                # Whoever takes the items would wait for this one for ever.
                done.put_nowait(error)
                raise
            done.put_nowait(item)

    workers = [asyncio.ensure_future(work()) for _ in range(min(limit, len(entries)))]
    try:
        for _ in entries:
            yield _unless_cut_short(await done.get())
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def run_in_threads(
    run: Callable[[CreateTaskRequest], RunResult], entries: Sequence[Entry], limit: int
) -> Iterator[BatchItem]:
    """Run the entries in threads and give each as it ends.

    When the iteration is given up, what is under way goes on to its end, and no more is begun.
    """
    done: queue.Queue[BatchItem | BaseException] = queue.Queue()
    waiting = iter(entries)
    lock = threading.Lock()
    given_up = threading.Event()

    def work() -> None:
        while not given_up.is_set():
            with lock:
                entry = next(waiting, None)
            if entry is None:
                return
            try:
                item = _item(*entry, result=run(entry[1]))
            except Exception as error:
                item = _item(*entry, error=error)
            except BaseException as error:
                done.put(error)
                return
            done.put(item)

    threads = [
        threading.Thread(target=work, name=f"batch-{number}", daemon=True)
        for number in range(min(limit, len(entries)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in entries:
            yield _unless_cut_short(done.get())
    finally:
        given_up.set()


def _unless_cut_short(outcome: BatchItem | BaseException) -> BatchItem:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _item(index: int, request: CreateTaskRequest, **outcome: Any) -> BatchItem:
    return BatchItem(index, request.get("custom_id"), **outcome)
