"""What running jobs ask the engine: to run a block, or to say something about blocks and flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from .actions import Respond
from .definitions import additional_input, additional_output
from .errors import EngineError
from .events import JobInfo
from .flow import MAX_DEPTH, FlowRun
from .graph import build_plan
from .inputs import requested_inputs
from .machine import Machine, StartedJob
from .manifests import ABSENT, Flow, InputDef, OutputDef, Package, TaskBlock
from .references import Located, References
from .requested import RequestRefused, RunningTask
from .schemas import check_inputs

Request = Mapping[str, Any]


class Requests:
    """Answers the requests of one session's jobs."""

    def __init__(self, machine: Machine, references: References) -> None:
        self._machine = machine
        self._references = references
        self._answers: Mapping[str, Callable[[Request, StartedJob], Any]] = {
            "RunBlock": self._run_block,
            "QueryBlock": self._query_block,
            "QueryDownstream": _query_downstream,
            "UpdateNodeWeight": _update_node_weight,
            "QueryAuth": _query_auth,
        }

    def answer(self, request: Request, asker: StartedJob) -> None:
        """Do what a job asks for; a block that begins to run is no answer yet."""
        job_id, request_id = asker.job.job_id, str(request.get("request_id"))
        action = str(request.get("action"))
        try:
            if action not in self._answers:
                raise RequestRefused(f"there is no request {action!r}")
            result = self._answers[action](request, asker)
        except EngineError as error:
            self._machine.act(Respond(job_id, request_id, error=str(error)))
            return
        if result is not None:
            self._machine.act(Respond(job_id, request_id, result))

    def _run_block(self, request: Request, asker: StartedJob) -> None:
        reference, job_id = _text(request, "block"), _text(request, "block_job_id")
        payload = _mapping(request.get("payload"), "payload")
        located = self._locate(reference, asker)
        if isinstance(located.manifest, Flow) and located.manifest.kind != "subflow":
            # Who asked would wait for ever: it knows the end of a task and of a subflow only.
            raise RequestRefused(f"{located.manifest.path} is neither a task nor a subflow")
        block = _with_additional(located.manifest, payload)
        inputs = requested_inputs(block, _mapping(payload.get("inputs"), "inputs"))
        if request.get("strict"):
            check_inputs(block, inputs)
        stacks = (*asker.info.stacks, asker.owner.host.level(f"run_block::{reference}"))
        if len(stacks) > MAX_DEPTH:
            depth = len(stacks)
            raise RequestRefused(f"Maximum recursion depth exceeded: {depth} (limit: {MAX_DEPTH})")
        if job_id in self._machine.jobs or job_id in self._machine.requesters:
            raise RequestRefused(f"the block_job_id {job_id!r} is taken")
        info = JobInfo(job_id, stacks, block.path)
        self._start(block, located.package, info, inputs, asker)

    def _start(
        self,
        block: TaskBlock | Flow,
        package: Package,
        info: JobInfo,
        inputs: Mapping[str, Any],
        asker: StartedJob,
    ) -> None:
        machine, owner = self._machine, asker.owner.host.requested
        if isinstance(block, Flow):
            plan = build_plan(block, package, self._references, {})
            run = FlowRun(machine, plan.root, plan.subflows, info, inputs, owner)
            owner.add(info.job_id, asker.job.job_id, run)
            machine.later(run.start)
            return
        owner.add(info.job_id, asker.job.job_id, RunningTask(machine, info))
        machine.start(
            info,
            block,
            package,
            owner,
            inputs=inputs,
            inputs_def=block.inputs_def,
            outputs_def=block.outputs_def,
        )

    def _query_block(self, request: Request, asker: StartedJob) -> dict[str, Any]:
        block = self._locate(_text(request, "block"), asker).manifest
        described: dict[str, Any] = {
            "description": block.description,
            "inputs_def": {item.handle: item.definition for item in block.inputs_def} or None,
            "outputs_def": {item.handle: item.definition for item in block.outputs_def} or None,
        }
        if isinstance(block, Flow):
            return {"type": "subflow", **described, "has_slot": bool(block.slots)}
        return {
            "type": "task",
            **described,
            "additional_inputs": block.additional_inputs,
            "additional_outputs": block.additional_outputs,
        }

    def _locate(self, reference: str, asker: StartedJob) -> Located[TaskBlock | Flow]:
        caller = asker.owner.host.caller(asker.job.node_id)
        return self._references.block(reference, caller)


def _query_downstream(request: Request, asker: StartedJob) -> dict[str, Any]:
    handles = request.get("handles")
    if handles is None:
        handles = request.get("outputs")
    if handles is not None and not isinstance(handles, list):
        raise RequestRefused("the handles to ask for have to be a list")
    return asker.owner.host.downstream(asker.job.job_id, handles)


def _update_node_weight(request: Request, asker: StartedJob) -> dict[str, Any]:
    node_id, weight = _text(request, "node_id"), request.get("weight")
    if not _is_weight(weight):
        raise RequestRefused(f"the weight of a node is a number of at least 0, not {weight!r}")
    asker.owner.host.set_weight(node_id, weight)
    return {"node_id": node_id, "weight": weight}


def _is_weight(weight: Any) -> TypeGuard[float]:
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    return number and 0 <= weight < math.inf


def _query_auth(request: Request, asker: StartedJob) -> dict[str, Any]:
    raise RequestRefused(
        f"the credential {request.get('payload')!r} is not known: this server keeps no credentials"
    )


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise RequestRefused(f"{name!r} of the request has to be a text")
    return value


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RequestRefused(f"{name!r} of the request has to be an object")
    return value


def _with_additional(block: TaskBlock | Flow, payload: Mapping[str, Any]) -> TaskBlock | Flow:
    """Give a task the handles that the request adds; a subflow has only its own."""
    if isinstance(block, Flow):
        return block
    inputs = {item.handle: item for item in block.inputs_def}
    outputs = {item.handle: item for item in block.outputs_def}
    for definition in _definitions(payload, "additional_inputs_def"):
        item = InputDef(
            handle=definition["handle"],
            definition=definition,
            nullable=definition.get("nullable") is True,
            value=definition.get("value", ABSENT),
        )
        inputs[item.handle] = additional_input(item)
    for definition in _definitions(payload, "additional_outputs_def"):
        handle = definition["handle"]
        outputs[handle] = additional_output(OutputDef(handle, definition))
    return replace(block, inputs_def=tuple(inputs.values()), outputs_def=tuple(outputs.values()))


def _definitions(payload: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = payload.get(name) or []
    if not isinstance(items, list) or not all(
        isinstance(item, Mapping) and isinstance(item.get("handle"), str) for item in items
    ):
        raise RequestRefused(f"{name!r} of the request has to be a list of handles")
    return items
