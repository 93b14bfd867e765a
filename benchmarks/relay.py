"""A loopback port that passes everything on to a server, and counts the bytes that come back."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Iterator
from urllib.parse import urlsplit

PIECE = 1 << 16


class Relay:
    """What went through so far."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        #: Bytes from the server to its clients, heads of answers included.
        self.received = 0
        self._listener = listener
        self._port = port
        self._lock = threading.Lock()

    def accept(self) -> None:
        # The listener is shut down at the end.
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        # Either end may break off; the other then sees the end of its connection.
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(PIECE)
                if not piece:
                    break
                if counted:
                    with self._lock:
                        self.received += len(piece)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(url: str) -> Iterator[Relay]:
    """Pass on to the server at ``url``, from a port of its own."""
    port = urlsplit(url).port
    assert port is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        passing = Relay(listener, port)
        thread = threading.Thread(target=passing.accept, daemon=True)
        thread.start()
        try:
            yield passing
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
