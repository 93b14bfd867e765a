"""One submitted task, to be waited for, listened to or stopped; also in another process."""

from __future__ import annotations

from typing import Any, AsyncGenerator

from .logs import is_ended, result_of
from .polling import PollingOptions, Wait
from .task_api import TaskApi
from .types import RunResult, Task, TaskLog, TaskResponse
from .waiting import TaskWait
from .watching import Watch


class TaskHandle:
    """A task on the server. Its ``id`` is all that is needed to take it up again.

    ::

        handle = await client.tasks.submit({"blockId": "audio-lab::text-to-audio"})
        async for row in handle.logs():
            print(row["type"])
        print(await handle.result())
    """

    def __init__(self, api: TaskApi, watch: Watch, task_id: str, *, own: bool) -> None:
        self.id = task_id
        self._api = api
        self._watch = watch
        self._own = own

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def get(self) -> Task:
        """Return the task as it is now."""
        return await self._api.get(self.id)

    async def status(self) -> str:
        """Return the task's status as it is now."""
        return (await self.get())["status"]

    async def stop(self) -> TaskResponse:
        """Ask the server to stop the task; one that is already over is left alone."""
        return await self._api.stop(self.id)

    async def wait(self, options: PollingOptions | None = None) -> Task:
        """Wait until the task is over and return it.

        The task goes on when the wait times out or is cancelled, unless ``on_timeout`` or
        ``on_cancel`` says ``stop``. Raises TaskFailedError, TaskStoppedError or TimeoutError.
        """
        return await self._new_wait(options).completed()

    async def run_result(self, options: PollingOptions | None = None) -> RunResult:
        """Wait like `wait` and return what ``run`` returns: id, task, log and result."""
        wait = self._new_wait(options, keep_logs=True)
        task = await wait.completed()
        return run_result(task, wait)

    async def result(self, options: PollingOptions | None = None) -> Any:
        """Wait like `wait` and return the values the task gave: handle → value."""
        return (await self.run_result(options))["result"]

    async def logs(self, options: PollingOptions | None = None) -> AsyncGenerator[TaskLog, None]:
        """Give every row of the task's log, from the first on and as they come, to its end."""
        wait = self._new_wait(options, hear_logs=True)
        try:
            over = False
            while not over:
                task, rows = await wait.step()
                over = is_ended(task)
                for row in rows:
                    yield row
        finally:
            wait.close()

    async def events(self, options: PollingOptions | None = None) -> AsyncGenerator[Task, None]:
        """Give the task each time it has changed, the last time when it is over.

        A task that failed ends the events and raises nothing.
        """
        wait = self._new_wait(options)
        try:
            last: Task | None = None
            while last is None or not is_ended(last):
                task, _ = await wait.step()
                if task != last:
                    yield task
                last = task
        finally:
            wait.close()

    def _new_wait(
        self,
        options: PollingOptions | None,
        *,
        keep_logs: bool = False,
        hear_logs: bool = False,
    ) -> TaskWait:
        return TaskWait(
            self._api,
            self._watch,
            self.id,
            Wait.of(options, ending="detach"),
            own=self._own,
            keep_logs=keep_logs,
            hear_logs=hear_logs,
        )


def run_result(task: Task, wait: TaskWait) -> RunResult:
    """Put together what a wait that kept the log found out."""
    return {
        "task_id": task["id"],
        "task": task,
        "logs": wait.logs,
        "result": result_of(task, wait.logs),
    }
