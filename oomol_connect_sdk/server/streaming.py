"""Work for a client that may go away while it lasts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class StreamedAnswer:
    """An answer whose body comes as it is made, one part for each the client has taken.

    Nothing is made for a client that has gone away. ASGI application.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        headers: Mapping[str, str],
        status: int = 200,
    ) -> None:
        self._parts = parts
        self._headers = headers
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; without its body when only the headers are asked for."""
        headers = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in self._headers.items()
        ]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        if scope["method"] != "HEAD":
            await while_connected(receive, self._send_parts(send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_parts(self, send: Send) -> None:
        async with contextlib.aclosing(self._parts) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what ``work`` returns; when the client goes away it is cancelled, and None returned.

    To be called once the body of the request was read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
