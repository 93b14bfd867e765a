"""Checking inputs against the JSON schemas of their handles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft7Validator, ValidationError
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from .inputs import InputError
from .manifests import Flow, InputDef, TaskBlock


def check_inputs(block: TaskBlock | Flow, inputs: Mapping[str, Any]) -> None:
    """Raise InputError for the inputs that don't fit their schemas.

    A handle without a schema takes anything, and so does one whose value stands for another
    (``oomol/var``, ``oomol/secret`` ...); null fits where the handle is nullable.
    """
    faults = [fault for item in block.inputs_def for fault in _faults(item, inputs)]
    if faults:
        raise InputError(f"{block.name} ({block.path}): {'; '.join(faults)}")


def _faults(definition: InputDef, inputs: Mapping[str, Any]) -> Iterator[str]:
    schema = definition.definition.get("json_schema")
    value = inputs.get(definition.handle)
    if not isinstance(schema, Mapping) or (value is None and definition.nullable):
        return
    if str(schema.get("contentMediaType")).startswith("oomol/"):
        return
    try:
        Draft7Validator.check_schema(schema, format_checker=Draft7Validator.FORMAT_CHECKER)
        # An empty registry: a schema may point to no other file or address.
        validator = Draft7Validator(schema, registry=Registry())
        error: ValidationError | None = next(validator.iter_errors(value), None)
    except (SchemaError, Unresolvable) as broken:
        yield f"the schema of {definition.handle!r} can't be used: {broken}"
        return
    if error is not None:
        where = "".join(f"[{step!r}]" for step in error.absolute_path)
        yield f"{definition.handle!r}{where}: {error.message[:300]}"
