"""What differs between the asynchronous and the blocking face: time, pauses and callbacks.

The core of the package is written once, as coroutines that never import asyncio. On the async
face they run in the user's event loop; on the blocking face nothing they await ever suspends,
so `drive` runs them to their end with one ``send``.
"""

from __future__ import annotations

import functools
import inspect
import time
from contextlib import asynccontextmanager
from typing import Any, AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, TypeVar

from typing_extensions import Protocol

Result = TypeVar("Result")
Item = TypeVar("Item")


class IO(Protocol):
    """Time, pauses and callbacks of one face."""

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        ...

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call a user's callback and return what it gave."""
        ...

    async def complete(
        self, work: Coroutine[Any, Any, Result], undo: Callable[[Result], Any], grace: float
    ) -> Result:
        """Do work that must not be left half done.

        When the caller is cancelled meanwhile, the work gets ``grace`` seconds to end, and what
        it gave is handed to ``undo`` before the cancellation goes on.
        """
        ...

    async def offload(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call what may block, such as reading a file, and return what it gave."""
        ...


class AsyncIO:
    """The asynchronous face: asyncio's sleep, callbacks may be coroutine functions."""

    def now(self) -> float:
        """Return monotonic seconds, on the event loop's own clock."""
        import asyncio

        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Pause this task; the event loop goes on."""
        import asyncio

        await asyncio.sleep(seconds)

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call the callback; await what it gave when that can be awaited."""
        result = callback(*args)
        return await result if inspect.isawaitable(result) else result

    async def complete(
        self, work: Coroutine[Any, Any, Result], undo: Callable[[Result], Any], grace: float
    ) -> Result:
        """Do the work in a task of its own, which a cancellation of the caller does not reach."""
        import asyncio

        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=grace)
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception() is None:
                await undo(task.result())
            raise

    async def offload(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call it in a thread, or await it when it is a coroutine function."""
        import asyncio

        if inspect.iscoroutinefunction(work):
            return await work(*args)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(None, functools.partial(work, *args))
        return await result if inspect.isawaitable(result) else result


class BlockingIO:
    """The blocking face: the thread sleeps, callbacks are plain functions."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)  # noqa: ASYNC251 - blocking is what this face is for

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call the callback; a coroutine function is refused."""
        result = callback(*args)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{callback!r} is a coroutine function: the blocking client needs a plain one"
            )
        return result

    async def complete(
        self, work: Coroutine[Any, Any, Result], undo: Callable[[Result], Any], grace: float
    ) -> Result:
        """Do the work; Ctrl-C breaks it off, since nothing else can run in this thread."""
        return await work

    async def offload(self, work: Callable[..., Any], *args: Any) -> Any:
        """Call it right here; a coroutine function is refused."""
        result = work(*args)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"{work!r} is a coroutine function: the blocking client needs a plain file"
            )
        return result


@asynccontextmanager
async def closing(items: AsyncGenerator[Item, None]) -> AsyncIterator[AsyncGenerator[Item, None]]:
    """Give an asynchronous generator and close it in the end, also when it was not used up."""
    try:
        yield items
    finally:
        await items.aclose()


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended on the blocking face")


def iterate(items: AsyncGenerator[Item, None]) -> Iterator[Item]:
    """Give the items of an asynchronous generator that never suspends."""
    try:
        while True:
            try:
                item = drive(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        drive(items.aclose())


async def _next(items: AsyncGenerator[Item, None]) -> Item:
    return await items.__anext__()
