"""The only file that imports httpx: one request, its retries, and what its answer means."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time as wall_clock
from typing import Any, AsyncIterator, Callable, Dict, Iterator
from urllib.parse import quote, urlsplit

import httpx
import tenacity
from typing_extensions import Protocol

from ._io import IO
from ._version import __version__
from .config import Config
from .errors import ApiError, BadAnswerError, ConnectionFailedError, OomolConnectError

#: Connections a client opens at most. Requests queue in front of httpx's pool, never inside it.
MAX_CONNECTIONS = 10

#: The largest answer that is read, in bytes after decompression.
MAX_ANSWER = 512 * 1024 * 1024

#: The longest pause a server may ask for by Retry-After, in seconds.
MAX_RETRY_AFTER = 60.0

_NEVER_DELIVERED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Request:
    """One request as it goes out. ``total`` bounds the whole exchange in seconds."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    params: Mapping[str, str] | None
    content: bytes | None
    timeout: float
    total: float | None


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Sender(Protocol):
    """Carries one request on one face."""

    async def send(self, request: Request) -> Answer:
        """Send the request; raise ConnectionFailedError when no whole answer came."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Transport:
    """Sends requests to one server and turns what comes back into JSON or a typed error."""

    def __init__(self, config: Config, sender: Sender, io: IO) -> None:
        self.config = config
        self.io = io
        self._sender = sender
        self._closed = False

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        total: float | None = None,
        attempts: int | None = None,
    ) -> Any:
        """Send one request, again where that is safe, and return the decoded JSON.

        ``total`` bounds each attempt in seconds; ``attempts`` is how often to try at most,
        default ``max_retries`` + 1. Raises ApiError.
        """
        request = self._build(method, path, body, params, total)
        retrying = tenacity.AsyncRetrying(
            sleep=self.io.sleep,
            retry=tenacity.retry_if_exception(lambda error: _may_resend(method, error)),
            stop=tenacity.stop_after_attempt(attempts or self.config.max_retries + 1),
            wait=_retry_pause,
            reraise=True,
        )
        return await retrying(self._once, request)

    async def close(self) -> None:
        """Close the connections; a later request is refused."""
        self._closed = True
        await self._sender.close()

    async def _once(self, request: Request) -> Any:
        if self._closed:
            raise OomolConnectError("the client is closed")
        answer = await self._sender.send(request)
        return decode(request, answer)

    def _build(
        self,
        method: str,
        path: str,
        body: Any,
        params: Mapping[str, str] | None,
        total: float | None,
    ) -> Request:
        headers = self.config.headers()
        headers.setdefault("Accept", "application/json")
        headers.setdefault("User-Agent", f"oomol-connect-sdk/{__version__}")
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        timeout = self.config.timeout if total is None else min(self.config.timeout, total)
        url = self._absolute(path)
        return Request(method, url, headers, params, content, timeout, total)

    def _absolute(self, path: str) -> str:
        base = self.config.base_url
        if not urlsplit(base).scheme:
            raise OomolConnectError(
                f"base_url {base!r} names no server: pass base_url='http://host:port/api' "
                "or set OOMOL_CONNECT_BASE_URL"
            )
        return base + path


class AsyncSender:
    """Sends with an `httpx.AsyncClient` that belongs to the running event loop."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._client: httpx.AsyncClient | None = None
        self._turns: Any = None

    async def send(self, request: Request) -> Answer:
        """Wait for a turn, then send."""
        import asyncio

        client, turns = self._for_this_loop(asyncio)
        async with turns:
            if request.total is None:
                return await self._exchange(client, request)
            try:
                return await asyncio.wait_for(self._exchange(client, request), request.total)
            except asyncio.TimeoutError:
                raise _timed_out(request) from None

    async def close(self) -> None:
        """Close the connections."""
        client, self._client, self._loop = self._client, None, None
        if client is not None:
            await client.aclose()

    async def _exchange(self, client: httpx.AsyncClient, request: Request) -> Answer:
        try:
            async with client.stream(**_arguments(request)) as response:
                body = await _read(response.aiter_bytes(), request)
                return Answer(response.status_code, response.headers, body)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _translated(request, error) from error

    def _for_this_loop(self, asyncio: Any) -> Any:
        loop = asyncio.get_running_loop()
        # A client outlives asyncio.run() when its user runs it twice; connections do not.
        if self._client is None or self._loop is not loop:
            self._client = httpx.AsyncClient(limits=_limits(), follow_redirects=False)
            self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
            self._loop = loop
        return self._client, self._turns


class BlockingSender:
    """Sends with an `httpx.Client`; may be used by several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._turns = threading.Semaphore(MAX_CONNECTIONS)

    async def send(self, request: Request) -> Answer:
        """Wait for a turn, then send, blocking this thread."""
        end = None if request.total is None else self._now() + request.total
        with self._turns:
            return self._exchange(request, end)

    async def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _exchange(self, request: Request, end: float | None) -> Answer:
        try:
            with self._open().stream(**_arguments(request)) as response:
                chunks = self._until(response.iter_bytes(), end, request)
                body = b"".join(_bounded(chunks, request))
                return Answer(response.status_code, response.headers, body)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise _translated(request, error) from error

    def _until(
        self, chunks: Iterator[bytes], end: float | None, request: Request
    ) -> Iterator[bytes]:
        for chunk in chunks:
            if end is not None and self._now() > end:
                raise _timed_out(request)
            yield chunk

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(limits=_limits(), follow_redirects=False)
            return self._client


def endpoint(*segments: str) -> str:
    """Join path segments, each quoted into exactly one segment.

    Raises ValueError for an empty segment, and for ``.`` and ``..``, which no quoting protects.
    """
    for segment in segments:
        if not isinstance(segment, str):
            raise TypeError(f"an id must be text, not {type(segment).__name__}: {segment!r}")
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is not an id")
    return "".join("/" + quote(segment, safe="") for segment in segments)


def decode(request: Request, answer: Answer) -> Any:
    """Return the JSON of a good answer; raise the ApiError that a bad one means."""
    where = f"{request.method} {urlsplit(request.url).path}"
    body = _json_or_text(answer.body)
    details: Dict[str, Any] = {
        "request_id": answer.headers.get("x-request-id"),
        "retry_after": _retry_after(answer.headers.get("retry-after")),
    }
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "nowhere")
        message = f"{where} was redirected to {target}: use that address as base_url"
        raise ApiError(message, answer.status, body, **details)
    if answer.status >= 400:
        message = _message(body) or f"{where} answered with HTTP status {answer.status}"
        raise ApiError(message, answer.status, body, **details)
    if isinstance(body, str):
        kind = answer.headers.get("content-type", "no content type")
        message = f"{where} answered {kind} instead of JSON: {body[:200]!r}"
        raise BadAnswerError(message, answer.status, body, **details)
    if isinstance(body, Mapping) and body.get("success") is False:
        message = _message(body) or f"{where} answered success: false"
        raise ApiError(message, answer.status, body, **details)
    return body


def expect(body: Any, key: str, kind: type, where: str) -> Any:
    """Return ``body[key]`` of an answer; BadAnswerError when it is missing or of another kind."""
    value = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(value, kind):
        shown = json.dumps(body)[:200]
        raise BadAnswerError(f"{where} answered without {key!r}: {shown}", 200, body)
    return value


def _may_resend(method: str, error: BaseException) -> bool:
    if not isinstance(error, ApiError) or not error.transient:
        return False
    if method == "GET":
        return True
    if isinstance(error, ConnectionFailedError):
        return not error.outcome_unknown
    return error.status in (429, 503) and error.retry_after is not None


def _retry_pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ApiError) else None
    jitter = random.uniform(0, min(8.0, 0.25 * 2**state.attempt_number))
    return max(jitter, min(asked or 0.0, MAX_RETRY_AFTER))


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall_clock())
    except (TypeError, ValueError, OverflowError):
        return None


def _limits() -> httpx.Limits:
    return httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)


def _arguments(request: Request) -> Dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "params": request.params,
        "content": request.content,
        # Turns are handed out in front of the pool, so a request never waits inside it.
        "timeout": httpx.Timeout(request.timeout, pool=None),
    }


async def _read(chunks: AsyncIterator[bytes], request: Request) -> bytes:
    parts = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        _check_size(size, request)
        parts.append(chunk)
    return b"".join(parts)


def _bounded(chunks: Iterator[bytes], request: Request) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        _check_size(size, request)
        yield chunk


def _check_size(size: int, request: Request) -> None:
    if size > MAX_ANSWER:
        raise ApiError(f"{request.method} {request.url} answered more than {MAX_ANSWER} bytes", 200)


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


def _json_or_text(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(decoded, str) else decoded


def _message(body: Any) -> str | None:
    if isinstance(body, str):
        return body[:200].strip() or None
    if not isinstance(body, Mapping):
        return None
    nested = body.get("error")
    for text in (
        body.get("message"),
        nested.get("message") if isinstance(nested, Mapping) else nested,
    ):
        if isinstance(text, str) and text:
            return text
    return None
