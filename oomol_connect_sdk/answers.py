"""Paths of requests, and what the answer to one means: JSON, or a typed error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time as wall_clock
from typing import Any, Dict
from urllib.parse import quote, urlsplit

from ._http import Answer, Request
from .errors import ApiError, BadAnswerError


def endpoint(*segments: str) -> str:
    """Join path segments, each quoted into exactly one segment.

    Raises ValueError for an empty segment, and for ``.`` and ``..``, which no quoting protects.
    """
    for segment in segments:
        if not isinstance(segment, str):
            raise TypeError(f"an id must be text, not {type(segment).__name__}: {segment!r}")
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is not an id")
    return "".join("/" + quote(segment, safe="") for segment in segments)


def decode(request: Request, answer: Answer) -> Any:
    """Return the JSON of a good answer; raise the ApiError that a bad one means."""
    where = f"{request.method} {urlsplit(request.url).path}"
    body = _json_or_text(answer.body)
    details: Dict[str, Any] = {
        "request_id": answer.headers.get("x-request-id"),
        "retry_after": _retry_after(answer.headers.get("retry-after")),
    }
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "nowhere")
        message = f"{where} was redirected to {target}: use that address as base_url"
        raise ApiError(message, answer.status, body, **details)
    if answer.status >= 400:
        message = _message(body) or f"{where} answered with HTTP status {answer.status}"
        raise ApiError(message, answer.status, body, **details)
    if isinstance(body, str):
        kind = answer.headers.get("content-type", "no content type")
        message = f"{where} answered {kind} instead of JSON: {body[:200]!r}"
        raise BadAnswerError(message, answer.status, body, **details)
    if isinstance(body, Mapping) and body.get("success") is False:
        message = _message(body) or f"{where} answered success: false"
        raise ApiError(message, answer.status, body, **details)
    return body


def expect(body: Any, key: str, kind: type, where: str) -> Any:
    """Return ``body[key]`` of an answer; BadAnswerError when it is missing or of another kind."""
    value = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(value, kind):
        shown = json.dumps(body)[:200]
        raise BadAnswerError(f"{where} answered without {key!r}: {shown}", 200, body)
    return value


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall_clock())
    except (TypeError, ValueError, OverflowError):
        return None


def _json_or_text(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(decoded, str) else decoded


def _message(body: Any) -> str | None:
    if isinstance(body, str):
        return body[:200].strip() or None
    if not isinstance(body, Mapping):
        return None
    nested = body.get("error")
    for text in (
        body.get("message"),
        nested.get("message") if isinstance(nested, Mapping) else nested,
        body.get("detail"),
    ):
        if isinstance(text, str) and text:
            return text
    return None
