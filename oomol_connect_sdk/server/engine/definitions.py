"""The handles of a node: those of its block, those it adds, and what the flow says about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .handle_manifests import SECRET
from .manifests import (
    ConditionsNode,
    Flow,
    InputDef,
    Node,
    NodeOutput,
    OutputDef,
    SlotNode,
    Source,
    TaskBlock,
    TaskNode,
)

Block = TaskBlock | Flow | None


def node_inputs(node: Node, block: Block) -> dict[str, InputDef]:
    """Give the declared inputs; a node adds its own only to a block that takes more."""
    if isinstance(node, (ConditionsNode, SlotNode)):
        return {item.handle: item for item in node.inputs_def}
    inputs = {} if block is None else {item.handle: item for item in block.inputs_def}
    if isinstance(node, TaskNode) and isinstance(block, TaskBlock) and block.additional_inputs:
        for item in node.inputs_def:
            inputs.setdefault(item.handle, additional_input(item))
    return inputs


def node_outputs(node: Node, block: Block) -> dict[str, OutputDef]:
    """Give the declared outputs; a node adds its own only to a block that gives more."""
    if isinstance(node, SlotNode):
        return {item.handle: item for item in node.outputs_def}
    outputs = {} if block is None else {item.handle: item for item in block.outputs_def}
    if isinstance(node, TaskNode) and isinstance(block, TaskBlock) and block.additional_outputs:
        for item in node.outputs_def:
            outputs.setdefault(item.handle, additional_output(item))
    return outputs


def additional_input(definition: InputDef) -> InputDef:
    """Mark an input that the block itself doesn't declare."""
    return replace(definition, definition={**definition.definition, "is_additional": True})


def additional_output(definition: OutputDef) -> OutputDef:
    """Mark an output that the block itself doesn't declare."""
    return replace(definition, definition={**definition.definition, "is_additional": True})


def with_overrides(
    inputs: Mapping[str, InputDef], sources: Iterable[Source]
) -> dict[str, InputDef]:
    """Write what a node says about the values of its inputs into their definitions."""
    changed = dict(inputs)
    for source in sources:
        if source.handle in changed and (source.secrets or source.serialize_for_cache):
            definition = changed[source.handle]
            changed[source.handle] = replace(definition, definition=_overridden(definition, source))
    return changed


def with_serialized(
    outputs: Mapping[str, OutputDef], node_id: str, serialized: frozenset[NodeOutput]
) -> dict[str, OutputDef]:
    """Mark the outputs whose objects are also to be written to a file."""
    return {
        handle: replace(item, definition={**item.definition, "_serialize_for_cache": True})
        if NodeOutput(node_id, handle) in serialized
        else item
        for handle, item in outputs.items()
    }


def serialized_outputs(sources: Iterable[Sequence[Source]]) -> frozenset[NodeOutput]:
    """Give the outputs that an input with ``serialize_for_cache`` takes its values from."""
    return frozenset(
        output
        for items in sources
        for source in items
        if source.serialize_for_cache
        for output in source.from_node
    )


def _overridden(definition: InputDef, source: Source) -> dict[str, Any]:
    written = dict(definition.definition)
    if source.serialize_for_cache:
        written["_deserialize_from_cache"] = True
    if () in source.secrets:
        written["json_schema"] = {**(written.get("json_schema") or {}), "contentMediaType": SECRET}
    if source.secrets:
        schema = {"contentMediaType": SECRET}
        paths = source.secrets
        written["schema_overrides"] = [{"path": list(path), "schema": schema} for path in paths]
    return written
