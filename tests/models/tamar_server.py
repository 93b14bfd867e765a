"""A real gRPC server that speaks Tamar Model Manager's protocol.

Left alone it answers like the OpenAI-compatible server of the tests: to messages in OpenAI's
words, or to a ``google`` provider's contents in Google's. What `TamarServer.script` is given comes
instead, one answer a call; what `TamarServer.script_batch` is given, one a batch.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import jwt
import openai_server
import trustme
from google.protobuf import json_format

from oomol_connect_sdk.models.tamar_wire import SERVICE, wire

#: Seconds after which a server that a test holds on to lets go.
PATIENCE = 30.0

#: The name in the certificate of a server with TLS.
TLS_NAME = "models.example.com"

GOOGLE_USAGE = {
    "prompt_token_count": 7,
    "candidates_token_count": 5,
    "total_token_count": 12,
}


@dataclass(frozen=True)
class Call:
    """One call as it arrived: its method, its message as a dict, its metadata.

    ``over`` is set when the call has ended, however it did.
    """

    method: str
    request: Mapping[str, Any]
    metadata: Mapping[str, str]
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def extra(self) -> Any:
        """What the provider is given."""
        return self.request["extra"]

    @property
    def claims(self) -> Any:
        """What the token says; it is not checked."""
        token = self.metadata["authorization"].removeprefix("Bearer ")
        return jwt.decode(token, options={"verify_signature": False})


#: A part of an answer: a message as a dict, a `Failure` to end with, or a function to call.
Part = Any
#: Gives the parts of an answer to a call.
Answer = Callable[[Call], Iterable[Part]]


@dataclass(frozen=True)
class Failure:
    """A gRPC status to end with, by its name."""

    code: str
    details: str = "the server says so"


class TamarServer:
    """Answers as scripted, else decently, and remembers what it was asked."""

    def __init__(self, *, tls: bool = False) -> None:
        self.calls: list[Call] = []
        #: The key that tokens must be made with, or the tokens that are let in; None lets in all.
        self.jwt_secret_key: str | None = None
        self.tokens: set[str] | None = None
        self._authority = trustme.CA() if tls else None
        self._scripted: list[Answer] = []
        self._scripted_batches: list[Answer] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address as `Models` takes it."""
        return f"tamar+grpc{'s' if self._authority else ''}://{self.address}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def root_certificates(self) -> bytes:
        """What a client trusts, in PEM."""
        assert self._authority is not None
        return self._authority.cert_pem.bytes()

    def script(self, *answers: Answer) -> None:
        """Answer the next calls like this, one each; after them decently again."""
        self._scripted.extend(answers)

    def script_batch(self, *answers: Answer) -> None:
        """Answer the next batches like this: a part is a whole ``ModelResponse``."""
        self._scripted_batches.extend(answers)

    def start(self, port: int = 0) -> None:
        messages = wire()
        handlers = {
            "Invoke": grpc.unary_stream_rpc_method_handler(
                self._invoke,
                messages.ModelRequestItem.FromString,
                messages.ModelResponseItem.SerializeToString,
            ),
            "BatchInvoke": grpc.unary_unary_rpc_method_handler(
                self._batch_invoke,
                messages.ModelRequest.FromString,
                messages.ModelResponse.SerializeToString,
            ),
        }
        unlimited = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._grpc = grpc.server(ThreadPoolExecutor(32), options=unlimited)
        self._grpc.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        address = f"127.0.0.1:{port}"
        if self._authority is None:
            self.port = self._grpc.add_insecure_port(address)
        else:
            self.port = self._grpc.add_secure_port(address, self._credentials(self._authority))
        self._grpc.start()

    def stop(self) -> None:
        """Close the port and break all calls."""
        self._grpc.stop(0).wait()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; fails the test when it never does."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "what was waited for did not come"
            time.sleep(0.005)

    def _credentials(self, authority: trustme.CA) -> grpc.ServerCredentials:
        issued = authority.issue_cert(TLS_NAME)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])

    def _invoke(self, message: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        call, answer = self._taken("Invoke", message, context, self._scripted, decent)
        for part in _played(answer, call, context):
            yield json_format.ParseDict(part, wire().ModelResponseItem())

    def _batch_invoke(self, message: Any, context: grpc.ServicerContext) -> Any:
        scripted = self._scripted_batches
        call, answer = self._taken("BatchInvoke", message, context, scripted, decent_batch)
        (part,) = _played(answer, call, context)
        return json_format.ParseDict(part, wire().ModelResponse())

    def _taken(
        self,
        method: str,
        message: Any,
        context: grpc.ServicerContext,
        scripted: list[Answer],
        usual: Answer,
    ) -> tuple[Call, Answer]:
        call = Call(method, as_dict(message), dict(context.invocation_metadata()))
        if not context.add_callback(call.over.set):
            call.over.set()
        with self._lock:
            self.calls.append(call)
            answer = scripted.pop(0) if scripted else usual
        if not self._lets_in(call):
            return call, fails("UNAUTHENTICATED", "this token is not good")
        return call, answer

    def _lets_in(self, call: Call) -> bool:
        token = call.metadata.get("authorization", "").removeprefix("Bearer ")
        if self.tokens is not None:
            return token in self.tokens
        if self.jwt_secret_key is None:
            return True
        try:
            jwt.decode(token, self.jwt_secret_key, ["HS256"], options={"require": ["exp"]})
        except jwt.InvalidTokenError:
            return False
        return True


@contextmanager
def tamar_server(*, tls: bool = False) -> Iterator[TamarServer]:
    """A running server, stopped in the end."""
    server = TamarServer(tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def as_dict(message: Any) -> Any:
    """Return a message as a dict, its numbers whole again where they were."""
    text = json_format.MessageToJson(message, preserving_proto_field_name=True)
    return json.loads(text)


def says(*parts: Part) -> Answer:
    """Answer with these parts."""
    return lambda call: parts


def fails(code: str, details: str = "the server says so") -> Answer:
    """Answer with a gRPC status."""
    return says(Failure(code, details))


def item(content: str = "Hello", raw: Any = None, usage: Any = None, **more: Any) -> Any:
    """Return a ``ModelResponseItem``; what is no text is written as JSON."""
    written = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in {"raw_response": raw, "usage": usage}.items()
        if value is not None
    }
    return {"content": content, **written, **more}


def google_raw(*parts: Any, finish: str | None = "STOP", **more: Any) -> Any:
    """Return a raw answer in Google's words."""
    content = {"role": "model", "parts": list(parts)}
    candidate = {"content": content, "finish_reason": finish, "index": 0}
    return {
        "candidates": [candidate],
        "response_id": "google-1",
        "model_version": "gemini-2024",
        **more,
    }


def function_call(name: str, **arguments: Any) -> Any:
    """Return a part with which a Google model calls a function."""
    return {"function_call": {"name": name, "args": arguments}}


def decent(call: Call) -> Iterable[Part]:
    """Answer like any decent service; see `openai_server.decent`."""
    return list(_answers(call.request))


def decent_batch(call: Call) -> Iterable[Part]:
    """Answer each request of a batch, the last one first."""
    items = [
        {**next(iter(_answers(request))), "custom_id": request["custom_id"]}
        for request in call.request["items"]
    ]
    return [{"request_id": call.metadata["x-request-id"], "items": items[::-1]}]


def _answers(request: Mapping[str, Any]) -> Iterator[Part]:
    extra = request["extra"]
    if "contents" in extra:
        yield from _google_answers(extra, bool(request.get("stream")))
        return
    body = {**extra, "stream": request.get("stream", False)}
    body["stream_options"] = {"include_usage": True}
    asked = openai_server.Call("POST", "/v1/chat/completions", {}, json.dumps(body).encode())
    answer = b"".join(openai_server.decent(asked))
    if not body["stream"]:
        whole = json.loads(answer.partition(b"\r\n\r\n")[2])
        text = whole["choices"][0]["message"]["content"] or ""
        yield item(text, whole, whole["usage"])
        return
    for event in re.findall(rb"data: (\{.*\})\n\n", answer):
        chunk = json.loads(event)
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        yield item(delta.get("content") or "", chunk, chunk.get("usage"))


def _google_answers(extra: Mapping[str, Any], stream: bool) -> Iterator[Part]:
    said = extra["contents"][-1]["parts"]
    results = [part["function_response"] for part in said if "function_response" in part]
    text = " ".join(part.get("text") or f"[{next(iter(part))}]" for part in said)
    lines = text.splitlines() if (extra.get("config") or {}).get("tools") else ()
    wanted = re.findall(r"^call (\S+) (\{.*\})$", "\n".join(lines), re.MULTILINE)
    if wanted:
        calls = [function_call(name, **json.loads(arguments)) for name, arguments in wanted]
        for some in [[call] for call in calls] if stream else [calls]:
            yield item("", google_raw(*some), GOOGLE_USAGE)
        return
    if results:
        text = "Tools: " + " | ".join(result["response"]["result"] for result in results)
    else:
        text = f"Echo: {text}"
    pieces = re.findall(r"\S+\s*", text) if stream else [text]
    for number, piece in enumerate(pieces, 1):
        is_last = number == len(pieces)
        raw = google_raw({"text": piece}, finish="STOP" if is_last else None)
        yield item(piece, raw, GOOGLE_USAGE if is_last else None)


def _played(answer: Answer, call: Call, context: grpc.ServicerContext) -> Iterator[Any]:
    for part in answer(call):
        if isinstance(part, Failure):
            context.abort(getattr(grpc.StatusCode, part.code), part.details)
        elif callable(part):
            part()
        else:
            yield part
