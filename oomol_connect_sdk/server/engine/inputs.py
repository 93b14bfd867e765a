"""Checking the inputs a caller gives before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from .errors import EngineError
from .graph import FlowGraph
from .manifests import ABSENT, Flow, InputDef, TaskBlock, ValuesNode
from .wiring import NodeInputs


class InputError(EngineError, ValueError):
    """Inputs that the block or flow can't be run with; the text names every fault."""


def root_inputs(block: TaskBlock | Flow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the inputs of a block or flow that is run by itself, with defaults filled in.

    Raises InputError for a missing input and for one that isn't declared.
    """
    filled = {item.handle: inputs.get(item.handle, item.default) for item in block.inputs_def}
    extra = {handle: value for handle, value in inputs.items() if handle not in filled}
    faults = _missing(filled)
    if extra and not (isinstance(block, TaskBlock) and block.additional_inputs):
        faults.append(f"no such input: {_listed(extra)} ({_declared(block.inputs_def)})")
    if faults:
        raise InputError(f"{block.name} ({block.path}): {'; '.join(faults)}")
    return {**filled, **extra}


def requested_inputs(block: TaskBlock | Flow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the inputs of a block that another one runs, with defaults filled in.

    Raises InputError for a missing input; one that isn't declared is passed on.
    """
    filled = {item.handle: inputs.get(item.handle, item.default) for item in block.inputs_def}
    faults = _missing(filled)
    if faults:
        raise InputError(f"{block.name} ({block.path}): {'; '.join(faults)}")
    return {**filled, **inputs}


def _missing(filled: Mapping[str, Any]) -> list[str]:
    missing = [handle for handle, value in filled.items() if value is ABSENT]
    return [f"no value for {_listed(missing)}"] if missing else []


def refuse_nodes_of_a_task(block: TaskBlock, nodes: Collection[str]) -> None:
    """Raise InputError when something is said about the nodes of a task, which has none."""
    if nodes:
        raise InputError(
            f"{block.name} ({block.path}): a task has no nodes, but there is something for "
            f"{_listed(nodes)}"
        )


def refuse_cache_of_a_task(block: TaskBlock, cache: NodeInputs | None) -> None:
    """Raise InputError when inputs of an earlier run are given for a task."""
    if cache is not None:
        raise InputError(
            f"{block.name} ({block.path}): a task has no nodes that inputs of an earlier run "
            "could be used for"
        )


def check_nodes(graph: FlowGraph, nodes: Collection[str]) -> None:
    """Raise InputError for nodes to run that are not there, or never run."""
    unknown = [node_id for node_id in nodes if node_id not in graph.nodes]
    if unknown:
        raise InputError(
            f"{graph.flow.name} ({graph.flow.path}): no node {_listed(unknown)} that runs "
            f"(there are {_listed(graph.nodes) or 'none'})"
        )


def check_nodes_inputs(graph: FlowGraph, nodes_inputs: NodeInputs) -> None:
    """Raise InputError for inputs of nodes that can't take them."""
    faults = [
        fault
        for node_id, inputs in nodes_inputs.items()
        for fault in _node_faults(graph, node_id, inputs)
    ]
    if faults:
        raise InputError(f"{graph.flow.name} ({graph.flow.path}): {'; '.join(faults)}")


def _node_faults(graph: FlowGraph, node_id: str, inputs: Mapping[str, Any]) -> Iterator[str]:
    declared = _declarations(graph)
    if node_id not in declared:
        yield f"no node {node_id!r} (there are {_listed(declared) or 'none'})"
        return
    handles = [definition.handle for definition in declared[node_id]]
    unknown = [handle for handle in inputs if handle not in handles]
    if unknown:
        yield f"node {node_id!r} has no input {_listed(unknown)} ({_declared(declared[node_id])})"
    node = graph.nodes.get(node_id)
    connected = [handle for handle in inputs if node and handle in node.connected]
    if connected:
        yield f"node {node_id!r} gets its {_listed(connected)} from the flow, not from outside"


def _declarations(graph: FlowGraph) -> dict[str, tuple[InputDef, ...]]:
    """Give the inputs of every node that runs and the handles of every values node."""
    constants = (
        node for node in graph.flow.nodes if isinstance(node, ValuesNode) and not node.ignore
    )
    return {
        **{node_id: tuple(node.inputs.values()) for node_id, node in graph.nodes.items()},
        **{node.node_id: node.values for node in constants},
    }


def _declared(definitions: Iterable[InputDef]) -> str:
    return f"declared: {_listed(item.handle for item in definitions) or 'none'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
