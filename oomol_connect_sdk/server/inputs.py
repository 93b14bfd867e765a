"""The input formats a client may send, and the one the server stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The node id that stands for the block or flow itself.
ROOT = "_"

NodeInputs = Sequence[Mapping[str, Any]]


class InvalidInputs(Exception):
    """The input values have no known form; the message names the element."""


def normalized(values: Any) -> NodeInputs | None:
    """Return ``inputValues`` in the wire's normal form, ``[{nodeId, inputs: [{handle, value}]}]``.

    Takes a handle → value dict, a list of ``{handle, value}`` (both are the inputs of the block
    or flow itself) and the normal form; None is for no inputs. Raises InvalidInputs.
    """
    if values is None:
        return None
    if isinstance(values, dict):
        return [_node(ROOT, [{"handle": h, "value": v} for h, v in values.items()])]
    if not isinstance(values, list):
        raise InvalidInputs("inputValues must be an object or a list.")
    if any(isinstance(item, dict) and "nodeId" in item for item in values):
        return [_node_inputs(item, f"inputValues[{n}]") for n, item in enumerate(values)]
    return [_node(ROOT, _inputs(values, "inputValues"))]


def by_node(values: NodeInputs | None) -> dict[str, dict[str, Any]]:
    """Return the inputs as node id → handle → value; ROOT is the block or flow itself."""
    nodes: dict[str, dict[str, Any]] = {ROOT: {}}
    for node in values or ():
        handles = nodes.setdefault(node["nodeId"], {})
        handles.update((item["handle"], item["value"]) for item in node["inputs"])
    return nodes


def _node_inputs(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict) or not isinstance(item.get("nodeId"), str):
        raise InvalidInputs(f"{where} must be an object with a nodeId and its inputs.")
    inputs = item.get("inputs")
    if not isinstance(inputs, list):
        raise InvalidInputs(f"{where}.inputs must be a list of {{handle, value}}.")
    return _node(item["nodeId"], _inputs(inputs, f"{where}.inputs"))


def _inputs(items: list[Any], where: str) -> list[dict[str, Any]]:
    seen: set[str] = set()
    inputs = []
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not isinstance(item.get("handle"), str):
            raise InvalidInputs(f"{where}[{number}] must be an object with a handle and a value.")
        handle = item["handle"]
        if "value" not in item:
            # What JavaScript makes of a value that is undefined: it is not given.
            continue
        if handle in seen:
            raise InvalidInputs(f"{where}[{number}] gives handle {handle!r} a second value.")
        seen.add(handle)
        inputs.append({"handle": handle, "value": item["value"]})
    return inputs


def _node(node_id: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"nodeId": node_id, "inputs": inputs}
