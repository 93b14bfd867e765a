"""One HTTP/1.1 connection of the async face, straight on asyncio.

httpx goes through httpcore's pool, its locks and anyio to its socket: more than half of what a
request costs, for connections that nobody shares here. A lane is what remains: h11 and a socket.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any, AsyncIterable, AsyncIterator, Deque, Dict, Iterator, List, Tuple, Type, cast

import h11
import httpcore
import httpx

#: Seconds that a connection without a request is kept, as in httpx.
KEEP_ALIVE = 5.0

#: The longest head of an answer in bytes, as in httpx.
_MAX_HEAD = 100 * 1024

#: Bytes that are kept unread before the server has to wait.
_HIGH_WATER = 1024 * 1024

#: Seconds before a second address of a host is tried beside the first (RFC 8305).
_SECOND_TRY = 0.25

_LAST_PORT = 65535

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
        if url.scheme != (b"https" if self._context else b"http"):
            raise httpcore.UnsupportedProtocol("it begins with neither http:// nor https://")
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
        opening = asyncio.ensure_future(self._opened(origin))
        try:
            # asyncio.wait_for may swallow a cancellation that comes together with the connection.
            await asyncio.wait({opening}, timeout=timeout)
            if opening.done():
                return opening.result()
        except asyncio.CancelledError:
            _give_up(opening)
            await asyncio.wait({opening})
            raise
        _give_up(opening)
        await asyncio.wait({opening})
        raise httpcore.ConnectTimeout(f"no connection within {timeout} s")

    async def _opened(self, origin: Origin) -> _Connection:
        """Try the addresses of the host, one more whenever the others take their time.

        asyncio can do that, but leaves sockets open when it is cancelled; uvloop can not.
        """
        attempts: List[asyncio.Task[_Connection]] = []
        winner = None
        try:
            addresses = await _addresses(origin)
            for address in addresses:
                attempts.append(asyncio.ensure_future(self._opened_at(address, origin)))
                winner = await _winner(attempts, None if address is addresses[-1] else _SECOND_TRY)
                if winner is not None:
                    return winner.result()
            return attempts[0].result()
        finally:
            losers = [attempt for attempt in attempts if attempt is not winner]
            for attempt in losers:
                _give_up(attempt)
            # The winner would be lost if a cancellation came in here.
            if losers and winner is None:
                await asyncio.wait(losers)

    async def _opened_at(self, address: str, origin: Origin) -> _Connection:
        loop = asyncio.get_running_loop()
        secured: Dict[str, Any] = {}
        if self._context is not None:
            secured = {"ssl": self._context, "server_hostname": origin[1].decode("ascii")}
        with _connect_errors():
            _, connection = await loop.create_connection(
                lambda: _Connection(origin, loop), address, origin[2], **secured
            )
        return connection


async def _addresses(origin: Origin) -> List[str]:
    host, port = origin[1].decode("ascii"), origin[2]
    if port > _LAST_PORT:
        raise httpcore.ConnectError(f"there is no port {port}")
    with suppress(ValueError):
        return [str(ip_address(host))]
    with _connect_errors():
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _winner(
    attempts: List[asyncio.Task[_Connection]], timeout: float | None
) -> asyncio.Task[_Connection] | None:
    """Wait until one has succeeded; None when all have failed or ``timeout`` is over."""
    running = {attempt for attempt in attempts if not attempt.done()}
    while running:
        done, running = await asyncio.wait(
            running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in done:
            if attempt.exception() is None:
                return attempt
        if not done:
            return None
    return None


def _give_up(opening: asyncio.Task[_Connection]) -> None:
    """End the opening of a connection, and close one that comes all the same."""
    opening.add_done_callback(_break_off)
    opening.cancel()


def _break_off(opening: asyncio.Task[_Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().break_off()


class _Connection(asyncio.Protocol):
    """The socket, and HTTP on it."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
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
            and not self._is_readable()
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
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        # What came behind the answer would be taken for the next one.
        if done and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            self._idle_since = self._loop.time()
        else:
            await self.close()

    async def close(self) -> None:
        """Close the socket at once, and wait until that is done."""
        self.break_off()
        await asyncio.wait({self._gone})

    def break_off(self) -> None:
        """Close the socket at once; who waits for it gets an error."""
        self._ended = True
        # Without it an answer that lasts until the server closes would seem whole.
        self._error = self._error or ConnectionAbortedError("the connection was closed here")
        self._transport.abort()

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
        # The transport knows first; what is written to it then is lost without a word.
        if self._ended or self._transport.is_closing():
            raise httpcore.WriteError("the server has closed the connection")
        if data:
            self._transport.write(data)
        if self._full:
            self._writer = self._loop.create_future()
            await self._woken(self._writer, timeout, httpcore.WriteTimeout)

    async def _next(self, timeout: float | None) -> Any:
        with _protocol_errors():
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                data = await self._read(timeout)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise httpcore.RemoteProtocolError("the server closed without an answer")
                self._http.receive_data(data)

    async def _read(self, timeout: float | None) -> bytes:
        if not self._received and not self._ended:
            self._reader = self._loop.create_future()
            await self._woken(self._reader, timeout, httpcore.ReadTimeout)
        if not self._received:
            if self._error is not None:
                raise httpcore.ReadError(_what(self._error)) from self._error
            return b""
        data = self._received.popleft()
        if self._unread >= _HIGH_WATER > self._unread - len(data) and not self._ended:
            self._transport.resume_reading()
        self._unread -= len(data)
        return data

    def _is_readable(self) -> bool:
        """Tell whether something came that the event loop has yet to see, such as the end."""
        ours = self._transport.get_extra_info("socket")
        if ours is None:
            return True
        if not hasattr(select, "poll"):
            return bool(select.select([ours], [], [], 0)[0])
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        return bool(poll.poll(0))

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
        """The server has sent all it will, and so needs no more of the request."""
        self._ended = True
        _wake(self._reader)
        _wake(self._writer)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be read or written any more."""
        self._ended = True
        self._error = exc or self._error
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


def _what(error: Exception) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _connect_errors() -> Iterator[None]:
    try:
        yield
    # A name that can't be one is no OSError.
    except (OSError, ValueError) as error:
        raise httpcore.ConnectError(_what(error)) from error


@contextmanager
def _protocol_errors() -> Iterator[None]:
    try:
        yield
    except h11.RemoteProtocolError as error:
        raise httpcore.RemoteProtocolError(str(error)) from error
    except h11.LocalProtocolError as error:
        raise httpcore.LocalProtocolError(str(error)) from error
