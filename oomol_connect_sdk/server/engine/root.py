"""The block or flow that a session runs, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .events import JobInfo, Trouble
from .flow import FlowRun
from .graph import Edge, NodeInputs, build_plan
from .inputs import check_nodes_inputs, refuse_nodes_inputs_of_a_task, root_inputs
from .machine import Machine
from .manifests import Flow, Package, TaskBlock
from .references import References


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
        self.over = True
        self.trouble = trouble
        if trouble is None:
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
    ) -> None:
        super().__init__()
        refuse_nodes_inputs_of_a_task(block, nodes_inputs)
        self._machine = machine
        self._block = block
        self._package = package
        self._inputs = root_inputs(block, inputs)

    def start(self) -> None:
        """Run the block."""
        self._machine.start(
            JobInfo(self._machine.new_job_id(), (), self._block.path),
            self._block,
            self._package,
            self,
            inputs=self._inputs,
            inputs_def=self._block.inputs_def,
            outputs_def=self._block.outputs_def,
        )

    @property
    def result(self) -> dict[str, Any]:
        """Handle → last value."""
        return self.outputs

    @property
    def node_results(self) -> dict[str, dict[str, Any]]:
        """A task has no nodes."""
        return {}

    def error_fields(self) -> dict[str, Any]:
        """Give what SessionFinished says about a failure."""
        return {} if self.trouble is None else {"error": self.trouble.message}


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
    ) -> None:
        super().__init__()
        plan = build_plan(flow, package, references, nodes_inputs)
        check_nodes_inputs(plan.root, nodes_inputs)
        filled = root_inputs(flow, inputs)
        info = JobInfo(machine.new_job_id(), (), flow.path)
        self._flow = flow
        self._info = info
        self._run = FlowRun(machine, plan.root, plan.subflows, info, filled, self)

    def start(self) -> None:
        """Run the flow."""
        self._run.start()

    def fail(self, message: str) -> None:
        """End the flow for a reason that lies in no node of it."""
        self._run.fail(message, Trouble(message, self._info))

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
