"""TensorZero inside this process: the gateway of the ``tensorzero`` wheel.

The address names its configuration, ``tensorzero+file:///…/tensorzero.toml``; as in TensorZero
itself it may be a glob pattern over several files. The gateway reports usage counts to its makers
unless ``TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS`` is 1: opening it here sets that variable
for this process when it is not set. What it logs goes to standard output (``RUST_LOG=off`` for
silence). Wheels exist for Linux, Windows and macOS on Apple silicon.
"""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .._io import closing
from ..errors import ApiError, ConnectionFailedError, OomolConnectError
from .exchanges import Exchange, Observer
from .face import Face
from .http import Answered
from .options import Settings
from .tensorzero import TensorZeroService

ANALYTICS_SWITCH = "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS"


class EmbeddedTensorZeroService(TensorZeroService):
    """Like `TensorZeroService`, with the gateway inside this process.

    It is opened by the first call. It needs no ``api_key``; ``timeout`` is how long a call may
    take, a stream until its first piece. Calls are not sent again from here: the ``retries`` of
    the configuration decide. A stream that is left early the gateway still reads to its end.
    """

    _port: EmbeddedPort

    def _port_to_gateway(self) -> EmbeddedPort:
        for option in ("headers", "bearer_token"):
            if getattr(self.settings, option):
                raise ValueError(f"{option} is an option of services that are spoken to over HTTP")
        return EmbeddedPort(self.name, self.settings, self.face)

    async def close(self) -> None:
        """Close the gateway when it was opened; a later call opens it anew."""
        await self._port.close()


class EmbeddedPort:
    """Calls the wheel's gateway: its own blocking one, or its asynchronous one."""

    def __init__(self, name: str, settings: Settings, face: Face) -> None:
        self._name = name
        self._settings = settings
        self._face = face
        self._observer = Observer(settings, face)
        self._config = url2pathname(urlsplit(settings.base_url).path)
        self._gateway: Any = None
        self._opening = threading.Lock()

    async def request(self, method: str, path: str, *, body: Any = None) -> Answered:
        """Call what the path names and return its answer in the form it has over HTTP."""
        begun = self._face.io.now()
        record = self._record(method, path, body)
        try:
            answer = _plain(await self._called(path, body))
        except OomolConnectError as error:
            await self._tell(_failed(record, error), begun)
            raise
        await self._tell(replace(record, status=200, answer=answer), begun)
        return Answered(answer, {})

    async def events(
        self, path: str, body: Any
    ) -> AsyncGenerator[tuple[dict[str, Any], Mapping[str, str]], None]:
        """Call what the path names and give the chunks that come in the form of HTTP's events."""
        begun = self._face.io.now()
        record = self._record("POST", path, body)
        seen: list[Any] | None = [] if self._observer.listens else None
        try:
            chunks = await self._called(path, body)
            record = replace(record, status=200, answer=seen)
            async with closing(self._each(chunks)) as each:
                async for chunk in each:
                    item = _plain(chunk)
                    if seen is not None:
                        seen.append(item)
                    yield item, {}
        except OomolConnectError as error:
            record = _failed(record, error)
            raise
        finally:
            await self._tell(record, begun)

    async def close(self) -> None:
        """Close the gateway, if there is one."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            await self._finished(gateway.close)

    async def _called(self, path: str, body: Mapping[str, Any]) -> Any:
        gateway = self._gateway or await self._face.io.offload(self._open)
        called = gateway.feedback if path == "/feedback" else gateway.inference
        with _errors():
            return await self._finished(called, **body)

    async def _finished(self, called: Callable[..., Any], **arguments: Any) -> Any:
        result = called(**arguments)
        return await result if inspect.isawaitable(result) else result

    async def _each(self, chunks: Any) -> AsyncGenerator[Any, None]:
        with _errors():
            if self._face.blocking:
                for chunk in chunks:
                    yield chunk
            else:
                async for chunk in chunks:
                    yield chunk

    def _open(self) -> Any:
        with self._opening:
            self._gateway = self._gateway or self._opened()
            return self._gateway

    def _opened(self) -> Any:
        os.environ.setdefault(ANALYTICS_SWITCH, "1")
        tensorzero = _wheel()
        gateway: Any = tensorzero.TensorZeroGateway
        options: dict[str, Any] = {"timeout": self._settings.timeout}
        if not self._face.blocking:
            # This runs in a thread of its own, where there is nothing to await.
            gateway = tensorzero.AsyncTensorZeroGateway
            options["async_setup"] = False
        database = self._settings.special.get("clickhouse_url")
        try:
            return gateway.build_embedded(
                config_file=self._config, clickhouse_url=database, **options
            )
        except tensorzero.BaseTensorZeroError as error:
            message = f"TensorZero does not open with {self._config}: {error}"
            raise OomolConnectError(message) from error

    def _record(self, method: str, path: str, body: Mapping[str, Any]) -> Exchange:
        return Exchange(self._name, method, self._settings.base_url + path, {}, body)

    async def _tell(self, record: Exchange, begun: float) -> None:
        await self._observer.tell(replace(record, seconds=self._face.io.now() - begun))


def _wheel() -> Any:
    try:
        import tensorzero
    except ImportError as error:
        raise OomolConnectError(
            "the embedded TensorZero needs pip install 'oomol-connect-sdk[tensorzero]'"
        ) from error
    return tensorzero


def _plain(value: Any) -> Any:
    """Return an answer of the wheel, a dataclass, as the JSON it has over HTTP."""
    return json.loads(json.dumps(asdict(value), default=str))


def _failed(record: Exchange, error: OomolConnectError) -> Exchange:
    if isinstance(error, ApiError):
        record = replace(record, status=error.status or None)
    return replace(record, error=str(error))


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what the gateway raises as the errors that it would be over HTTP."""
    tensorzero = _wheel()
    try:
        yield
    except tensorzero.TensorZeroError as error:
        raise _refusal(error.status_code, error.text or "") from error
    except tensorzero.BaseTensorZeroError as error:
        if str(error).startswith("HTTP Error"):
            raise ConnectionFailedError(f"TensorZero did not answer: {error}") from error
        raise ApiError(f"TensorZero refused: {error}") from error
    except (TypeError, ValueError) as error:
        raise ApiError(f"TensorZero refused: {error}", 400) from error


def _refusal(status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    message = body.get("error") if isinstance(body, dict) else None
    return ApiError(message if isinstance(message, str) else text, status, body)
