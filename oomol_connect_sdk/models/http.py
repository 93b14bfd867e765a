"""Requests to a model service over HTTP: who asks, what is sent again, and streams of events."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .._http import Answer, Body, Request, Streamed, read_body
from .._io import closing
from .._version import __version__
from ..answers import decode
from ..errors import ApiError, BadAnswerError, ConnectionFailedError, OomolConnectError
from ..events import EventDecoder
from .exchanges import Exchange, Observer, masked
from .face import Face
from .options import Secret, Settings, check_secret
from .retry import passes, retrying

_CONDITIONS = frozenset({"if-match", "if-none-match"})
_SHOWN = 64 * 1024

Result = TypeVar("Result")

#: An object of an event stream, and the headers of the stream.
_Event = tuple[dict[str, Any], Mapping[str, str]]


@dataclass(frozen=True)
class Answered:
    """A good answer: its decoded JSON (None when it was empty) and its headers."""

    body: Any
    headers: Mapping[str, str]

    @property
    def request_id(self) -> str | None:
        """The service's own id of the request."""
        return self.headers.get("x-request-id")


class HttpPort:
    """Sends requests to one service over HTTP.

    ``key_header`` names the header that gets ``api_key`` as it is; without one it is a bearer
    token. Raises ApiError: what passes by (no connection, 408, 409, 425, 429, 5xx) only after
    ``max_retries`` further tries.
    """

    def __init__(
        self, name: str, settings: Settings, face: Face, key_header: str | None = None
    ) -> None:
        self._name = name
        self._settings = settings
        self._face = face
        self._key_header = key_header
        self._observer = Observer(settings, face)
        self._secret: str | None = None

    @property
    def base_url(self) -> str:
        """The address that paths are added to."""
        return self._settings.base_url

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: Body | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send one request; ``body`` as JSON, or ``content`` as it gives itself."""
        request = self._request(method, path, body, content, params, headers)
        return await self._retrying(self._answered, request)

    async def events(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[tuple[dict[str, Any], Mapping[str, str]], None]:
        """POST and give the JSON objects of the event stream that comes, with its headers.

        Sent again only before the first event. An event with an ``error`` is raised, and so is a
        stream that ends with neither ``[DONE]`` nor a reason to finish: it was cut short.
        """
        request = self._request("POST", path, body, None, None, headers)
        request = replace(request, headers={**request.headers, "Accept": "text/event-stream"})
        first, events = await self._retrying(self._begun, request)
        async with closing(events):
            yield first
            async for event in events:
                yield event

    @asynccontextmanager
    async def download(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Streamed, None]:
        """GET a body as it comes. It is not sent again: whoever reads it knows where to go on."""
        request = self._request("GET", path, None, None, None, headers)
        opened, streamed = await self._authorized(self._opened, request)
        async with opened:
            yield streamed

    async def _answered(self, request: Request) -> Answered:
        async with self._observed(request) as (streamed, seen):
            content = await read_body(streamed.chunks, request)
            seen.answer = content
            answer = Answer(streamed.status, streamed.headers, content)
            good = None if not content and answer.status < 300 else decode(request, answer)
            return Answered(good, streamed.headers)

    async def _begun(self, request: Request) -> tuple[_Event, AsyncGenerator[_Event, None]]:
        events = self._events_once(request)
        try:
            return await events.__anext__(), events
        except StopAsyncIteration:
            message = f"{_where(request)} ended its stream without an event"
            raise BadAnswerError(message, 200) from None
        except BaseException:
            await events.aclose()
            raise

    async def _events_once(self, request: Request) -> AsyncGenerator[_Event, None]:
        async with self._observed(request) as (streamed, seen):
            await _check_stream(request, streamed)
            seen.answer = events = []
            async with closing(_objects(request, streamed)) as objects:
                async for item in objects:
                    if self._observer.listens:
                        events.append(item)
                    yield item, streamed.headers

    async def _opened(self, request: Request) -> tuple[AsyncExitStack, Streamed]:
        async with AsyncExitStack() as stack:
            streamed, _ = await stack.enter_async_context(self._observed(request))
            if streamed.status not in (200, 206):
                await _refuse(request, streamed)
            return stack.pop_all(), streamed

    @asynccontextmanager
    async def _observed(self, request: Request) -> AsyncGenerator[tuple[Streamed, _Seen], None]:
        """Send, and tell the observer when the answer is over, however it ended."""
        begun = self._face.io.now()
        seen = _Seen()
        try:
            async with self._face.sender.stream(request) as streamed:
                seen.status = streamed.status
                yield streamed, seen
        except OomolConnectError as error:
            seen.error = error
            raise
        finally:
            if self._observer.listens:
                seconds = self._face.io.now() - begun
                await self._observer.tell(seen.exchange(self._name, request, seconds))

    async def _retrying(
        self, once: Callable[[Request], Awaitable[Result]], request: Request
    ) -> Result:
        async def attempt() -> Result:
            return await self._authorized(once, request)

        def may_again(error: BaseException) -> bool:
            return passes(error) and _can_be_sent_again(request, error)

        return await retrying(self._settings, self._face.io, may_again, attempt)

    async def _authorized(
        self, once: Callable[[Request], Awaitable[Result]], request: Request
    ) -> Result:
        """Send with the secret. One that was asked for is asked for again when it is refused."""
        if "authorization" in {name.lower() for name in request.headers}:
            return await once(request)
        secret = await self._asked_secret()
        try:
            return await once(self._with_secret(request, secret))
        except ApiError as error:
            if error.status != 401 or isinstance(self._source, str | None):
                raise
            if not _is_repeatable(request):
                raise
        # Another request may have asked for a new one meanwhile.
        if self._secret == secret:
            self._secret = None
        return await once(self._with_secret(request, await self._asked_secret()))

    def _with_secret(self, request: Request, secret: str | None) -> Request:
        if secret is None:
            return request
        if self._key_header is not None and self._settings.bearer_token is None:
            header = {self._key_header: secret}
        else:
            header = {"Authorization": f"Bearer {secret}"}
        return replace(request, headers={**request.headers, **header})

    @property
    def _source(self) -> Secret | None:
        return self._settings.bearer_token or self._settings.api_key

    async def _asked_secret(self) -> str | None:
        source = self._source
        if source is None or isinstance(source, str):
            return source
        secret = self._secret
        if secret is None:
            option = "api_key" if self._settings.bearer_token is None else "bearer_token"
            secret = self._secret = check_secret(await self._face.io.call(source), option)
        return secret

    def _request(
        self,
        method: str,
        path: str,
        body: Any,
        content: Body | None,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> Request:
        every = {
            "Accept": "application/json",
            "User-Agent": f"oomol-connect-sdk/{__version__}",
            **self._settings.headers,
            **(headers or {}),
        }
        sent: Body | bytes | None = content
        if content is not None:
            every.update(content.headers)
        if body is not None:
            every["Content-Type"] = "application/json"
            sent = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        url = self._settings.base_url + path
        return Request(method, url, every, self._settings.timeout, params, sent)


class _Seen:
    """What is known of one exchange so far."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.answer: Any = None
        self.error: OomolConnectError | None = None

    def exchange(self, service: str, request: Request, seconds: float) -> Exchange:
        sent = request.content if isinstance(request.content, bytes) else None
        return Exchange(
            service,
            request.method,
            request.url,
            masked(request.headers),
            None if sent is None else json.loads(sent),
            self.status,
            _shown(self.answer) if isinstance(self.answer, bytes) else self.answer,
            None if self.error is None else str(self.error),
            seconds,
        )


def _can_be_sent_again(request: Request, error: BaseException) -> bool:
    if _CONDITIONS & {name.lower() for name in request.headers}:
        # What the first try did would fail the second.
        undelivered = isinstance(error, ConnectionFailedError) and not error.outcome_unknown
        return undelivered and _is_repeatable(request)
    return _is_repeatable(request)


def _is_repeatable(request: Request) -> bool:
    content = request.content
    return content is None or isinstance(content, bytes) or content.unrepeatable is None


async def _check_stream(request: Request, streamed: Streamed) -> None:
    if streamed.status != 200:
        await _refuse(request, streamed)
    kind = streamed.headers.get("content-type", "")
    if not kind.lower().startswith("text/event-stream"):
        body = await read_body(streamed.chunks, request)
        decode(request, Answer(200, streamed.headers, body))
        raise BadAnswerError(
            f"{_where(request)} answered {kind or 'no content type'} instead of an event stream: "
            f"{body[:200]!r}",
            200,
        )


async def _refuse(request: Request, streamed: Streamed) -> None:
    body = await read_body(streamed.chunks, request)
    decode(request, Answer(streamed.status, streamed.headers, body))
    raise BadAnswerError(
        f"{_where(request)} answered with HTTP status {streamed.status}", streamed.status
    )


async def _objects(request: Request, streamed: Streamed) -> AsyncGenerator[dict[str, Any], None]:
    decoder = EventDecoder()
    finished = False
    async for chunk in streamed.chunks:
        for event in decoder.feed(chunk):
            if event.data.strip() == "[DONE]":
                return
            item = event.json()
            if item.get("error"):
                _raise_error(request, item, streamed.headers)
            finished = finished or _is_finish(item)
            yield item
    if not finished:
        raise BadAnswerError(f"{_where(request)} ended its stream in the middle of the answer", 200)


def _is_finish(item: dict[str, Any]) -> bool:
    """Tell whether an event says why the answer ends, as OpenAI, DIAL or TensorZero say it."""
    choices = item.get("choices")
    parts = [item, *(choices if isinstance(choices, list) else ())]
    return any(isinstance(part, dict) and part.get("finish_reason") for part in parts)


def _raise_error(request: Request, item: dict[str, Any], headers: Mapping[str, str]) -> None:
    """Raise what a stream says went wrong after it had begun."""
    error = item["error"]
    code = str(error.get("code")) if isinstance(error, dict) else ""
    status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500
    decode(request, Answer(status, headers, json.dumps(item).encode()))


def _shown(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content[:_SHOWN].decode("utf-8", "replace")


def _where(request: Request) -> str:
    return f"{request.method} {urlsplit(request.url).path}"
