"""The blocking face: the same clients, for programs without an event loop.

Every method here runs the coroutine of the same name on the asynchronous client's code.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable, ContextManager, List, Mapping, Sequence, TypeVar

from ._http import BlockingSender, Transport
from ._io import BlockingIO, drive
from .blocks import BlocksClient
from .client import OomolConnectClient, PathLike
from .config import AuthScheme, ClientOptions, Config
from .flows import FlowsClient
from .polling import PollingOptions
from .tasks import TasksClient
from .types import (
    CreateTaskRequest,
    ListBlocksResponse,
    ListFlowsResponse,
    ListTasksResponse,
    RunResult,
    Task,
    TaskLog,
    TaskResponse,
)

Method = TypeVar("Method", bound=Callable[..., Any])


def _documented_by(twin: Callable[..., Any]) -> Callable[[Method], Method]:
    def copy(method: Method) -> Method:
        method.__doc__ = twin.__doc__
        return method

    return copy


class SyncTasksClient:
    """The tasks of a server, blocking. See `TasksClient`."""

    def __init__(self, transport: Transport) -> None:
        self._tasks = TasksClient(transport)

    @_documented_by(TasksClient.list)
    def list(self) -> ListTasksResponse:
        return drive(self._tasks.list())

    @_documented_by(TasksClient.create)
    def create(self, request: CreateTaskRequest) -> TaskResponse:
        return drive(self._tasks.create(request))

    @_documented_by(TasksClient.get)
    def get(self, task_id: str) -> Task:
        return drive(self._tasks.get(task_id))

    @_documented_by(TasksClient.stop)
    def stop(self, task_id: str) -> TaskResponse:
        return drive(self._tasks.stop(task_id))

    @_documented_by(TasksClient.get_logs)
    def get_logs(self, task_id: str) -> List[TaskLog]:
        return drive(self._tasks.get_logs(task_id))

    @_documented_by(TasksClient.wait_for_completion)
    def wait_for_completion(self, task_id: str, options: PollingOptions | None = None) -> Task:
        return drive(self._tasks.wait_for_completion(task_id, options))

    @_documented_by(TasksClient.create_and_wait)
    def create_and_wait(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> Task:
        return drive(self._tasks.create_and_wait(request, polling_options))

    @_documented_by(TasksClient.run)
    def run(
        self, request: CreateTaskRequest, polling_options: PollingOptions | None = None
    ) -> RunResult:
        return drive(self._tasks.run(request, polling_options))


class SyncFlowsClient:
    """The flows of a server, blocking. See `FlowsClient`."""

    def __init__(self, transport: Transport) -> None:
        self._flows = FlowsClient(transport)

    @_documented_by(FlowsClient.list)
    def list(self) -> ListFlowsResponse:
        return drive(self._flows.list())


class SyncBlocksClient:
    """The blocks of a server, blocking. See `BlocksClient`."""

    def __init__(self, transport: Transport) -> None:
        self._blocks = BlocksClient(transport)

    @_documented_by(BlocksClient.list)
    def list(self, include_all_versions: bool = False) -> ListBlocksResponse:
        return drive(self._blocks.list(include_all_versions))


class SyncOomolConnectClient:
    """The blocking client of a Connect server: `OomolConnectClient` without an event loop.

    ::

        with SyncOomolConnectClient(base_url="http://localhost:3000/api") as client:
            result = client.tasks.run({"blockId": "audio-lab::text-to-audio"})

    May be shared by several threads.
    """

    def __init__(
        self,
        options: ClientOptions | None = None,
        *,
        base_url: str | None = None,
        api_token: str | None = None,
        auth_scheme: AuthScheme | None = None,
        default_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        self._config = Config.of(
            options,
            {
                "base_url": base_url,
                "api_token": api_token,
                "auth_scheme": auth_scheme,
                "default_headers": default_headers,
                "timeout": timeout,
                "max_retries": max_retries,
            },
        )
        io = BlockingIO()
        self._transport = Transport(self._config, BlockingSender(io.now), io)
        self.tasks = SyncTasksClient(self._transport)
        self.flows = SyncFlowsClient(self._transport)
        self.blocks = SyncBlocksClient(self._transport)

    @classmethod
    @_documented_by(OomolConnectClient.local)
    def local(
        cls,
        packages: PathLike | Sequence[PathLike],
        *,
        data_dir: PathLike | None = None,
        **options: Any,
    ) -> ContextManager[SyncOomolConnectClient]:
        from .local import sync_local_client

        return sync_local_client(packages, data_dir, options)

    @_documented_by(OomolConnectClient.close)
    def close(self) -> None:
        drive(self._transport.close())

    def __enter__(self) -> SyncOomolConnectClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._config.base_url!r})"

    @_documented_by(OomolConnectClient.get_base_url)
    def get_base_url(self) -> str:
        return self._config.base_url
