"""Run blocks and flows as tasks: create, look, stop, read logs, wait."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, AsyncGenerator, Dict, Iterable, List, Set

from ._io import closing
from .answers import endpoint
from .batch import ASYNC_LIMIT, BatchItem, OnItem, entries_of, limit_of, run_concurrently
from .config import TargetKey
from .downloads import TaskFiles
from .files import FileInputs, PathLike
from .handle import TaskHandle, run_result
from .inputs import normalize_input_values, to_json_value
from .logs import LogReader
from .multipart import MultipartBody
from .polling import PollingOptions, Wait
from .task_api import TaskApi
from .task_query import PAGE, StatusFilter, TaskQuery, next_cursor
from .transport import Transport
from .types import (
    CreateTaskRequest,
    ListFilesResponse,
    ListTasksResponse,
    RunResult,
    Task,
    TaskInputValues,
    TaskLog,
    TaskResponse,
    UploadCallback,
)
from .waiting import STOP_GRACE, TaskWait
from .watching import Watch, fetch_rows

_TARGET_KEYS = ("blockId", "manifest", "flowName")
_EXTRA_KEYS = ("priority", "labels", "deadline", "nodes", "useCache")


class TasksClient:
    """The tasks of a server.

    ::

        result = await client.tasks.run(
            {"blockId": "audio-lab::text-to-audio", "inputValues": {"text": "hello"}}
        )
        print(result["result"])
    """

    def __init__(self, transport: Transport, watch: Watch) -> None:
        self._api = TaskApi(transport)
        self._io = transport.io
        self._target_key = transport.config.target_key
        self._watch = watch
        self._files = TaskFiles(transport)

    async def list(
        self,
        *,
        status: StatusFilter | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ListTasksResponse:
        """Return ``{"tasks": […]}``: the tasks the server knows.

        ``status``: only those of this status, or of one of several; ``labels``: only those that
        have all of these. With ``limit`` a server that has pages, such as the local one, gives the
        newest so many, and a ``nextCursor`` when there are more, which as ``cursor`` gives the
        next ones; other servers give all. `iterate` goes through the pages.
        """
        query = TaskQuery.of(status, labels)
        answer, _ = await self._api.list(params=query.params(limit, cursor))
        listed: Any = {**answer, "tasks": query.chosen(answer["tasks"])}
        response: ListTasksResponse = listed
        return response

    async def iterate(
        self, *, status: StatusFilter | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Task, None]:
        """Give the tasks of `list` one by one, asked for page by page where the server has pages.

        Tasks that are created meanwhile may be missing.
        """
        query = TaskQuery.of(status, labels)
        cursor: str | None = None
        passed: Set[str] = set()
        while True:
            answer, _ = await self._api.list(params=query.params(PAGE, cursor))
            for task in query.chosen(answer["tasks"]):
                yield task
            cursor = next_cursor(answer, passed)
            if cursor is None:
                return

    async def create(self, request: CreateTaskRequest) -> TaskResponse:
        """Create a task and return it at once, as it is and under ``task``.

        ``request`` names what to run as ``blockId``, ``manifest`` or ``flowName`` and gives
        ``inputValues`` in any of the three input formats. It is sent again only when it surely
        did not arrive, or when the server is known to answer a repeated create with the first
        one's task: a ConnectionFailedError with ``outcome_unknown`` says that it may have arrived.
        """
        return await self._api.create(to_wire(request, self._target_key), _new_key())

    async def create_with_files(
        self,
        block_id: str,
        input_values: TaskInputValues | None = None,
        files: FileInputs | None = None,
        *,
        on_upload: UploadCallback | None = None,
    ) -> TaskResponse:
        """Create a task and upload files with it, streamed from where they are.

        A file is a path, ``bytes``, an open file, or ``(name, content)`` or ``(name, content,
        content_type)``, where ``str`` content is text; ``files`` is one of them, a list, or a
        mapping of names to contents. Open files are read from where they are and not closed.
        ``on_upload`` is called with the bytes sent so far and in all (None if unknown).
        """
        request: CreateTaskRequest = {"blockId": block_id}
        if input_values is not None:
            request["inputValues"] = input_values
        fields = _form_fields(to_wire(request, self._target_key))
        body = await MultipartBody.of(self._io, fields, files, on_upload)
        return await self._api.create_with_files(body, _new_key())

    async def submit(self, request: CreateTaskRequest) -> TaskHandle:
        """Create a task like `create` and return a handle of it."""
        created = await self.create(request)
        return TaskHandle(self._api, self._watch, created["id"], own=True)

    async def rerun(self, task_id: str) -> TaskHandle:
        """Create a task with the target, the inputs and the labels of an old one, like `submit`.

        The new task's ``rerunOf`` is the old one's id. Needs a server that can do it, such as the
        local one.
        """
        created = await self._api.rerun(task_id, _new_key())
        return TaskHandle(self._api, self._watch, created["id"], own=True)

    def handle(self, task_id: str) -> TaskHandle:
        """Return a handle of a task that exists, for instance one of another process."""
        endpoint(task_id)
        return TaskHandle(self._api, self._watch, task_id, own=False)

    async def get(self, task_id: str) -> Task:
        """Return the task as it is now."""
        return await self._api.get(task_id)

    async def stop(self, task_id: str) -> TaskResponse:
        """Ask the server to stop the task; one that is already over is left alone."""
        return await self._api.stop(task_id)

    async def delete(self, task_id: str) -> None:
        """Remove a task that is over, with its log and its files.

        For servers that offer it, such as the local one. ApiError with status 404 when there is
        no such task, and 409 when it is not over.
        """
        await self._api.delete(task_id)

    async def get_logs(self, task_id: str) -> List[TaskLog]:
        """Return all rows of the task's log so far."""
        reader = LogReader()
        await fetch_rows(self._api, task_id, reader, attempts=None)
        return reader.rows

    async def wait_for_completion(
        self, task_id: str, options: PollingOptions | None = None
    ) -> Task:
        """Wait until the task is over and return it.

        Works for any task of the server, also for one that another program created. When the
        wait times out or is cancelled the task goes on, unless ``on_timeout`` or ``on_cancel``
        says ``stop``. Raises TaskFailedError, TaskStoppedError or TimeoutError; a server that
        is away for less than two minutes does not end the wait.
        """
        checked = Wait.of(options, ending="detach")
        return await TaskWait(self._api, self._watch, task_id, checked).completed()

    async def create_and_wait(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> Task:
        """Create a task, wait until it is over and return it.

        When the wait times out or is cancelled the task is stopped, unless ``on_timeout`` or
        ``on_cancel`` says ``detach``. Raises what `create` and `wait_for_completion` raise.
        """
        wait = await self._start(request, polling_options, keep_logs=False)
        return await wait.completed()

    async def run(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> RunResult:
        """Create a task, wait until it is over and return its id, record, log and result.

        ``result["result"]`` maps each output handle to its value. Ends early like
        `create_and_wait` and raises the same errors.
        """
        wait = await self._start(request, polling_options, keep_logs=True)
        return run_result(await wait.completed(), wait)

    async def run_with_files(
        self,
        block_id: str,
        input_values: TaskInputValues | None = None,
        files: FileInputs | None = None,
        polling_options: PollingOptions | None = None,
        *,
        on_upload: UploadCallback | None = None,
    ) -> RunResult:
        """Create a task with files like `create_with_files` and wait for it like `run`."""
        checked = Wait.of(polling_options, ending="stop")
        # An upload that is cancelled is broken off; there is no task before it is whole.
        created = await self.create_with_files(block_id, input_values, files, on_upload=on_upload)
        wait = TaskWait(self._api, self._watch, created["id"], checked, own=True, keep_logs=True)
        return run_result(await wait.completed(), wait)

    async def list_files(self, task_id: str) -> ListFilesResponse:
        """Return ``{"files": […]}``: name, size and time of every file of the task.

        Needs a server that gives files out, such as the local one; so do the two below.
        """
        return await self._files.list(task_id)

    async def download(self, task_id: str, name: str, target: PathLike) -> Path:
        """Save a file of the task and return where it is.

        ``target`` is the path of the new file, or a directory that is there, in which the file
        then keeps its name. The file appears when it is whole, and replaces what was there. A
        broken connection is taken up where it broke. Raises ApiError, or OSError for trouble
        with the target.
        """
        return await self._files.download(task_id, name, target)

    async def read_file(self, task_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give the content of a file of the task piece by piece."""
        async with closing(self._files.read(task_id, name)) as pieces:
            async for piece in pieces:
                yield piece

    async def as_completed(
        self,
        requests: Iterable[CreateTaskRequest],
        polling_options: PollingOptions | None = None,
        *,
        limit: int | None = None,
    ) -> AsyncGenerator[BatchItem, None]:
        """Run many requests and give each as a `BatchItem` when it is over, failed ones too.

        At most ``limit`` tasks are under way at once; those of the highest ``priority`` are begun
        first. Giving the iteration up begins no more tasks and cancels the waits under way; those
        of the blocking client, which are in threads, go on to their end.
        """
        entries = entries_of(requests)
        batch = run_concurrently(
            lambda request: self.run(request, polling_options),
            entries,
            limit_of(limit, ASYNC_LIMIT),
        )
        try:
            async for item in batch:
                yield item
        finally:
            await batch.aclose()

    async def map(
        self,
        requests: Iterable[CreateTaskRequest],
        polling_options: PollingOptions | None = None,
        *,
        limit: int | None = None,
        fail_fast: bool = False,
        on_item: OnItem | None = None,
    ) -> List[BatchItem]:
        """Run many requests and return a `BatchItem` for each, in the order of the requests.

        The error of one is that item's ``error``; with ``fail_fast`` the first one is raised, as
        if the iteration of `as_completed` were given up. ``on_item`` is called with each item when
        it is over, and with how many are over and how many there are.
        """
        entries = list(requests)
        items: List[BatchItem] = []
        batch = self.as_completed(entries, polling_options, limit=limit)
        try:
            async for item in batch:
                items.append(item)
                if on_item is not None:
                    await self._io.call(on_item, item, len(items), len(entries))
                if fail_fast and item.error is not None:
                    raise item.error
        finally:
            await batch.aclose()
        return sorted(items, key=lambda item: item.index)

    async def _start(
        self, request: CreateTaskRequest, options: PollingOptions | None, *, keep_logs: bool
    ) -> TaskWait:
        checked = Wait.of(options, ending="stop")

        async def stop(created: TaskResponse) -> None:
            if checked.on_cancel == "stop":
                await self._api.stop(created["id"], total=STOP_GRACE, attempts=1)

        with self._watch.creating():
            created = await self._io.complete(self.create(request), stop, STOP_GRACE)
            return TaskWait(
                self._api,
                self._watch,
                created["id"],
                checked,
                known=created["task"],
                keep_logs=keep_logs,
            )


def to_wire(request: Mapping[str, Any], target_key: TargetKey = "all") -> Dict[str, Any]:
    """Return the request body that every known server understands.

    Servers differ in the key that names what to run, so the name goes out as ``manifest`` and
    ``blockId``, and as ``flowName`` when it can be a flow's name; or as ``target_key`` alone.
    """
    if not isinstance(request, Mapping):
        raise TypeError(f"a task request must be a mapping, not {type(request).__name__}")
    known = CreateTaskRequest.__annotations__
    unknown = [key for key in request if key not in known]
    if unknown:
        raise TypeError(
            f"unknown key {unknown[0]!r} in the task request; the keys are {', '.join(known)}"
        )
    target = _target(request)
    if target_key == "all":
        keys = ["manifest", "blockId"] + (["flowName"] if "::" not in target else [])
    else:
        keys = [target_key]
    body: Dict[str, Any] = dict.fromkeys(keys, target)
    for key in _EXTRA_KEYS:
        if request.get(key) is not None:
            body[key] = to_json_value(request[key], key)
    if request.get("inputValues") is not None:
        body["inputValues"] = normalize_input_values(request["inputValues"])
    return body


def _form_fields(body: Mapping[str, Any]) -> Dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, allow_nan=False)
        for name, value in body.items()
    }


def _new_key() -> str:
    return uuid.uuid4().hex


def _target(request: Mapping[str, Any]) -> str:
    named = {key: request[key] for key in _TARGET_KEYS if request.get(key) is not None}
    if not named:
        keys = ", ".join(_TARGET_KEYS)
        raise ValueError(f"a task request needs one of {keys}: {dict(request)!r}")
    if len(set(map(repr, named.values()))) > 1:
        raise ValueError(f"the task request names different things to run: {named!r}")
    key, target = next(iter(named.items()))
    if not isinstance(target, str) or not target.strip():
        raise TypeError(f"{key} must be non-empty text, not {target!r}")
    return target
