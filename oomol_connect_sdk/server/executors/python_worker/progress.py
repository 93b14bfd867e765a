"""Progress reports of one job, at a pace that a server can take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Seconds between two reports of one job; the pace that blocks know from oocana.
PERIOD = 0.3


class ProgressThrottle:
    """Sends the first report at once, then the latest one per period.

    A report is the encoded message; ``send`` is called with ``lock`` held, on the reporting
    thread or on a timer's.
    """

    def __init__(self, send: Callable[[bytes], None], lock: threading.RLock) -> None:
        self._send = send
        self._lock = lock
        self._waiting: bytes | None = None
        self._timer: threading.Timer | None = None
        self._sent_at = float("-inf")

    def report(self, body: bytes) -> None:
        """Send this report now or, unless a later one comes, at the end of the period."""
        with self._lock:
            wait = self._sent_at + PERIOD - time.monotonic()
            self._waiting = body
            if wait <= 0:
                self.flush()
            elif self._timer is None:
                self._start_timer(wait)

    def flush(self) -> None:
        """Send the report that is held back, if there is one."""
        with self._lock:
            body, self._waiting = self._waiting, None
            self._stop_timer()
            if body is not None:
                self._sent_at = time.monotonic()
                self._send(body)

    def drop(self) -> None:
        """Forget the report that is held back."""
        with self._lock:
            self._waiting = None
            self._stop_timer()

    def _start_timer(self, wait: float) -> None:
        self._timer = threading.Timer(wait, self.flush)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
