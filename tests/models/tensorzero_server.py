"""Real counterparts of the TensorZero service, all made of the ``tensorzero`` wheel.

`TensorZeroServer` serves ``/inference`` and ``/feedback`` over HTTP with the wheel's embedded
gateway behind it: both ends are real, only the framing between them is ours. `openai_route` is the
wheel's own HTTP server. The gateway asks the OpenAI-compatible server of `openai_server`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai_server import BREAK, Answer, Call, OpenAIServer, decent, event, head, respond

CONFIGURATION = """
[gateway]
unstable_disable_feedback_target_validation = true

[object_storage]
type = "disabled"

[models.m]
routing = ["local"]
[models.m.providers.local]
type = "openai"
model_name = "gpt-4o-mini"
api_base = "{upstream}/"
api_key_location = "none"

[models.keyed]
routing = ["local"]
[models.keyed.providers.local]
type = "openai"
model_name = "gpt-4o-mini"
api_base = "{upstream}/"
api_key_location = "dynamic::upstream_key"

[functions.chat]
type = "chat"
[functions.chat.variants.a]
type = "chat_completion"
model = "m"

[functions.facts]
type = "json"
output_schema = "facts.json"
[functions.facts.variants.a]
type = "chat_completion"
model = "m"
json_mode = "off"

[metrics.thumbs_up]
type = "boolean"
optimize = "max"
level = "inference"

[metrics.solved]
type = "boolean"
optimize = "max"
level = "episode"
"""


def configuration(directory: Path, upstream: str) -> Path:
    """Write a configuration whose models are at ``upstream``, an address with its ``/v1``."""
    (directory / "facts.json").write_text('{"type": "object"}')
    path = directory / "tensorzero.toml"
    path.write_text(CONFIGURATION.format(upstream=upstream))
    return path


class TensorZeroServer(OpenAIServer):
    """TensorZero's native routes; answers as scripted first, like every `OpenAIServer`."""

    def __init__(self, config: Path) -> None:
        super().__init__()
        from tensorzero import TensorZeroGateway

        self._gateway = TensorZeroGateway.build_embedded(config_file=str(config))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _let_in(self, call: Call, answer: Answer) -> Answer:
        allowed = super()._let_in(call, answer)
        return self._native if allowed is decent else allowed

    def _native(self, call: Call) -> Iterable[bytes]:
        from tensorzero import BaseTensorZeroError

        routes = {"/inference": self._gateway.inference, "/feedback": self._gateway.feedback}
        if call.method != "POST" or call.path not in routes:
            return respond({"error": f"Route not found: {call.method} {call.path}"}, 404)(call)
        try:
            answer: Any = routes[call.path](**call.json)
        except (BaseTensorZeroError, TypeError, ValueError) as error:
            return respond(*_error(error))(call)
        if call.json.get("stream"):
            return _stream(answer)
        return respond(plain(answer))(call)


@contextmanager
def tensorzero_server(config: Path) -> Iterator[TensorZeroServer]:
    """A running server, stopped in the end."""
    server = TensorZeroServer(config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def openai_route(config: Path) -> Iterator[str]:
    """The address of the wheel's own HTTP server, which has only OpenAI's routes.

    Its name is private and announced for removal: this is the only place that knows it.
    """
    from tensorzero import _start_http_gateway

    databases = {"clickhouse_url": None, "postgres_url": None, "valkey_url": None}
    gateway: Any = _start_http_gateway(config_file=str(config), async_setup=False, **databases)
    try:
        yield gateway.base_url
    finally:
        gateway.close()


def plain(value: Any) -> Any:
    """Return a dataclass of the wheel as the server writes it: without what is not there."""
    if dataclasses.is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: plain(item) for name, item in pairs if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value if isinstance(value, (str, int, float)) else str(value)


def _stream(chunks: Iterator[Any]) -> Iterator[bytes]:
    from tensorzero import BaseTensorZeroError

    yield head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
    try:
        for chunk in chunks:
            yield event(plain(chunk))
    except BaseTensorZeroError as error:
        yield event(_error(error)[0])
    yield b"data: [DONE]\n\n"
    yield BREAK


def _error(error: Exception) -> tuple[Any, int]:
    """Return the body and the status of an error; the gateway's own text is such a body."""
    status = getattr(error, "status_code", 400)
    text = getattr(error, "text", None)
    return (json.loads(text) if text else {"error": str(error)}), status
