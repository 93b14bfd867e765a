"""The task endpoints of the wire: one method a request, answers checked."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from .answers import endpoint, expect
from .errors import ApiError
from .multipart import MultipartBody
from .transport import Transport
from .types import Task, TaskLog, TaskResponse

#: Seconds that an answer to a held request may take longer than it was held.
_HOLD_GRACE = 5.0


class TaskApi:
    """The endpoints below ``/v1/tasks``.

    ``total`` bounds a request in seconds, ``attempts`` is how often it is tried at most.
    """

    #: Log rows asked for at once, where the server has pages.
    LOG_PAGE = 5000

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def pages_logs(self) -> bool:
        """Whether the server gives a log from a row on, in pages."""
        return "logs-after" in self.transport.features

    async def list(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        total: float | None = None,
        attempts: int | None = None,
        out_of_turn: bool = False,
    ) -> Tuple[Dict[str, Any], int]:
        """Return the answer with the tasks and its size in bytes (0 when unknown).

        One that stands for many looks goes ``out_of_turn``: it does not queue behind them.
        """
        reply = await self.transport.exchange(
            "GET",
            endpoint("v1", "tasks"),
            params=params,
            total=total,
            out_of_turn=out_of_turn,
            attempts=attempts,
        )
        expect(reply.body, "tasks", list, "the task list")
        return reply.body, reply.size

    async def create(self, body: Mapping[str, Any], key: str) -> TaskResponse:
        """Create a task from a request that is ready for the wire; ``key`` names this creation."""
        return await self._create(key, endpoint("v1", "tasks"), body=body)

    async def create_with_files(self, body: MultipartBody, key: str) -> TaskResponse:
        """Create a task from a multipart body; ``key`` names this creation."""
        return await self._create(key, endpoint("v1", "tasks"), content=body)

    async def rerun(self, task_id: str, key: str) -> TaskResponse:
        """Create a task like an old one; ``key`` names this creation."""
        return await self._create(key, endpoint("v1", "tasks", task_id, "rerun"))

    async def get(
        self, task_id: str, *, total: float | None = None, attempts: int | None = None
    ) -> Task:
        """Return one task."""
        path = endpoint("v1", "tasks", task_id)
        answer = await self.transport.request("GET", path, total=total, attempts=attempts)
        return _task(answer, f"task {task_id}")

    async def look(
        self,
        task_id: str,
        *,
        total: float | None = None,
        hold: float | None = None,
        unless: str | None = None,
    ) -> Tuple[Task | None, str | None]:
        """Look at a task once; return it and the tag of this state where the server holds requests.

        With ``hold`` the server answers when the state is no more that of the tag ``unless``, or
        after that many seconds: then the task is None.
        """
        path = endpoint("v1", "tasks", task_id)
        headers = {}
        if hold is not None and unless is not None:
            headers = {"If-None-Match": unless, "Prefer": _wait(hold)}
        reply = await self.transport.exchange(
            "GET",
            path,
            headers=headers,
            total=total,
            timeout=_patience(hold),
            out_of_turn=hold is not None,
            attempts=1,
        )
        tag = reply.headers.get("etag") if "wait" in self.transport.features else None
        if tag is not None and not (tag.isascii() and tag.isprintable()):
            tag = None  # It could not be sent back.
        if reply.status == 304:
            return None, tag or unless
        return _task(reply.body, f"task {task_id}"), tag

    async def stop(
        self, task_id: str, *, total: float | None = None, attempts: int | None = None
    ) -> TaskResponse:
        """Ask the server to stop a task."""
        path = endpoint("v1", "tasks", task_id, "stop")
        answer = await self.transport.request("POST", path, total=total, attempts=attempts)
        return with_task(answer, f"the stopped task {task_id}")

    async def delete(self, task_id: str) -> None:
        """Remove a task that is over."""
        await self.transport.request("DELETE", endpoint("v1", "tasks", task_id))

    async def logs(
        self,
        task_id: str,
        *,
        after: int = 0,
        hold: float | None = None,
        total: float | None = None,
        attempts: int | None = None,
    ) -> List[TaskLog]:
        """Return rows of a task's log: those above ``after`` where the server can, else all.

        With ``hold`` the server answers when there is one, or after that many seconds.
        """
        path = endpoint("v1", "tasks", task_id, "logs")
        params = {"after": str(after), "limit": str(self.LOG_PAGE)} if self.pages_logs else None
        headers = {} if hold is None else {"Prefer": _wait(hold)}
        answer = await self.transport.request(
            "GET",
            path,
            params=params,
            headers=headers,
            total=total,
            timeout=_patience(hold),
            out_of_turn=hold is not None,
            attempts=attempts,
        )
        rows: List[TaskLog] = expect(answer, "logs", list, f"the log of task {task_id}")
        return rows

    async def _create(self, key: str, path: str, **content: Any) -> TaskResponse:
        headers = {"Oomol-Connect-Client": self.transport.client_id}
        try:
            answer = await self.transport.request(
                "POST", path, idempotency_key=key, headers=headers, **content
            )
            return with_task(answer, "the created task")
        except ApiError as error:
            error.idempotency_key = key
            raise


def _wait(hold: float) -> str:
    return f"wait={max(1, int(hold))}"


def _patience(hold: float | None) -> float | None:
    return None if hold is None else hold + _HOLD_GRACE


def with_task(answer: Any, where: str) -> TaskResponse:
    """Return the answer's task with the answer's own keys beside the task's."""
    task = _task(answer, where)
    merged: Any = {**task, **answer}
    response: TaskResponse = merged
    return response


def _task(answer: Any, where: str) -> Task:
    task: Task = expect(answer, "task", dict, where)
    expect(task, "id", str, where)
    expect(task, "status", str, where)
    return task
