"""The block or flow that a session runs, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .actions import ServiceStart
from .events import JobInfo, Trouble
from .flow import FlowRun
from .graph import build_plan, session_services
from .inputs import (
    check_nodes,
    check_nodes_inputs,
    refuse_nodes_of_a_task,
    root_inputs,
)
from .machine import Machine
from .manifests import Flow, Package, TaskBlock
from .partial import InputCache, Part
from .references import Caller, References
from .requested import Host, RequestedBlocks, RequestRefused
from .wiring import Edge, NodeInputs


class Root:
    """The owner of the outermost job."""

    def __init__(self) -> None:
        self.over = False
        self.trouble: Trouble | None = None
        self.progress = 0.0
        #: Handle → last value delivered.
        self.outputs: dict[str, Any] = {}

    def deliver(
        self, job_id: str, handle: str, value: Any, only: frozenset[Edge] | None = None
    ) -> None:
        """Keep the last value of each output."""
        self.outputs[handle] = value

    def progressed(self, job_id: str, progress: float) -> None:
        """Keep the highest progress."""
        self.progress = max(self.progress, min(progress, 100.0))

    def previewed(self, job_id: str, payload: Any) -> None:
        """Nothing contains the root, so there is nobody to show a preview to."""

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Keep how it ended."""
        self.outputs.update(result)
        self.trouble = trouble
        self.finish()

    def finish(self) -> None:
        """Note that nothing runs any more."""
        self.over = True
        if self.trouble is None:
            self.progress = 100.0


class RootTask(Root):
    """A task block that is run by itself."""

    def __init__(
        self,
        machine: Machine,
        block: TaskBlock,
        package: Package,
        inputs: Mapping[str, Any],
        nodes_inputs: NodeInputs,
        nodes: Collection[str],
    ) -> None:
        super().__init__()
        refuse_nodes_of_a_task(block, [*nodes_inputs, *nodes])
        self._machine = machine
        self._block = block
        self._package = package
        self._inputs = root_inputs(block, inputs)
        self._info = JobInfo(machine.new_job_id(), (), block.path)
        self._ended = False
        self._requested = RequestedBlocks(machine, self, self._end_when_idle)

    def start(self) -> None:
        """Run the block."""
        self._machine.start(
            self._info,
            self._block,
            self._package,
            self,
            inputs=self._inputs,
            inputs_def=self._block.inputs_def,
            outputs_def=self._block.outputs_def,
        )

    def fail(self, message: str) -> None:
        """End the block for a reason that lies in a flow that it runs."""
        self._machine.abort(self._info.job_id)
        self.ended(self._info.job_id, {}, Trouble(message, self._info))

    def ended(self, job_id: str, result: Mapping[str, Any], trouble: Trouble | None) -> None:
        """Keep how it ended; what it runs besides is over first, unless it failed."""
        self.outputs.update(result)
        self.trouble = trouble
        self._ended = True
        if trouble is not None:
            self._requested.abort()
        self._end_when_idle()

    @property
    def host(self) -> Host:
        """Requests of the block are about itself."""
        return self

    @property
    def requested(self) -> RequestedBlocks:
        """The blocks that the block runs itself."""
        return self._requested

    def caller(self, node_id: str) -> Caller:
        """Say who refers to a block."""
        return Caller(self._path, self._package, node_id)

    def level(self, node_id: str) -> Mapping[str, Any]:
        """Give the level of the stacks that the blocks it runs are on."""
        return {"flow_job_id": self._info.job_id, "flow": str(self._path), "node_id": node_id}

    def downstream(self, job_id: str, handles: Sequence[str] | None) -> dict[str, Any]:
        """Nothing follows a block that is run by itself."""
        return {}

    def set_weight(self, node_id: str, weight: float) -> None:
        """Refuse: there are no nodes."""
        raise RequestRefused(f"{self._path} is a task: it has no node {node_id!r}")

    @property
    def result(self) -> dict[str, Any]:
        """Handle → last value."""
        return self.outputs

    @property
    def node_results(self) -> dict[str, dict[str, Any]]:
        """A task has no nodes."""
        return {}

    @property
    def last_inputs(self) -> InputCache:
        """A task has no nodes."""
        return {}

    @property
    def services(self) -> tuple[ServiceStart, ...]:
        """That of a block which is run by itself starts with the block."""
        return ()

    def error_fields(self) -> dict[str, Any]:
        """Give what SessionFinished says about a failure."""
        return {} if self.trouble is None else {"error": self.trouble.message}

    @property
    def _path(self) -> Path:
        return self._block.path or self._block.directory / self._block.name

    def _end_when_idle(self) -> None:
        if self._ended and not self._requested:
            self.finish()


class RootFlow(Root):
    """A flow or subflow that is run by itself."""

    def __init__(
        self,
        machine: Machine,
        flow: Flow,
        package: Package,
        references: References,
        inputs: Mapping[str, Any],
        nodes_inputs: NodeInputs,
        nodes: Collection[str],
        cache: NodeInputs | None,
    ) -> None:
        super().__init__()
        plan = build_plan(flow, package, references, nodes_inputs)
        check_nodes_inputs(plan.root, nodes_inputs)
        check_nodes(plan.root, nodes)
        filled = root_inputs(flow, inputs)
        info = JobInfo(machine.new_job_id(), (), flow.path)
        self._flow = flow
        self._info = info
        self._part = Part(plan.root, nodes, cache)
        self._subflows = plan.subflows
        self._run = FlowRun(machine, plan.root, plan.subflows, info, filled, self, self._part)

    def start(self) -> None:
        """Run the flow."""
        self._run.start()

    def fail(self, message: str) -> None:
        """End the flow for a reason that lies in no node of it."""
        self._run.fail(message, Trouble(message, self._info))

    @property
    def last_inputs(self) -> InputCache:
        """Node id → handle → the last value, of those that a later run can use."""
        return self._part.last_inputs

    @property
    def services(self) -> tuple[ServiceStart, ...]:
        """The services that start before one of their blocks runs."""
        return session_services(self._part.nodes, self._subflows)

    @property
    def result(self) -> dict[str, Any]:
        """The flow's outputs; of a flow that has none, what the last finished node gave."""
        if self._flow.outputs_def or self._flow.outputs_from:
            return self.outputs
        return self.node_results.get(self._run.last_finished_node or "", {})

    @property
    def node_results(self) -> dict[str, dict[str, Any]]:
        """Node id → handle → last value."""
        return self._run.node_results

    def error_fields(self) -> dict[str, Any]:
        """Give what SessionFinished says about a failure."""
        if self.trouble is None:
            return {}
        detail = {"message": self.trouble.message, "stack": self.trouble.stack()}
        return {"error": f"flow {self._flow.path} failed.", "_error": detail}
