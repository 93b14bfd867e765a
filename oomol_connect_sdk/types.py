"""The shapes that travel on the wire, as TypedDicts. Unknown keys are kept, never refused."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Union

from typing_extensions import Literal, NotRequired, TypedDict

#: The life of a task. A server may send others; they never count as an ending.
TaskStatus = Literal["created", "pending", "running", "completed", "failed", "stopped"]

InstallTaskStatus = Literal["pending", "running", "success", "failed"]


class InputHandle(TypedDict, total=False):
    """One input of a block or a flow node."""

    handle: str
    json_schema: Dict[str, Any]
    description: str
    nullable: bool
    value: Any


class InputValue(TypedDict):
    """A value for one handle."""

    handle: str
    value: Any


class NodeInputs(TypedDict):
    """Values for one node. The node id ``_`` stands for the block or flow itself."""

    nodeId: str
    inputs: List[InputValue]


#: The three input formats: ``{handle: value}``, a list of `InputValue`, a list of `NodeInputs`.
TaskInputValues = Union[
    Mapping[str, Any], Sequence[InputValue], Sequence[NodeInputs], Sequence[Mapping[str, Any]]
]


class TaskError(TypedDict, total=False):
    """Why a task failed, where the server says so on the task."""

    message: str
    nodePath: List[str]
    blockPath: str


class Task(TypedDict):
    """One run of a block or a flow. Times are Unix milliseconds."""

    id: str
    status: str
    project_id: NotRequired[str]
    manifest_path: NotRequired[str]
    inputValues: NotRequired[List[NodeInputs]]
    created_at: NotRequired[int]
    updated_at: NotRequired[int]
    #: The keys below are sent by the local server only.
    session_id: NotRequired[str]
    progress: NotRequired[float]
    result: NotRequired[Dict[str, Any]]
    nodeResults: NotRequired[Dict[str, Dict[str, Any]]]
    error: NotRequired[TaskError]
    priority: NotRequired[int]
    labels: NotRequired[Dict[str, str]]
    deadline: NotRequired[int]
    nodes: NotRequired[List[str]]
    useCache: NotRequired[bool]
    rerunOf: NotRequired[str]


class TaskResponse(Task):
    """A task, and the same task under ``task`` as the server wraps it."""

    task: Task
    success: NotRequired[bool]
    userID: NotRequired[str]


class TaskLog(TypedDict):
    """One row of a task's log. ``event`` is the whole log event, ``created_at`` milliseconds."""

    type: str
    id: NotRequired[int]
    project_name: NotRequired[str]
    session_id: NotRequired[str]
    node_id: NotRequired[str]
    manifest_path: NotRequired[str]
    event: NotRequired[Dict[str, Any]]
    created_at: NotRequired[int]


class CreateTaskRequest(TypedDict, total=False):
    """What to run, under one of three names, and its inputs.

    ``custom_id`` is the caller's own name for the request in a batch; it is not sent. The keys
    below it are for servers that know them, such as the local one: tasks of a higher ``priority``
    go first, ``labels`` are kept with the task, and one that is not over at its ``deadline``
    (Unix milliseconds) is stopped. Of a flow only ``nodes`` and what they need are run, with
    ``useCache`` on what they were given the last time.
    """

    blockId: str
    manifest: str
    flowName: str
    inputValues: TaskInputValues
    custom_id: str
    priority: int
    labels: Mapping[str, str]
    deadline: int
    nodes: Sequence[str]
    useCache: bool


class RunResult(TypedDict):
    """A finished task: the values it gave, its log and its last record."""

    task_id: str
    task: Task
    logs: List[TaskLog]
    result: Any


class ListTasksResponse(TypedDict):
    """Tasks the server knows, and where the list goes on when these are not all."""

    tasks: List[Task]
    nextCursor: NotRequired[str]


class Block(TypedDict):
    """One block of an installed package."""

    package: str
    name: str
    blockId: str
    version: str
    path: NotRequired[str]
    description: NotRequired[str]
    inputs: NotRequired[List[InputHandle]]


class ListBlocksResponse(TypedDict):
    """The blocks a server can run."""

    blocks: List[Block]


class FlowInputNode(TypedDict, total=False):
    """The open inputs of one node of a flow."""

    nodeId: str
    id: str
    inputs: List[InputHandle]


class Flow(TypedDict):
    """One flow a server can run."""

    name: str
    path: str
    description: NotRequired[str]
    inputs: NotRequired[List[FlowInputNode]]


class ListFlowsResponse(TypedDict):
    """The flows a server can run."""

    flows: List[Flow]


#: Called with the task at every look at it; may be a coroutine function on the async client.
ProgressCallback = Callable[[Task], Union[Awaitable[None], None]]

#: Called with every log row once, in order; may be a coroutine function on the async client.
LogCallback = Callable[[TaskLog], Union[Awaitable[None], None]]


class PackageDependency(TypedDict):
    """A package that another one needs."""

    name: str
    version: NotRequired[str]
    packagePath: NotRequired[str]


class Package(TypedDict):
    """One installed package."""

    name: str
    version: str
    path: NotRequired[str]
    description: NotRequired[str]


class ListPackagesResponse(TypedDict):
    """The packages a server has installed."""

    packages: List[Package]


class InstallTask(TypedDict):
    """One installation of a package. Times are Unix milliseconds."""

    id: str
    name: NotRequired[str]
    version: NotRequired[str]
    status: NotRequired[str]
    packagePath: NotRequired[str]
    dependencies: NotRequired[List[PackageDependency]]
    error: NotRequired[str]
    createdAt: NotRequired[int]
    updatedAt: NotRequired[int]


class InstallTaskResponse(InstallTask):
    """An install task, and the same under ``task`` and ``taskId`` as servers name it."""

    taskId: str
    task: InstallTask
    success: NotRequired[bool]


class ListInstallTasksResponse(TypedDict):
    """All installations a server knows."""

    tasks: List[InstallTask]


class AppletData(TypedDict):
    """What an applet runs: a block of a package in one version, with preset inputs."""

    id: NotRequired[str]
    createdAt: NotRequired[int]
    packageId: str
    blockName: str
    title: NotRequired[str]
    description: NotRequired[str]
    presetInputs: NotRequired[Dict[str, Any]]


class Applet(TypedDict):
    """A block with preset inputs, published under an id. Times are Unix milliseconds."""

    appletId: str
    data: AppletData
    userId: NotRequired[str]
    createdAt: NotRequired[int]
    updatedAt: NotRequired[int]


#: What the applet server answers: the applets, without anything around them.
ListAppletsResponse = List[Applet]


class RunAppletRequest(TypedDict, total=False):
    """The arguments of a run of an applet, by name."""

    applet_id: str
    input_values: TaskInputValues


class TaskFile(TypedDict):
    """One file of a task on the server: size in bytes, time in Unix milliseconds."""

    name: str
    size: NotRequired[int]
    modified_at: NotRequired[int]


class ListFilesResponse(TypedDict):
    """The files of a task."""

    files: List[TaskFile]


#: Called while files are sent with the bytes sent so far and the bytes in all, None if unknown;
#: may be a coroutine function on the async client.
UploadCallback = Callable[[int, Optional[int]], Union[Awaitable[None], None]]
