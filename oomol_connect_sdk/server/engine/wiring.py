"""The edges of a flow: which value goes where, and which inputs are constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from .manifests import ABSENT, Flow, InputDef, Node, NodeOutput, Source, ValuesNode

NodeInputs = Mapping[str, Mapping[str, Any]]


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


class Wiring:
    """The edges of a flow. An edge from a node that is ignored or missing doesn't exist.

    ``sources`` are those of every node that runs, by its id; ``given`` are values for nodes that
    count instead of the constants of the manifest.
    """

    def __init__(
        self,
        flow: Flow,
        active: Mapping[str, Node],
        sources: Mapping[str, Sequence[Source]],
        given: NodeInputs,
    ) -> None:
        self.node_edges: dict[NodeOutput, list[Edge]] = {}
        self.input_edges: dict[str, list[Edge]] = {}
        self.constant_outputs: list[tuple[str, Any]] = []
        self._static: dict[str, dict[str, Any]] = {}
        self._connected: dict[str, list[str]] = {}
        self._given = given
        self._flow_inputs = {definition.handle for definition in flow.inputs_def}
        self._running = set(sources)
        self._constants = {
            NodeOutput(node_id, handle): value
            for node_id, node in active.items()
            if isinstance(node, ValuesNode)
            for handle, value in values_of(node, given).items()
        }
        for node_id, items in sources.items():
            for source in items:
                self._connect_node(node_id, source)
        for source in flow.outputs_from:
            self._connect(source, ToFlow(source.handle))
            constants = self._constants_of(source)
            self.constant_outputs.extend((source.handle, value) for value in constants)

    def connected(self, node_id: str) -> frozenset[str]:
        """Give the handles of a node whose values come from nodes or from the flow's inputs."""
        return frozenset(self._connected.get(node_id, ()))

    def static_of(self, node_id: str, inputs: Mapping[str, InputDef]) -> dict[str, Any]:
        """Give the constants of a node's inputs that are not connected."""
        values = {**self._static.get(node_id, {}), **self._given.get(node_id, {})}
        connected = self.connected(node_id)
        return {h: values[h] for h in inputs if h in values and h not in connected}

    def _connect_node(self, node_id: str, source: Source) -> None:
        if self._connect(source, ToNode(node_id, source.handle)):
            self._connected.setdefault(node_id, []).append(source.handle)
        constants = self._constants_of(source)
        if len(constants) == 1:
            self._static.setdefault(node_id, {})[source.handle] = constants[0]
        elif source.value is not ABSENT:
            self._static.setdefault(node_id, {})[source.handle] = source.value

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


def values_of(node: ValuesNode, nodes_inputs: NodeInputs) -> dict[str, Any]:
    """Give the constants of a values node; a handle without a value is not among them."""
    values = {definition.handle: definition.default for definition in node.values}
    values.update(nodes_inputs.get(node.node_id, {}))
    return {handle: value for handle, value in values.items() if value is not ABSENT}
