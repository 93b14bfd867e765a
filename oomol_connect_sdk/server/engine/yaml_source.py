"""YAML files whose every value knows the line it stands on.

Plain scalars follow the YAML 1.2 core schema, as the OOMOL engine reads them: ``yes`` and
``on`` are text, there are no dates, and a value is always one that JSON can say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import EngineError

#: A manifest file larger than this is refused.
MAX_FILE_BYTES = 4 * 1024 * 1024
#: Lists and mappings inside one another.
MAX_DEPTH = 100
#: Characters and values of a document once its aliases are written out.
MAX_EXPANDED_SIZE = 16 * 1024 * 1024

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOLEAN, _INTEGER, _FLOAT, _TEXT = (
    _TAG + name for name in ("null", "bool", "int", "float", "str")
)
_KINDS = {
    _NULL: "nothing",
    _BOOLEAN: "a boolean",
    _INTEGER: "a number",
    _FLOAT: "a number",
    _TEXT: "text",
    _TAG + "seq": "a list",
    _TAG + "map": "a mapping",
}


class ManifestError(EngineError, ValueError):
    """A manifest that can't be used; its text is ``path:line: fault``."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line
        self.message = message


@dataclass(frozen=True)
class Place:
    """One value of a file, the line it stands on and the name it is reached by."""

    path: Path
    node: yaml.Node
    name: str = ""

    @property
    def line(self) -> int:
        """The line the value starts on, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def error(self, message: str) -> ManifestError:
        """Make the error for a fault of this value."""
        return ManifestError(
            self.path, self.line, f"{self.name}: {message}" if self.name else message
        )

    @property
    def is_null(self) -> bool:
        """Whether the value is null, or nothing is written where it should be."""
        return self.node.tag == _NULL

    @property
    def is_mapping(self) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    def fields(self) -> Fields:
        """Read the value as a mapping."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self._unexpected("a mapping")
        places = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Place(self.path, key, self.name).error("a key has to be text")
            name = f"{self.name}.{key.value}" if self.name else key.value
            places[key.value] = Place(self.path, value, name)
        return Fields(self, places)

    def items(self) -> Iterator[Place]:
        """Read the value as a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self._unexpected("a list")
        for index, item in enumerate(self.node.value):
            yield Place(self.path, item, f"{self.name}[{index}]")

    def text(self) -> str:
        """Read the value as text; a number or a boolean is taken as it was written."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            raise self._unexpected("text")
        return str(self.node.value)

    def boolean(self) -> bool:
        """Read the value as true or false."""
        value = self.value()
        if not isinstance(value, bool):
            raise self._unexpected("true or false")
        return value

    def number(self) -> float:
        """Read the value as a number that isn't negative."""
        value = self.value()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._unexpected("a number")
        if value < 0:
            raise self.error(f"has to be 0 or more, not {value}")
        return float(value)

    def count(self) -> int:
        """Read the value as a whole number of at least 1."""
        value = self.value()
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._unexpected("a whole number")
        if value < 1:
            raise self.error(f"has to be 1 or more, not {value}")
        return value

    def mapping(self) -> dict[str, Any]:
        """Read the value as a mapping of values as JSON would hold them."""
        return {name: place.value() for name, place in self.fields().places.items()}

    def value(self) -> Any:
        """Read the value as JSON would hold it."""
        if isinstance(self.node, yaml.MappingNode):
            return self.mapping()
        if isinstance(self.node, yaml.SequenceNode):
            return [place.value() for place in self.items()]
        return self._scalar(str(self.node.value))

    def _scalar(self, text: str) -> Any:
        tag = self.node.tag
        if tag == _NULL:
            return None
        if tag == _TEXT:
            return text
        try:
            if tag == _BOOLEAN:
                return {"true": True, "false": False}[text.lower()]
            if tag == _INTEGER:
                return int(text, 0 if text[:2] in ("0x", "0o") else 10)
            if tag == _FLOAT:
                return _finite(text)
        except (ValueError, KeyError) as error:
            raise self.error(f"{text[:40]!r} is not {_KINDS[tag]} that can be read") from error
        raise self.error(f"the tag {tag} is not supported")

    def _unexpected(self, wanted: str) -> ManifestError:
        found = _KINDS.get(self.node.tag, f"the tag {self.node.tag}")
        return self.error(f"expected {wanted}, found {found}")


@dataclass(frozen=True)
class Fields:
    """The values of one mapping, by key."""

    place: Place
    places: dict[str, Place]

    def get(self, name: str) -> Place | None:
        """Give the value of a key; None when it is absent or null."""
        place = self.places.get(name)
        return None if place is None or place.is_null else place

    def need(self, name: str) -> Place:
        """Give the value of a key that has to be there."""
        place = self.get(name)
        if place is None:
            raise self.place.error(f"{name!r} is missing")
        return place

    def text(self, name: str) -> str | None:
        """Give the text of a key; None when it is absent or null."""
        place = self.get(name)
        return None if place is None else place.text()

    def items(self, name: str) -> Iterator[Place]:
        """Give the items of the list at a key; none when it is absent or null."""
        place = self.get(name)
        return iter(()) if place is None else place.items()


def read_yaml(path: Path) -> Place:
    """Read a file's one document; ManifestError says what is wrong with it, and where."""
    text = _read_text(path)
    try:
        node = _compose(path, text)
        if node is None:
            raise ManifestError(path, 1, "the file is empty")
        size, depth = _measure(path, node, {})
    except RecursionError as error:
        raise ManifestError(path, 1, "the file is nested too deeply") from error
    if depth > MAX_DEPTH:
        raise ManifestError(path, 1, f"the file is nested more than {MAX_DEPTH} levels deep")
    if size > MAX_EXPANDED_SIZE:
        raise ManifestError(path, 1, f"its aliases expand to more than {MAX_EXPANDED_SIZE} bytes")
    return Place(path, node)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large")
    return number


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError(path, 1, f"can't be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ManifestError(path, 1, f"the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(path, line, "the file is not UTF-8 text") from error
    # YAML takes these two for line breaks; editors paste them into the middle of a text.
    return text.replace("\u2028", "").replace("\u2029", "")


def _compose(path: Path, text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fault = error.problem or error.context or "can't be read"
        raise ManifestError(path, mark.line + 1 if mark else 1, f"not YAML: {fault}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ManifestError(path, line, f"not YAML: {error.reason}") from error
    return node


def _measure(
    path: Path, node: yaml.Node, measured: dict[yaml.Node, tuple[int, int] | None]
) -> tuple[int, int]:
    """Give size and depth of the value with every alias written out; each node is visited once."""
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value), 1
    if node not in measured:
        measured[node] = None
        mapping = isinstance(node, yaml.MappingNode)
        parts = (part for pair in node.value for part in pair) if mapping else node.value
        sizes = [_measure(path, part, measured) for part in parts]
        total = 1 + sum(size for size, _ in sizes)
        measured[node] = total, 1 + max((depth for _, depth in sizes), default=0)
    result = measured[node]
    if result is None:
        raise Place(path, node).error("an alias stands inside the value it names")
    return result


class _Loader(yaml.SafeLoader):
    """The safe loader with the plain scalars of YAML 1.2 instead of those of 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    (_NULL, r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    (_BOOLEAN, r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    (_INTEGER, r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        _FLOAT,
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern + r"\Z"), _first)
