"""A flow with everything it refers to: which value goes where, and what each node runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from .errors import EngineError
from .manifests import (
    ABSENT,
    ConditionsNode,
    Flow,
    InputDef,
    Node,
    NodeOutput,
    OutputDef,
    Package,
    Source,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
)
from .references import Caller, References

NodeInputs = Mapping[str, Mapping[str, Any]]


class UnsupportedNode(EngineError):
    """A flow has a node of a kind that this engine doesn't run."""


@dataclass(frozen=True)
class ToNode:
    """A value goes to an input of a node."""

    node_id: str
    handle: str


@dataclass(frozen=True)
class ToFlow:
    """A value goes to an output of the flow."""

    handle: str


Edge = Union[ToNode, ToFlow]


@dataclass(frozen=True)
class GraphNode:
    """A node that runs: what it runs and where its inputs come from."""

    node: Node
    #: None for a conditions node, which the engine runs itself.
    block: TaskBlock | Flow | None
    #: The package of the block.
    package: Package
    inputs: Mapping[str, InputDef]
    outputs: Mapping[str, OutputDef]
    #: Handles whose values come from other nodes or from the flow's inputs.
    connected: frozenset[str]
    #: Handle → constant, for declared handles that are not connected.
    static: Mapping[str, Any]

    @property
    def node_id(self) -> str:
        """The node's id in its flow."""
        return self.node.node_id

    @property
    def open_inputs(self) -> tuple[InputDef, ...]:
        """The inputs that nothing gives a value: with one of these the node never runs."""
        return tuple(
            definition
            for handle, definition in self.inputs.items()
            if handle not in self.connected and handle not in self.static
        )


@dataclass(frozen=True)
class FlowGraph:
    """One flow, ready to run."""

    flow: Flow
    package: Package
    #: Without values nodes and ignored nodes, in the order of the manifest.
    nodes: Mapping[str, GraphNode]
    #: Where the values of a node's output go.
    node_edges: Mapping[NodeOutput, tuple[Edge, ...]]
    #: Where the value of an input of the flow goes.
    input_edges: Mapping[str, tuple[Edge, ...]]
    #: Outputs of the flow that are constants.
    constant_outputs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """A flow and, by the path of their manifests, all the subflows below it."""

    root: FlowGraph
    subflows: Mapping[Path, FlowGraph]


def build_plan(
    flow: Flow, package: Package, references: References, nodes_inputs: NodeInputs
) -> Plan:
    """Find everything a flow needs; ``nodes_inputs`` are values for nodes of the flow itself.

    Raises BlockNotFound, ManifestError or UnsupportedNode for what can't be run.
    """
    root = build_graph(flow, package, references, nodes_inputs)
    subflows: dict[Path, FlowGraph] = {}
    waiting = [root]
    while waiting:
        for node in waiting.pop().nodes.values():
            if isinstance(node.block, Flow) and node.block.path not in subflows:
                graph = build_graph(node.block, node.package, references, {})
                subflows[node.block.path] = graph
                waiting.append(graph)
    return Plan(root, subflows)


def build_graph(
    flow: Flow, package: Package, references: References, nodes_inputs: NodeInputs
) -> FlowGraph:
    """Resolve the nodes and edges of one flow."""
    active = {node.node_id: node for node in flow.nodes if not node.ignore}
    wiring = _Wiring(flow, active, nodes_inputs)
    nodes = {
        node_id: _graph_node(node, Caller(flow, package, node_id), references, wiring)
        for node_id, node in active.items()
        if not isinstance(node, ValuesNode)
    }
    return FlowGraph(
        flow=flow,
        package=package,
        nodes=nodes,
        node_edges={output: tuple(edges) for output, edges in wiring.node_edges.items()},
        input_edges={handle: tuple(edges) for handle, edges in wiring.input_edges.items()},
        constant_outputs=tuple(wiring.constant_outputs),
    )


def values_of(node: ValuesNode, nodes_inputs: NodeInputs) -> dict[str, Any]:
    """Give the constants of a values node; a handle without a value is not among them."""
    values = {definition.handle: definition.default for definition in node.values}
    values.update(nodes_inputs.get(node.node_id, {}))
    return {handle: value for handle, value in values.items() if value is not ABSENT}


class _Wiring:
    """The edges of a flow. An edge from a node that is ignored or missing doesn't exist."""

    def __init__(self, flow: Flow, active: Mapping[str, Node], nodes_inputs: NodeInputs) -> None:
        self.node_edges: dict[NodeOutput, list[Edge]] = {}
        self.input_edges: dict[str, list[Edge]] = {}
        self.constant_outputs: list[tuple[str, Any]] = []
        #: Node id → handle → constant.
        self.static: dict[str, dict[str, Any]] = {}
        self._connected: dict[str, list[str]] = {}
        self._given = nodes_inputs
        self._flow_inputs = {definition.handle for definition in flow.inputs_def}
        self._running = {n for n, node in active.items() if not isinstance(node, ValuesNode)}
        self._constants = {
            NodeOutput(node_id, handle): value
            for node_id, node in active.items()
            if isinstance(node, ValuesNode)
            for handle, value in values_of(node, nodes_inputs).items()
        }
        for node_id, node in active.items():
            # Nothing goes into a values node.
            for source in node.inputs_from if node_id in self._running else ():
                self._connect_node(node_id, source)
        for source in flow.outputs_from:
            self._connect(source, ToFlow(source.handle))
            constants = self._constants_of(source)
            self.constant_outputs.extend((source.handle, value) for value in constants)

    def connected(self, node_id: str) -> frozenset[str]:
        return frozenset(self._connected.get(node_id, ()))

    def static_of(self, node_id: str, inputs: Mapping[str, InputDef]) -> dict[str, Any]:
        values = {**self.static.get(node_id, {}), **self._given.get(node_id, {})}
        connected = self.connected(node_id)
        return {h: values[h] for h in inputs if h in values and h not in connected}

    def _connect_node(self, node_id: str, source: Source) -> None:
        if self._connect(source, ToNode(node_id, source.handle)):
            self._connected.setdefault(node_id, []).append(source.handle)
        constants = self._constants_of(source)
        if len(constants) == 1:
            self.static.setdefault(node_id, {})[source.handle] = constants[0]
        elif source.value is not ABSENT:
            self.static.setdefault(node_id, {})[source.handle] = source.value

    def _connect(self, source: Source, edge: Edge) -> bool:
        """Draw the edges from nodes and flow inputs; say whether there is one."""
        outputs = [output for output in source.from_node if output.node_id in self._running]
        handles = [handle for handle in source.from_flow if handle in self._flow_inputs]
        for output in outputs:
            self.node_edges.setdefault(output, []).append(edge)
        for handle in handles:
            self.input_edges.setdefault(handle, []).append(edge)
        return bool(outputs or handles)

    def _constants_of(self, source: Source) -> list[Any]:
        constants = self._constants
        return [constants[output] for output in source.from_node if output in constants]


def _graph_node(node: Node, caller: Caller, references: References, wiring: _Wiring) -> GraphNode:
    block, package = _block(node, caller, references)
    inputs = _inputs(node, block)
    return GraphNode(
        node=node,
        block=block,
        package=package,
        inputs=inputs,
        outputs=_outputs(node, block),
        connected=wiring.connected(node.node_id),
        static=wiring.static_of(node.node_id, inputs),
    )


def _block(
    node: Node, caller: Caller, references: References
) -> tuple[TaskBlock | Flow | None, Package]:
    if isinstance(node, TaskNode):
        if isinstance(node.task, TaskBlock):
            return node.task, caller.package
        task = references.task(node.task, caller)
        return task.manifest, task.package
    if isinstance(node, SubflowNode):
        subflow = references.subflow(node.subflow, caller)
        return subflow.manifest, subflow.package
    if isinstance(node, ConditionsNode):
        return None, caller.package
    raise UnsupportedNode(
        f"{node.place.path}:{node.place.line}: node {node.node_id!r} is a {node.kind} node, "
        f"and this server doesn't run {node.kind} nodes"
    )


def _inputs(node: Node, block: TaskBlock | Flow | None) -> dict[str, InputDef]:
    """Give the declared inputs; a node adds its own only to a block that takes more."""
    if isinstance(node, ConditionsNode):
        return {item.handle: item for item in node.inputs_def}
    inputs = {} if block is None else {item.handle: item for item in block.inputs_def}
    if isinstance(node, TaskNode) and isinstance(block, TaskBlock) and block.additional_inputs:
        for item in node.inputs_def:
            inputs.setdefault(item.handle, item)
    return inputs


def _outputs(node: Node, block: TaskBlock | Flow | None) -> dict[str, OutputDef]:
    outputs = {} if block is None else {item.handle: item for item in block.outputs_def}
    if isinstance(node, TaskNode) and isinstance(block, TaskBlock) and block.additional_outputs:
        for item in node.outputs_def:
            outputs.setdefault(item.handle, item)
    return outputs
