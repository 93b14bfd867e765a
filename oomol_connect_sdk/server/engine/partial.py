"""Running a part of a flow: some nodes and what they need, with values of an earlier run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .graph import FlowGraph, GraphNode
from .wiring import NodeInputs, ToNode

InputCache = dict[str, dict[str, Any]]


class Part:
    """What runs of a flow; without ``ends`` all of it.

    ``ends`` run, and upstream of them every node that is needed for an input without a value in
    ``cache``. A cached value is not used where a node that runs, or an input of the flow, gives
    new ones.
    """

    def __init__(
        self, graph: FlowGraph, ends: Collection[str] = (), cache: NodeInputs | None = None
    ) -> None:
        self.ends = tuple(node_id for node_id in graph.nodes if node_id in ends)
        self._graph = graph
        self._cache = cache or {}
        self._last: InputCache = {}
        self._fed_by = _sources(graph) if ends else {}
        self._nodes = self._needed() if ends else frozenset(graph.nodes)

    @property
    def nodes(self) -> list[GraphNode]:
        """The nodes that may run, in the order of the manifest."""
        return [node for node_id, node in self._graph.nodes.items() if node_id in self._nodes]

    def holds(self, node_id: str) -> bool:
        """Whether this node may run."""
        return node_id in self._nodes

    def cached(self) -> Iterator[tuple[str, str, Any]]:
        """Give the cached values to begin with: node id, handle and value."""
        for node in self.nodes if self.ends else ():
            for handle in node.connected:
                if not self._is_fed(node.node_id, handle, self._nodes):
                    yield node.node_id, handle, self._cache[node.node_id][handle]

    @property
    def last_inputs(self) -> InputCache:
        """Node id → handle → the last value it had, of those that mean something to a later run."""
        lasting = {
            node_id: {handle: value for handle, value in values.items() if _lasts(value)}
            for node_id, values in self._last.items()
        }
        return {node_id: values for node_id, values in lasting.items() if values}

    def note(self, node_id: str, values: Mapping[str, Any]) -> None:
        """Keep the values of a node's inputs."""
        self._last.setdefault(node_id, {}).update(values)

    def _needed(self) -> frozenset[str]:
        needed = set(self.ends)
        waiting = list(self.ends)
        while waiting:
            node = self._graph.nodes[waiting.pop()]
            for handle in node.connected:
                if self._is_fed(node.node_id, handle, needed):
                    continue
                if handle not in self._cache.get(node.node_id, {}):
                    sources = self._fed_by[ToNode(node.node_id, handle)]
                    waiting += [source for source in sources if source and source not in needed]
                    needed.update(source for source in sources if source)
        return frozenset(needed)

    def _is_fed(self, node_id: str, handle: str, running: Collection[str]) -> bool:
        sources = self._fed_by[ToNode(node_id, handle)]
        return any(source is None or source in running for source in sources)


def _sources(graph: FlowGraph) -> dict[ToNode, list[str | None]]:
    """Give the nodes behind each connected input; None stands for an input of the flow."""
    sources: dict[ToNode, list[str | None]] = {}
    for output, edges in graph.node_edges.items():
        for edge in edges:
            if isinstance(edge, ToNode):
                sources.setdefault(edge, []).append(output.node_id)
    for edges in graph.input_edges.values():
        for edge in edges:
            if isinstance(edge, ToNode):
                sources.setdefault(edge, []).append(None)
    return sources


def _lasts(value: Any) -> bool:
    """Whether a value outlives its run: an object does only when it is also in a file."""
    if isinstance(value, list):
        return all(map(_lasts, value))
    if not isinstance(value, dict):
        return True
    kind = value.get("__OOMOL_TYPE__")
    if kind == "oomol/var":
        return bool(value.get("serialize_path"))
    return kind != "oomol/bin" and all(map(_lasts, value.values()))
