"""Reading the nodes of a flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from .block_manifests import task_block
from .handle_manifests import read_inputs_def, read_outputs_def, read_sources, read_value
from .manifest_types import (
    Case,
    ConditionsNode,
    Expression,
    Inject,
    Node,
    OtherNode,
    ServiceNode,
    SlotNode,
    SlotProvider,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
)
from .yaml_source import Fields, Place

#: The keys that decide a node's kind, in the order they are looked for.
NODE_KINDS = ("task", "subflow", "slotflow", "slot", "service", "conditions", "values")
OPERATORS = frozenset(
    {"==", "!=", ">", "<", ">=", "<=", "in", "not in", "contains", "not contains"}
    | {"is null", "is not null", "is true", "is false", "is empty", "is not empty"}
    | {"has key", "not has key", "has value", "not has value", "starts with", "ends with"}
)

_PROVIDER_KINDS: tuple[Literal["task", "subflow", "slotflow"], ...] = (
    "task",
    "subflow",
    "slotflow",
)


def read_nodes(fields: Fields, directory: Path) -> tuple[Node, ...]:
    """Read a flow's ``nodes``; ``directory`` is the flow's own."""
    nodes: dict[str, Node] = {}
    for place in fields.items("nodes"):
        node = _node(place, directory)
        earlier = nodes.setdefault(node.node_id, node)
        if earlier is not node:
            raise place.error(
                f"node_id {node.node_id!r} is already used on line {earlier.place.line}"
            )
    return tuple(nodes.values())


def _node(place: Place, directory: Path) -> Node:
    fields = place.fields()
    common = _common(fields)
    kind = common["kind"]
    if kind == "task":
        return _task_node(common, fields, directory)
    if kind == "subflow":
        slots = tuple(_provider(item) for item in fields.items("slots"))
        return SubflowNode(**common, subflow=fields.need("subflow").text(), slots=slots)
    if kind == "slot":
        return _slot_node(common, fields)
    if kind == "service":
        return ServiceNode(**common, service=fields.need("service").text())
    if kind == "values":
        return ValuesNode(**common, values=read_inputs_def(fields, "values"))
    if kind == "conditions":
        return _conditions_node(common, fields)
    return OtherNode(**common)


def _common(fields: Fields) -> dict[str, Any]:
    """Read what every node has, as the arguments of its class."""
    read: dict[str, Callable[[Place], Any]] = {
        "description": Place.text,
        "timeout": Place.number,
        "concurrency": Place.count,
        "progress_weight": Place.number,
        "ignore": Place.boolean,
    }
    given = ((name, fields.get(name)) for name in read)
    return {
        "node_id": fields.need("node_id").text(),
        "place": fields.place,
        "kind": _kind(fields),
        "inputs_from": read_sources(fields, "inputs_from"),
        **{name: read[name](place) for name, place in given if place is not None},
    }


def _kind(fields: Fields) -> str:
    for kind in NODE_KINDS:
        if fields.get(kind) is not None:
            return kind
    if fields.text("node_type") == "slot_node":
        return "slot"
    raise fields.place.error(
        f"node {fields.need('node_id').text()!r} has none of {', '.join(NODE_KINDS)}"
    )


def _task_node(common: dict[str, Any], fields: Fields, directory: Path) -> TaskNode:
    return TaskNode(
        **common,
        task=_task(fields.need("task"), common["node_id"], directory),
        inputs_def=read_inputs_def(fields),
        outputs_def=read_outputs_def(fields),
        inject=_inject(fields.get("inject")),
    )


def _inject(place: Place | None) -> Inject:
    if place is None:
        return Inject()
    fields = place.fields()
    return Inject(fields.text("package"), fields.text("node_id"), fields.text("script"))


def _task(place: Place, node_id: str, directory: Path) -> str | TaskBlock:
    if place.is_mapping:
        return task_block(place.fields(), node_id, None, directory)
    return place.text()


def _slot_node(common: dict[str, Any], fields: Fields) -> SlotNode:
    """Read a slot; its handles stand below ``slot``, or beside ``node_type``."""
    slot = fields.get("slot")
    declared = fields if slot is None else slot.fields()
    return SlotNode(
        **common, inputs_def=read_inputs_def(declared), outputs_def=read_outputs_def(declared)
    )


def _provider(place: Place) -> SlotProvider:
    fields = place.fields()
    for kind in _PROVIDER_KINDS:
        reference = fields.get(kind)
        if reference is not None:
            return SlotProvider(
                slot_node_id=fields.need("slot_node_id").text(),
                kind=kind,
                reference=reference.text(),
                inputs_def=read_inputs_def(fields),
                inputs_from=read_sources(fields, "inputs_from"),
            )
    raise place.error(f"a slot's provider has none of {', '.join(_PROVIDER_KINDS)}")


def _conditions_node(common: dict[str, Any], fields: Fields) -> ConditionsNode:
    conditions = fields.need("conditions").fields()
    default = conditions.get("default")
    return ConditionsNode(
        **common,
        inputs_def=read_inputs_def(fields),
        cases=tuple(_cases(conditions)),
        default=default.fields().need("handle").text() if default else None,
    )


def _cases(conditions: Fields) -> Iterator[Case]:
    for place in conditions.items("cases"):
        fields = place.fields()
        yield Case(
            handle=fields.need("handle").text(),
            logical=_logical(fields.get("logical")),
            expressions=tuple(_expression(item) for item in fields.items("expressions")),
        )


def _logical(place: Place | None) -> Literal["AND", "OR"]:
    if place is None or place.text() == "OR":
        return "OR"
    if place.text() != "AND":
        raise place.error(f"expected AND or OR, found {place.text()!r}")
    return "AND"


def _expression(place: Place) -> Expression:
    fields = place.fields()
    operator = fields.need("operator")
    if operator.text() not in OPERATORS:
        raise operator.error(f"there is no operator {operator.text()!r}")
    return Expression(fields.need("input_handle").text(), operator.text(), read_value(fields))
