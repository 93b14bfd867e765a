"""Requests to one server: headers, what is safe to send again, what the server offers."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, AsyncIterator, FrozenSet
from urllib.parse import urlsplit

import tenacity

from ._http import Answer, Body, Request, Sender, Streamed, read_body
from ._io import IO
from ._version import __version__
from .answers import decode
from .config import Config, check_token
from .errors import ApiError, ConnectionFailedError, OomolConnectError

#: The longest pause a server may ask for by Retry-After, in seconds.
MAX_RETRY_AFTER = 60.0

_FEATURES = "oomol-connect-features"


@dataclass(frozen=True)
class Reply:
    """A checked answer: its decoded JSON (None for 304) and its headers."""

    status: int
    body: Any
    headers: Mapping[str, str]
    #: Bytes of the body.
    size: int = 0


class Transport:
    """Sends requests to one server and turns what comes back into JSON or a typed error.

    ``features`` are what the server said it offers beyond the plain API; empty until its first
    answer. ``client_id`` marks the tasks that this client creates.
    """

    def __init__(self, config: Config, sender: Sender, io: IO) -> None:
        self.config = config
        self.io = io
        self.sender = sender
        self.features: FrozenSet[str] = frozenset()
        self.client_id = uuid.uuid4().hex
        self._token: str | None = None
        self._closed = False

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """Send one request and return the decoded JSON; the options are those of `exchange`."""
        return (await self.exchange(method, path, **options)).body

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: Body | None = None,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        total: float | None = None,
        timeout: float | None = None,
        out_of_turn: bool = False,
        attempts: int | None = None,
    ) -> Reply:
        """Send one request, again where that is safe, and return its checked answer.

        ``body`` is sent as JSON, ``content`` as it gives itself, again only if it can. ``total``
        bounds each attempt in seconds, ``timeout`` the wait for its next bytes (default: the
        client's); ``attempts`` is how often to try at most, default ``max_retries`` + 1. Raises
        ApiError.
        """
        extra = dict(headers or {})
        sent: Body | bytes | None = content
        if content is not None:
            extra.update(content.headers)
        if body is not None:
            extra["Content-Type"] = "application/json"
            sent = json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        if idempotency_key is not None:
            extra["Idempotency-Key"] = idempotency_key
        fields = {"params": params, "content": sent, "total": total, "out_of_turn": out_of_turn}
        request = self._request(method, path, extra, timeout, **fields)
        try:
            return await self._retrying(request, attempts, idempotency_key)
        except ApiError as error:
            error.idempotency_key = idempotency_key
            raise

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        params: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        out_of_turn: bool = False,
    ) -> AsyncIterator[Streamed]:
        """GET a body as it comes; raises ApiError when the head of the answer is a refusal."""
        fields = {"params": params, "out_of_turn": out_of_turn}
        request = self._request("GET", path, headers or {}, timeout, **fields)
        asked_again = False
        while True:
            async with self.sender.stream(await self._authorized(request)) as streamed:
                self._learn(streamed.headers)
                if streamed.status == 401 and not asked_again and self._forget_token():
                    asked_again = True
                    continue
                if streamed.status not in (200, 206):
                    body = await read_body(streamed.chunks, request)
                    decode(request, Answer(streamed.status, streamed.headers, body))
                yield streamed
                return

    def close(self) -> None:
        """Refuse later requests. The connections belong to the client that made them."""
        self._closed = True

    async def _retrying(self, request: Request, attempts: int | None, key: str | None) -> Reply:
        if attempts == 1:
            return await self._once(request)

        def may_resend(error: BaseException) -> bool:
            replayed = key is not None and "idempotency" in self.features
            may = _may_resend(request.method, error, replayed=replayed)
            return may and _can_resend(request, error)

        retrying = tenacity.AsyncRetrying(
            sleep=self.io.sleep,
            retry=tenacity.retry_if_exception(may_resend),
            stop=tenacity.stop_after_attempt(attempts or self.config.max_retries + 1),
            wait=_retry_pause,
            reraise=True,
        )
        return await retrying(self._once, request)

    async def _once(self, request: Request) -> Reply:
        answer = await self.sender.send(await self._authorized(request))
        if answer.status == 401 and _unrepeatable(request) is None and self._forget_token():
            answer = await self.sender.send(await self._authorized(request))
        self._learn(answer.headers)
        if answer.status == 304:
            return Reply(304, None, answer.headers)
        return Reply(answer.status, decode(request, answer), answer.headers, len(answer.body))

    def _learn(self, headers: Mapping[str, str]) -> None:
        offered = headers.get(_FEATURES)
        if offered is not None:
            self.features = frozenset(name.strip() for name in offered.split(","))

    async def _authorized(self, request: Request) -> Request:
        if self._closed:
            raise OomolConnectError("the client is closed")
        if "authorization" in {name.lower() for name in self.config.default_headers}:
            return request
        if self._token is None and self.config.api_token is not None:
            self._token = await self._ask_for_token()
        if not self._token:
            return request
        authorization = self.config.authorization(self._token)
        return replace(request, headers={**request.headers, "Authorization": authorization})

    async def _ask_for_token(self) -> str:
        source = self.config.api_token
        return check_token(await self.io.call(source) if callable(source) else source)

    def _forget_token(self) -> bool:
        """Forget a token that was asked for, so that it is asked for again; a fixed one stays."""
        asked = callable(self.config.api_token) and self._token is not None
        if asked:
            self._token = None
        return asked

    def _request(
        self,
        method: str,
        path: str,
        extra: Mapping[str, str],
        timeout: float | None,
        **fields: Any,
    ) -> Request:
        headers = {
            "Accept": "application/json",
            "User-Agent": f"oomol-connect-sdk/{__version__}",
            **self.config.default_headers,
            **extra,
        }
        patience = timeout or self.config.timeout
        patience = min(patience, fields.get("total") or patience)
        return Request(method, self._absolute(path), headers, patience, **fields)

    def _absolute(self, path: str) -> str:
        base = self.config.base_url
        if not urlsplit(base).scheme:
            raise OomolConnectError(
                f"base_url {base!r} names no server: pass base_url='http://host:port/api' "
                "or set OOMOL_CONNECT_BASE_URL"
            )
        return base + path


def _unrepeatable(request: Request) -> str | None:
    content = request.content
    return None if content is None or isinstance(content, bytes) else content.unrepeatable


def _can_resend(request: Request, error: BaseException) -> bool:
    reason = _unrepeatable(request)
    if reason is not None and isinstance(error, ApiError):
        error.message += f" (it was not sent again: {reason})"
    return reason is None


def _may_resend(method: str, error: BaseException, *, replayed: bool) -> bool:
    """Tell whether a request can be sent again without being carried out twice.

    ``replayed`` says that the server answers a repeated create with the task of the first one.
    """
    if not isinstance(error, ApiError) or not error.transient:
        return False
    if method == "GET" or replayed:
        return True
    if isinstance(error, ConnectionFailedError):
        return not error.outcome_unknown
    return error.status in (429, 503) and error.retry_after is not None


def _retry_pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ApiError) else None
    jitter = random.uniform(0, min(8.0, 0.25 * 2**state.attempt_number))
    return max(jitter, min(asked or 0.0, MAX_RETRY_AFTER))
