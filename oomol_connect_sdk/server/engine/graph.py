"""A flow with everything it refers to: which value goes where, and what each node runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .actions import ServiceStart
from .definitions import (
    Block,
    node_inputs,
    node_outputs,
    serialized_outputs,
    with_overrides,
    with_serialized,
)
from .errors import EngineError
from .manifests import (
    ConditionsNode,
    Flow,
    Inject,
    InputDef,
    Node,
    NodeOutput,
    OutputDef,
    Package,
    ServiceNode,
    SlotNode,
    Source,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
)
from .references import BlockNotFound, Caller, References, names_package
from .slots import Filling, SlotFillings, hidden_handle
from .wiring import Edge, NodeInputs, ToNode, Wiring

FlowKey = tuple[Path, tuple[str, ...]]


class UnsupportedNode(EngineError):
    """A flow has a node of a kind that this engine doesn't run."""


@dataclass(frozen=True)
class GraphNode:
    """A node that runs: what it runs and where its inputs come from."""

    node: Node
    #: None for a conditions node, which the engine runs itself, and for a slot that is empty.
    block: Block
    #: The package whose environment the block runs in.
    package: Package
    inputs: Mapping[str, InputDef]
    outputs: Mapping[str, OutputDef]
    #: Handles whose values come from other nodes or from the flow's inputs.
    connected: frozenset[str]
    #: Handle → constant, for declared handles that are not connected.
    static: Mapping[str, Any]
    #: Handles whose last value serves again when no new one has come.
    remembered: frozenset[str] = frozenset()
    #: What runs in the slots of the subflow, by the ids of their nodes.
    fillings: Mapping[str, Filling] = field(default_factory=dict)
    #: Whether the package is one that the flow names instead of the block's own.
    injected: bool = False
    #: The node whose process its jobs run in; None for that of the package, or one of its own.
    beside: str | None = None

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

    @property
    def flows(self) -> Iterator[tuple[Flow, Package]]:
        """The flows that a run of the node may start."""
        if isinstance(self.block, Flow):
            yield self.block, self.package
        for filling in self.fillings.values():
            if isinstance(filling.block, Flow):
                yield filling.block, filling.package


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
    #: What is wrong with a node and yet doesn't keep the flow from running: node id and text.
    warnings: tuple[tuple[str, str], ...] = ()
    #: Directory of a package → what prepares its environment for the tasks injected into it.
    scripts: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A flow and all the subflows below it."""

    root: FlowGraph
    subflows: Mapping[FlowKey, FlowGraph]


def flow_key(flow: Flow) -> FlowKey:
    """Tell flows apart: the inputs of a slotflow are those of the slot it runs in."""
    return flow.path, tuple(definition.handle for definition in flow.inputs_def)


def build_plan(
    flow: Flow, package: Package, references: References, nodes_inputs: NodeInputs
) -> Plan:
    """Find everything a flow needs; ``nodes_inputs`` are values for nodes of the flow itself.

    Raises BlockNotFound, ManifestError or UnsupportedNode for what can't be run.
    """
    root = build_graph(flow, package, references, nodes_inputs)
    subflows: dict[FlowKey, FlowGraph] = {}
    waiting = [root]
    while waiting:
        for node in waiting.pop().nodes.values():
            for below, owner in node.flows:
                if flow_key(below) not in subflows:
                    graph = build_graph(below, owner, references, {})
                    subflows[flow_key(below)] = graph
                    waiting.append(graph)
    return Plan(root, subflows)


def session_services(
    nodes: Iterable[GraphNode], subflows: Mapping[FlowKey, FlowGraph]
) -> tuple[ServiceStart, ...]:
    """Give the services of these nodes, and of the flows below them, that start with a session."""
    starts: dict[Path, ServiceStart] = {}
    waiting, seen = list(nodes), set[FlowKey]()
    while waiting:
        node = waiting.pop(0)
        service = node.block.service if isinstance(node.block, TaskBlock) else None
        if service is not None and service.start_at == "session_start":
            start = ServiceStart(service, node.package.directory, node.package.name)
            starts.setdefault(service.path, start)
        for flow, _ in node.flows:
            key = flow_key(flow)
            if key not in seen:
                seen.add(key)
                waiting.extend(subflows[key].nodes.values())
    return tuple(starts.values())


def build_graph(
    flow: Flow, package: Package, references: References, nodes_inputs: NodeInputs
) -> FlowGraph:
    """Resolve the nodes and edges of one flow."""
    active = {node.node_id: node for node in flow.nodes if not node.ignore}
    resolved = {
        node_id: _resolve(node, Caller(flow.path, package, node_id), references, active)
        for node_id, node in active.items()
        if not isinstance(node, ValuesNode)
    }
    sources = {node_id: item.sources for node_id, item in resolved.items()}
    wiring = Wiring(flow, active, sources, nodes_inputs)
    serialized = serialized_outputs(sources.values())
    return FlowGraph(
        flow=flow,
        package=package,
        nodes={node_id: item.graph_node(wiring, serialized) for node_id, item in resolved.items()},
        node_edges={output: tuple(edges) for output, edges in wiring.node_edges.items()},
        input_edges={handle: tuple(edges) for handle, edges in wiring.input_edges.items()},
        constant_outputs=tuple(wiring.constant_outputs),
        warnings=tuple((n, text) for n, item in resolved.items() for text in item.warnings),
        scripts=_scripts(flow, package, resolved.values(), references),
    )


@dataclass(frozen=True)
class _Resolved:
    """A node whose references were followed."""

    node: Node
    block: Block
    package: Package
    slots: SlotFillings = field(default_factory=SlotFillings)
    warnings: Sequence[str] = ()
    #: What puts it into a package that isn't its own.
    inject: Inject | None = None
    beside: str | None = None

    @property
    def sources(self) -> Sequence[Source]:
        return (*self.node.inputs_from, *self.slots.sources)

    def graph_node(self, wiring: Wiring, serialized: frozenset[NodeOutput]) -> GraphNode:
        node_id = self.node.node_id
        inputs = {**node_inputs(self.node, self.block), **self.slots.inputs}
        return GraphNode(
            node=self.node,
            block=self.block,
            package=self.package,
            inputs=with_overrides(inputs, self.sources),
            outputs=with_serialized(node_outputs(self.node, self.block), node_id, serialized),
            connected=wiring.connected(node_id),
            static=wiring.static_of(node_id, inputs),
            fillings=self.slots.fillings,
            injected=self.inject is not None,
            beside=self.beside,
        )


def _resolve(
    node: Node, caller: Caller, references: References, nodes: Mapping[str, Node]
) -> _Resolved:
    if isinstance(node, TaskNode):
        return _placed(_resolve_task(node, caller, references), node, caller, references, nodes)
    if isinstance(node, ServiceNode):
        block = references.service_block(node.service, caller)
        return _Resolved(node, block.manifest, block.package)
    if isinstance(node, SubflowNode):
        subflow = references.subflow(node.subflow, caller)
        slots = SlotFillings.of(node, subflow.manifest, caller, references)
        return _Resolved(node, subflow.manifest, subflow.package, slots, slots.warnings)
    if isinstance(node, (ConditionsNode, SlotNode)):
        return _Resolved(node, None, caller.package)
    raise UnsupportedNode(
        f"{node.place.path}:{node.place.line}: node {node.node_id!r} is a {node.kind} node, "
        f"and this server doesn't run {node.kind} nodes"
    )


def _resolve_task(node: TaskNode, caller: Caller, references: References) -> _Resolved:
    if isinstance(node.task, TaskBlock):
        block, package = node.task, caller.package
    else:
        task = references.task(node.task, caller)
        block, package = task.manifest, task.package
    return _Resolved(node, block, package)


def _placed(
    own: _Resolved,
    node: TaskNode,
    caller: Caller,
    references: References,
    nodes: Mapping[str, Node],
) -> _Resolved:
    """Put a task where its node injects it; one with a process of its own stays there."""
    inject = node.inject
    if isinstance(node.task, TaskBlock) and node.task.executor.options.get("spawn"):
        return own
    if inject.package is None:
        if inject.node_id in (None, *nodes):
            return replace(own, beside=inject.node_id)
        warning = f"the node {inject.node_id!r} beside which it is to run is not here"
        return replace(own, warnings=(warning,))
    if isinstance(node.task, str) and names_package(node.task):
        return own
    package = references.package(inject.package, caller)
    if package is None:
        warning = f"the package {inject.package!r} it is to run in is not here; it runs in its own"
        return replace(own, warnings=(warning,))
    return replace(own, package=package, inject=inject)


def _scripts(
    flow: Flow, package: Package, resolved: Iterable[_Resolved], references: References
) -> dict[Path, tuple[str, ...]]:
    """Give the scripts for each package: those of the flow, then those of its nodes."""
    scripts: dict[Path, tuple[str, ...]] = {}
    for name, script in flow.injection.items():
        found = references.package(name, Caller(flow.path, package, ""))
        if found is None:
            raise BlockNotFound(
                f"{flow.path} has an injection for the package {name!r}, which is not here"
            )
        scripts[found.directory] = (*scripts.get(found.directory, ()), script)
    for item in resolved:
        if item.inject is not None and item.inject.script is not None:
            directory = item.package.directory
            scripts[directory] = (*scripts.get(directory, ()), item.inject.script)
    return scripts


def with_slots(graph: FlowGraph, fillings: Mapping[str, Filling]) -> FlowGraph:
    """Put what a subflow node provides into the slots of its subflow."""
    if not fillings:
        return graph
    nodes = dict(graph.nodes)
    edges = dict(graph.input_edges)
    for slot_id, filling in fillings.items():
        if slot_id in nodes:
            nodes[slot_id] = _filled(nodes[slot_id], filling)
            for item in filling.inputs:
                edges[hidden_handle(slot_id, item.handle)] = (ToNode(slot_id, item.handle),)
    return replace(graph, nodes=nodes, input_edges=edges)


def _filled(slot: GraphNode, filling: Filling) -> GraphNode:
    """Give the slot's node with its block; of a handle both declare the block's words count."""
    own_inputs = {item.handle: item for item in filling.block.inputs_def}
    extra = {item.handle: item for item in filling.inputs}
    inputs = {h: own_inputs.get(h, item) for h, item in {**slot.inputs, **extra}.items()}
    return replace(
        slot,
        block=filling.block,
        package=filling.package,
        inputs=inputs,
        outputs={**slot.outputs, **{item.handle: item for item in filling.block.outputs_def}},
        connected=slot.connected | extra.keys(),
        remembered=frozenset(extra),
    )
