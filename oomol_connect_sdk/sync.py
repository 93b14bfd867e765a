"""The blocking face: the same clients, for programs without an event loop.

Every method here runs the coroutine of the same name on the asynchronous client's code.
"""

from __future__ import annotations

from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ContextManager,
    Dict,
    Mapping,
    Sequence,
)

from typing_extensions import Unpack

from ._http import BlockingSender, Sender
from ._io import BlockingIO, drive
from .applets import AppletsClient
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
from .packages import PackagesClient
from .polling import PollingOptions
from .requests import send
from .sync_tasks import SyncTasksClient, documented_by
from .task_api import TaskApi
from .tasks import TasksClient
from .transport import Transport
from .types import (
    InstallTaskResponse,
    ListAppletsResponse,
    ListBlocksResponse,
    ListFlowsResponse,
    ListInstallTasksResponse,
    ListPackagesResponse,
    RunResult,
    TaskInputValues,
)
from .watching import DirectWatch

if TYPE_CHECKING:
    from .models import SyncModels


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
