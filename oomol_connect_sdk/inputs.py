"""The three input formats, brought to the one that goes on the wire."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, List

from .types import InputValue, NodeInputs

#: The node id that stands for the block or flow itself.
ROOT_NODE = "_"


def normalize_input_values(values: Any) -> List[NodeInputs]:
    """Bring any of the three input formats to a list of `NodeInputs` that JSON can hold.

    * a mapping ``{handle: value}``: inputs of the block or flow itself;
    * a sequence of ``{"handle": …, "value": …}``: the same;
    * a sequence of ``{"nodeId": …, "inputs": […]}``, or one such mapping: inputs of nodes.

    Dates and times become ISO 8601 text, paths, UUIDs and enum members their plain value,
    dataclasses mappings, NumPy scalars and arrays numbers and lists, a `Decimal` the number
    that has the same value. Raises TypeError or ValueError that shows the offending element.
    """
    if isinstance(values, Mapping):
        if _is_node_entry(values):
            return [_node_entry(values, "inputValues")]
        return [_root_entry([_input_value(h, v, "inputValues") for h, v in values.items()])]
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes, bytearray)):
        raise TypeError(
            f"inputValues must be a mapping or a sequence, not {type(values).__name__}: "
            f"{_show(values)}"
        )
    return _normalize_sequence(values)


def to_json_value(value: Any, where: str) -> Any:
    """Turn a value into what JSON can hold; ``where`` names it in the error."""
    if value is None or isinstance(value, (str, bool)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, enum.Enum):
        return to_json_value(value.value, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite(float(value), where)
    if isinstance(value, Mapping):
        return {_key(k, where): to_json_value(v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [to_json_value(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return _special(value, where)


def _normalize_sequence(values: Sequence[Any]) -> List[NodeInputs]:
    for index, item in enumerate(values):
        if not isinstance(item, Mapping):
            raise TypeError(
                f"inputValues[{index}] must be a mapping with 'handle' and 'value', or with "
                f"'nodeId' and 'inputs', not {type(item).__name__}: {_show(item)}"
            )
    nodes = [index for index, item in enumerate(values) if "nodeId" in item]
    if not nodes:
        return [_root_entry(_handle_entries(values, "inputValues"))] if values else []
    for index, item in enumerate(values):
        if "nodeId" not in item:
            raise ValueError(
                f"inputValues mixes two formats: element {nodes[0]} has a 'nodeId', element "
                f"{index} has none: {_show(item)}"
            )
    return [_node_entry(item, f"inputValues[{index}]") for index, item in enumerate(values)]


def _is_node_entry(values: Mapping[Any, Any]) -> bool:
    inputs = values.get("inputs")
    return (
        set(values) == {"nodeId", "inputs"}
        and isinstance(inputs, Sequence)
        and all(isinstance(item, Mapping) and "handle" in item for item in inputs)
    )


def _root_entry(inputs: List[InputValue]) -> NodeInputs:
    return {"nodeId": ROOT_NODE, "inputs": inputs}


def _node_entry(item: Mapping[str, Any], where: str) -> NodeInputs:
    node_id = item["nodeId"]
    if not isinstance(node_id, str) or not node_id:
        raise TypeError(f"{where}: 'nodeId' must be non-empty text, not {_show(node_id)}")
    inputs = item.get("inputs")
    if isinstance(inputs, Mapping):
        return {
            "nodeId": node_id,
            "inputs": [_input_value(h, v, where) for h, v in inputs.items()],
        }
    if not isinstance(inputs, Sequence) or isinstance(inputs, (str, bytes)):
        raise TypeError(f"{where}: 'inputs' must be a list of handles, not {_show(inputs)}")
    return {"nodeId": node_id, "inputs": _handle_entries(inputs, f"{where}.inputs")}


def _handle_entries(items: Sequence[Any], where: str) -> List[InputValue]:
    entries = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping) or "handle" not in item or "value" not in item:
            raise ValueError(f"{where}[{index}] must have 'handle' and 'value': {_show(item)}")
        entries.append(_input_value(item["handle"], item["value"], f"{where}[{index}]"))
    return entries


def _input_value(handle: Any, value: Any, where: str) -> InputValue:
    if not isinstance(handle, str) or not handle:
        raise TypeError(f"{where}: a handle must be non-empty text, not {_show(handle)}")
    return {"handle": handle, "value": to_json_value(value, f"the value of handle {handle!r}")}


def _special(value: Any, where: str) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _decimal(value, where)
    if isinstance(value, os.PathLike):
        return to_json_value(os.fspath(value), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: to_json_value(getattr(value, f.name), f"{where}.{f.name}") for f in fields}
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return to_json_value(value.tolist(), where)
    raise TypeError(f"{where} can't be sent as JSON: {_show(value)}{_advice(value)}")


def _advice(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return " (encode it as text, or send it as a file with run_with_files)"
    if isinstance(value, (set, frozenset)):
        return " (a set has no order: pass a list)"
    if hasattr(value, "read"):
        return " (send files with run_with_files)"
    return f" (type {type(value).__name__})"


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which JSON can't hold")
    return value


def _decimal(value: Decimal, where: str) -> Any:
    _finite(float(value), where)
    if value == value.to_integral_value():
        return int(value)
    if Decimal(repr(float(value))) != value:
        raise ValueError(f"{where} is {value}, which no JSON number holds exactly: pass str(…)")
    return float(value)


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where} has the key {_show(key)}: JSON keys must be text")
    return key


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
