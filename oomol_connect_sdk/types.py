"""The shapes that travel on the wire, as TypedDicts. Unknown keys are kept, never refused."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, List, Mapping, Sequence, Union

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


class TaskResponse(Task):
    """A task, and the same task under ``task`` as the server wraps it."""

    task: Task
    success: NotRequired[bool]
    userID: NotRequired[str]


class TaskLog(TypedDict, total=False):
    """One row of a task's log. ``event`` is the whole log event, ``created_at`` milliseconds."""

    id: int
    project_name: str
    session_id: str
    node_id: str
    manifest_path: str
    type: str
    event: Dict[str, Any]
    created_at: int


class CreateTaskRequest(TypedDict, total=False):
    """What to run, under one of three names, and its inputs."""

    blockId: str
    manifest: str
    flowName: str
    inputValues: TaskInputValues


class RunResult(TypedDict):
    """A finished task: the values it gave, its log and its last record."""

    task_id: str
    task: Task
    logs: List[TaskLog]
    result: Any


class ListTasksResponse(TypedDict):
    """All tasks the server knows."""

    tasks: List[Task]


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


class FlowNodeInputs(TypedDict, total=False):
    """The open inputs of one node of a flow."""

    nodeId: str
    id: str
    inputs: List[InputHandle]


class Flow(TypedDict):
    """One flow a server can run."""

    name: str
    path: str
    description: NotRequired[str]
    inputs: NotRequired[List[FlowNodeInputs]]


class ListFlowsResponse(TypedDict):
    """The flows a server can run."""

    flows: List[Flow]


#: Called with the task at every look at it; may be a coroutine function on the async client.
ProgressCallback = Callable[[Task], Union[Awaitable[None], None]]

#: Called with every log row once, in order; may be a coroutine function on the async client.
LogCallback = Callable[[TaskLog], Union[Awaitable[None], None]]
