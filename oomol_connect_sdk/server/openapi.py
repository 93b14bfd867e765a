"""The OpenAPI document of the HTTP face: what ``app.py`` routes, as data."""

from __future__ import annotations

from typing import Any

from .._version import __version__
from .openapi_schemas import SCHEMAS, STATUSES, TRUE, Schema, array, number, record, ref, text

Operation = dict[str, Any]


def _answer(description: str, schema: Schema, media_type: str = "application/json") -> Operation:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _operation(
    summary: str, answer: Operation, *parameters: Operation, description: str = "", **more: Any
) -> Operation:
    errors = {"$ref": "#/components/responses/Error"}
    operation = {"summary": summary, "parameters": [*parameters], **more}
    if description:
        operation["description"] = description
    return {**operation, "responses": {"200": answer, "default": errors}}


def _query(name: str, description: str, schema: Schema, **more: Any) -> Operation:
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


def _header(name: str, description: str, schema: Schema | None = None) -> Operation:
    return {"name": name, "in": "header", "description": description, "schema": schema or text()}


def _path(name: str, description: str = "") -> Operation:
    parameter = {"name": name, "in": "path", "required": True, "schema": text()}
    return {**parameter, **({"description": description} if description else {})}


def _body(**media_types: Schema) -> Operation:
    names = {"json": "application/json", "form": "multipart/form-data"}
    content = {names[kind]: {"schema": schema} for kind, schema in media_types.items()}
    return {"required": True, "content": content}


_TASK_ID = _path("task_id")
_TASK = _answer("The task.", record("task success", task=ref("Task"), success=TRUE))
_CREATED = _answer(
    "The task, which is on disk and will run.",
    record("task userID success", task=ref("Task"), userID=text(), success=TRUE),
)
_CLIENT = _header("Oomol-Connect-Client", "What the client calls itself; tags the task.")
_KEY = _header("Idempotency-Key", "Makes the request safe to send again.")
_PREFER = _header(
    "Prefer", "wait=N: hold the answer up to N seconds, at most 60, until there is something new."
)
_LIMIT = _query("limit", "At most so many.", number(minimum=1))
_AFTER = _query("after", "Only what has a higher id.", number(minimum=0))
_OPEN: dict[str, Any] = {"security": []}

PATHS: dict[str, dict[str, Operation]] = {
    "/v1/blocks": {
        "get": _operation(
            "List blocks",
            _answer("All versions of all blocks.", record("blocks", blocks=array(ref("Block")))),
        )
    },
    "/v1/flows": {
        "get": _operation(
            "List flows",
            _answer("All versions of all flows.", record("flows", flows=array(ref("Flow")))),
        )
    },
    "/v1/tasks": {
        "get": _operation(
            "List tasks",
            _answer(
                "Tasks, the newest first; nextCursor when there are more.",
                record("tasks", tasks=array(ref("Task")), nextCursor=text()),
            ),
            _query("status", f"Some of {', '.join(STATUSES)}, separated by commas.", text()),
            _query("client", "Only the tasks of this client.", text()),
            _query("label", "key:value; of several a task must have all.", array(text())),
            _LIMIT,
            _query("cursor", "The nextCursor of the answer before.", text()),
        ),
        "post": _operation(
            "Create a task",
            _CREATED,
            _KEY,
            _CLIENT,
            requestBody=_body(json=ref("CreateTask"), form=ref("CreateTaskForm")),
        ),
    },
    "/v1/tasks/{task_id}": {
        "get": _operation(
            "Look at a task",
            _TASK,
            _TASK_ID,
            _header("If-None-Match", "The ETag of an earlier answer: 304 while it is still so."),
            _PREFER,
        ),
        "delete": _operation(
            "Remove a task that has ended",
            _TASK,
            _TASK_ID,
            description="Its log, its files and its idempotency key go with it. 409 while it runs.",
        ),
    },
    "/v1/tasks/{task_id}/stop": {
        "post": _operation(
            "Stop a task", _TASK, _TASK_ID, description="One that has ended is left alone."
        )
    },
    "/v1/tasks/{task_id}/rerun": {
        "post": _operation(
            "Run the same again",
            _CREATED,
            _TASK_ID,
            _KEY,
            _CLIENT,
            description="A new task with the target, the inputs and the labels of this one.",
        )
    },
    "/v1/tasks/{task_id}/logs": {
        "get": _operation(
            "Read the log of a task",
            _answer(
                "Log rows, in order.",
                record("logs success", logs=array(ref("TaskLog")), success=TRUE),
            ),
            _TASK_ID,
            _AFTER,
            _LIMIT,
            _PREFER,
        )
    },
    "/v1/tasks/{task_id}/files": {
        "get": _operation(
            "List the files of a task",
            _answer("Files by name.", record("files", files=array(ref("TaskFile")))),
            _TASK_ID,
        )
    },
    "/v1/tasks/{task_id}/files/{name}": {
        "get": _operation(
            "Download a file of a task",
            _answer(
                "The file, or the range asked for (206).",
                {"type": "string", "format": "binary"},
                "application/octet-stream",
            ),
            _TASK_ID,
            _path("name", "May have slashes."),
            _header("Range", "One range of bytes."),
            _header("If-Range", "The ETag of the file the range is of."),
            _header("If-None-Match", "The ETag of an earlier answer."),
        )
    },
    "/v1/events": {
        "get": _operation(
            "Listen to tasks",
            _answer(
                "Server-sent events: log, with a log row and its task_id, and task, with a task.",
                text(),
                "text/event-stream",
            ),
            _query("client", "The tasks of this client, now and later.", text()),
            _query("task", "Id of a task; up to 500.", array(text())),
            _AFTER,
            _query("logs", "0 leaves log rows out.", text(enum=["0", "1"])),
            _header("Last-Event-ID", "Go on after this event.", number()),
        )
    },
    "/packages": {
        "get": _operation(
            "List packages",
            _answer(
                "All versions of all packages.",
                record("packages", packages=array(ref("Package"))),
            ),
        )
    },
    "/packages/install": {
        "get": _operation(
            "List installs",
            _answer(
                "Install tasks, the newest first.",
                record("success tasks", success=TRUE, tasks=array(ref("InstallTask"))),
            ),
        ),
        "post": _operation(
            "Install a package and what it needs",
            _answer(
                "Accepted, and carried out in the background.",
                record("success taskId", success=TRUE, taskId=text()),
            ),
            requestBody=_body(
                json=record(
                    "name",
                    name=text("A package of the registry; or a path or address where allowed."),
                    version=text("The latest when not given.", type=["string", "null"]),
                )
            ),
        ),
    },
    "/packages/install/{install_id}": {
        "get": _operation(
            "Look at an install",
            _answer(
                "The install task.",
                record("success task", success=TRUE, task=ref("InstallTask")),
            ),
            _path("install_id"),
        )
    },
    "/packages/{name}/{version}": {
        "delete": _operation(
            "Uninstall one version of a package",
            _answer(
                "It is gone.",
                record(
                    "success package",
                    success=TRUE,
                    package=record("name version", name=text(), version=text()),
                ),
            ),
            _path("name", "May have a slash, after its scope."),
            _path("version"),
        )
    },
    "/doc": {"get": _operation("Get this document", _answer("OpenAPI 3.1.", {}), **_OPEN)},
    "/ui": {"get": _operation("A page for people", _answer("HTML.", text(), "text/html"), **_OPEN)},
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "OOMOL Connect, local server",
        "version": __version__,
        "description": "Runs the blocks and flows of OOMOL packages as tasks.",
    },
    # Relative to this document, which is at /doc and at /api/doc.
    "servers": [{"url": "./"}],
    "security": [{"raw": []}, {"bearer": []}, {"key": []}],
    "paths": PATHS,
    "components": {
        "schemas": SCHEMAS,
        "responses": {"Error": _answer("It did not work; the message says why.", ref("Error"))},
        "securitySchemes": {
            "raw": {"type": "apiKey", "in": "header", "name": "Authorization"},
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    },
}
