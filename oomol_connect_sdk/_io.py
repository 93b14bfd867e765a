"""What differs between the asynchronous and the blocking face: time, pauses and callbacks.

The core of the package is written once, as coroutines that never import asyncio. On the async
face they run in the user's event loop; on the blocking face nothing they await ever suspends,
so `drive` runs them to their end with one ``send``.
"""

from __future__ import annotations

import inspect
import time
from typing import Any, Callable, Coroutine, TypeVar

from typing_extensions import Protocol

Result = TypeVar("Result")


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


class AsyncIO:
    """The asynchronous face: asyncio's sleep, callbacks may be coroutine functions."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause this task; the event loop goes on."""
        import asyncio

        await asyncio.sleep(seconds)

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call the callback; await what it gave when that can be awaited."""
        result = callback(*args)
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


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended on the blocking face")
