"""Secrets in the inputs of blocks: a reference becomes the value that the secrets file has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

#: Names the secrets file; without it, it is where OOMOL Studio keeps it.
SECRETS_FILE_VARIABLE = "OOMOL_SECRETS_FILE"
_DEFAULT_FILE = Path("~/app-config/oomol-secrets/secrets.json")

#: ``type,name,key`` in a text that consists of the reference alone.
_REFERENCE = re.compile(r"\$\{\{OO_SECRET:([^,}]+,[^,}]+,[^,}]+)\}\}")


class SecretsUnreadable(Exception):
    """An input is a secret and there is no secrets file to look it up in."""


def with_secrets(
    inputs: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The inputs with the secrets they refer to, at any depth.

    A reference is the text ``${{OO_SECRET:type,name,key}}``, and ``type,name,key`` where the
    schema or the flow says that the value is a secret. One that the file doesn't know stays as
    it is. Raises SecretsUnreadable.
    """
    file = _SecretsFile(Path(os.environ.get(SECRETS_FILE_VARIABLE) or _DEFAULT_FILE).expanduser())
    return {
        handle: _resolved(value, _Hints.of(definitions.get(handle, {})), file)
        for handle, value in inputs.items()
    }


class _SecretsFile:
    """``{name: {"secretType", "secrets": [{"secretKey", "value"}]}}``, read when needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _secrets(self) -> Any:
        try:
            return json.loads(self._path.read_text("utf-8"))
        except OSError as error:
            problem = error.strerror or "it can't be read"
        # Its message would quote the file.
        except ValueError:
            problem = "it is not JSON"
        raise SecretsUnreadable(
            f"an input is a secret, but of the secrets file {self._path}: {problem}. "
            f"{SECRETS_FILE_VARIABLE} may name another file."
        )

    def lookup(self, reference: str) -> str | None:
        _, name, key = reference.split(",")
        try:
            entries = self._secrets[name]["secrets"]
            return next((entry["value"] for entry in entries if entry["secretKey"] == key), None)
        except (KeyError, TypeError):
            return None

    @property
    def exists(self) -> bool:
        return self._path.is_file()


@dataclass(frozen=True)
class _Hints:
    """What is known of a value: its schema, and where in it a flow says that there are secrets."""

    schema: Mapping[str, Any]
    paths: tuple[tuple[str | int, ...], ...] = ()

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> _Hints:
        overrides = definition.get("schema_overrides") or ()
        paths = tuple(tuple(override["path"]) for override in overrides)
        return cls(_mapping(definition.get("json_schema")), paths)

    @property
    def secret(self) -> bool:
        return self.schema.get("contentMediaType") == "oomol/secret" or () in self.paths

    def item(self, index: int) -> _Hints:
        return _Hints(_mapping(self.schema.get("items")), self._below(index))

    def member(self, key: str) -> _Hints:
        schemas = _mapping(self.schema.get("properties"))
        return _Hints(_mapping(schemas.get(key)), self._below(key))

    def _below(self, step: str | int) -> tuple[tuple[str | int, ...], ...]:
        return tuple(path[1:] for path in self.paths if path[:1] == (step,))


def _resolved(value: Any, hints: _Hints, file: _SecretsFile) -> Any:
    if isinstance(value, str):
        return _resolved_text(value, hints.secret, file)
    if isinstance(value, list):
        return [_resolved(item, hints.item(n), file) for n, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if value.get("__OOMOL_TYPE__") == "oomol/secret" and isinstance(value.get("value"), str):
        return _resolved_text(value["value"], True, file)
    return {key: _resolved(item, hints.member(key), file) for key, item in value.items()}


def _resolved_text(text: str, secret: bool, file: _SecretsFile) -> str:
    found = _REFERENCE.fullmatch(text)
    reference = found.group(1) if found else text if secret else None
    if reference is None or reference.count(",") != 2:
        return text
    if not secret and not file.exists:
        return text
    value = file.lookup(reference)
    return text if value is None else value


def _mapping(schema: Any) -> Mapping[str, Any]:
    return schema if isinstance(schema, Mapping) else {}
