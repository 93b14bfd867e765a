"""The face towards httpx: one request out, one answer back."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncContextManager,
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Dict,
    Iterator,
    List,
    Union,
)
from urllib.request import getproxies

import httpx
from typing_extensions import Protocol

from ._io import closing, iterate
from ._punctual import PunctualBackend, PunctualTransport
from .errors import ApiError, ConnectionFailedError, OomolConnectError

if TYPE_CHECKING:
    from ._lane import LaneTransport

#: Connections a client opens at most. Requests queue in front of httpx's pool, never inside it.
MAX_CONNECTIONS = 10

#: Seconds to wait for a connection at most.
MAX_CONNECT = 30.0

#: The largest answer that is read, in bytes after decompression.
MAX_ANSWER = 512 * 1024 * 1024

_NEVER_DELIVERED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Body(Protocol):
    """A request body that is read while it is sent."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that describe it."""
        ...

    @property
    def unrepeatable(self) -> str | None:
        """Why it can't be sent (again), or None when it can."""
        ...

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give it from its beginning."""
        ...


@dataclass(frozen=True)
class Request:
    """One request as it goes out.

    ``timeout`` is how long to wait for the next bytes, ``total`` bounds the whole exchange, both
    in seconds. A request with ``out_of_turn`` stays open for long and does not queue.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    params: Any = None
    content: Union[bytes, Body, None] = field(default=None, repr=False)
    total: float | None = None
    out_of_turn: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Streamed:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Sender(Protocol):
    """Carries requests on one face."""

    async def send(self, request: Request) -> Answer:
        """Send and read the answer to its end; ConnectionFailedError when no whole one came."""
        ...

    def stream(self, request: Request) -> AsyncContextManager[Streamed]:
        """Send and give the head of the answer while its body is still coming."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class AsyncSender:
    """Sends in whatever event loop runs, with connections of its own in each.

    A client that the caller brings is used as it is and never closed. ``connections`` is how
    many requests go out at once; further ones wait for their turn.
    """

    def __init__(
        self, client: httpx.AsyncClient | None = None, connections: int = MAX_CONNECTIONS
    ) -> None:
        self._theirs = client
        self._connections = connections
        self._loops: Dict[Any, _Lanes] = {}

    async def send(self, request: Request) -> Answer:
        """Wait for a turn, then send."""
        import asyncio

        if request.total is None:
            return await self._exchange(request)
        # asyncio.wait_for may swallow a cancellation that comes together with the answer.
        exchange = asyncio.ensure_future(self._exchange(request))
        try:
            await asyncio.wait({exchange}, timeout=request.total)
            if exchange.done():
                return exchange.result()
            raise _timed_out(request)
        finally:
            exchange.cancel()
            await asyncio.gather(exchange, return_exceptions=True)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Streamed]:
        """Wait for a turn, then send."""
        try:
            async with self._here().open(request) as response:
                yield Streamed(response.status_code, response.headers, response.aiter_bytes())
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _translated(request, error) from error

    async def close(self) -> None:
        """Close the connections of this event loop."""
        import asyncio

        lanes = self._loops.pop(asyncio.get_running_loop(), None)
        if lanes is not None:
            await lanes.close()

    async def _exchange(self, request: Request) -> Answer:
        async with self.stream(request) as streamed:
            body = await read_body(streamed.chunks, request)
            return Answer(streamed.status, streamed.headers, body)

    def _here(self) -> _Lanes:
        import asyncio

        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            # A client outlives asyncio.run() when its user runs it twice; connections do not.
            living = {key: lanes for key, lanes in self._loops.items() if not key.is_closed()}
            self._loops = {**living, loop: _Lanes(self._theirs, self._connections)}
        return self._loops[loop]


class _Lanes:
    """A few lanes of one connection each, in one event loop.

    A pool of httpx costs more with every connection it holds, so there is none: a request takes
    the lane that was used last, and a further one is opened only when all are busy. Where the
    environment names proxies httpx's own client is used.
    """

    def __init__(self, theirs: httpx.AsyncClient | None, connections: int) -> None:
        import asyncio

        self._theirs = theirs
        self._client = theirs
        if theirs is None and getproxies():
            self._client = httpx.AsyncClient(limits=_limits())
        self._turns = asyncio.Semaphore(connections)
        # Apart by scheme: a lane for http:// knows no certificates.
        self._idle: Dict[str, List[LaneTransport]] = {}
        self._certificates: Any = None
        self._closed = False

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[httpx.Response]:
        """Wait for a turn, then send."""
        turn = _no_turn() if request.out_of_turn else self._turns
        async with turn, _content(request) as content:
            if self._client is None:
                sending = self._on_lane(request, content)
            else:
                arguments = {**_arguments(request), "content": content}
                sending = self._client.stream(**arguments, follow_redirects=False)
            async with sending as response:
                yield response

    async def close(self) -> None:
        """Close the connections; one that is in use when its request is over."""
        self._closed = True
        if self._client is not None and self._client is not self._theirs:
            await self._client.aclose()
        for lanes in list(self._idle.values()):
            while lanes:
                await lanes.pop().aclose()

    @asynccontextmanager
    async def _on_lane(self, request: Request, content: Any) -> AsyncIterator[httpx.Response]:
        scheme = request.url.partition(":")[0].lower()
        idle = self._idle.setdefault(scheme, [])
        lane = idle.pop() if idle else self._new_lane(scheme)
        whole = False
        try:
            response = await lane.handle_async_request(_on_lane(request, content))
            try:
                yield response
            finally:
                await response.aclose()
            whole = True
        finally:
            # A request that was broken off can leave its lane blocked for ever.
            if whole and not request.out_of_turn and not self._closed:
                idle.append(lane)
            else:
                await lane.aclose()

    def _new_lane(self, scheme: str) -> LaneTransport:
        from ._lane import LaneTransport

        if scheme == "https" and self._certificates is None:
            # Loading them takes longer than a request: once is enough.
            self._certificates = httpx.create_ssl_context()
            self._certificates.set_alpn_protocols(["http/1.1"])
        return LaneTransport(self._certificates if scheme == "https" else None)


@asynccontextmanager
async def _no_turn() -> AsyncIterator[None]:
    yield


class BlockingSender:
    """Sends with an `httpx.Client`; may be used by several threads.

    A client that the caller brings is used as it is and never closed. ``connections`` is how
    many requests go out at once; further ones wait for their turn.
    """

    def __init__(
        self,
        now: Callable[[], float],
        client: httpx.Client | None = None,
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._now = now
        self._theirs = client
        self._ours: httpx.Client | None = None
        self._sockets = PunctualBackend(now)
        self._users: Dict[httpx.Client, int] = {}
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(connections)

    async def send(self, request: Request) -> Answer:
        """Wait for a turn, then send, blocking this thread."""
        async with self.stream(request) as streamed:
            body = await read_body(streamed.chunks, request)
            return Answer(streamed.status, streamed.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Streamed]:
        """Wait for a turn, then send, blocking this thread."""
        end = None if request.total is None else self._now() + request.total
        with nullcontext() if request.out_of_turn else self._turns:
            try:
                async with _content(request) as content:
                    with self._answered(request, content, end) as response:
                        chunks = self._until(end, response.iter_bytes(), request)
                        yield Streamed(response.status_code, response.headers, chunks)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                raise _translated(request, error) from error

    async def close(self) -> None:
        """Close the connections; while other threads use them, when their requests are over."""
        with self._lock:
            client, self._ours = self._ours, None
            used = client in self._users
        if client is not None and not used:
            client.close()

    @contextmanager
    def _answered(
        self, request: Request, content: Any, end: float | None
    ) -> Iterator[httpx.Response]:
        blocking = iterate(content) if isinstance(content, AsyncGenerator) else content
        with self._lent() as client:
            sent = client.build_request(**_arguments(request), content=blocking)
            with self._sockets.until(end):
                response = client.send(sent, stream=True, follow_redirects=False)
            try:
                yield response
            finally:
                response.close()

    async def _until(
        self, end: float | None, chunks: Iterator[bytes], request: Request
    ) -> AsyncIterator[bytes]:
        while True:
            with self._sockets.until(end):
                chunk = next(chunks, None)
            if chunk is None:
                return
            # The sockets of a client that the caller brought know of no end.
            if end is not None and self._now() > end:
                raise _timed_out(request)
            yield chunk

    @contextmanager
    def _lent(self) -> Iterator[httpx.Client]:
        if self._theirs is not None:
            yield self._theirs
            return
        with self._lock:
            client = self._ours = self._ours or _blocking_client(self._sockets)
            self._users[client] = self._users.get(client, 0) + 1
        try:
            yield client
        finally:
            # A socket that is closed under a thread that reads from it may never wake that thread.
            with self._lock:
                self._users[client] -= 1
                unused = not self._users[client]
                if unused:
                    del self._users[client]
                forsaken = unused and client is not self._ours
            if forsaken:
                client.close()


def _blocking_client(sockets: PunctualBackend) -> httpx.Client:
    # Where the environment names proxies httpx's own sockets are used.
    transport = None if getproxies() else PunctualTransport(sockets, _limits())
    return httpx.Client(limits=_limits(), transport=transport)


def _limits() -> httpx.Limits:
    # How many are open is decided by the turns, not by the pool.
    return httpx.Limits(max_connections=None, max_keepalive_connections=MAX_CONNECTIONS)


def _patience(request: Request) -> float:
    """Return how long to wait for a connection: a model may think for minutes, a socket not."""
    return min(request.timeout, MAX_CONNECT)


def _arguments(request: Request) -> Dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "params": request.params,
        "timeout": httpx.Timeout(request.timeout, connect=_patience(request), pool=None),
    }


@asynccontextmanager
async def _content(request: Request) -> AsyncIterator[Any]:
    """Give the content as httpx takes it; what was opened for it is closed in the end."""
    if request.content is None or isinstance(request.content, bytes):
        yield request.content
        return
    async with closing(request.content.chunks()) as chunks:
        yield chunks


def _on_lane(request: Request, content: Any) -> httpx.Request:
    timeout = {"connect": _patience(request), "read": request.timeout, "write": request.timeout}
    return httpx.Request(
        request.method,
        request.url,
        params=request.params,
        headers={"Accept-Encoding": "gzip, deflate", **request.headers},
        content=content,
        extensions={"timeout": timeout},
    )


async def read_body(chunks: AsyncIterator[bytes], request: Request) -> bytes:
    """Return the whole body; ApiError when it is larger than `MAX_ANSWER`."""
    parts = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER:
            raise ApiError(
                f"{request.method} {request.url} answered more than {MAX_ANSWER} bytes", 200
            )
        parts.append(chunk)
    return b"".join(parts)


def _timed_out(request: Request) -> ConnectionFailedError:
    return ConnectionFailedError(
        f"{request.method} {request.url} had no whole answer after {request.total:.3g} s",
        outcome_unknown=request.method != "GET",
    )


def _translated(request: Request, error: Exception) -> OomolConnectError:
    what = str(error) or type(error).__name__
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return OomolConnectError(f"{request.url} is not an address: {what}")
    delivered = not isinstance(error, _NEVER_DELIVERED)
    unknown = delivered and request.method != "GET"
    advice = ": it may have been carried out all the same" if unknown else ""
    return ConnectionFailedError(
        f"{request.method} {request.url} failed ({what}){advice}", outcome_unknown=unknown
    )
