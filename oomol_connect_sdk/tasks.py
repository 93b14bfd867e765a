"""Run blocks and flows as tasks: create, look, stop, read logs, wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, List

from ._http import Transport
from .inputs import normalize_input_values
from .logs import result_of
from .polling import PollingOptions, Wait
from .task_api import TaskApi
from .types import (
    CreateTaskRequest,
    ListTasksResponse,
    RunResult,
    Task,
    TaskLog,
    TaskResponse,
)
from .waiting import TaskWait

_TARGET_KEYS = ("blockId", "manifest", "flowName")


class TasksClient:
    """The tasks of a server.

    ::

        result = await client.tasks.run(
            {"blockId": "audio-lab::text-to-audio", "inputValues": {"text": "hello"}}
        )
        print(result["result"])
    """

    def __init__(self, transport: Transport) -> None:
        self._api = TaskApi(transport)

    async def list(self) -> ListTasksResponse:
        """Return ``{"tasks": […]}``: all tasks the server knows."""
        answer: Any = await self._api.list()
        response: ListTasksResponse = answer
        return response

    async def create(self, request: CreateTaskRequest) -> TaskResponse:
        """Create a task and return it at once, as it is and under ``task``.

        ``request`` names what to run as ``blockId``, ``manifest`` or ``flowName`` and gives
        ``inputValues`` in any of the three input formats. It is sent again only when it surely
        did not arrive: a ConnectionFailedError with ``outcome_unknown`` says that it may have.
        """
        return await self._api.create(to_wire(request))

    async def get(self, task_id: str) -> Task:
        """Return the task as it is now."""
        return await self._api.get(task_id)

    async def stop(self, task_id: str) -> TaskResponse:
        """Ask the server to stop the task; one that is already over is left alone."""
        return await self._api.stop(task_id)

    async def get_logs(self, task_id: str) -> List[TaskLog]:
        """Return all rows of the task's log so far."""
        return await self._api.logs(task_id)

    async def wait_for_completion(
        self, task_id: str, options: PollingOptions | None = None
    ) -> Task:
        """Wait until the task is over and return it.

        Works for any task of the server, also for one that another program created. When the
        wait times out or is cancelled the task goes on, unless ``on_timeout`` or ``on_cancel``
        says ``stop``. Raises TaskFailedError, TaskStoppedError or TimeoutError; a server that
        is away for less than two minutes does not end the wait.
        """
        return await TaskWait(self._api, task_id, Wait.of(options, ending="detach")).completed()

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
        task = await wait.completed()
        return {
            "task_id": task["id"],
            "task": task,
            "logs": wait.logs,
            "result": result_of(task, wait.logs),
        }

    async def _start(
        self, request: CreateTaskRequest, options: PollingOptions | None, *, keep_logs: bool
    ) -> TaskWait:
        checked = Wait.of(options, ending="stop")
        created = await self.create(request)
        return TaskWait(self._api, created["id"], checked, keep_logs=keep_logs)


def to_wire(request: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the request body that every known server understands.

    Servers differ in the key that names what to run, so the name goes out as ``manifest`` and
    ``blockId``, and as ``flowName`` when it can be a flow's name.
    """
    if not isinstance(request, Mapping):
        raise TypeError(f"a task request must be a mapping, not {type(request).__name__}")
    unknown = [key for key in request if key not in (*_TARGET_KEYS, "inputValues")]
    if unknown:
        raise TypeError(
            f"unknown key {unknown[0]!r} in the task request; "
            f"the keys are {', '.join(_TARGET_KEYS)} and inputValues"
        )
    target = _target(request)
    body: Dict[str, Any] = {"manifest": target, "blockId": target}
    if "::" not in target:
        body["flowName"] = target
    if request.get("inputValues") is not None:
        body["inputValues"] = normalize_input_values(request["inputValues"])
    return body


def _target(request: Mapping[str, Any]) -> str:
    named = {key: request[key] for key in _TARGET_KEYS if request.get(key) is not None}
    if not named:
        raise ValueError(
            f"a task request needs one of {', '.join(_TARGET_KEYS)}: {dict(request)!r}"
        )
    targets = list(dict.fromkeys(named.values()))
    if len(targets) > 1:
        raise ValueError(f"the task request names different things to run: {named!r}")
    target = targets[0]
    if not isinstance(target, str) or not target.strip():
        raise TypeError(f"{next(iter(named))} must be non-empty text, not {target!r}")
    return target
