"""What manifests say, as frozen values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from .actions import Service
from .yaml_source import Place


class Absent(enum.Enum):
    """The type of ABSENT: nothing was written, which is not the same as null."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT

FlowKind = Literal["flow", "subflow", "slotflow"]


@dataclass(frozen=True)
class Package:
    """A directory with a ``package.oo.yaml``."""

    path: Path
    name: str
    version: str | None = None
    description: str | None = None
    #: Package name → the exact version its flows refer to.
    dependencies: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The package's own directory."""
        return self.path.parent

    @property
    def label(self) -> str:
        """The name and, when there is one, the version: ``name@1.2.3``."""
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True)
class InputDef:
    """One declared input."""

    handle: str
    #: The definition as the manifest wrote it.
    definition: Mapping[str, Any]
    nullable: bool = False
    value: Any = ABSENT

    @property
    def default(self) -> Any:
        """The value when none is given: ``value``, else null if it may be null, else ABSENT."""
        return None if self.value is ABSENT and self.nullable else self.value


@dataclass(frozen=True)
class OutputDef:
    """One declared output."""

    handle: str
    #: The definition as the manifest wrote it.
    definition: Mapping[str, Any]


@dataclass(frozen=True)
class Executor:
    """Which executor runs a task, and its options as the manifest wrote them."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class TaskBlock:
    """A task: a manifest file of its own, one written inline in a flow, or a service's block."""

    name: str
    #: None for a task written inline.
    path: Path | None
    #: What the executor's ``entry`` is relative to.
    directory: Path
    executor: Executor
    description: str | None = None
    inputs_def: tuple[InputDef, ...] = ()
    outputs_def: tuple[OutputDef, ...] = ()
    additional_inputs: bool = False
    additional_outputs: bool = False
    #: The service it is a block of; None for any other task.
    service: Service | None = None


@dataclass(frozen=True)
class ServiceManifest:
    """A service: a process that runs several blocks."""

    name: str
    path: Path
    #: By the name within the service.
    blocks: Mapping[str, TaskBlock]


@dataclass(frozen=True)
class NodeOutput:
    """One output of one node."""

    node_id: str
    handle: str


@dataclass(frozen=True)
class Source:
    """Where the values of one input of a node, or one output of a flow, come from."""

    handle: str
    value: Any = ABSENT
    from_node: tuple[NodeOutput, ...] = ()
    #: Handles of the flow's own inputs.
    from_flow: tuple[str, ...] = ()
    #: Where in the value secrets stand, as keys and indexes; an empty path is the value itself.
    secrets: tuple[tuple[str | int, ...], ...] = ()
    #: Whether objects for this input are also written to a file, for a later run.
    serialize_for_cache: bool = False


@dataclass(frozen=True)
class Node:
    """What every node of a flow has."""

    node_id: str
    #: Where the node is written, for complaints about it.
    place: Place
    kind: str
    description: str | None = None
    #: Seconds until a run of the node counts as failed; None for no limit.
    timeout: float | None = None
    inputs_from: tuple[Source, ...] = ()
    concurrency: int = 1
    progress_weight: float = 1.0
    ignore: bool = False


@dataclass(frozen=True)
class Inject:
    """Where a task is to run instead of in its own package; a ``package`` wins over a node."""

    package: str | None = None
    #: The node whose process it shares; its package stays its own.
    node_id: str | None = None
    #: What prepares the environment of the package for it.
    script: str | None = None


@dataclass(frozen=True)
class TaskNode(Node):
    """A node that runs a task, named by a reference or written inline."""

    task: str | TaskBlock = ""
    #: Added to the block's own when it takes additional ones.
    inputs_def: tuple[InputDef, ...] = ()
    outputs_def: tuple[OutputDef, ...] = ()
    inject: Inject = field(default_factory=Inject)


@dataclass(frozen=True)
class SlotProvider:
    """What runs in the place of a slot node of a subflow."""

    slot_node_id: str
    kind: Literal["task", "subflow", "slotflow"]
    reference: str
    #: Inputs it gets beside those of the slot; the flow that names the provider fills them.
    inputs_def: tuple[InputDef, ...] = ()
    inputs_from: tuple[Source, ...] = ()


@dataclass(frozen=True)
class SubflowNode(Node):
    """A node that runs a subflow, named by a reference."""

    subflow: str = ""
    slots: tuple[SlotProvider, ...] = ()


@dataclass(frozen=True)
class SlotNode(Node):
    """A node of a subflow whose block the flow that uses the subflow provides."""

    inputs_def: tuple[InputDef, ...] = ()
    outputs_def: tuple[OutputDef, ...] = ()


@dataclass(frozen=True)
class ServiceNode(Node):
    """A node that runs a block of a service, named by a reference."""

    service: str = ""


@dataclass(frozen=True)
class ValuesNode(Node):
    """A node that never runs: its handles are constants."""

    values: tuple[InputDef, ...] = ()


@dataclass(frozen=True)
class Expression:
    """One comparison of a condition."""

    input_handle: str
    operator: str
    value: Any = ABSENT


@dataclass(frozen=True)
class Case:
    """One branch of a conditions node: the output it leads to, and when."""

    handle: str
    logical: Literal["AND", "OR"]
    expressions: tuple[Expression, ...]


@dataclass(frozen=True)
class ConditionsNode(Node):
    """A node that hands its first input on to the output of the first case that holds."""

    inputs_def: tuple[InputDef, ...] = ()
    cases: tuple[Case, ...] = ()
    #: The output for when no case holds.
    default: str | None = None


@dataclass(frozen=True)
class OtherNode(Node):
    """A node of a kind that is read but not run; ``place`` holds its definition."""


@dataclass(frozen=True)
class Flow:
    """A flow, subflow or slotflow."""

    name: str
    path: Path
    description: str | None = None
    nodes: tuple[Node, ...] = ()
    inputs_def: tuple[InputDef, ...] = ()
    outputs_def: tuple[OutputDef, ...] = ()
    outputs_from: tuple[Source, ...] = ()
    #: Nodes whose previews are shown as previews of this flow.
    forward_previews: tuple[str, ...] = ()
    #: Package name → the script that prepares its environment for what is injected into it.
    injection: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The flow's own directory."""
        return self.path.parent

    @property
    def kind(self) -> FlowKind:
        """What the end of the file's name says the flow is."""
        stem = self.path.name.rpartition(".oo.")[0]
        if stem.endswith("subflow"):
            return "subflow"
        if stem.endswith("slotflow"):
            return "slotflow"
        return "flow" if stem.endswith("flow") else "slotflow"

    @property
    def slots(self) -> Mapping[str, SlotNode]:
        """The nodes whose blocks are provided from outside, by their ids."""
        return {node.node_id: node for node in self.nodes if isinstance(node, SlotNode)}
