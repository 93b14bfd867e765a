"""The HTTP face: the Connect wire at ``/`` and at ``/api``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from .answers import failure, log_answer, success, task_row
from .engine.catalog import UnknownTarget
from .engine.errors import EngineError
from .engine.session import InputError
from .guard import Guard
from .inputs import InvalidInputs
from .service import TaskService, UnknownTask

#: The keys clients name the block or flow by, one for each generation of the wire.
_TARGET_KEYS = ("manifest", "blockId", "flowName")
#: How deep the JSON of a request may be nested.
_DEPTH = 200
#: Bytes of JSON that are parsed on the event loop; more is left to a thread.
_QUICK = 256 * 1024


def create_app(
    service: TaskService,
    *,
    token: str | None,
    hosts: Iterable[str] | None,
    body_limit: int = 64 * 1024 * 1024,
) -> ASGIApp:
    """Return the ASGI application of a service.

    ``token`` and ``hosts`` are those of the Guard; ``body_limit`` is in bytes.
    """
    routes = _Endpoints(service, body_limit).routes()
    app = Starlette(
        routes=[*routes, Mount("/api", routes=routes)],
        exception_handlers={
            HTTPException: _http_error,
            InvalidInputs: _refuse(400),
            InputError: _refuse(400),
            UnknownTarget: _refuse(404),
            UnknownTask: _refuse(404),
            EngineError: _refuse(422),
            Exception: _internal_error,
        },
    )
    return Guard(app, token=token, hosts=hosts)


class _Endpoints:
    def __init__(self, service: TaskService, body_limit: int) -> None:
        self._service = service
        self._body_limit = body_limit

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/flows", self.flows),
            Route("/v1/blocks", self.blocks),
            Route("/v1/tasks", self.tasks, methods=["GET", "POST"]),
            Route("/v1/tasks/{task_id}", self.task),
            Route("/v1/tasks/{task_id}/stop", self.stop, methods=["POST"]),
            Route("/v1/tasks/{task_id}/logs", self.logs),
            Route("/packages", self.packages),
        ]

    async def flows(self, _: Request) -> Response:
        return success({"flows": self._service.flows()})

    async def blocks(self, _: Request) -> Response:
        return success({"blocks": self._service.blocks()})

    async def packages(self, _: Request) -> Response:
        return success({"packages": self._service.packages()})

    async def tasks(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._create(request)
        tasks = await self._service.list()
        return success({"tasks": [task_row(task) for task in tasks]})

    async def task(self, request: Request) -> Response:
        task = await self._service.get(request.path_params["task_id"])
        return success({"task": task_row(task), "success": True})

    async def stop(self, request: Request) -> Response:
        task = await self._service.stop(request.path_params["task_id"])
        return success({"task": task_row(task), "success": True})

    async def logs(self, request: Request) -> Response:
        after = _whole_number(request, "after")
        task, events = await self._service.logs(request.path_params["task_id"], after)
        return log_answer(task, events)

    async def _create(self, request: Request) -> Response:
        body = await _json_object(request, self._body_limit)
        task = await self._service.create(_target(body), body.get("inputValues"))
        return success({"task": task_row(task), "userID": "local", "success": True})


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failure(error.status_code, error.detail, error.headers)


async def _internal_error(_: Request, __: Exception) -> Response:
    # Starlette raises the exception again after this answer; uvicorn logs it.
    return failure(500, "The server failed on this request; its log says why.")


def _refuse(status: int) -> Any:
    async def refuse(_: Request, error: Exception) -> Response:
        return failure(status, str(error))

    return refuse


def _target(body: dict[str, Any]) -> str:
    given = {key: body[key] for key in _TARGET_KEYS if body.get(key) is not None}
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


def _whole_number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    # SQLite's integers end at 63 bits.
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise HTTPException(400, f"{name} must be a whole number, not {text!r}.")
    return int(text)


async def _json_object(request: Request, limit: int) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A web page can send other types across origins without asking; JSON it can't.
    if media_type != "application/json":
        raise HTTPException(415, "The body must be JSON, with the Content-Type application/json.")
    body = await _limited_body(request, limit)
    value = _parse(body) if len(body) <= _QUICK else await asyncio.to_thread(_parse, body)
    if not isinstance(value, dict):
        raise HTTPException(400, "The body must be a JSON object.")
    return value


async def _limited_body(request: Request, limit: int) -> bytes:
    too_large = HTTPException(413, f"The body is larger than the limit of {limit} bytes.")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise _too_deep() from error
    if body.count(b"[") + body.count(b"{") > _DEPTH:
        _check_depth(value)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _check_depth(value: Any) -> None:
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
    raise _too_deep()


def _too_deep() -> HTTPException:
    return HTTPException(400, f"The body is nested deeper than {_DEPTH} levels.")
