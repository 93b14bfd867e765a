"""The server's own OpenAI-compatible endpoint: blocks ask it, it asks the service it was given.

It has a key of its own, which the server gives to its workers and to nobody else: the token of
the server would let a block do much more than ask a model.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from ..errors import ApiError, NotSupported, OomolConnectError
from ..models import Models, Piece, Reply, ToolCallPiece
from .guard import MODELS
from .json_body import json_object

#: The package with the blocks that ask it.
BLOCKS = Path(__file__).with_name("model_blocks")

#: Bytes of a request: files travel inside.
MAX_BODY = 256 * 1024 * 1024

#: What this endpoint decides itself.
_OURS = ("model", "messages", "tools", "files", "stream", "stream_options")


class ModelEndpoint:
    """Answers chat completions with the models of one service, whichever its protocol.

    ``options`` are those of `Models`; ``app`` answers below `MODELS`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._models = Models(**options)
        self._key = secrets.token_urlsafe(32)
        routes = [
            Route("/v1/models", self._answer_models),
            Route("/v1/chat/completions", self._answer_chat, methods=["POST"]),
        ]
        self.app: ASGIApp = Starlette(
            routes=[Mount(MODELS, routes=routes)],
            exception_handlers={HTTPException: _refused, ClientDisconnect: _gone},
        )

    def environment(self, base_url: str) -> dict[str, str]:
        """Return the variables by which blocks find it (``context.oomol_llm_env``)."""
        return {
            "OOMOL_LLM_BASE_URL": base_url + MODELS,
            "OOMOL_LLM_BASE_URL_V1": f"{base_url}{MODELS}/v1",
            "OOMOL_LLM_API_KEY": self._key,
            "OOMOL_LLM_MODELS": self._models.model or "",
        }

    def admits(self, authorization: str) -> bool:
        """Tell whether a request with this header comes from one of the server's blocks."""
        given = authorization.partition(" ")[2].strip().encode("latin-1")
        return hmac.compare_digest(given, self._key.encode())

    async def close(self) -> None:
        """Close the connections to the service."""
        await self._models.close()

    async def _answer_models(self, _: Request) -> Response:
        try:
            rows = await self._models.list()
        except NotSupported:
            default = self._models.model
            rows = [{"id": default, "object": "model"}] if default else []
        except OomolConnectError as error:
            return _failure(error)
        return JSONResponse({"object": "list", "data": rows})

    async def _answer_chat(self, request: Request) -> Response:
        body = await json_object(request, MAX_BODY)
        tools = body.get("tools") or []
        if not isinstance(body.get("messages"), list):
            raise HTTPException(400, "A chat completion needs messages, a list.")
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise HTTPException(400, "The tools must be a list of objects.")
        params = {name: value for name, value in body.items() if name not in _OURS}
        asked = {"model": body.get("model") or None, "tools": tools, **params}
        try:
            if body.get("stream"):
                return await self._streamed(body["messages"], asked)
            reply = await self._models.chat(body["messages"], **asked)
        except (OomolConnectError, TypeError, ValueError) as error:
            return _failure(error)
        return JSONResponse(_completion(reply))

    async def _streamed(self, messages: Any, asked: dict[str, Any]) -> Response:
        pieces = self._models.stream(messages, **asked)
        # What goes wrong before the first piece is answered with its status.
        first = await anext(pieces, None)
        return StreamingResponse(_events(first, pieces), media_type="text/event-stream")


async def _events(
    first: Piece | None, rest: AsyncGenerator[Piece, None]
) -> AsyncGenerator[str, None]:
    chunks = _Chunks()
    try:
        if first is not None:
            yield _event(chunks.of(first))
        async for piece in rest:
            yield _event(chunks.of(piece))
    except OomolConnectError as error:
        yield _event(_error(error))
    finally:
        await rest.aclose()
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n"


class _Chunks:
    """Writes the pieces of one answer as OpenAI's chunks."""

    def __init__(self) -> None:
        self._name = f"chatcmpl-{uuid.uuid4().hex}"
        self._calls: dict[str, int] = {}

    def of(self, piece: Piece) -> dict[str, Any]:
        if isinstance(piece.raw, dict) and "choices" in piece.raw:
            return piece.raw
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.tool_calls:
            delta["tool_calls"] = [self._call(call) for call in piece.tool_calls]
        return {
            "id": piece.id or self._name,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": piece.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": piece.finish}],
            "usage": _usage(piece),
        }

    def _call(self, call: ToolCallPiece) -> dict[str, Any]:
        index = call.index
        if index is None:
            # OpenAI's clients join by the index, which not every service has.
            index = self._calls.setdefault(call.id, len(self._calls))
        function = {"name": call.name or None, "arguments": call.arguments}
        return {"index": index, "id": call.id or None, "type": "function", "function": function}


def _completion(reply: Reply) -> dict[str, Any]:
    if isinstance(reply.raw, dict) and "choices" in reply.raw:
        return reply.raw
    finish = "tool_calls" if reply.tool_calls else reply.finish or "stop"
    choice = {"index": 0, "message": reply.message(), "finish_reason": finish}
    return {
        "id": reply.id or f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model,
        "choices": [choice],
        "usage": _usage(reply),
    }


def _usage(answer: Reply | Piece) -> dict[str, Any] | None:
    usage = answer.usage
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(_error(ValueError(error.detail)), error.status_code, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=204)


def _failure(error: Exception) -> Response:
    status = 400
    if isinstance(error, ApiError):
        # A key that the service refuses is not the block's.
        status = error.status if error.status in (400, 404, 409, 413, 422, 429) else 502
    headers = {}
    if isinstance(error, ApiError) and error.retry_after is not None:
        headers["Retry-After"] = str(int(error.retry_after + 0.999))
    return JSONResponse(_error(error), status, headers)


def _error(error: Exception) -> dict[str, Any]:
    kind = "invalid_request_error" if isinstance(error, (TypeError, ValueError)) else "api_error"
    return {"error": {"message": str(error), "type": kind, "param": None, "code": None}}
