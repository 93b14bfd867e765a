"""One HTTP/1.1 connection of the async face, straight on asyncio.

httpx goes through httpcore's pool, its locks and anyio to its socket: more than half of what a
request costs, for connections that nobody shares here. A lane is what remains: h11 and a socket.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import contextmanager, suppress
from typing import Any, AsyncIterable, AsyncIterator, Deque, Iterator, Tuple, Type, cast

import h11
import httpcore
import httpx

#: Seconds that a connection without a request is kept, as in httpx.
KEEP_ALIVE = 5.0

#: Bytes that are kept unread before the server has to wait.
_HIGH_WATER = 1024 * 1024

#: Seconds before a second address of a host is tried beside the first (RFC 8305).
_SECOND_TRY = 0.25

Origin = Tuple[bytes, bytes, int]


class LaneTransport(httpx.AsyncHTTPTransport):
    """The transport of httpx on one connection of ours, for which it has no option.

    It carries one request at a time. ``context`` is for https, None for http.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(verify=context or False)
        self._pool = cast(Any, Lane(context))


class Lane:
    """A connection that is opened by its first request, and again when it was closed."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._connection: _Connection | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request and return the head of its answer; raises httpcore's errors."""
        timeouts = request.extensions.get("timeout", {})
        url = request.url
        origin = (url.scheme, url.host, url.origin.port)
        connection = self._connection
        if connection is None or not connection.is_good_for(origin):
            await self.aclose()
            connection = self._connection = await self._connected(origin, timeouts.get("connect"))
        return await connection.exchange(request, timeouts.get("read"), timeouts.get("write"))

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self, origin: Origin, timeout: float | None) -> _Connection:
        loop = asyncio.get_running_loop()
        host = origin[1].decode("ascii")
        secured = {"ssl": self._context, "server_hostname": host} if self._context else {}
        opening = asyncio.ensure_future(
            loop.create_connection(
                lambda: _Connection(origin, loop),
                host,
                origin[2],
                happy_eyeballs_delay=_SECOND_TRY,
                **cast(Any, secured),
            )
        )
        try:
            # asyncio.wait_for may swallow a cancellation that comes together with the connection.
            await asyncio.wait({opening}, timeout=timeout)
        except asyncio.CancelledError:
            await _given_up(opening)
            raise
        if not opening.done():
            await _given_up(opening)
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s")
        try:
            _, connection = opening.result()
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return connection


async def _given_up(opening: asyncio.Task[Any]) -> None:
    """End the opening of a connection, and close one that has come all the same."""
    opening.cancel()
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        _, connection = opening.result()
        await connection.close()


class _Connection(asyncio.Protocol):
    """The socket, and HTTP on it."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport
        self._received: Deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._error: Exception | None = None
        self._idle_since = loop.time()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False

    def is_good_for(self, origin: Origin) -> bool:
        """Tell whether the next request may go out here."""
        return (
            origin == self._origin
            and not self._ended
            and not self._received
            and self._http.our_state is h11.IDLE
            and self._loop.time() - self._idle_since < KEEP_ALIVE
        )

    async def exchange(
        self, request: httpcore.Request, read: float | None, write: float | None
    ) -> httpcore.Response:
        """Send a request and return the head of its answer, its body as it comes."""
        # A server may answer before it has read everything, and close.
        with suppress(httpcore.WriteError):
            await self._send(request, write)
        head = await self._next(read)
        while isinstance(head, h11.InformationalResponse):
            head = await self._next(read)
        if not isinstance(head, h11.Response):
            raise httpcore.RemoteProtocolError(f"the server answered {type(head).__name__}")
        return httpcore.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            content=_Body(self, read),
            extensions={
                "http_version": b"HTTP/" + head.http_version,
                "reason_phrase": head.reason,
            },
        )

    async def body(self, read: float | None) -> AsyncIterator[bytes]:
        """Give the body of the answer piece by piece."""
        while True:
            event = await self._next(read)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def finish(self) -> None:
        """Be ready for the next request, or close when this one was broken off."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._idle_since = self._loop.time()
        else:
            await self.close()

    async def close(self) -> None:
        """Close the socket at once, and wait until that is done."""
        self._ended = True
        self._transport.abort()
        await asyncio.wait({self._gone})

    async def _send(self, request: httpcore.Request, timeout: float | None) -> None:
        with _protocol_errors():
            head = h11.Request(
                method=request.method, target=request.url.target, headers=request.headers
            )
            # The head goes out together with what follows: most requests are one packet.
            unsent = self._http.send(head) or b""
            async for chunk in cast(AsyncIterable[bytes], request.stream):
                await self._write(unsent + (self._http.send(h11.Data(data=chunk)) or b""), timeout)
                unsent = b""
            await self._write(unsent + (self._http.send(h11.EndOfMessage()) or b""), timeout)

    async def _write(self, data: bytes, timeout: float | None) -> None:
        if self._ended:
            raise httpcore.WriteError("the server has closed the connection")
        if data:
            self._transport.write(data)
        if self._full:
            self._writer = self._loop.create_future()
            await self._woken(self._writer, timeout, httpcore.WriteTimeout)
            if self._ended:
                raise httpcore.WriteError("the server has closed the connection")

    async def _next(self, timeout: float | None) -> Any:
        with _protocol_errors():
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(await self._read(timeout))

    async def _read(self, timeout: float | None) -> bytes:
        if not self._received and not self._ended:
            self._reader = self._loop.create_future()
            await self._woken(self._reader, timeout, httpcore.ReadTimeout)
        if not self._received:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error)) from self._error
            return b""
        data = self._received.popleft()
        if self._unread >= _HIGH_WATER > self._unread - len(data) and not self._ended:
            self._transport.resume_reading()
        self._unread -= len(data)
        return data

    async def _woken(
        self, waiter: asyncio.Future[None], timeout: float | None, late: Type[Exception]
    ) -> None:
        def give_up() -> None:
            if not waiter.done():
                waiter.set_exception(late(f"nothing happened for {timeout} s"))

        alarm = None if timeout is None else self._loop.call_later(timeout, give_up)
        try:
            await waiter
        finally:
            if alarm is not None:
                alarm.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep what came for who reads it."""
        if self._unread < _HIGH_WATER <= self._unread + len(data):
            self._transport.pause_reading()
        self._received.append(data)
        self._unread += len(data)
        _wake(self._reader)

    def eof_received(self) -> bool:
        """The server has sent all it will."""
        self._ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be read or written any more."""
        self._ended = True
        self._error = exc
        for waiter in (self._reader, self._writer, self._gone):
            _wake(waiter)

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        self._full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        _wake(self._writer)


class _Body:
    """The body of an answer; whoever is done with it gives the connection back."""

    def __init__(self, connection: _Connection, read: float | None) -> None:
        self._connection = connection
        self._read = read

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body(self._read)

    async def aclose(self) -> None:
        await self._connection.finish()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


@contextmanager
def _protocol_errors() -> Iterator[None]:
    try:
        yield
    except h11.RemoteProtocolError as error:
        raise httpcore.RemoteProtocolError(str(error)) from error
    except h11.LocalProtocolError as error:
        raise httpcore.LocalProtocolError(str(error)) from error
