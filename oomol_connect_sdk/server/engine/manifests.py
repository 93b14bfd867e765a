"""Reading manifest files into the values of ``manifest_types``, which are public from here.

Unknown keys are ignored everywhere; a known key of the wrong shape is a ManifestError that
names the file, the line and the fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from .manifest_types import (
    ABSENT,
    Absent,
    Case,
    ConditionsNode,
    Executor,
    Expression,
    Flow,
    FlowKind,
    InputDef,
    Node,
    NodeOutput,
    OtherNode,
    OutputDef,
    Package,
    Source,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
)
from .yaml_source import Fields, ManifestError, Place, read_yaml

__all__ = [
    "ABSENT",
    "Absent",
    "Case",
    "ConditionsNode",
    "Executor",
    "Expression",
    "Flow",
    "FlowKind",
    "InputDef",
    "ManifestError",
    "Node",
    "NodeOutput",
    "OtherNode",
    "OutputDef",
    "Package",
    "Source",
    "SubflowNode",
    "TaskBlock",
    "TaskNode",
    "ValuesNode",
    "find_manifest",
    "package_name_from_directory",
    "read_flow",
    "read_package",
    "read_task_block",
]

#: The keys that decide a node's kind, in the order they are looked for.
NODE_KINDS = ("task", "subflow", "slotflow", "slot", "service", "conditions", "values")
OPERATORS = frozenset(
    {"==", "!=", ">", "<", ">=", "<=", "in", "not in", "contains", "not contains"}
    | {"is null", "is not null", "is true", "is false", "is empty", "is not empty"}
    | {"has key", "not has key", "has value", "not has value", "starts with", "ends with"}
)

_SUFFIXES = (".oo.yaml", ".oo.yml")
_VERSION_SUFFIX = re.compile(r"-v?\d+\.\d+\.\d+.*$")

_Definition = TypeVar("_Definition", InputDef, OutputDef)


def find_manifest(directory: Path, kind: str) -> Path | None:
    """Find the manifest of a kind (``package``, ``task``, ``flow`` ...) in a directory."""
    for suffix in _SUFFIXES:
        path = directory / (kind + suffix)
        if path.is_file():
            return path
    return None


def package_name_from_directory(directory: Path) -> str:
    """Give the name that a package's directory stands for: ``name-1.2.3`` without its version."""
    name = _VERSION_SUFFIX.sub("", directory.name)
    scope = directory.parent.name
    return f"{scope}/{name}" if scope.startswith("@") else name


def read_package(directory: Path) -> Package:
    """Read a directory's ``package.oo.yaml``; a package without a name has its directory's."""
    path = find_manifest(directory, "package") or directory / "package.oo.yaml"
    fields = read_yaml(path).fields()
    dependencies = fields.get("dependencies")
    pins = dependencies.fields().places if dependencies else {}
    return Package(
        path=path,
        name=fields.text("name") or package_name_from_directory(directory),
        version=fields.text("version"),
        description=fields.text("description"),
        dependencies={name: place.text() for name, place in pins.items()},
    )


def read_task_block(path: Path) -> TaskBlock:
    """Read a ``task.oo.yaml`` or ``block.oo.yaml``."""
    return _task_block(read_yaml(path).fields(), path.parent.name, path, path.parent)


def read_flow(path: Path) -> Flow:
    """Read a ``flow.oo.yaml``, ``subflow.oo.yaml`` or ``slotflow.oo.yaml``."""
    fields = read_yaml(path).fields()
    return Flow(
        name=path.parent.name,
        path=path,
        description=fields.text("description"),
        nodes=_nodes(fields, path.parent),
        inputs_def=_inputs_def(fields),
        outputs_def=_outputs_def(fields),
        outputs_from=_sources(fields, "outputs_from"),
        forward_previews=tuple(place.text() for place in fields.items("forward_previews")),
    )


def _task_block(fields: Fields, name: str, path: Path | None, directory: Path) -> TaskBlock:
    executor = fields.need("executor").fields()
    options = executor.get("options")
    return TaskBlock(
        name=name,
        path=path,
        directory=directory,
        executor=Executor(executor.need("name").text(), options.mapping() if options else {}),
        description=fields.text("description"),
        inputs_def=_inputs_def(fields),
        outputs_def=_outputs_def(fields),
        additional_inputs=_additional(fields, "additional_inputs"),
        additional_outputs=_additional(fields, "additional_outputs"),
    )


def _additional(fields: Fields, name: str) -> bool:
    place = fields.get(name)
    return place is not None and (place.is_mapping or place.boolean())


def _inputs_def(fields: Fields, name: str = "inputs_def") -> tuple[InputDef, ...]:
    return _definitions(fields, name, _input_def)


def _outputs_def(fields: Fields) -> tuple[OutputDef, ...]:
    return _definitions(fields, "outputs_def", _output_def)


def _definitions(
    fields: Fields, name: str, read: Callable[[Fields], _Definition]
) -> tuple[_Definition, ...]:
    definitions: dict[str, _Definition] = {}
    for place in fields.items(name):
        item = place.fields()
        if item.get("group") and not item.get("handle"):
            continue
        definition = read(item)
        if definition.handle in definitions:
            raise place.error(f"the handle {definition.handle!r} is declared twice")
        definitions[definition.handle] = definition
    return tuple(definitions.values())


def _input_def(fields: Fields) -> InputDef:
    nullable = fields.get("nullable")
    definition = fields.place.value()
    return InputDef(
        handle=fields.need("handle").text(),
        definition=definition,
        nullable=nullable is not None and nullable.boolean(),
        value=definition.get("value", ABSENT),
    )


def _output_def(fields: Fields) -> OutputDef:
    return OutputDef(handle=fields.need("handle").text(), definition=fields.place.value())


def _sources(fields: Fields, name: str) -> tuple[Source, ...]:
    return tuple(_source(place.fields()) for place in fields.items(name))


def _source(fields: Fields) -> Source:
    return Source(
        handle=fields.need("handle").text(),
        value=_value(fields),
        from_node=tuple(_node_output(place.fields()) for place in fields.items("from_node")),
        from_flow=tuple(
            place.fields().need("input_handle").text() for place in fields.items("from_flow")
        ),
    )


def _value(fields: Fields) -> Any:
    place = fields.places.get("value")
    return ABSENT if place is None else place.value()


def _node_output(fields: Fields) -> NodeOutput:
    return NodeOutput(fields.need("node_id").text(), fields.need("output_handle").text())


def _nodes(fields: Fields, directory: Path) -> tuple[Node, ...]:
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
        task = _task(fields.need("task"), common["node_id"], directory)
        return TaskNode(
            **common, task=task, inputs_def=_inputs_def(fields), outputs_def=_outputs_def(fields)
        )
    if kind == "subflow":
        return SubflowNode(**common, subflow=fields.need("subflow").text())
    if kind == "values":
        return ValuesNode(**common, values=_inputs_def(fields, "values"))
    if kind == "conditions":
        return _conditions_node(common, fields)
    return OtherNode(**common)


def _common(fields: Fields) -> dict[str, Any]:
    """Read what every node has, as the arguments of its class."""
    read: dict[str, Callable[[Place], Any]] = {
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
        "inputs_from": _sources(fields, "inputs_from"),
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


def _task(place: Place, node_id: str, directory: Path) -> str | TaskBlock:
    if place.is_mapping:
        return _task_block(place.fields(), node_id, None, directory)
    return place.text()


def _conditions_node(common: dict[str, Any], fields: Fields) -> ConditionsNode:
    conditions = fields.need("conditions").fields()
    default = conditions.get("default")
    return ConditionsNode(
        **common,
        inputs_def=_inputs_def(fields),
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
    return Expression(fields.need("input_handle").text(), operator.text(), _value(fields))
