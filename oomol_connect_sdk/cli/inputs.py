"""Inputs from the command line: ``HANDLE=VALUE`` words and a JSON file."""

from __future__ import annotations

import json
from typing import IO, Any, Dict, List, Sequence

import click

from ..inputs import ROOT_NODE, normalize_input_values
from ..types import NodeInputs


def parse_inputs(words: Sequence[str], file: IO[bytes] | None) -> List[NodeInputs]:
    """Return the inputs of the file, overlaid with those of the words."""
    nodes: Dict[str, Dict[str, Any]] = {}
    for entry in _from_file(file) if file is not None else []:
        values = {item["handle"]: item["value"] for item in entry["inputs"]}
        nodes.setdefault(entry["nodeId"], {}).update(values)
    for word in words:
        node, handle, value = _from_word(word)
        nodes.setdefault(node, {})[handle] = value
    return normalize_input_values(
        [{"nodeId": node, "inputs": values} for node, values in nodes.items()]
    )


def _from_file(file: IO[bytes]) -> List[NodeInputs]:
    try:
        return normalize_input_values(json.loads(file.read().decode("utf-8-sig")))
    except (ValueError, TypeError) as error:
        raise click.BadParameter(f"{file.name}: {error}", param_hint="--inputs-file") from None


def _from_word(word: str) -> tuple[str, str, Any]:
    name, equals, text = word.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{word!r} is not HANDLE=VALUE", param_hint="--input")
    node, dot, handle = name.rpartition(".")
    return (node, handle, _value(text)) if dot else (ROOT_NODE, name, _value(text))


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(name: str) -> Any:
    raise ValueError(name)
