"""Run OOMOL blocks and flows from Python.

`OomolConnectClient` is the client of a Connect server, `SyncOomolConnectClient` the same for
programs without an event loop. Both can bring a server of their own along: see ``local``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .applets import AppletsClient as AppletsClient
    from .batch import BatchItem as BatchItem
    from .blocks import BlocksClient as BlocksClient
    from .client import OomolConnectClient as OomolConnectClient
    from .config import ClientOptions as ClientOptions
    from .errors import ApiError as ApiError
    from .errors import BadAnswerError as BadAnswerError
    from .errors import ConnectionFailedError as ConnectionFailedError
    from .errors import InstallFailedError as InstallFailedError
    from .errors import NotSupported as NotSupported
    from .errors import OomolConnectError as OomolConnectError
    from .errors import TaskFailedError as TaskFailedError
    from .errors import TaskStoppedError as TaskStoppedError
    from .errors import TimeoutError as TimeoutError
    from .errors import ToolError as ToolError
    from .files import FileInput as FileInput
    from .files import FileInputs as FileInputs
    from .flows import FlowsClient as FlowsClient
    from .handle import TaskHandle as TaskHandle
    from .packages import PackagesClient as PackagesClient
    from .polling import BackoffStrategy as BackoffStrategy
    from .polling import PollingOptions as PollingOptions
    from .sync import SyncOomolConnectClient as SyncOomolConnectClient
    from .sync_tasks import SyncTaskHandle as SyncTaskHandle
    from .tasks import TasksClient as TasksClient
    from .types import Applet as Applet
    from .types import AppletData as AppletData
    from .types import Block as Block
    from .types import CreateTaskRequest as CreateTaskRequest
    from .types import Flow as Flow
    from .types import FlowInputNode as FlowInputNode
    from .types import InputHandle as InputHandle
    from .types import InputValue as InputValue
    from .types import InstallTask as InstallTask
    from .types import InstallTaskResponse as InstallTaskResponse
    from .types import InstallTaskStatus as InstallTaskStatus
    from .types import ListAppletsResponse as ListAppletsResponse
    from .types import ListBlocksResponse as ListBlocksResponse
    from .types import ListFilesResponse as ListFilesResponse
    from .types import ListFlowsResponse as ListFlowsResponse
    from .types import ListInstallTasksResponse as ListInstallTasksResponse
    from .types import ListPackagesResponse as ListPackagesResponse
    from .types import ListTasksResponse as ListTasksResponse
    from .types import NodeInputs as NodeInputs
    from .types import Package as Package
    from .types import PackageDependency as PackageDependency
    from .types import RunAppletRequest as RunAppletRequest
    from .types import RunResult as RunResult
    from .types import Task as Task
    from .types import TaskFile as TaskFile
    from .types import TaskInputValues as TaskInputValues
    from .types import TaskLog as TaskLog
    from .types import TaskResponse as TaskResponse
    from .types import TaskStatus as TaskStatus
    from .types import UploadCallback as UploadCallback

_HOME_OF = {
    name: module
    for module, names in {
        "applets": "AppletsClient",
        "batch": "BatchItem",
        "blocks": "BlocksClient",
        "client": "OomolConnectClient",
        "config": "ClientOptions",
        "errors": "ApiError BadAnswerError ConnectionFailedError InstallFailedError "
        "NotSupported OomolConnectError TaskFailedError TaskStoppedError TimeoutError ToolError",
        "files": "FileInput FileInputs",
        "flows": "FlowsClient",
        "handle": "TaskHandle",
        "packages": "PackagesClient",
        "polling": "BackoffStrategy PollingOptions",
        "sync": "SyncOomolConnectClient",
        "sync_tasks": "SyncTaskHandle",
        "tasks": "TasksClient",
        "types": "Applet AppletData Block CreateTaskRequest Flow FlowInputNode InputHandle "
        "InputValue InstallTask InstallTaskResponse InstallTaskStatus "
        "ListAppletsResponse ListBlocksResponse ListFilesResponse ListFlowsResponse "
        "ListInstallTasksResponse ListPackagesResponse ListTasksResponse NodeInputs "
        "Package PackageDependency RunAppletRequest RunResult Task TaskFile "
        "TaskInputValues TaskLog TaskResponse TaskStatus UploadCallback",
    }.items()
    for name in names.split()
}

# TimeoutError is left out: a star import must not shadow the builtin one, which it is as well.
__all__ = sorted({*_HOME_OF, "__version__"} - {"TimeoutError"})


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_HOME_OF})
