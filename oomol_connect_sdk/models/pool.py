"""Many clients of model services on the same connections."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from typing_extensions import Self, Unpack

from .._io import drive
from .client import Models
from .config import resolved
from .face import async_face, blocking_face
from .options import ModelOptions, Settings
from .sync import SyncModels


class ModelPool:
    """Makes `Models` that share connections, each with an address and a key of its own.

    ::

        async with ModelPool() as pool:
            first = pool.client("dial+https://dial.example.com", api_key="…")
            second = pool.client("dial+https://dial.example.com", bearer_token="…")

    The connections last as long as the pool; closing one of its clients leaves them open.
    ``http_client`` is an `httpx.AsyncClient` to send with; it is not closed.
    """

    def __init__(self, http_client: Any = None) -> None:
        self._face = async_face(http_client)

    def client(self, url: str | None = None, /, **options: Unpack[ModelOptions]) -> Models:
        """Return a client for a service; the options are those of `Models`."""
        models = Models.__new__(Models)
        models._connect(_settings(url, options), self._face, owner=False)
        return models

    async def close(self) -> None:
        """Close the connections."""
        await self._face.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class SyncModelPool:
    """Makes `SyncModels` that share connections. See `ModelPool`.

    ``http_client`` is an `httpx.Client` to send with; it is not closed.
    """

    def __init__(self, http_client: Any = None) -> None:
        self._face = blocking_face(http_client)

    def client(self, url: str | None = None, /, **options: Unpack[ModelOptions]) -> SyncModels:
        """Return a client for a service; the options are those of `Models`."""
        models = SyncModels.__new__(SyncModels)
        models._connect(_settings(url, options), self._face, owner=False)
        return models

    def close(self) -> None:
        """Close the connections."""
        drive(self._face.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _settings(url: str | None, options: Any) -> Settings:
    if "http_client" in options:
        raise TypeError("http_client is an option of the pool, not of its clients")
    return Settings.of(resolved(options if url is None else {**options, "url": url}))
