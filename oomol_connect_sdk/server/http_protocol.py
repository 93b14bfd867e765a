"""HTTP connections that can't cost more than their worth: limits of uvicorn's faster parser.

uvicorn's parser in pure Python has a limit for headers; the one over httptools has none, and
neither bears a grudge against a client that connects and says nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes that may come without completing headers or bringing a part of a body.
HEAD_LIMIT = 64 * 1024
#: Seconds in which a connection must have sent the headers of its request.
HEAD_TIME = 30.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%s"
)
_MESSAGE = (
    b'{"success":false,"message":"The headers of the request are too large.",'
    b'"error":{"message":"The headers of the request are too large."}}'
)


class LimitedHttpProtocol(HttpToolsProtocol):
    """Ends a connection whose headers are too large or too slow.

    What counts are bytes that lead to nothing, so that endless trailers and chunk extensions are
    found as well. Headers that come in one read are as large as that at most.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._fruitless = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether that came to something."""
        self._fruitless += len(data)
        super().data_received(data)
        if self.transport.is_closing() or not self._fruitless:
            return
        if self._fruitless > HEAD_LIMIT:
            self._refuse()
        elif self._timer is None and self._has_answered:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._end_wait()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Note that a request was read."""
        self._fruitless = 0
        self._end_wait()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that a part of a body was read."""
        self._fruitless = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        self._fruitless = 0
        super().on_message_complete()

    @property
    def _has_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIME, self.transport.close)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        # An answer under way would be mixed with this one.
        if self._has_answered:
            self.transport.write(_TOO_LARGE % (len(_MESSAGE), _MESSAGE))
        self.transport.close()
