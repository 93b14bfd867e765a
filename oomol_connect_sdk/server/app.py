"""The HTTP face: the Connect wire at ``/`` and at ``/api``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from .answers import (
    etag_of,
    failure,
    log_answer,
    not_modified,
    success,
    task_answer,
    task_row,
)
from .conditions import applied, matches, wait_of
from .creation import client_of, idempotency_key_of, task_request
from .engine.catalog import UnknownTarget
from .engine.errors import EngineError
from .engine.session import InputError
from .event_stream import HEADERS, event_stream
from .file_answers import file_answer
from .form import FormLimits
from .guard import Guard
from .inputs import InvalidInputs
from .json_body import json_object
from .long_answers import JSON_HEADERS, TASKS_AT_ONCE, all_tasks, whole_log
from .openapi import DOCUMENT
from .packages import (
    InvalidInstall,
    NotInstalled,
    PackageInUse,
    SourceNotAllowed,
    UnknownInstall,
)
from .page import page_answer
from .queries import cursor_of, selected_tasks, task_filter, whole_number
from .service import Accepted, KeyConflict, TaskNotEnded, TaskService, UnknownTask
from .store import is_full
from .streaming import StreamedAnswer, while_connected
from .task_files import UnknownFile
from .task_requests import InvalidOption

if TYPE_CHECKING:
    from .model_endpoint import ModelEndpoint

T = TypeVar("T")


@dataclass(frozen=True)
class HttpLimits:
    """What a client may ask of the HTTP face."""

    #: Bytes of a JSON body.
    body: int = 64 * 1024 * 1024
    form: FormLimits = field(default_factory=FormLimits)
    #: Seconds without an event after which an event stream says that it lives.
    heartbeat: float = 15


def create_app(
    service: TaskService,
    *,
    token: str | None,
    hosts: Iterable[str] | None,
    limits: HttpLimits | None = None,
    models: ModelEndpoint | None = None,
) -> ASGIApp:
    """Return the ASGI application of a service; the keywords but ``limits`` are the Guard's."""
    routes = _Endpoints(service, limits or HttpLimits()).routes()
    app = Starlette(
        routes=[*routes, Mount("/api", routes=routes)],
        exception_handlers={
            HTTPException: _http_error,
            InvalidInputs: _refuse(400),
            InvalidOption: _refuse(400),
            InputError: _refuse(400),
            UnknownTarget: _refuse(404),
            UnknownTask: _refuse(404),
            UnknownFile: _refuse(404),
            KeyConflict: _refuse(422),
            EngineError: _refuse(422),
            InvalidInstall: _refuse(400),
            SourceNotAllowed: _refuse(403),
            UnknownInstall: _refuse(404),
            NotInstalled: _refuse(404),
            PackageInUse: _refuse(409),
            TaskNotEnded: _refuse(409),
            ClientDisconnect: _gone,
            Exception: _internal_error,
        },
    )
    return Guard(app, token=token, hosts=hosts, models=models)


class _Endpoints:
    def __init__(self, service: TaskService, limits: HttpLimits) -> None:
        self._service = service
        self._limits = limits

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/flows", self.flows),
            Route("/v1/blocks", self.blocks),
            Route("/v1/events", self.events),
            Route("/v1/tasks", self.tasks, methods=["GET", "POST"]),
            Route("/v1/tasks/{task_id}", self.task, methods=["GET", "DELETE"]),
            Route("/v1/tasks/{task_id}/stop", self.stop, methods=["POST"]),
            Route("/v1/tasks/{task_id}/rerun", self.rerun, methods=["POST"]),
            Route("/v1/tasks/{task_id}/logs", self.logs),
            Route("/v1/tasks/{task_id}/files", self.files),
            Route("/v1/tasks/{task_id}/files/{name:path}", self.file),
            Route("/packages", self.packages),
            Route("/packages/install", self.installs, methods=["GET", "POST"]),
            Route("/packages/install/{install_id}", self.install),
            Route("/packages/{name:path}/{version}", self.uninstall, methods=["DELETE"]),
            Route("/doc", self.document),
            Route("/ui", self.page),
        ]

    async def document(self, _: Request) -> Response:
        return success(DOCUMENT)

    async def page(self, _: Request) -> Response:
        return page_answer()

    async def flows(self, _: Request) -> Response:
        return success({"flows": self._service.flows()})

    async def blocks(self, _: Request) -> Response:
        return success({"blocks": self._service.blocks()})

    async def packages(self, _: Request) -> Response:
        return success({"packages": self._service.packages()})

    async def installs(self, request: Request) -> Response:
        installer = self._service.installer
        if request.method == "POST":
            task = await installer.install(*await _wanted_package(request, self._limits.body))
            return success({"success": True, "taskId": task.id})
        return success({"success": True, "tasks": [task.row for task in installer.all()]})

    async def install(self, request: Request) -> Response:
        task = self._service.installer.get(request.path_params["install_id"])
        return success({"success": True, "task": task.row})

    async def uninstall(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params["version"]
        await self._service.installer.uninstall(name, version)
        return success({"success": True, "package": {"name": name, "version": version}})

    async def tasks(self, request: Request) -> ASGIApp:
        return await (self._create(request) if request.method == "POST" else self._list(request))

    async def _create(self, request: Request) -> Response:
        limits = self._limits
        uploads = self._service.uploads
        async with task_request(request, uploads, limits.body, limits.form) as wanted:
            return _accepted(await self._service.accept(wanted))

    async def rerun(self, request: Request) -> Response:
        accepted = await self._service.rerun(
            request.path_params["task_id"],
            client=client_of(request),
            idempotency_key=idempotency_key_of(request),
        )
        return _accepted(accepted)

    async def _list(self, request: Request) -> ASGIApp:
        limit = whole_number(request, "limit", least=1)
        wanted, cursor = task_filter(request), cursor_of(request)
        page = await self._service.page(wanted, cursor=cursor, limit=limit or TASKS_AT_ONCE)
        if limit is None and page.next_cursor is not None:
            return StreamedAnswer(all_tasks(self._service, wanted, page), JSON_HEADERS)
        answer: dict[str, Any] = {"tasks": [task_row(task) for task in page.tasks]}
        if page.next_cursor is not None:
            answer["nextCursor"] = str(page.next_cursor)
        return success(answer)

    async def task(self, request: Request) -> Response:
        return await (self._remove(request) if request.method == "DELETE" else self._get(request))

    async def _get(self, request: Request) -> Response:
        wait = wait_of(request)
        held = self._service.get_changed(
            request.path_params["task_id"],
            known=lambda task: matches(request, etag_of(task)),
            patience=wait or 0,
        )
        task = await _unless_gone(request, held, wait)
        if task is None:
            return _nobody()
        if matches(request, etag_of(task)):
            return not_modified(task, applied(wait))
        return task_answer(task, applied(wait))

    async def _remove(self, request: Request) -> Response:
        return task_answer(await self._service.remove(request.path_params["task_id"]))

    async def stop(self, request: Request) -> Response:
        return task_answer(await self._service.stop(request.path_params["task_id"]))

    async def logs(self, request: Request) -> ASGIApp:
        wait, limit = wait_of(request), whole_number(request, "limit", least=1)
        held = self._service.logs(
            request.path_params["task_id"],
            whole_number(request, "after") or 0,
            limit=limit,
            patience=wait or 0,
        )
        found = await _unless_gone(request, held, wait)
        if found is None:
            return _nobody()
        if not is_full(found[1]):
            return log_answer(*found, applied(wait))
        rows = whole_log(self._service, *found, limit)
        return StreamedAnswer(rows, {**JSON_HEADERS, **applied(wait)})

    async def events(self, request: Request) -> ASGIApp:
        client, task_ids, after, logs = selected_tasks(request)
        selection = await self._service.selection(client, task_ids, logs=logs)
        stream = event_stream(self._service, selection, after, self._limits.heartbeat)
        return StreamedAnswer(stream, HEADERS)

    async def files(self, request: Request) -> Response:
        files = await self._service.files(request.path_params["task_id"])
        entries = await asyncio.to_thread(files.entries)
        return success({"files": [asdict(entry) for entry in entries]})

    async def file(self, request: Request) -> ASGIApp:
        name = request.path_params["name"]
        files = await self._service.files(request.path_params["task_id"])
        path = await asyncio.to_thread(files.path, name)
        return file_answer(request, path, name)


def _accepted(accepted: Accepted) -> Response:
    headers = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
    return task_answer(accepted.task, headers, userID="local")


async def _wanted_package(request: Request, limit: int) -> tuple[str, str | None]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "The body must be JSON (Content-Type application/json).")
    body = await json_object(request, limit)
    name, version = body.get("name"), body.get("version")
    if not isinstance(name, str) or not isinstance(version, (str, type(None))):
        raise HTTPException(400, "An install needs a name, and perhaps a version, as strings.")
    return name, version


async def _unless_gone(
    request: Request, held: Coroutine[Any, Any, T], wait: int | None
) -> T | None:
    """Return what ``held`` returns; None when the client did not wait for it."""
    # Only an answer that is held outlasts its client's patience.
    return await while_connected(request.receive, held) if wait else await held


def _nobody() -> Response:
    """Return the answer to a client that has gone away."""
    return Response(status_code=204)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failure(error.status_code, error.detail, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return _nobody()


async def _internal_error(_: Request, __: Exception) -> Response:
    # Starlette raises the exception again after this answer; uvicorn logs it.
    return failure(500, "The server failed on this request; its log says why.")


def _refuse(status: int) -> Any:
    async def refuse(_: Request, error: Exception) -> Response:
        return failure(status, str(error))

    return refuse
