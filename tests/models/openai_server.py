"""A small OpenAI-compatible server, with every quirk of real ones on demand.

Left alone it is a decent one: it answers ``Echo: …`` and calls the tools it is asked to call. What
`OpenAIServer.script` is given comes instead, one answer a request. Needs nothing but the standard
library, and can be run by itself: ``python openai_server.py PORT``.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Seconds after which a server that a test holds on to lets go.
PATIENCE = 30.0

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

MODELS = [
    {"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "somebody"},
    {"id": "text-only", "object": "model", "created": 2, "owned_by": "somebody"},
]

#: The end of an answer: the connection is broken.
BREAK = b""


@dataclass(frozen=True)
class Call:
    """One request as it arrived; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


#: Gives an answer as the bytes that go over the wire; one that ends with `BREAK` breaks off.
Answer = Callable[[Call], Iterable[bytes]]


class OpenAIServer:
    """Answers as scripted, else decently, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        #: The keys that are let in; everybody when it is None.
        self.keys: set[str] | None = None
        self.connections: set[socket.socket] = set()
        #: The most requests that were being answered at once.
        self.peak = 0
        self._busy = 0
        self._scripted: list[Answer] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address with its ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *answers: Answer) -> None:
        """Answer the next requests like this, one each; after them decently again."""
        self._scripted.extend(answers)

    def start(self, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _Listener(("127.0.0.1", port), handler)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and break all connections."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            connections = list(self.connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; fails the test when it never does."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "what was waited for did not come"
            time.sleep(0.005)

    def answer(self, call: Call) -> Iterator[bytes]:
        with self._lock:
            self.calls.append(call)
            scripted = self._scripted.pop(0) if self._scripted else decent
            self._busy += 1
            self.peak = max(self.peak, self._busy)
        try:
            yield from self._let_in(call, scripted)(call)
        finally:
            with self._lock:
                self._busy -= 1

    def _let_in(self, call: Call, answer: Answer) -> Answer:
        key = call.headers.get("authorization", "").removeprefix("Bearer ")
        if self.keys is None or key in self.keys:
            return answer
        return failure(401, "Incorrect API key provided")

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections.discard(connection)


@contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """A running server, stopped in the end."""
    server = OpenAIServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def respond(body: Any, status: int = 200, **headers: str) -> Answer:
    """Answer with JSON, or with bytes as they are; ``_`` in a header's name stands for ``-``."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda call: [head(status, {"Content-Length": str(len(content)), **headers}) + content]


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """Answer with an error in OpenAI's shape."""
    error = {"message": message, "type": "an_error", "param": None, "code": code}
    return respond({"error": error}, status, **headers)


def broken(call: Call) -> Iterable[bytes]:
    """Break the connection instead of answering."""
    return [BREAK]


def completion(
    text: str | None = "Hello",
    *,
    tools: Iterable[tuple[str, Any]] = (),
    finish: str = "stop",
    usage: Any = USAGE,
    **more: Any,
) -> dict[str, Any]:
    """Return a chat completion; a tool is its name and arguments."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    calls = [tool_call(number, *tool) for number, tool in enumerate(tools)]
    if calls:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **({} if usage is None else {"usage": usage}),
        **more,
    }


def chunk(
    text: str | None = None,
    *,
    role: str | None = None,
    tools: list[Any] | None = None,
    finish: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return one chunk of a stream. Keywords go beside its ``choices``."""
    delta = {"role": role, "content": text, "tool_calls": tools}
    choice = {
        "index": 0,
        "delta": {name: value for name, value in delta.items() if value is not None},
        "finish_reason": finish,
    }
    return {**_CHUNK, "choices": [choice], **more}


def usage_chunk(usage: Any = USAGE) -> dict[str, Any]:
    """Return OpenAI's own last chunk: usage without choices."""
    return {**_CHUNK, "choices": [], "usage": usage}


def tool_call(index: int | None, name: str | None, arguments: Any, id: str | None = "") -> Any:
    """Return a tool call, or a piece of one when its arguments are text."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": text}
    call = {
        "index": index,
        "id": f"call_{index}" if id == "" else id,
        "type": "function",
        "function": {key: value for key, value in function.items() if value is not None},
    }
    return {key: value for key, value in call.items() if value is not None}


def stream(*parts: Any, done: bool = True, cut: bool = False, **headers: str) -> Answer:
    """Answer with an event stream.

    A part is a chunk (a dict), bytes as they are, or a function that is called when its turn
    comes, such as the ``wait`` of an event. ``done`` sends ``[DONE]``, ``cut`` breaks off.
    """

    def answer(call: Call) -> Iterator[bytes]:
        about = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        yield head(200, {**about, **headers})
        for part in parts:
            if callable(part):
                part()
            else:
                yield _chunked(part if isinstance(part, bytes) else event(part))
        if cut:
            yield BREAK
            return
        if done:
            yield _chunked(b"data: [DONE]\n\n")
        yield b"0\r\n\r\n"

    return answer


def event(value: Any) -> bytes:
    """Return JSON as one event, its text unescaped."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = {"Content-Type": "application/json", "X-Request-Id": "req-1", **headers}
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Status\r\n{text}\r\n".encode()


def decent(call: Call) -> Iterable[bytes]:
    """Answer like any decent server.

    A user's line ``call NAME {"argument": …}`` has that tool called; the answer to its result is
    ``Tools: …``, to anything else ``Echo: …``.
    """
    if call.method == "GET" and call.path.endswith("/models"):
        return respond({"object": "list", "data": MODELS})(call)
    if call.method != "POST" or not call.path.endswith("/chat/completions"):
        return failure(404, f"Unknown request URL: {call.method} {call.path}")(call)
    body = call.json
    tools = list(_wanted_tools(body))
    text = None if tools else _said(body["messages"])
    finish = "tool_calls" if tools else "stop"
    if not body.get("stream"):
        return respond(completion(text, tools=tools, finish=finish))(call)
    parts = [chunk("", role="assistant")]
    for word in (text or "").split(" ") if text else ():
        parts.append(chunk(word if len(parts) == 1 else f" {word}"))
    for number, (name, arguments) in enumerate(tools):
        parts.append(chunk(tools=[tool_call(number, name, "")]))
        parts.append(chunk(tools=[tool_call(number, None, arguments, None)]))
    parts.append(chunk(finish=finish))
    if (body.get("stream_options") or {}).get("include_usage"):
        parts.append(usage_chunk())
    return stream(*parts)(call)


_CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini-2024",
}


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _wanted_tools(body: Any) -> Iterator[tuple[str, Any]]:
    if not body.get("tools") or body["messages"][-1]["role"] != "user":
        return
    for line in _text(body["messages"][-1]).splitlines():
        command, _, rest = line.partition(" ")
        name, _, arguments = rest.partition(" ")
        if command == "call":
            yield name, json.JSONDecoder().raw_decode(arguments or "{}")[0]


def _said(messages: list[Any]) -> str:
    if messages[-1]["role"] == "tool":
        results = []
        while messages[-1 - len(results)]["role"] == "tool":
            results.append(_text(messages[-1 - len(results)]))
        return "Tools: " + " | ".join(reversed(results))
    return "Echo: " + _text(messages[-1])


def _text(message: Any) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", f"[{part['type']}]") for part in content)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that is gone is the end of its connection only; all else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.owner.connected(self.connection)

    def finish(self) -> None:
        self.owner.disconnected(self.connection)
        super().finish()

    def do_GET(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self.rfile.read(size))
        answer = self.owner.answer(call)
        try:
            for piece in answer:
                if piece == BREAK:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                self.wfile.write(piece)
        finally:
            answer.close()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    alone = OpenAIServer()
    alone.start(int(sys.argv[1]))
    threading.Event().wait()
