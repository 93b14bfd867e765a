"""Blocks and flows as rows of ``/v1/blocks`` and ``/v1/flows``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import EngineError
from .graph import build_graph
from .manifests import ABSENT, Flow, InputDef, OutputDef, Package, TaskBlock, ValuesNode
from .references import References
from .wiring import values_of

_KEY = re.compile(r"%([^%]+)%")

#: What is shown to a person, and so may be a ``%key%`` of the package's locale file.
_SHOWN = ("json_schema", "description")


def block_row(
    block: TaskBlock | Flow, package: Package, path: Path, locale: Mapping[str, str]
) -> dict[str, Any]:
    """Give the row of a task or subflow; ``blockId``, ``version`` and ``outputs`` are our own."""
    return {
        **_identity(block, package, path, locale),
        "blockId": f"{package.name}::{block.name}",
        "inputs": [_input(item, locale) for item in block.inputs_def],
        "outputs": [_handle(item, locale) for item in block.outputs_def],
    }


def flow_row(
    flow: Flow, package: Package, references: References, locale: Mapping[str, str]
) -> dict[str, Any]:
    """Give the row of a flow; with ``error`` when what it refers to can't be found or run."""
    row = _identity(flow, package, flow.path, locale)
    inputs = [("_", [_input(item, locale) for item in flow.inputs_def])]
    try:
        inputs += _open_inputs(flow, package, references, locale)
    except EngineError as error:
        row["error"] = str(error)
    row["inputs"] = [{"nodeId": node_id, "inputs": rows} for node_id, rows in inputs if rows]
    return row


def _identity(
    manifest: TaskBlock | Flow, package: Package, path: Path, locale: Mapping[str, str]
) -> dict[str, Any]:
    row = {
        "package": package.name,
        "name": manifest.name,
        "path": str(path),
        "version": package.version,
        "description": _translated(manifest.description, locale),
    }
    return {key: value for key, value in row.items() if value is not None}


def _open_inputs(
    flow: Flow, package: Package, references: References, locale: Mapping[str, str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give the inputs of nodes that only a caller can fill."""
    graph = build_graph(flow, package, references, {})
    for node in flow.nodes:
        if node.node_id in graph.nodes:
            definitions = graph.nodes[node.node_id].open_inputs
        elif isinstance(node, ValuesNode) and not node.ignore:
            filled = values_of(node, {})
            definitions = tuple(item for item in node.values if item.handle not in filled)
        else:
            continue
        yield node.node_id, [_handle(item, locale) for item in definitions]


def _handle(definition: InputDef | OutputDef, locale: Mapping[str, str]) -> dict[str, Any]:
    written = definition.definition
    shown = {key: _translated(written[key], locale) for key in _SHOWN if key in written}
    return {"handle": definition.handle, **shown}


def _input(definition: InputDef, locale: Mapping[str, str]) -> dict[str, Any]:
    row = _handle(definition, locale)
    if "nullable" in definition.definition:
        row["nullable"] = definition.nullable
    if definition.value is not ABSENT:
        row["value"] = definition.value
    return row


def _translated(value: Any, locale: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _translated(item, locale) for key, item in value.items()}
    if isinstance(value, list):
        return [_translated(item, locale) for item in value]
    if isinstance(value, str) and (key := _KEY.fullmatch(value)):
        return locale.get(key[1], value)
    return value
