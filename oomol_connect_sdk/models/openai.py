"""OpenAI-compatible services: chat completions and models over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, List

from .._io import closing
from ..answers import expect
from ..errors import ApiError, BadAnswerError
from .face import Face
from .http import HttpPort
from .options import Settings
from .service import ChatCall, Service
from .values import Piece, Reply, ToolCall, ToolCallPiece, Usage

_COMPLETION = "the chat completion"


class OpenAIService(Service):
    """Speaks ``POST /chat/completions`` and ``GET /models``."""

    name = "an OpenAI-compatible service"

    def __init__(self, settings: Settings, face: Face) -> None:
        super().__init__(settings, face)
        self._port = HttpPort(self.name, settings, face)
        self._knows_stream_options = True

    async def chat(self, call: ChatCall) -> Reply:
        """Ask for a whole completion."""
        answered = await self._port.request("POST", "/chat/completions", body=chat_body(call))
        return reply_of(answered.body, answered.request_id)

    async def stream(self, call: ChatCall) -> AsyncGenerator[Piece, None]:
        """Ask for a completion in pieces, and for its usage where the service knows how."""
        body = {**chat_body(call), "stream": True}
        if self._knows_stream_options and "stream_options" not in body:
            begun = False
            try:
                asking = {**body, "stream_options": {"include_usage": True}}
                async with closing(self._pieces(asking)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except ApiError as error:
                if begun or not _refuses_stream_options(error):
                    raise
                self._knows_stream_options = False
        async with closing(self._pieces(body)) as pieces:
            async for piece in pieces:
                yield piece

    async def list(self) -> List[dict[str, Any]]:
        """Return what ``GET /models`` says."""
        answered = await self._port.request("GET", "/models")
        rows: List[dict[str, Any]] = expect(answered.body, "data", list, "GET /models")
        return rows

    async def _pieces(self, body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
        async with closing(self._port.events("/chat/completions", body)) as events:
            async for chunk, headers in events:
                yield piece_of(chunk, headers)


def chat_body(call: ChatCall) -> dict[str, Any]:
    """Return the body of a chat completion request."""
    body: dict[str, Any] = {"model": call.model, "messages": list(call.messages), **call.params}
    if call.tools:
        body["tools"] = list(call.tools)
    return body


def _refuses_stream_options(error: ApiError) -> bool:
    return error.status in (400, 422) and "stream_options" in str(error.response)


def reply_of(body: Any, request_id: str | None) -> Reply:
    """Read a chat completion; BadAnswerError when it is none."""
    choices = expect(body, "choices", list, _COMPLETION)
    choice = choices[0] if choices else None
    message = expect(choice, "message", dict, _COMPLETION)
    items = _optional(message, "tool_calls", list) or ()
    return Reply(
        text=text_of(message.get("content")),
        tool_calls=tuple(_tool_call(item, number) for number, item in enumerate(items)),
        finish=_text(choice, "finish_reason") or None,
        usage=Usage.of(body.get("usage")),
        id=_text(body, "id") or None,
        model=_text(body, "model") or None,
        request_id=request_id,
        raw=body,
    )


def piece_of(chunk: Mapping[str, Any], headers: Mapping[str, str]) -> Piece:
    """Read one chunk of a streamed completion; one without choices may carry the usage.

    Of several choices the first one is read; the others are in ``raw``.
    """
    choice = _first(_optional(chunk, "choices", list) or [])
    delta = _optional(choice, "delta", dict) or {}
    return Piece(
        text=text_of(delta.get("content")),
        tool_calls=tuple(map(_tool_call_piece, _optional(delta, "tool_calls", list) or ())),
        finish=_text(choice, "finish_reason") or None,
        usage=Usage.of(chunk.get("usage")),
        id=_text(chunk, "id") or None,
        model=_text(chunk, "model") or None,
        request_id=headers.get("x-request-id"),
        raw=chunk,
    )


def text_of(content: Any) -> str:
    """Return the text of a message's content: text, or a list of parts."""
    if isinstance(content, str):
        return content
    if content is not None and not isinstance(content, list):
        raise _no_completion("content", content)
    texts = (part.get("text") for part in content or () if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _first(choices: Sequence[Any]) -> Any:
    """Return the choice with index 0: a chunk may hold a later one alone."""
    for choice in choices:
        if not isinstance(choice, dict):
            raise _no_completion("choices", choices)
        index = choice.get("index")
        if not isinstance(index, int) or index == 0:
            return choice
    return {}


def _tool_call(item: Any, number: int) -> ToolCall:
    function = expect(item, "function", dict, _COMPLETION)
    return ToolCall(
        _text(item, "id") or f"call_{number}",
        expect(function, "name", str, _COMPLETION),
        _arguments(function),
    )


def _tool_call_piece(item: Any) -> ToolCallPiece:
    function = _optional(item, "function", dict) or {}
    index = _optional(item, "index", int)
    return ToolCallPiece(index, _text(item, "id"), _text(function, "name"), _arguments(function))


def _arguments(function: Mapping[str, Any]) -> str:
    """Return the arguments as JSON text, which some services give decoded."""
    arguments = function.get("arguments")
    return json.dumps(arguments) if isinstance(arguments, dict) else _text(function, "arguments")


def _text(item: Any, key: str) -> str:
    text: str = _optional(item, key, str) or ""
    return text


def _optional(item: Any, key: str, kind: type) -> Any:
    """Return a member that may be missing or null; BadAnswerError for one of another kind."""
    if not isinstance(item, dict):
        raise _no_completion(key, item)
    value = item.get(key)
    if value is not None and not isinstance(value, kind):
        raise _no_completion(key, value)
    return value


def _no_completion(key: str, value: Any) -> BadAnswerError:
    shown = json.dumps(value)[:200]
    return BadAnswerError(f"{_COMPLETION} has an unusable {key!r}: {shown}", 200, value)
