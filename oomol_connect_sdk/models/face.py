"""What differs between `Models` and `SyncModels`: time, connections, and who runs a coroutine."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .._http import AsyncSender, BlockingSender, Sender
from .._io import IO, AsyncIO, BlockingIO

Result = TypeVar("Result")

#: Requests under way at once on one pool's connections; further ones wait for their turn.
MAX_CONNECTIONS = 100


class Closable(Protocol):
    """What a face closes in the end."""

    async def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True)
class Face:
    """One face's time and connections, which several clients may share.

    ``blocking`` is for what has a blocking interface of its own, such as gRPC: on a blocking
    face nothing may suspend. ``connections`` are those that are not HTTP, by what they lead to.
    """

    io: IO
    sender: Sender
    blocking: bool
    connections: dict[Any, Closable] = field(default_factory=dict)

    async def together(self, works: Sequence[Callable[[], Awaitable[Result]]]) -> list[Result]:
        """Do all of it and return the results in order: at once, or one by one when blocking."""
        if self.blocking:
            return [await work() for work in works]
        return list(await asyncio.gather(*(work() for work in works)))

    async def run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a caller's function, which may take its time, or await its coroutine."""
        call = functools.partial(function, **arguments)
        return await (self.io.call(call) if self.blocking else self.io.offload(call))

    async def close(self) -> None:
        """Close all connections."""
        while self.connections:
            _, connection = self.connections.popitem()
            await connection.close()
        await self.sender.close()


def async_face(http_client: Any = None) -> Face:
    """Return the face of `Models`."""
    return Face(AsyncIO(), AsyncSender(http_client, MAX_CONNECTIONS), blocking=False)


def blocking_face(http_client: Any = None) -> Face:
    """Return the face of `SyncModels`."""
    io = _BlockingIO()
    return Face(io, BlockingSender(io.now, http_client, MAX_CONNECTIONS), blocking=True)


class _BlockingIO(BlockingIO):
    """Blocking, but a caller's coroutine function is run to its end instead of refused."""

    async def call(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call it here; what it gives to await is awaited in an event loop of its own."""
        result = callback(*args)
        if not inspect.isawaitable(result):
            return result
        # In a thread, since this one may have a running event loop (a notebook).
        with ThreadPoolExecutor(1, "models-callback") as pool:
            return pool.submit(asyncio.run, _awaited(result)).result()


async def _awaited(value: Any) -> Any:
    return await value
