"""HTTP as installs need it: limits, redirects, retries, and a token that stays where it belongs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx
import tenacity

from .addresses import checked_address, origin, shown
from .errors import HttpRefused, InstallError

T = TypeVar("T")

_REDIRECTS = 5
_ATTEMPTS = 4
#: Seconds for one file, all attempts together.
_LONGEST = 1800
_LARGEST_JSON = 64 * 1024 * 1024
_CHUNK = 256 * 1024


class _Passing(Exception):
    """Trouble that may be gone at the next attempt."""


class Downloads:
    """A client for the length of one install.

    ``token`` is sent as a bearer token to the origin of ``token_address`` only. ``silence`` is
    how many seconds may pass without a byte.
    """

    def __init__(
        self, token_address: str = "", token: str | None = None, *, silence: float = 30
    ) -> None:
        self._origin = origin(token_address)
        self._token = token
        timeout = httpx.Timeout(silence, connect=10)
        self._http = httpx.AsyncClient(timeout=timeout, follow_redirects=False)

    async def __aenter__(self) -> Downloads:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def json(self, url: str) -> Any:
        """Return the JSON value at an address. Raises InstallError and HttpRefused."""

        async def read(answer: httpx.Response) -> bytes:
            body = bytearray()
            async for chunk in answer.aiter_bytes(_CHUNK):
                body += chunk
                _check_size(len(body), _LARGEST_JSON, url)
            return bytes(body)

        body = await self._get(url, {"Accept": "application/json"}, read)
        try:
            return await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError) as error:
            raise InstallError(f"{shown(url)} answered with no JSON: {error}") from error

    async def file(self, url: str, target: Path, limit: int) -> None:
        """Write what is at an address into a file. Raises InstallError and HttpRefused."""

        async def read(answer: httpx.Response) -> None:
            size = 0
            with target.open("wb") as file:
                async for chunk in answer.aiter_raw(_CHUNK):
                    size += len(chunk)
                    _check_size(size, limit, url)
                    file.write(chunk)

        # Raw, for the checksum is that of the archive as it is stored.
        await self._get(url, {"Accept-Encoding": "identity"}, read)

    async def _get(
        self, url: str, headers: dict[str, str], read: Callable[[httpx.Response], Awaitable[T]]
    ) -> T:
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
            reraise=True,
        )
        try:
            return await asyncio.wait_for(attempts(self._attempt, url, headers, read), _LONGEST)
        except asyncio.TimeoutError as error:
            raise InstallError(f"{shown(url)} took longer than {_LONGEST} s") from error
        except _Passing as error:
            raise InstallError(str(error)) from error

    async def _attempt(
        self, url: str, headers: dict[str, str], read: Callable[[httpx.Response], Awaitable[T]]
    ) -> T:
        try:
            async with self._answer(url, headers) as answer:
                return await read(answer)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise _Passing(f"{shown(url)} can't be had: {what}") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise InstallError(f"{shown(url)} can't be had: {error}") from error

    @asynccontextmanager
    async def _answer(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """Give the answer at the end of the redirects, its body not read yet."""
        address = checked_address(url)
        for _ in range(_REDIRECTS + 1):
            request = {**headers, **self._authorization(address)}
            async with self._http.stream("GET", address, headers=request) as answer:
                if not answer.has_redirect_location:
                    _check_status(answer)
                    yield answer
                    return
                target = urljoin(address, answer.headers["location"])
            address = checked_address(target, after=address)
        raise InstallError(f"{shown(url)} redirects more than {_REDIRECTS} times")

    def _authorization(self, address: str) -> dict[str, str]:
        if self._token is None or origin(address) != self._origin:
            return {}
        return {"Authorization": f"Bearer {self._token}"}


def _check_status(answer: httpx.Response) -> None:
    status = answer.status_code
    url = shown(str(answer.url))
    if status in (408, 425, 429) or status >= 500:
        raise _Passing(f"{url} answered with HTTP {status}")
    if status != 200:
        raise HttpRefused(f"{url} answered with HTTP {status}", status)


def _check_size(size: int, limit: int, url: str) -> None:
    if size > limit:
        raise InstallError(f"{shown(url)} is larger than the limit of {limit} bytes")
