"""A server on bare sockets, for answers that no decent HTTP server would give."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping

from scripted import log, task

#: Seconds after which a server that a test holds on to lets go.
PATIENCE = 30.0


@dataclass(frozen=True)
class RawCall:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


#: Gives the pieces of an answer; the connection is closed behind one that ends with `CLOSE`.
RawAnswer = Callable[[RawCall], Iterable[bytes]]

#: The end of an answer: the connection is closed.
CLOSE = b""


class RawServer:
    """Writes whatever pieces of bytes the answer function gives, as slowly as it gives them."""

    def __init__(self, answer: RawAnswer) -> None:
        self.calls: List[RawCall] = []
        #: Everything that ever came in, of all connections.
        self.received = b""
        self.port = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._connections: List[socket.socket] = []
        self._listener: Any = None
        self._thread: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def count(self, route: str) -> int:
        return sum(call.route == route for call in self.calls)

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._thread = threading.Thread(target=self._accept, args=[listener], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and break all connections; `start` opens the same port again."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def __enter__(self) -> RawServer:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A peer that is gone ends the connection, and so does the end of the server.
        with suppress(OSError):
            while True:
                call = self._read(connection)
                if call is None:
                    break
                piece = CLOSE
                for piece in self._answer(call):
                    connection.sendall(piece)
                if piece == CLOSE:
                    break
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _read(self, connection: socket.socket) -> Any:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        while len(body) < int(headers.get("content-length", "0")):
            body += self._more(connection)
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        call = RawCall(method, path, query, headers, body)
        with self._lock:
            self.calls.append(call)
        return call

    def _more(self, connection: socket.socket) -> bytes:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError
        with self._lock:
            self.received += piece
        return piece


def answer(value: Any, status: int = 200, **headers: str) -> bytes:
    """Return a proper answer; `value` is JSON, or bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = {"content-type": "application/json", "content-length": str(len(body))}
    lines.update({name.replace("_", "-"): text for name, text in headers.items()})
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


def dripping(data: bytes, pause: float = 0.05) -> Iterable[bytes]:
    """Give bytes one by one, each just before a client would lose its patience."""
    for number in range(len(data)):
        yield data[number : number + 1]
        time.sleep(pause)


class TaskTable:
    """A poll-only Connect server's tasks, each over after some looks, with a row for each look.

    ``faults`` gives the raw answers that come instead of the proper ones, per kind of request:
    ``create``, ``look``, ``logs``, ``list``, ``stop``.
    """

    def __init__(self, looks: int = 3, **faults: List[Iterable[bytes]]) -> None:
        self.looks: Dict[str, int] = {}
        self.stopped: List[str] = []
        self.features = ""
        self._limit = looks
        self._faults = faults
        self._lock = threading.Lock()

    def __call__(self, call: RawCall) -> Iterable[bytes]:
        kind, task_id = self.kind(call)
        with self._lock:
            faults = self._faults.get(kind)
            if faults:
                return faults.pop(0)
            if task_id and task_id not in self.looks:
                return [answer({"message": "no such task"}, 404)]
            return [self.good(kind, task_id)]

    def kind(self, call: RawCall) -> Any:
        parts = call.path.split("/")[4:]
        if not parts:
            return ("create" if call.method == "POST" else "list"), ""
        return (parts[1] if len(parts) > 1 else "look"), parts[0]

    def good(self, kind: str, task_id: str) -> bytes:
        value = self.value(kind, task_id)
        headers = {"oomol_connect_features": self.features} if self.features else {}
        return answer({**value, "success": True}, **headers)

    def value(self, kind: str, task_id: str) -> Dict[str, Any]:
        if kind == "create":
            task_id = f"t{len(self.looks)}"
            self.looks[task_id] = 0
            return {"task": task("created", task_id)}
        if kind == "list":
            return {"tasks": [self.task(known) for known in self.looks]}
        if kind == "look":
            self.looks[task_id] += 1
            return {"task": self.task(task_id)}
        if kind == "stop":
            self.stopped.append(task_id)
            return {"task": task("stopped", task_id)}
        return {"logs": self.rows(task_id)}

    def task(self, task_id: str) -> Dict[str, Any]:
        over = self.looks[task_id] >= self._limit
        return task("completed" if over else "running", task_id)

    def rows(self, task_id: str) -> List[Any]:
        looks = self.looks[task_id]
        rows = [log(number, log=str(number)) for number in range(1, looks + 1)]
        if looks >= self._limit:
            rows.append(log(looks + 1, "BlockFinished", job_id="j", result={"of": task_id}))
        # Newest first and one of them twice: no order can be relied on.
        return rows[::-1] + rows[:1]
