"""gRPC calls on both faces, and what gRPC's errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

from .._version import __version__
from ..errors import ApiError, BadAnswerError, ConnectionFailedError, OomolConnectError
from .face import Closable, Face
from .options import Settings
from .tamar_wire import SERVICE, wire

Metadata = Sequence[tuple[str, str]]

#: What a gRPC status is in HTTP's words. A cancellation that is not the caller's passes by.
_HTTP_STATUS = {
    "CANCELLED": 503,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}

#: The states of a service that pass by. An error inside of it may well have cost money already.
_PASSING = frozenset(
    {"ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
)


class Calls(Closable, Protocol):
    """The two calls of the service, on one face."""

    def invoke(self, item: Any, metadata: Metadata, timeout: float) -> AsyncGenerator[Any, None]:
        """Send one request and give the messages of its answer; raises grpc.RpcError."""
        ...

    async def batch_invoke(self, request: Any, metadata: Metadata, timeout: float) -> Any:
        """Send many requests and return their answer; raises grpc.RpcError."""
        ...


def calls_for(settings: Settings, face: Face) -> Calls:
    """Return the calls on the face's connection to this address, made when it is not there yet."""
    try:
        import grpc  # noqa: F401 - is it there?

        wire()
    except ImportError as error:
        raise OomolConnectError(
            f"Tamar Model Manager needs pip install 'oomol-connect-sdk[tamar]' ({error})"
        ) from error
    authority = settings.special.get("default_authority")
    roots = settings.special.get("root_certificates")
    key = (settings.base_url, authority, roots)
    if key not in face.connections:
        kind = _BlockingCalls if face.blocking else _AsyncCalls
        # Another thread may have been faster; a channel that was never used holds nothing.
        face.connections.setdefault(key, kind(settings.base_url, authority, roots))
    return cast(Calls, face.connections[key])


def may_pass(error: BaseException) -> bool:
    """Tell whether the same call may well succeed a little later."""
    if isinstance(error, BadAnswerError):
        return True
    return isinstance(error, ApiError) and status_name(error.__cause__) in _PASSING


def status_name(error: BaseException | None) -> str | None:
    """Return the name of the gRPC status that an exception carries; None for any other one."""
    import grpc

    if not isinstance(error, grpc.RpcError):
        return None
    name: str = error.code().name
    return name


def translated(error: Any, where: str, request_id: str) -> ApiError:
    """Return what a gRPC error means: an ApiError with the HTTP status that is closest."""
    code = error.code().name
    message = f"{where} failed with {code}: {error.details() or 'no details'}"
    if code == "UNAVAILABLE":
        failed = ConnectionFailedError(message)
        failed.request_id = request_id
        return failed
    return ApiError(message, _HTTP_STATUS.get(code, 500), request_id=request_id)


class _Connection:
    """What says that it was closed, when it was."""

    _closed = False

    @contextmanager
    def _open(self) -> Iterator[None]:
        import grpc

        if self._closed:
            raise _closed_error()
        try:
            yield
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if self._closed:
                raise _closed_error() from error
            raise


class _AsyncCalls(_Connection):
    """Channels of grpc.aio, one in each event loop that uses them."""

    def __init__(self, base_url: str, authority: str | None, roots: bytes | None) -> None:
        self._address = (base_url, authority, roots)
        self._channels: dict[asyncio.AbstractEventLoop, Any] = {}

    async def invoke(
        self, item: Any, metadata: Metadata, timeout: float
    ) -> AsyncGenerator[Any, None]:
        with self._open():
            call = self._here().unary_stream(*_method("Invoke"))(
                item, metadata=metadata, timeout=timeout
            )
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()

    async def batch_invoke(self, request: Any, metadata: Metadata, timeout: float) -> Any:
        with self._open():
            call = self._here().unary_unary(*_method("BatchInvoke"))
            return await call(request, metadata=metadata, timeout=timeout)

    async def close(self) -> None:
        self._closed = True
        channel = self._channels.pop(asyncio.get_running_loop(), None)
        if channel is not None:
            await channel.close()

    def _here(self) -> Any:
        from grpc import aio

        loop = asyncio.get_running_loop()
        if loop not in self._channels:
            living = {key: item for key, item in self._channels.items() if not key.is_closed()}
            self._channels = {**living, loop: _channel(aio, *self._address)}
        return self._channels[loop]


class _BlockingCalls(_Connection):
    """One channel of grpc, for all threads."""

    def __init__(self, base_url: str, authority: str | None, roots: bytes | None) -> None:
        import grpc

        self._channel = _channel(grpc, base_url, authority, roots)

    async def invoke(
        self, item: Any, metadata: Metadata, timeout: float
    ) -> AsyncGenerator[Any, None]:
        with self._open():
            call = self._channel.unary_stream(*_method("Invoke"))(
                item, metadata=metadata, timeout=timeout
            )
            try:
                for message in call:
                    yield message
            finally:
                call.cancel()

    async def batch_invoke(self, request: Any, metadata: Metadata, timeout: float) -> Any:
        with self._open():
            call = self._channel.unary_unary(*_method("BatchInvoke"))
            return call(request, metadata=metadata, timeout=timeout)

    async def close(self) -> None:
        self._closed = True
        self._channel.close()


def _closed_error() -> OomolConnectError:
    return OomolConnectError("the connection to Tamar Model Manager has been closed")


def _method(name: str) -> tuple[str, Any, Any]:
    messages = wire()
    if name == "Invoke":
        sent, came = messages.ModelRequestItem, messages.ModelResponseItem
    else:
        sent, came = messages.ModelRequest, messages.ModelResponse
    return f"/{SERVICE}/{name}", sent.SerializeToString, came.FromString


def _channel(module: Any, base_url: str, authority: str | None, roots: bytes | None) -> Any:
    import grpc

    scheme, _, target = base_url.partition("://")
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"oomol-connect-sdk/{__version__}"),
        # Files travel inside; the caller's own limit is max_file_size.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_permit_without_calls", 1),
        # After a failure a channel refuses calls for a while: no longer than our own retries wait.
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    if authority is not None:
        options.append(("grpc.default_authority", authority))
    if scheme == "grpc":
        return module.insecure_channel(target, options=options)
    return module.secure_channel(target, grpc.ssl_channel_credentials(roots), options=options)
