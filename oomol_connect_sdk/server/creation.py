"""From an HTTP request to the task it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .form import FormLimits, receive_form
from .json_body import json_object, parsed_json
from .task_requests import (
    CLIENT_LENGTH,
    KEY_LENGTH,
    TaskRequest,
    checked_name,
    task_options,
)
from .uploads import Upload, Uploads

#: The keys clients name the block or flow by, one for each generation of the wire.
_TARGET_KEYS = ("manifest", "blockId", "flowName")
#: Fields of a form that hold JSON.
_JSON_KEYS = ("inputValues", "priority", "labels", "deadline", "nodes", "useCache")


@contextlib.asynccontextmanager
async def task_request(
    request: Request, uploads: Uploads, body_limit: int, form_limits: FormLimits
) -> AsyncIterator[TaskRequest]:
    """Give what a request for a new task asks for.

    Files it brought are gone after the context, unless a task has taken them by then.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        yield _task_request(request, await json_object(request, body_limit))
    elif media_type == "multipart/form-data":
        session_id = str(uuid.uuid4())
        try:
            form = await receive_form(request, uploads.receive(session_id), form_limits)
            values = await _form_values(form.texts)
            yield _task_request(request, values, form.uploads, session_id)
        finally:
            await asyncio.to_thread(uploads.discard, session_id)
    else:
        raise HTTPException(
            415, "The body must be JSON (Content-Type application/json) or multipart/form-data."
        )


def client_of(request: Request) -> str | None:
    """Return what the client calls itself; raises InvalidOption."""
    name = "Oomol-Connect-Client"
    return checked_name(name, request.headers.get(name), CLIENT_LENGTH)


def idempotency_key_of(request: Request) -> str | None:
    """Return the key that makes a request safe to send again; raises InvalidOption."""
    name = "Idempotency-Key"
    return checked_name(name, request.headers.get(name), KEY_LENGTH)


def _task_request(
    request: Request,
    values: Mapping[str, Any],
    uploads: list[Upload] | None = None,
    session_id: str | None = None,
) -> TaskRequest:
    return TaskRequest(
        target=_target(values),
        input_values=values.get("inputValues"),
        options=task_options(values),
        uploads=uploads or (),
        session_id=session_id,
        client=client_of(request),
        idempotency_key=idempotency_key_of(request),
    )


async def _form_values(texts: Mapping[str, bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key in _TARGET_KEYS:
        if key in texts:
            values[key] = texts[key].decode("utf-8", "replace")
    for key in _JSON_KEYS:
        # A form can't leave a field out as easily as JSON can: empty is absent.
        if texts.get(key, b"").strip():
            values[key] = await parsed_json(texts[key], key)
    return values


def _target(values: Mapping[str, Any]) -> str:
    given = {key: values[key] for key in _TARGET_KEYS if values.get(key) is not None}
    if not given:
        raise HTTPException(400, "The request names nothing to run: it has no manifest or blockId.")
    for key, value in given.items():
        if not isinstance(value, str) or not value:
            raise HTTPException(400, f"{key} must be a string that names a block or flow.")
    if len(set(given.values())) > 1:
        pairs = ", ".join(f"{key} {value!r}" for key, value in given.items())
        raise HTTPException(400, f"The request names different things to run: {pairs}.")
    target: str = next(iter(given.values()))
    return target
