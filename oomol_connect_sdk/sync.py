"""The blocking face: the same clients, for programs without an event loop.

Every method here runs the coroutine of the same name on the asynchronous client's code.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Sequence,
    TypeVar,
)

from typing_extensions import Unpack

from ._http import BlockingSender, Sender
from ._io import BlockingIO, drive, iterate
from .applets import AppletsClient
from .batch import THREAD_LIMIT, BatchItem, OnItem, entries_of, limit_of, run_in_threads
from .blocks import BlocksClient
from .client import OomolConnectClient
from .config import (
    ClientOptions,
    Config,
    applets_config,
    models_module,
    refuse_http_client,
    stranger,
)
from .files import FileInputs, PathLike
from .flows import FlowsClient
from .handle import TaskHandle
from .packages import PackagesClient
from .polling import PollingOptions
from .requests import send
from .task_api import TaskApi
from .task_query import StatusFilter
from .tasks import TasksClient
from .transport import Transport
from .types import (
    CreateTaskRequest,
    InstallTaskResponse,
    ListAppletsResponse,
    ListBlocksResponse,
    ListFilesResponse,
    ListFlowsResponse,
    ListInstallTasksResponse,
    ListPackagesResponse,
    ListTasksResponse,
    RunResult,
    Task,
    TaskInputValues,
    TaskLog,
    TaskResponse,
    UploadCallback,
)
from .watching import DirectWatch

if TYPE_CHECKING:
    from .models import SyncModels

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


class SyncFlowsClient:
    """The flows of a server, blocking. See `FlowsClient`."""

    def __init__(self, flows: FlowsClient) -> None:
        self._flows = flows

    @documented_by(FlowsClient.list)
    def list(self) -> ListFlowsResponse:
        return drive(self._flows.list())


class SyncBlocksClient:
    """The blocks of a server, blocking. See `BlocksClient`."""

    def __init__(self, blocks: BlocksClient) -> None:
        self._blocks = blocks

    @documented_by(BlocksClient.list)
    def list(self, include_all_versions: bool = False) -> ListBlocksResponse:
        return drive(self._blocks.list(include_all_versions))


class SyncPackagesClient:
    """The packages of a server, blocking. See `PackagesClient`."""

    def __init__(self, packages: PackagesClient) -> None:
        self._packages = packages

    @documented_by(PackagesClient.list)
    def list(self) -> ListPackagesResponse:
        return drive(self._packages.list())

    @documented_by(PackagesClient.install)
    def install(self, name: str, version: str | None = None) -> InstallTaskResponse:
        return drive(self._packages.install(name, version))

    @documented_by(PackagesClient.list_install_tasks)
    def list_install_tasks(self) -> ListInstallTasksResponse:
        return drive(self._packages.list_install_tasks())

    @documented_by(PackagesClient.get_install_task)
    def get_install_task(self, task_id: str) -> InstallTaskResponse:
        return drive(self._packages.get_install_task(task_id))

    @documented_by(PackagesClient.wait_for_install_completion)
    def wait_for_install_completion(
        self, task_id: str, options: PollingOptions | None = None
    ) -> InstallTaskResponse:
        return drive(self._packages.wait_for_install_completion(task_id, options))

    @documented_by(PackagesClient.install_and_wait)
    def install_and_wait(
        self,
        name: str,
        version: str | None = None,
        polling_options: PollingOptions | None = None,
    ) -> InstallTaskResponse:
        return drive(self._packages.install_and_wait(name, version, polling_options))

    @documented_by(PackagesClient.uninstall)
    def uninstall(self, name: str, version: str) -> None:
        drive(self._packages.uninstall(name, version))


class SyncAppletsClient:
    """Applets, blocking. See `AppletsClient`."""

    def __init__(self, applets: AppletsClient) -> None:
        self._applets = applets

    @documented_by(AppletsClient.list)
    def list(self) -> ListAppletsResponse:
        return drive(self._applets.list())

    @documented_by(AppletsClient.run)
    def run(
        self,
        applet_id: str,
        input_values: TaskInputValues | None = None,
        polling_options: PollingOptions | None = None,
    ) -> RunResult:
        return drive(self._applets.run(applet_id, input_values, polling_options))


class SyncOomolConnectClient:
    """The blocking client of a Connect server: `OomolConnectClient` without an event loop.

    ::

        with SyncOomolConnectClient(base_url="http://localhost:3000/api") as client:
            result = client.tasks.run({"blockId": "audio-lab::text-to-audio"})

    May be shared by several threads.
    """

    def __init__(
        self, options: ClientOptions | None = None, **keywords: Unpack[ClientOptions]
    ) -> None:
        config = Config.of(options, keywords)
        sender = BlockingSender(BlockingIO().now, config.http_client)
        self._connect(config, sender, owner=True)

    def _connect(self, config: Config, sender: Sender, *, owner: bool) -> None:
        self._config = config
        self._sender = sender
        self._owner = owner
        self._models: SyncModels | None = None
        self._transport = Transport(config, sender, BlockingIO())
        watch = DirectWatch(TaskApi(self._transport))
        tasks, blocks = TasksClient(self._transport, watch), BlocksClient(self._transport)
        self._directory = Transport(applets_config(config), sender, BlockingIO())
        self.tasks = SyncTasksClient(tasks)
        self.flows = SyncFlowsClient(FlowsClient(self._transport))
        self.blocks = SyncBlocksClient(blocks)
        self.packages = SyncPackagesClient(PackagesClient(self._transport))
        self.applets = SyncAppletsClient(AppletsClient(self._directory, tasks, blocks))

    @property
    def models(self) -> SyncModels:
        """The language models of the service that the option ``models`` names, blocking.

        See `OomolConnectClient.models`.
        """
        if self._models is None:
            self._models = models_module().SyncModels(**self._config.models)
        return self._models

    @classmethod
    @documented_by(OomolConnectClient.local)
    def local(
        cls,
        packages: PathLike | Sequence[PathLike],
        *,
        data_dir: PathLike | None = None,
        **options: Any,
    ) -> ContextManager[SyncOomolConnectClient]:
        from .local import sync_local_client

        return sync_local_client(packages, data_dir, options)

    @documented_by(OomolConnectClient.with_options)
    def with_options(self, **options: Unpack[ClientOptions]) -> SyncOomolConnectClient:
        refuse_http_client(options)
        twin = type(self).__new__(type(self))
        twin._connect(self._config.changed(options), self._sender, owner=False)
        return twin

    @documented_by(OomolConnectClient.request)
    def request(
        self,
        path: str,
        method: str = "GET",
        json_data: Any = None,
        data: Mapping[str, str] | None = None,
        files: FileInputs | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        return drive(send(self._transport, path, method, json_data, data, files, headers))

    @documented_by(OomolConnectClient.request_to_server)
    def request_to_server(
        self,
        server_url: str,
        path: str,
        method: str = "GET",
        json_data: Any = None,
        data: Mapping[str, str] | None = None,
        files: FileInputs | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        transport = Transport(stranger(self._config, server_url), self._sender, BlockingIO())
        return drive(send(transport, path, method, json_data, data, files, headers))

    @documented_by(OomolConnectClient.get_default_headers)
    def get_default_headers(self) -> Dict[str, str]:
        return dict(self._config.default_headers)

    @documented_by(OomolConnectClient.close)
    def close(self) -> None:
        if self._models is not None:
            self._models.close()
        self._transport.close()
        self._directory.close()
        if self._owner:
            drive(self._sender.close())

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

    @documented_by(OomolConnectClient.get_base_url)
    def get_base_url(self) -> str:
        return self._config.base_url
