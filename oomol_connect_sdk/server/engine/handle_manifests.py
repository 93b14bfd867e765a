"""Reading handles, and where their values come from, out of any manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .manifest_types import ABSENT, InputDef, NodeOutput, OutputDef, Source
from .yaml_source import Fields, Place

#: The media type of a value that stands for a secret.
SECRET = "oomol/secret"

_Definition = TypeVar("_Definition", InputDef, OutputDef)


def read_inputs_def(fields: Fields, name: str = "inputs_def") -> tuple[InputDef, ...]:
    """Read a list of inputs."""
    return _definitions(fields, name, _input_def)


def read_outputs_def(fields: Fields) -> tuple[OutputDef, ...]:
    """Read a list of outputs."""
    return _definitions(fields, "outputs_def", _output_def)


def read_sources(fields: Fields, name: str) -> tuple[Source, ...]:
    """Read where the values of some handles come from."""
    return tuple(_source(place.fields()) for place in fields.items(name))


def read_value(fields: Fields) -> Any:
    """Read ``value``; ABSENT when there is none."""
    place = fields.places.get("value")
    return ABSENT if place is None else place.value()


def _definitions(
    fields: Fields, name: str, read: Callable[[Fields], _Definition]
) -> tuple[_Definition, ...]:
    definitions: dict[str, _Definition] = {}
    for place in fields.items(name):
        item = place.fields()
        if item.get("group") and not item.get("handle"):
            continue
        definition = read(item)
        # Of a handle that is declared twice the last declaration counts.
        definitions[definition.handle] = definition
    return tuple(definitions.values())


def _input_def(fields: Fields) -> InputDef:
    place = fields.get("nullable")
    nullable = place is not None and place.boolean()
    written = fields.place.value()
    return InputDef(
        handle=fields.need("handle").text(),
        # What the block sees of it has the value that it gets when none is given.
        definition={"value": None, **written} if nullable else written,
        nullable=nullable,
        value=written.get("value", ABSENT),
    )


def _output_def(fields: Fields) -> OutputDef:
    return OutputDef(handle=fields.need("handle").text(), definition=fields.place.value())


def _source(fields: Fields) -> Source:
    serialize = fields.get("serialize_for_cache")
    return Source(
        handle=fields.need("handle").text(),
        value=read_value(fields),
        from_node=tuple(_node_output(place.fields()) for place in fields.items("from_node")),
        from_flow=tuple(
            place.fields().need("input_handle").text() for place in fields.items("from_flow")
        ),
        secrets=tuple(_secrets(fields)),
        serialize_for_cache=serialize is not None and serialize.boolean(),
    )


def _node_output(fields: Fields) -> NodeOutput:
    return NodeOutput(fields.need("node_id").text(), fields.need("output_handle").text())


def _secrets(fields: Fields) -> list[tuple[str | int, ...]]:
    """Give the paths that ``schema_overrides`` calls secrets; any other override has no effect."""
    paths = []
    for place in fields.items("schema_overrides"):
        override = place.fields()
        schema = override.get("schema")
        if schema is not None and schema.fields().text("contentMediaType") == SECRET:
            paths.append(_path(override.get("path")))
    return paths


def _path(place: Place | None) -> tuple[str | int, ...]:
    written = None if place is None else place.value()
    if written is None:
        return ()
    steps = written if isinstance(written, list) else [written]
    return tuple(step if isinstance(step, int) else str(step) for step in steps)
