"""The task endpoints of the wire: one method a request, answers checked."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ._http import Transport, endpoint, expect
from .types import Task, TaskLog, TaskResponse


class TaskApi:
    """The endpoints below ``/v1/tasks``.

    ``total`` bounds the request in seconds, ``attempts`` is how often it is tried at most.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def list(self) -> Dict[str, Any]:
        """Return the answer with all tasks."""
        answer: Dict[str, Any] = await self.transport.request("GET", endpoint("v1", "tasks"))
        expect(answer, "tasks", list, "the task list")
        return answer

    async def create(self, body: Mapping[str, Any]) -> TaskResponse:
        """Create a task from a request that is ready for the wire."""
        answer = await self.transport.request("POST", endpoint("v1", "tasks"), body=body)
        return _with_task(answer, "the created task")

    async def get(
        self, task_id: str, *, total: float | None = None, attempts: int | None = None
    ) -> Task:
        """Return one task."""
        path = endpoint("v1", "tasks", task_id)
        answer = await self.transport.request("GET", path, total=total, attempts=attempts)
        return _task(answer, f"task {task_id}")

    async def stop(
        self, task_id: str, *, total: float | None = None, attempts: int | None = None
    ) -> TaskResponse:
        """Ask the server to stop a task."""
        path = endpoint("v1", "tasks", task_id, "stop")
        answer = await self.transport.request("POST", path, total=total, attempts=attempts)
        return _with_task(answer, f"the stopped task {task_id}")

    async def logs(
        self, task_id: str, *, total: float | None = None, attempts: int | None = None
    ) -> List[TaskLog]:
        """Return all rows of a task's log."""
        path = endpoint("v1", "tasks", task_id, "logs")
        answer = await self.transport.request("GET", path, total=total, attempts=attempts)
        rows: List[TaskLog] = expect(answer, "logs", list, f"the log of task {task_id}")
        return rows


def _task(answer: Any, where: str) -> Task:
    task: Task = expect(answer, "task", dict, where)
    expect(task, "id", str, where)
    expect(task, "status", str, where)
    return task


def _with_task(answer: Any, where: str) -> TaskResponse:
    task = _task(answer, where)
    merged: Any = {**task, **answer}
    response: TaskResponse = merged
    return response
