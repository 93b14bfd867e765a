"""Reading JSON that a client sent, within limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

#: How deep the JSON of a request may be nested.
_DEPTH = 200
#: Bytes of JSON that are parsed on the event loop; more is left to a thread.
_QUICK = 256 * 1024


async def json_object(request: Request, limit: int) -> dict[str, Any]:
    """Return the object that is the body of a request, of at most ``limit`` bytes."""
    value = await parsed_json(await _limited_body(request, limit), "The body")
    if not isinstance(value, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return value


async def parsed_json(text: bytes, what: str) -> Any:
    """Return the value of a JSON text, which messages call ``what``."""
    if len(text) <= _QUICK:
        return _parse(text, what)
    return await asyncio.to_thread(_parse, text, what)


def check_announced_length(request: Request, limit: int) -> None:
    """Refuse a body that says beforehand that it is larger than ``limit`` bytes."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


async def _limited_body(request: Request, limit: int) -> bytes:
    check_announced_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body is larger than the limit of {limit} bytes.")


def _parse(text: bytes, what: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise HTTPException(400, f"{what} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise _too_deep(what) from error
    if text.count(b"[") + text.count(b"{") > _DEPTH:
        _check_depth(value, what)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _check_depth(value: Any, what: str) -> None:
    level = [value]
    for _ in range(_DEPTH):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise _too_deep(what)


def _too_deep(what: str) -> HTTPException:
    return HTTPException(400, f"{what} is nested deeper than {_DEPTH} levels.")
