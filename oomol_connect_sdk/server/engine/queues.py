"""The values that wait at the inputs of a flow's nodes."""

from __future__ import annotations

from collections import deque
from typing import Any

from .graph import GraphNode


class InputQueues:
    """One queue per node and handle, first in, first out."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[str, deque[Any]]] = {}
        #: Node id → remembered handle → the value that was taken last.
        self._last: dict[str, dict[str, Any]] = {}

    def push(self, node_id: str, handle: str, value: Any) -> None:
        """Add a value; a handle that the node's block doesn't declare keeps its values too."""
        self._queues.setdefault(node_id, {}).setdefault(handle, deque()).append(value)

    def complete_sets(self, node: GraphNode) -> int:
        """Count how often the node could run with the values that wait.

        Remembered inputs don't limit that, once each of them has had a value.
        """
        if not all(self._has(node, handle) for handle in node.remembered):
            return 0
        queues = self._queues.get(node.node_id, {})
        counts = (len(queue) for handle, queue in queues.items() if handle not in node.remembered)
        return min(counts, default=0)

    def satisfies(self, node: GraphNode) -> bool:
        """Whether every declared input has a value."""
        return all(
            self._has(node, handle) if handle in node.connected else handle in node.static
            for handle in node.inputs
        )

    def take(self, node: GraphNode) -> dict[str, Any]:
        """Remove one value of each queue and give them with the constants, declared ones first."""
        queues = self._queues.get(node.node_id, {})
        taken = {handle: queue.popleft() for handle, queue in queues.items() if queue}
        last = self._last.setdefault(node.node_id, {})
        last.update((handle, taken[handle]) for handle in node.remembered if handle in taken)
        values = {**node.static, **last, **taken}
        order = [handle for handle in node.inputs if handle in values]
        order += [handle for handle in taken if handle not in node.inputs]
        return {handle: values[handle] for handle in order}

    def _has(self, node: GraphNode, handle: str) -> bool:
        waits = bool(self._queues.get(node.node_id, {}).get(handle))
        return waits or handle in self._last.get(node.node_id, {})
