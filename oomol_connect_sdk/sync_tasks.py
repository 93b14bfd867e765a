"""The tasks of the blocking face. See `tasks.py` and `handle.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Mapping, TypeVar

from ._io import BlockingIO, drive, iterate
from .batch import THREAD_LIMIT, BatchItem, OnItem, entries_of, limit_of, run_in_threads
from .files import FileInputs, PathLike
from .handle import TaskHandle
from .polling import PollingOptions
from .task_query import StatusFilter
from .tasks import TasksClient
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

Method = TypeVar("Method", bound=Callable[..., Any])


def documented_by(twin: Callable[..., Any]) -> Callable[[Method], Method]:
    """Give a blocking method the docstring of its asynchronous twin."""

    def copy(method: Method) -> Method:
        method.__doc__ = twin.__doc__
        return method

    return copy


class SyncTasksClient:
    """The tasks of a server, blocking. See `TasksClient`."""

    def __init__(self, tasks: TasksClient) -> None:
        self._tasks = tasks

    @documented_by(TasksClient.list)
    def list(
        self,
        *,
        status: StatusFilter | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ListTasksResponse:
        listing = self._tasks.list(status=status, labels=labels, limit=limit, cursor=cursor)
        return drive(listing)

    @documented_by(TasksClient.iterate)
    def iterate(
        self, *, status: StatusFilter | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Task]:
        return iterate(self._tasks.iterate(status=status, labels=labels))

    @documented_by(TasksClient.create)
    def create(self, request: CreateTaskRequest) -> TaskResponse:
        return drive(self._tasks.create(request))

    @documented_by(TasksClient.create_with_files)
    def create_with_files(
        self,
        block_id: str,
        input_values: TaskInputValues | None = None,
        files: FileInputs | None = None,
        *,
        on_upload: UploadCallback | None = None,
    ) -> TaskResponse:
        creation = self._tasks.create_with_files(block_id, input_values, files, on_upload=on_upload)
        return drive(creation)

    @documented_by(TasksClient.submit)
    def submit(self, request: CreateTaskRequest) -> SyncTaskHandle:
        return SyncTaskHandle(drive(self._tasks.submit(request)))

    @documented_by(TasksClient.rerun)
    def rerun(self, task_id: str) -> SyncTaskHandle:
        return SyncTaskHandle(drive(self._tasks.rerun(task_id)))

    @documented_by(TasksClient.handle)
    def handle(self, task_id: str) -> SyncTaskHandle:
        return SyncTaskHandle(self._tasks.handle(task_id))

    @documented_by(TasksClient.get)
    def get(self, task_id: str) -> Task:
        return drive(self._tasks.get(task_id))

    @documented_by(TasksClient.stop)
    def stop(self, task_id: str) -> TaskResponse:
        return drive(self._tasks.stop(task_id))

    @documented_by(TasksClient.delete)
    def delete(self, task_id: str) -> None:
        drive(self._tasks.delete(task_id))

    @documented_by(TasksClient.get_logs)
    def get_logs(self, task_id: str) -> List[TaskLog]:
        return drive(self._tasks.get_logs(task_id))

    @documented_by(TasksClient.wait_for_completion)
    def wait_for_completion(self, task_id: str, options: PollingOptions | None = None) -> Task:
        return drive(self._tasks.wait_for_completion(task_id, options))

    @documented_by(TasksClient.create_and_wait)
    def create_and_wait(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> Task:
        return drive(self._tasks.create_and_wait(request, polling_options))

    @documented_by(TasksClient.run)
    def run(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> RunResult:
        return drive(self._tasks.run(request, polling_options))

    @documented_by(TasksClient.run_with_files)
    def run_with_files(
        self,
        block_id: str,
        input_values: TaskInputValues | None = None,
        files: FileInputs | None = None,
        polling_options: PollingOptions | None = None,
        *,
        on_upload: UploadCallback | None = None,
    ) -> RunResult:
        run = self._tasks.run_with_files(
            block_id, input_values, files, polling_options, on_upload=on_upload
        )
        return drive(run)

    @documented_by(TasksClient.list_files)
    def list_files(self, task_id: str) -> ListFilesResponse:
        return drive(self._tasks.list_files(task_id))

    @documented_by(TasksClient.download)
    def download(self, task_id: str, name: str, target: PathLike) -> Path:
        return drive(self._tasks.download(task_id, name, target))

    @documented_by(TasksClient.read_file)
    def read_file(self, task_id: str, name: str) -> Iterator[bytes]:
        return iterate(self._tasks.read_file(task_id, name))

    @documented_by(TasksClient.as_completed)
    def as_completed(
        self,
        requests: Iterable[CreateTaskRequest],
        polling_options: PollingOptions | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[BatchItem]:
        yield from run_in_threads(
            lambda request: self.run(request, polling_options),
            entries_of(requests),
            limit_of(limit, THREAD_LIMIT),
        )

    @documented_by(TasksClient.map)
    def map(
        self,
        requests: Iterable[CreateTaskRequest],
        polling_options: PollingOptions | None = None,
        *,
        limit: int | None = None,
        fail_fast: bool = False,
        on_item: OnItem | None = None,
    ) -> List[BatchItem]:
        entries = list(requests)
        items: List[BatchItem] = []
        for item in self.as_completed(entries, polling_options, limit=limit):
            items.append(item)
            if on_item is not None:
                drive(BlockingIO().call(on_item, item, len(items), len(entries)))
            if fail_fast and item.error is not None:
                raise item.error
        return sorted(items, key=lambda item: item.index)


class SyncTaskHandle:
    """A task on the server, blocking. See `TaskHandle`."""

    def __init__(self, handle: TaskHandle) -> None:
        self.id = handle.id
        self._handle = handle

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @documented_by(TaskHandle.get)
    def get(self) -> Task:
        return drive(self._handle.get())

    @documented_by(TaskHandle.status)
    def status(self) -> str:
        return drive(self._handle.status())

    @documented_by(TaskHandle.stop)
    def stop(self) -> TaskResponse:
        return drive(self._handle.stop())

    @documented_by(TaskHandle.wait)
    def wait(self, options: PollingOptions | None = None) -> Task:
        return drive(self._handle.wait(options))

    @documented_by(TaskHandle.run_result)
    def run_result(self, options: PollingOptions | None = None) -> RunResult:
        return drive(self._handle.run_result(options))

    @documented_by(TaskHandle.result)
    def result(self, options: PollingOptions | None = None) -> Any:
        return drive(self._handle.result(options))

    @documented_by(TaskHandle.logs)
    def logs(self, options: PollingOptions | None = None) -> Iterator[TaskLog]:
        return iterate(self._handle.logs(options))

    @documented_by(TaskHandle.events)
    def events(self, options: PollingOptions | None = None) -> Iterator[Task]:
        return iterate(self._handle.events(options))
