"""Values on their way into a block and out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oocana import CredentialInput, InputHandleDef, StoreKey, is_bin_value, is_var_value
from oocana.data import dumps

from .frames import MESSAGE_LIMIT

#: The type and the id of ``${{OO_CREDENTIAL:type,name,id}}``.
_CREDENTIAL = re.compile(r"\$\{\{OO_CREDENTIAL:([^,}]+),[^,}]+,([^,}]+)\}\}")


class InputUnavailable(Exception):
    """An input names a value that is not to be had here any more."""


def resolve_inputs(
    inputs: Mapping[str, Any],
    definitions: Mapping[str, Mapping[str, Any]],
    store: Mapping[StoreKey, Any],
) -> dict[str, Any]:
    """The inputs as the block gets them: objects and bytes instead of what stands for them.

    A handle that takes anything may get them too, but then what is not to be had is left as it is.
    Raises InputUnavailable.
    """
    return {
        handle: _resolve(handle, value, definitions.get(handle), store)
        for handle, value in inputs.items()
    }


def _resolve(
    handle: str,
    value: Any,
    definition: Mapping[str, Any] | None,
    store: Mapping[StoreKey, Any],
) -> Any:
    if definition is None:
        return value
    kind = InputHandleDef(**{"handle": handle, **definition})
    try:
        if is_var_value(value):
            return _stored(handle, value["value"], store)
        if is_bin_value(value):
            return _read(handle, value["value"])
    except InputUnavailable:
        if kind.is_var_handle() or kind.is_bin_handle():
            raise
    if kind.is_credential_handle() and isinstance(value, str):
        return _credential(value)
    return value


def _stored(handle: str, reference: Any, store: Mapping[StoreKey, Any]) -> Any:
    try:
        return store[StoreKey(**reference)]
    except (KeyError, TypeError):
        job_id = reference.get("job_id") if isinstance(reference, dict) else None
        raise InputUnavailable(
            f"input [{handle}] was kept in memory by job {job_id}, whose worker process has "
            "ended or belongs to another package. Pass a file path or a plain JSON value between "
            "these blocks."
        ) from None


def _read(handle: str, path: Any) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, TypeError, ValueError) as error:
        raise InputUnavailable(f"input [{handle}] can't be read from its file: {error}") from error


def _credential(reference: str) -> CredentialInput | None:
    """What ``query_auth`` takes; None for a text that is no reference."""
    found = _CREDENTIAL.fullmatch(reference)
    return CredentialInput(found.group(1), found.group(2)) if found else None


def encode_message(message: Mapping[str, Any]) -> bytes:
    """The message as JSON.

    Raises TypeError for a value that JSON doesn't know and ValueError for one that is too
    large; both name the output handle.
    """
    try:
        body = _json(message)
    except (TypeError, ValueError, RecursionError) as error:
        what = _unencodable(message)
        raise TypeError(
            f"{what} can't be sent as JSON: {error}. Give a plain JSON value, or declare the "
            "handle as oomol/var or oomol/bin."
        ) from None
    if len(body) > MESSAGE_LIMIT:
        raise ValueError(
            f"{_largest(message)} is too large to send: {len(body)} bytes as JSON, the limit is "
            f"{MESSAGE_LIMIT}. Write it to a file and give the path, or declare the handle as "
            "oomol/var or oomol/bin."
        )
    return body


def _json(value: Any) -> bytes:
    text: str = dumps(value)
    return text.encode()


def _outputs(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["type"] == "BlockOutput":
        return {message["handle"]: message["output"]}
    return dict(message.get("outputs") or message.get("result") or {})


def _unencodable(message: Mapping[str, Any]) -> str:
    for handle, value in _outputs(message).items():
        try:
            _json(value)
        except (TypeError, ValueError, RecursionError):
            return f"the value of output [{handle}]"
    return f"the content of {message['type']}"


def _largest(message: Mapping[str, Any]) -> str:
    outputs = _outputs(message)
    if not outputs:
        return f"the content of {message['type']}"
    return f"the value of output [{max(outputs, key=lambda handle: len(_json(outputs[handle])))}]"
