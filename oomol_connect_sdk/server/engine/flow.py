"""One run of a flow: values move along its edges and start its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .conditions import chosen_output
from .events import JobInfo, Trouble
from .graph import Edge, FlowGraph, GraphNode, ToFlow
from .machine import Machine, Owner
from .manifests import ConditionsNode, Flow, NodeOutput, TaskBlock
from .progress import FlowProgress
from .queues import InputQueues

#: Flows within flows.
MAX_DEPTH = 50


class FlowRun:
    """The state of one flow while it runs; to its jobs it is the owner.

    ``subflows`` holds the graphs of all subflows that can occur below it.
    """

    def __init__(
        self,
        machine: Machine,
        graph: FlowGraph,
        subflows: Mapping[Path, FlowGraph],
        info: JobInfo,
        inputs: Mapping[str, Any],
        owner: Owner,
    ) -> None:
        #: Node id → handle → last value, for every node that gave one.
        self.node_results: dict[str, dict[str, Any]] = {}
        self.last_finished_node: str | None = None
        self._machine = machine
        self._events = machine.events
        self._graph = graph
        self._subflows = subflows
        self._info = info
        self._inputs = inputs
        self._owner = owner
        self._over = False
        self._queues = InputQueues()
        self._progress = FlowProgress(
            {node_id: node.node.progress_weight for node_id, node in graph.nodes.items()}
        )
        #: Every job that has not ended, by id, in start order.
        self._jobs: dict[str, GraphNode] = {}
        self._children: dict[str, FlowRun] = {}
        #: Node id → its jobs that count for concurrency.
        self._busy: Counter[str] = Counter()
        #: Node id → runs that wait for one of its jobs to end.
        self._pending: Counter[str] = Counter()

    def start(self) -> None:
        """Run what needs no value, then hand out the flow's inputs."""
        if self._over:
            return
        flow = self._graph.flow
        nodes = self._graph.nodes.values()
        ready = [node for node in nodes if self._queues.satisfies(node)]
        self._events.flow_started(flow, self._info, self._inputs)
        if flow.kind == "flow" and not self._info.stacks:
            self._announce(ready)
        self._warn_of_nodes_that_never_run()
        for node in ready:
            self._run(node)
        self._hand_out_inputs()
        self._end_when_idle()

    def abort(self) -> None:
        """Stop every job below this flow, without an event."""
        self._over = True
        for job_id in self._jobs:
            child = self._children.get(job_id)
            if child is None:
                self._machine.abort(job_id)
            else:
                child.abort()
        self._jobs.clear()
        self._children.clear()

    def fail(self, error: str, trouble: Trouble) -> None:
        """End the flow with an error; ``trouble`` is what reaches the flows around it."""
        self.abort()
        self._events.flow_finished(self._graph.flow, self._info, error, trouble)
        self._machine.later(partial(self._owner.ended, self._info.job_id, {}, trouble))

    def deliver(
        self, job_id: str, handle: str, value: Any, only: frozenset[Edge] | None = None
    ) -> None:
        """Send an output value of a job along its edges."""
        node = self._jobs.get(job_id)
        if node is None:
            return
        self.node_results.setdefault(node.node_id, {})[handle] = value
        for edge in self._graph.node_edges.get(NodeOutput(node.node_id, handle), ()):
            if only is None or edge in only:
                self._carry(value, edge)

    def progressed(self, job_id: str, progress: float) -> None:
        """Count a job's progress in the flow's."""
        node = self._jobs.get(job_id)
        estimate = self._progress.report(node.node_id, progress) if node else None
        if estimate is not None:
            self._events.flow_progress(self._graph.flow, self._info, estimate)
            self._machine.later(partial(self._owner.progressed, self._info.job_id, estimate))

    def previewed(self, job_id: str, payload: Any) -> None:
        """Show a job's preview as one of the flow when its manifest says so."""
        node = self._jobs.get(job_id)
        if node and node.node_id in self._graph.flow.forward_previews:
            self._events.preview(self._info, payload, node.node_id)
            self._machine.later(partial(self._owner.previewed, self._info.job_id, payload))

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Take the end of a job; the first failure ends the flow."""
        node = self._jobs.get(job_id)
        if node is None:
            return
        if trouble is not None:
            self.fail(f"[node id: {node.node_id}] failed", trouble)
            return
        self._busy[node.node_id] -= 1
        self._run_pending(node)
        self.progressed(job_id, 100.0)
        for handle, value in result.items():
            self.deliver(job_id, handle, value)
        self.last_finished_node = node.node_id
        del self._jobs[job_id]
        self._children.pop(job_id, None)
        self._end_when_idle()

    def _announce(self, ready: list[GraphNode]) -> None:
        start = [node.node_id for node in ready]
        others = [node_id for node_id in self._graph.nodes if node_id not in start]
        self._events.flow_nodes_will_run(self._graph.flow, self._info, start, others)

    def _warn_of_nodes_that_never_run(self) -> None:
        for node in self._graph.nodes.values():
            handles = ", ".join(repr(definition.handle) for definition in node.open_inputs)
            if handles:
                info = JobInfo(self._info.job_id, self._stacks_of(node), None)
                warning = f"node {node.node_id!r} will not run: no value for {handles}"
                self._events.warning(info, warning)

    def _hand_out_inputs(self) -> None:
        for handle, value in self._inputs.items():
            for edge in self._graph.input_edges.get(handle, ()):
                self._carry(value, edge)
        for handle, value in self._graph.constant_outputs:
            self._output(handle, value)

    def _carry(self, value: Any, edge: Edge) -> None:
        """Put a value where an edge leads, and run the node there when it can."""
        if isinstance(edge, ToFlow):
            self._output(edge.handle, value)
            return
        node = self._graph.nodes[edge.node_id]
        before = self._queues.complete_sets(edge.node_id)
        self._queues.push(edge.node_id, edge.handle, value)
        if not self._queues.satisfies(node):
            return
        if self._busy[node.node_id] < node.node.concurrency:
            self._run(node)
        elif self._queues.complete_sets(node.node_id) > before:
            self._pending[node.node_id] += 1

    def _output(self, handle: str, value: Any) -> None:
        self._events.flow_output(self._graph.flow, self._info, handle, value)
        self._machine.later(partial(self._owner.deliver, self._info.job_id, handle, value))

    def _run_pending(self, node: GraphNode) -> None:
        if self._pending[node.node_id] and self._busy[node.node_id] < node.node.concurrency:
            self._pending[node.node_id] -= 1
            self._run(node)

    def _run(self, node: GraphNode) -> None:
        """Start a job of a node with one set of its inputs."""
        block = node.block
        path = None if block is None else block.path
        info = JobInfo(self._machine.new_job_id(), self._stacks_of(node), path)
        inputs = self._queues.take(node)
        self._jobs[info.job_id] = node
        self._busy[node.node_id] += 1
        if len(info.stacks) > MAX_DEPTH:
            self._machine.later(partial(self._refuse_depth, info))
        elif isinstance(block, TaskBlock):
            self._run_task(node, block, info, inputs)
        elif isinstance(block, Flow):
            self._run_subflow(block, info, inputs)
        else:
            self._events.block_started(info, inputs)
            self._machine.later(partial(self._decide, node, info, inputs))

    def _run_task(
        self, node: GraphNode, block: TaskBlock, info: JobInfo, inputs: Mapping[str, Any]
    ) -> None:
        self._machine.start(
            info,
            block,
            node.package,
            self,
            inputs=inputs,
            inputs_def=node.inputs.values(),
            outputs_def=node.outputs.values(),
            timeout=node.node.timeout,
        )

    def _run_subflow(self, flow: Flow, info: JobInfo, inputs: Mapping[str, Any]) -> None:
        graph = self._subflows[flow.path]
        child = FlowRun(self._machine, graph, self._subflows, info, inputs, self)
        self._children[info.job_id] = child
        self._machine.later(child.start)

    def _decide(self, node: GraphNode, info: JobInfo, inputs: Mapping[str, Any]) -> None:
        """Run a conditions node: its first input goes to the output that was chosen."""
        if info.job_id not in self._jobs:
            return
        assert isinstance(node.node, ConditionsNode)
        output = chosen_output(node.node, inputs)
        first = next(iter(node.inputs), None)
        result = {} if output is None or first is None else {output: inputs[first]}
        self._events.block_finished(info, **({"result": result} if result else {}))
        self.ended(info.job_id, result, None)

    def _refuse_depth(self, info: JobInfo) -> None:
        if info.job_id not in self._jobs:
            return
        depth = len(info.stacks)
        error = f"Maximum recursion depth exceeded: {depth} (limit: {MAX_DEPTH})"
        self._events.block_finished(info, error=error)
        self.ended(info.job_id, {}, Trouble(error, info))

    def _stacks_of(self, node: GraphNode) -> tuple[Mapping[str, Any], ...]:
        level = {
            "flow_job_id": self._info.job_id,
            "flow": str(self._graph.flow.path),
            "node_id": node.node_id,
        }
        return (*self._info.stacks, level)

    def _end_when_idle(self) -> None:
        if self._jobs or self._over:
            return
        self._over = True
        self._events.flow_finished(self._graph.flow, self._info)
        self._machine.later(partial(self._owner.ended, self._info.job_id, {}, None))
