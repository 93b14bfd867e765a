"""Which uploaded file becomes the value of which input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .engine.manifest_types import InputDef
from .inputs import ROOT, InvalidInputs, NodeInputs, by_node

#: ``{"__OOMOL_FILE__": name or number}`` stands for the path of an uploaded file.
PLACEHOLDER = "__OOMOL_FILE__"


def bind_files(
    files: Sequence[tuple[str, str]], values: NodeInputs | None, inputs_def: Sequence[InputDef]
) -> NodeInputs | None:
    """Return the inputs with every file, given as its name and its path, in its place.

    A placeholder anywhere in ``values`` is replaced. The other files go, in their order, to the
    inputs of the block or flow that are declared as files and were given no value. Raises
    InvalidInputs for a placeholder that fits no file and for a file that fits no input.
    """
    binding = _Binding(files)
    values = [binding.filled(node) for node in values or ()]
    given = by_node(values)[ROOT]
    free = [item for item in inputs_def if item.handle not in given and _kind(item)]
    found = binding.dealt_out(free)
    binding.check_all_used(inputs_def)
    if not found:
        return values or None
    return _with_root_inputs(values, found)


class _Binding:
    def __init__(self, files: Sequence[tuple[str, str]]) -> None:
        self._names = [name for name, _ in files]
        self._paths = [path for _, path in files]
        self._unused = list(range(len(files)))

    def filled(self, value: Any) -> Any:
        """Return a value with paths for its placeholders."""
        if isinstance(value, dict):
            if set(value) == {PLACEHOLDER}:
                return self._take(self._number(value[PLACEHOLDER]))
            return {key: self.filled(item) for key, item in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list) else value

    def dealt_out(self, free: Sequence[InputDef]) -> dict[str, Any]:
        """Return the files that no placeholder named as handle → path, or a list of the rest."""
        found: dict[str, Any] = {}
        for item in free:
            if self._unused:
                rest = self._unused if _kind(item) == "files" else self._unused[:1]
                paths = [self._take(number) for number in list(rest)]
                found[item.handle] = paths if _kind(item) == "files" else paths[0]
        return found

    def check_all_used(self, inputs_def: Sequence[InputDef]) -> None:
        """Raise InvalidInputs when a file is left over."""
        if self._unused:
            names = ", ".join(repr(self._names[number]) for number in self._unused)
            handles = ", ".join(repr(item.handle) for item in inputs_def if _kind(item))
            raise InvalidInputs(
                f"No input takes the file {names}. Inputs for files: {handles or 'none'}. Any "
                f'input takes one by {{"{PLACEHOLDER}": "name of the file"}} as its value.'
            )

    def _take(self, number: int) -> str:
        if number in self._unused:
            self._unused.remove(number)
        return self._paths[number]

    def _number(self, key: Any) -> int:
        if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(self._names):
            return key
        numbers = [number for number, name in enumerate(self._names) if name == key]
        if len(numbers) == 1:
            return numbers[0]
        if numbers:
            raise InvalidInputs(f"{len(numbers)} files are called {key!r}: use their numbers.")
        names = ", ".join(map(repr, self._names)) or "none"
        raise InvalidInputs(f"There is no file {key!r} in this request. Files: {names}.")


def _kind(definition: InputDef) -> str | None:
    """Return whether an input is for one ``file``, for ``files``, or for none."""
    schema = definition.definition.get("json_schema")
    if not isinstance(schema, Mapping):
        return None
    widget = schema.get("ui:widget")
    if widget == "files":
        return "files"
    return "file" if widget == "file" or schema.get("format") in ("path", "file") else None


def _with_root_inputs(values: NodeInputs, found: Mapping[str, Any]) -> NodeInputs:
    inputs = [{"handle": handle, "value": value} for handle, value in found.items()]
    root = next((node for node in values if node["nodeId"] == ROOT), None)
    if root is None:
        return [{"nodeId": ROOT, "inputs": inputs}, *values]
    whole = {**root, "inputs": [*root["inputs"], *inputs]}
    return [whole if node is root else node for node in values]
