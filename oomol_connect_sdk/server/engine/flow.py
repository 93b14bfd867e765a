"""One run of a flow: values move along its edges and start its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .conditions import chosen_output
from .downstream import Downstream
from .events import JobInfo, Trouble
from .graph import FlowGraph, FlowKey, GraphNode, flow_key, with_slots
from .machine import Machine, Parent, Timer
from .manifests import ConditionsNode, Flow, NodeOutput, TaskBlock
from .partial import Part
from .progress import FlowProgress
from .queues import InputQueues
from .references import Caller
from .requested import RequestedBlocks, RequestRefused
from .wiring import Edge, ToFlow

#: Flows within flows.
MAX_DEPTH = 50


class FlowRun:
    """The state of one flow while it runs; to its jobs it is the owner.

    ``subflows`` holds the graphs of all subflows that can occur below it; of the flow itself
    ``part`` runs.
    """

    def __init__(
        self,
        machine: Machine,
        graph: FlowGraph,
        subflows: Mapping[FlowKey, FlowGraph],
        info: JobInfo,
        inputs: Mapping[str, Any],
        parent: Parent,
        part: Part | None = None,
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
        self._parent = parent
        self._part = part or Part(graph)
        self._over = False
        self._queues = InputQueues()
        self._progress = FlowProgress(
            {node.node_id: node.node.progress_weight for node in self._part.nodes}
        )
        #: Every job that has not ended, by id, in start order.
        self._jobs: dict[str, GraphNode] = {}
        self._children: dict[str, FlowRun] = {}
        #: Node id → its jobs that count for concurrency.
        self._busy: Counter[str] = Counter()
        #: Node id → runs that wait for one of its jobs to end.
        self._pending: Counter[str] = Counter()
        self._requested = RequestedBlocks(machine, self, self._end_when_idle)

    def start(self) -> None:
        """Run what needs no value, then hand out the flow's inputs."""
        if self._over:
            return
        flow = self._graph.flow
        for node_id, handle, value in self._part.cached():
            self._queues.push(node_id, handle, value)
        ready = [node for node in self._part.nodes if self._queues.satisfies(node)]
        self._events.flow_started(flow, self._info, self._inputs)
        if flow.kind == "flow" and not self._info.stacks:
            self._announce(ready)
        self._warn()
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
                self._machine.timers.pop(job_id, None)
                child.abort()
        self._requested.abort()
        self._jobs.clear()
        self._children.clear()

    def fail(self, error: str, trouble: Trouble) -> None:
        """End the flow with an error; ``trouble`` is what reaches the flows around it."""
        self.abort()
        self._events.flow_finished(self._graph.flow, self._info, error, trouble)
        self._machine.later(partial(self._parent.ended, self._info.job_id, {}, trouble))

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
            self._machine.later(partial(self._parent.progressed, self._info.job_id, estimate))

    def previewed(self, job_id: str, payload: Any) -> None:
        """Show a job's preview as one of the flow when its manifest says so."""
        node = self._jobs.get(job_id)
        if node and node.node_id in self._graph.flow.forward_previews:
            self._events.preview(self._info, payload, node.node_id)
            self._machine.later(partial(self._parent.previewed, self._info.job_id, payload))

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Take the end of a job; the first failure ends the flow."""
        node = self._jobs.get(job_id)
        if node is None:
            return
        self._machine.timers.pop(job_id, None)
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

    @property
    def host(self) -> FlowRun:
        """Requests of its jobs are about itself."""
        return self

    @property
    def requested(self) -> RequestedBlocks:
        """The blocks that its jobs run themselves."""
        return self._requested

    def caller(self, node_id: str) -> Caller:
        """Say who refers to a block."""
        return Caller(self._graph.flow.path, self._graph.package, node_id)

    def level(self, node_id: str) -> Mapping[str, Any]:
        """Give the level of the stacks that its nodes are on."""
        return {
            "flow_job_id": self._info.job_id,
            "flow": str(self._graph.flow.path),
            "node_id": node_id,
        }

    def downstream(self, job_id: str, handles: Sequence[str] | None) -> dict[str, Any]:
        """Say where the outputs of a job go; None stands for all outputs."""
        node = self._jobs.get(job_id)
        return {} if node is None else Downstream(self._graph).of(node, handles)

    def set_weight(self, node_id: str, weight: float) -> None:
        """Change a node's share in the progress; raises RequestRefused when there is none."""
        if not self._part.holds(node_id):
            raise RequestRefused(f"{self._graph.flow.path} has no node {node_id!r} that runs")
        self._progress.set_weight(node_id, weight)

    def _announce(self, ready: list[GraphNode]) -> None:
        start, ends = [node.node_id for node in ready], self._part.ends
        nodes = (node.node_id for node in self._part.nodes)
        middle = [node_id for node_id in nodes if node_id not in start and node_id not in ends]
        self._events.flow_nodes_will_run(self._graph.flow, self._info, start, middle, ends)

    def _warn(self) -> None:
        """Say what keeps a node from running, or from running as its flow says."""
        for node_id, warning in self._graph.warnings:
            if self._part.holds(node_id):
                self._warn_of(node_id, f"node {node_id!r}: {warning}")
        for node in self._part.nodes:
            handles = ", ".join(repr(definition.handle) for definition in node.open_inputs)
            if handles:
                self._warn_of(
                    node.node_id, f"node {node.node_id!r} will not run: no value for {handles}"
                )

    def _warn_of(self, node_id: str, warning: str) -> None:
        stacks = (*self._info.stacks, self.level(node_id))
        self._events.warning(JobInfo(self._info.job_id, stacks, None), warning)

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
        if not self._part.holds(edge.node_id):
            self._part.note(edge.node_id, {edge.handle: value})
            return
        node = self._graph.nodes[edge.node_id]
        before = self._queues.complete_sets(node)
        self._queues.push(edge.node_id, edge.handle, value)
        if not self._queues.satisfies(node):
            return
        # A remembered value that comes late completes all the sets that wait for it.
        grown = self._queues.complete_sets(node) - before
        free = self._busy[node.node_id] < node.node.concurrency
        for _ in range(max(grown, 1 if free else 0)):
            if self._busy[node.node_id] < node.node.concurrency:
                self._run(node)
            else:
                self._pending[node.node_id] += 1

    def _output(self, handle: str, value: Any) -> None:
        self._events.flow_output(self._graph.flow, self._info, handle, value)
        self._machine.later(partial(self._parent.deliver, self._info.job_id, handle, value))

    def _run_pending(self, node: GraphNode) -> None:
        if self._pending[node.node_id] and self._busy[node.node_id] < node.node.concurrency:
            self._pending[node.node_id] -= 1
            self._run(node)

    def _run(self, node: GraphNode) -> None:
        """Start a job of a node with one set of its inputs."""
        block = node.block
        path = None if block is None else block.path
        stacks = (*self._info.stacks, self.level(node.node_id))
        info = JobInfo(self._machine.new_job_id(), stacks, path)
        inputs = self._queues.take(node)
        self._part.note(node.node_id, inputs)
        self._jobs[info.job_id] = node
        self._busy[node.node_id] += 1
        if len(stacks) > MAX_DEPTH:
            error = f"Maximum recursion depth exceeded: {len(stacks)} (limit: {MAX_DEPTH})"
            self._machine.later(partial(self._refuse, info, error))
        elif isinstance(block, TaskBlock):
            self._run_task(node, block, info, inputs)
        elif isinstance(block, Flow):
            self._run_subflow(node, block, info, inputs)
        elif isinstance(node.node, ConditionsNode):
            self._events.block_started(info, inputs)
            self._machine.later(partial(self._decide, node, info, inputs))
        else:
            self._events.block_started(info, inputs)
            self._machine.later(partial(self._refuse, info, "Cannot run Slot Block directly"))

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
            beside=node.beside,
            scripts=self._graph.scripts.get(node.package.directory, ()) if node.injected else (),
        )

    def _run_subflow(
        self, node: GraphNode, flow: Flow, info: JobInfo, inputs: Mapping[str, Any]
    ) -> None:
        graph = with_slots(self._subflows[flow_key(flow)], node.fillings)
        child = FlowRun(self._machine, graph, self._subflows, info, inputs, self)
        self._children[info.job_id] = child
        if node.node.timeout is not None:
            time_out = partial(self._time_out, info, node.node.timeout)
            self._machine.start_timer(Timer(info, node.node.timeout, time_out))
        self._machine.later(child.start)

    def _time_out(self, info: JobInfo, seconds: float) -> None:
        """Fail with a subflow that took too long."""
        self._children.pop(info.job_id).abort()
        self._events.timed_out(info, seconds)
        self.ended(info.job_id, {}, Trouble("Timeout", info))

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

    def _refuse(self, info: JobInfo, error: str) -> None:
        """End a job that can't run."""
        if info.job_id in self._jobs:
            self._events.block_finished(info, error=error)
            self.ended(info.job_id, {}, Trouble(error, info))

    def _end_when_idle(self) -> None:
        if self._jobs or self._requested or self._over:
            return
        self._over = True
        self._events.flow_finished(self._graph.flow, self._info)
        self._machine.later(partial(self._parent.ended, self._info.job_id, {}, None))
