"""Sockets of the blocking face that know when the whole exchange has to be over.

A timeout of a socket begins anew with every byte, and httpx reads the head of an answer in one
call: nothing but the socket itself can keep a deadline there.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Type

import httpcore
import httpx


class PunctualBackend(httpcore.NetworkBackend):
    """Opens sockets that wait no longer than the `until` their thread is in."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._sockets = httpcore.SyncBackend()
        self._mine = threading.local()

    @contextmanager
    def until(self, end: float | None) -> Iterator[None]:
        """Let the sockets that this thread uses in here wait to ``end`` at most (None: no limit).

        Whoever waits for longer gets httpcore's timeout error.
        """
        outer = getattr(self._mine, "end", None)
        self._mine.end = end
        try:
            yield
        finally:
            self._mine.end = outer

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect, to the end at most."""
        left = self.left(timeout, httpcore.ConnectTimeout)
        try:
            stream = self._sockets.connect_tcp(host, port, left, local_address, socket_options)
        except ValueError as error:
            # A name that can't be one.
            raise httpcore.ConnectError(str(error)) from error
        return _PunctualStream(stream, self)

    def left(self, timeout: float | None, late: Type[Exception]) -> float | None:
        """Return the timeout, shortened to what is left; raises ``late`` when nothing is."""
        end = getattr(self._mine, "end", None)
        if end is None:
            return timeout
        seconds: float = end - self._now()
        if seconds <= 0:
            raise late("the time for the whole answer is over")
        return seconds if timeout is None else min(timeout, seconds)


class PunctualTransport(httpx.HTTPTransport):
    """The transport of httpx on given sockets, for which it has no option."""

    def __init__(self, sockets: PunctualBackend, limits: httpx.Limits) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, limits=limits)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=sockets,
        )


class _PunctualStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, backend: PunctualBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._backend.left(timeout, httpcore.ConnectTimeout)
        secured = self._stream.start_tls(ssl_context, server_hostname, left)
        return _PunctualStream(secured, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
