"""A Connect server that does what a test tells it to: a real socket, scripted answers."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Iterator, List, Mapping, Union


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer. ``cut``: close after that many bytes of the body, 0 before the head."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Union[int, None] = None

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Call], Reply]


class ScriptedServer:
    """Answers ``METHOD /path`` from a table; the last answer of a list is repeated for ever."""

    def __init__(self) -> None:
        self.calls: List[Call] = []
        self._answers: Dict[str, List[Union[Reply, Answer]]] = {}
        self._lock = threading.Lock()
        self.url = ""

    def on(self, route: str, *answers: Union[Reply, Answer, Mapping[str, Any]]) -> None:
        self._answers[route] = [
            Reply(answer) if isinstance(answer, dict) else answer  # type: ignore[misc]
            for answer in answers
        ]

    def routes(self, route: str) -> List[Call]:
        return [call for call in self.calls if f"{call.method} {call.path}" == route]

    def answer(self, call: Call) -> Reply:
        with self._lock:
            self.calls.append(call)
            answers = self._answers.get(f"{call.method} {call.path}")
            if not answers:
                return Reply({"message": f"nothing at {call.path}"}, status=404)
            chosen = answers.pop(0) if len(answers) > 1 else answers[0]
        return chosen if isinstance(chosen, Reply) else chosen(call)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that gave up waiting has closed its end; anything else is a fault of the test.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Run a scripted server on a free loopback port."""
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._reply(
                script.answer(Call(self.command, self.path, headers, self.rfile.read(length)))
            )

        do_GET = do_POST = do_DELETE = _serve

        def _reply(self, reply: Reply) -> None:
            if reply.cut == 0:
                self.close_connection = True
                return
            body = reply.encoded()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if reply.cut is None else body[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/api"
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def task(status: str, task_id: str = "t1", **more: Any) -> Dict[str, Any]:
    """Return a task as the wire has it."""
    record = {
        "id": task_id,
        "project_id": "p_1",
        "manifest_path": "/app/workspace/flows/f/flow.oo.yaml",
        "status": status,
        "created_at": 1,
        "updated_at": 2,
    }
    return {**record, **more}


def log(row_id: Any, kind: str = "BlockLog", **event: Any) -> Dict[str, Any]:
    """Return a log row as the wire has it."""
    return {
        "id": row_id,
        "project_name": "p",
        "session_id": "s",
        "node_id": "n",
        "manifest_path": "/m",
        "type": kind,
        "event": {"type": kind, "session_id": "s", **event},
        "created_at": 3,
    }
