"""Both faces of the models client in one shape, so that one test serves both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Iterator
from typing import Any

from oomol_connect_sdk.models import Models, SyncModels

NAMES = ("async", "sync")


class ModelsFace:
    """Makes clients whose methods block and whose streams are plain iterators.

    ``face(url, **options)`` is a `Models` or a `SyncModels`, closed when the face is.
    """

    def __init__(self, name: str) -> None:
        self.blocking = name == "sync"
        self._loop = asyncio.new_event_loop()
        self._made: list[Any] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Make a client."""
        return self.wrap((SyncModels if self.blocking else Models)(*args, **options))

    def wrap(self, models: Any) -> Any:
        """Give a client of this face, made in any way, its blocking shape."""
        client = models if self.blocking else _Blocking(models, self._loop)
        self._made.append(client)
        return client

    def run(self, value: Awaitable[Any]) -> Any:
        """Await something in the event loop of this face."""
        return self._loop.run_until_complete(_awaited(value))

    def close(self) -> None:
        """Close the clients and the event loop."""
        for client in self._made:
            client.close()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class _Blocking:
    """An asynchronous object, what it gives to await or iterate run in one event loop."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name == "files":
            return _Blocking(value, self._loop)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._finished(value(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self._target)

    def __enter__(self) -> _Blocking:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _finished(self, value: Any) -> Any:
        if inspect.isasyncgen(value):
            return _iterate(value, self._loop)
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value


def _iterate(items: AsyncGenerator[Any, None], loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    end = object()
    try:
        while (item := loop.run_until_complete(_next(items, end))) is not end:
            yield item
    finally:
        loop.run_until_complete(items.aclose())


async def _next(items: AsyncGenerator[Any, None], end: Any) -> Any:
    return await anext(items, end)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
