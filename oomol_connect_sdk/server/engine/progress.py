"""How far a flow has come, by what its nodes report."""

from __future__ import annotations

from collections.abc import Mapping

#: A node may run again, so a flow that isn't over never shows more.
HIGHEST_ESTIMATE = 95.0


class FlowProgress:
    """The weighted mean of the nodes' progress, each the highest it has reported."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._nodes = dict.fromkeys(weights, 0.0)
        self._last = 0.0

    def report(self, node_id: str, progress: float) -> float | None:
        """Take a node's progress (0 to 100); give the flow's, or None when it didn't change."""
        progress = min(progress, 100.0)
        if progress <= self._nodes[node_id] or not self._weights[node_id]:
            return None
        self._nodes[node_id] = progress
        before, self._last = self._last, self._estimate()
        return None if self._last == before else self._last

    def set_weight(self, node_id: str, weight: float) -> None:
        """Change a node's share; what follows from it shows with the next report."""
        self._weights[node_id] = weight

    def _estimate(self) -> float:
        total = sum(self._weights.values())
        done = sum(self._weights[node_id] * value for node_id, value in self._nodes.items())
        return min(done / total, HIGHEST_ESTIMATE)
