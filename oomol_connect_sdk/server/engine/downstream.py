"""Where the outputs of a node go, in the words of ``context.query_downstream``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .graph import FlowGraph, GraphNode
from .wiring import Edge, ToFlow, ToNode


class Downstream:
    """What follows the nodes of one flow."""

    def __init__(self, graph: FlowGraph) -> None:
        self._graph = graph
        self._outputs = {item.handle: item.definition for item in graph.flow.outputs_def}

    def of(self, node: GraphNode, handles: Sequence[str] | None) -> dict[str, Any]:
        """Give handle → ``{to_flow, to_node}``, for connected outputs among ``handles``."""
        return {
            output.handle: {
                "to_flow": [self._to_flow(edge) for edge in edges if isinstance(edge, ToFlow)],
                "to_node": [self._to_node(edge) for edge in edges if isinstance(edge, ToNode)],
            }
            for output, edges in self._edges(node)
            if handles is None or output.handle in handles
        }

    def _edges(self, node: GraphNode) -> list[tuple[Any, Sequence[Edge]]]:
        edges = self._graph.node_edges
        return [(output, to) for output, to in edges.items() if output.node_id == node.node_id]

    def _to_flow(self, edge: ToFlow) -> Mapping[str, Any]:
        definition = self._outputs.get(edge.handle)
        return {"output_handle": edge.handle, "output_handle_def": definition}

    def _to_node(self, edge: ToNode) -> Mapping[str, Any]:
        node = self._graph.nodes[edge.node_id]
        definition = node.inputs.get(edge.handle)
        return {
            "node_id": edge.node_id,
            "description": node.node.description,
            "input_handle": edge.handle,
            "input_handle_def": None if definition is None else definition.definition,
        }
