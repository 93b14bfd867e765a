"""Secrets in the inputs of blocks: a reference becomes the value that the secrets file has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
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
    schema says that the value is a secret. One that the file doesn't know stays as it is.
    Raises SecretsUnreadable.
    """
    file = _SecretsFile(Path(os.environ.get(SECRETS_FILE_VARIABLE) or _DEFAULT_FILE).expanduser())
    return {
        handle: _resolved(value, definitions.get(handle, {}).get("json_schema"), file)
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


def _resolved(value: Any, schema: Any, file: _SecretsFile) -> Any:
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, str):
        return _resolved_text(value, _is_secret(schema), file)
    if isinstance(value, list):
        return [_resolved(item, schema.get("items"), file) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get("__OOMOL_TYPE__") == "oomol/secret" and isinstance(value.get("value"), str):
        return _resolved_text(value["value"], True, file)
    properties = schema.get("properties")
    schemas = properties if isinstance(properties, Mapping) else {}
    return {key: _resolved(item, schemas.get(key), file) for key, item in value.items()}


def _resolved_text(text: str, secret: bool, file: _SecretsFile) -> str:
    found = _REFERENCE.fullmatch(text)
    reference = found.group(1) if found else text if secret else None
    if reference is None or reference.count(",") != 2:
        return text
    if not secret and not file.exists:
        return text
    value = file.lookup(reference)
    return text if value is None else value


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return schema.get("contentMediaType") == "oomol/secret"
