"""What a caller asks: text or messages, and files, brought to OpenAI's message shape."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .._io import IO, closing
from ..files import FileInput, FilePart, file_parts
from ..inputs import to_json_value

#: Text for one user message, or the messages of a conversation: mappings with ``role`` and
#: ``content``, and what OpenAI's messages have besides.
Messages = str | Sequence[Mapping[str, Any]]

#: A file for a message: what uploads take (a path, bytes, an open file, ``(name, content)``,
#: ``(name, content, content_type)``), or an ``https://`` or ``data:`` address.
ModelFile = FileInput

_ADDRESS = re.compile("(https?|data):", re.IGNORECASE)

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def checked_messages(messages: Any) -> list[dict[str, Any]]:
    """Return the messages as JSON can hold them, their parts in OpenAI's words.

    A message or part may also be what has a ``model_dump()``, such as a ``Part`` of Google's.
    Raises TypeError or ValueError that names the message at fault.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray)):
        raise TypeError(f"messages must be text or a sequence of mappings, not {messages!r:.120}")
    if not messages:
        raise ValueError("messages must not be empty")
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


async def with_files(
    messages: list[dict[str, Any]], files: Any, io: IO, max_size: int, kind: str | None = None
) -> list[dict[str, Any]]:
    """Add files to the last user message.

    An image becomes an ``image_url`` part, a video a ``video_url`` part, anything else a
    ``file`` part, with the content in a ``data:`` address. ``kind`` refuses all but ``image`` or
    ``video`` files.
    """
    parts = [await _file_part(file, io, max_size) for file in _listed(files)]
    for part in parts:
        if kind is not None and part["type"] != f"{kind}_url":
            raise ValueError(f"{_shown(part)} is no {kind}")
    if not parts:
        return messages
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if not users:
        raise ValueError("files go with a user message, and there is none among the messages")
    message = messages[users[-1]]
    content = message.get("content") or []
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    changed = {**message, "content": [*content, *parts]}
    return [*messages[: users[-1]], changed, *messages[users[-1] + 1 :]]


def _message(message: Any, where: str) -> dict[str, Any]:
    message = _as_mapping(message)
    if not isinstance(message, Mapping):
        raise TypeError(
            f"{where} must be a mapping with 'role' and 'content', not {message!r:.120}"
        )
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"{where} has the role {role!r}; roles are {', '.join(ROLES)}")
    content = message.get("content")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        raise ValueError(f"{where} has no content")
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes, bytearray)):
        parts = [_checked_part(part, f"{where}: content[{n}]") for n, part in enumerate(content)]
        message = {**message, "content": parts}
    elif content is not None and not isinstance(content, str):
        raise TypeError(f"{where}: content must be text or a list of parts, not {content!r:.120}")
    checked: dict[str, Any] = to_json_value(message, where)
    return checked


def _checked_part(part: Any, where: str) -> Mapping[str, Any]:
    part = _as_mapping(part)
    if isinstance(part, Mapping) and "type" not in part:
        part = _from_google(part) or part
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise TypeError(f"{where} must be a mapping with a 'type', not {part!r:.120}")
    return part


def _as_mapping(value: Any) -> Any:
    """Turn a model of pydantic's, such as other makers' message types, into a mapping."""
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value


def _from_google(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Bring a part in Google's words to OpenAI's; None when it is none that OpenAI has."""
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    inline, linked = part.get("inline_data"), part.get("file_data")
    if isinstance(inline, Mapping) and isinstance(inline.get("mime_type"), str):
        data, kind = inline.get("data"), inline["mime_type"]
        text = data if isinstance(data, str) else _base64(data or b"")
        return _part(f"data:{kind};base64,{text}", kind, inline.get("display_name") or "file")
    if isinstance(linked, Mapping) and isinstance(linked.get("file_uri"), str):
        address = linked["file_uri"]
        guessed = _kind_of_address(address)
        kind = linked.get("mime_type") or guessed
        found = _part(address, kind, _name_of_address(address))
        if kind != guessed:
            # Nothing else would tell a Google model.
            found[found["type"]]["mime_type"] = kind
        return found
    return None


def _listed(files: Any) -> Sequence[Any]:
    if files is None:
        return ()
    is_one = isinstance(files, (str, bytes, bytearray, os.PathLike)) or hasattr(files, "read")
    is_named = isinstance(files, tuple) and len(files) in (2, 3) and isinstance(files[0], str)
    if is_one or (is_named and not all(isinstance(item, str) for item in files)):
        return [files]
    return list(files)


async def _file_part(file: Any, io: IO, max_size: int) -> dict[str, Any]:
    if isinstance(file, str) and _ADDRESS.match(file):
        return _part(
            _checked_address(file, max_size), _kind_of_address(file), _name_of_address(file)
        )
    (part,) = file_parts([file])
    await part.examine(io)
    content = await _content(part, io, max_size)
    kind = part.content_type or "application/octet-stream"
    return _part(f"data:{kind};base64,{_base64(content)}", kind, part.name)


async def _content(part: FilePart, io: IO, max_size: int) -> bytes:
    content = bytearray()
    async with closing(part.pieces(io)) as pieces:
        async for piece in pieces:
            content += piece
            if len(content) > max_size:
                raise _too_large(f"the file {part.name!r}", max_size)
    if not content:
        raise ValueError(f"the file {part.name!r} is empty")
    return bytes(content)


def _checked_address(address: str, max_size: int) -> str:
    if address[:5].lower() == "data:":
        _, comma, content = address.partition(",")
        if not comma or not content:
            raise ValueError(f"{address[:80]!r} is no data address with content")
        if len(content) > max_size * 4 / 3 + 4:
            raise _too_large("a data address", max_size)
    elif not urlsplit(address).hostname:
        raise ValueError(f"{address!r:.120} names no host")
    return address


def _too_large(what: str, max_size: int) -> ValueError:
    return ValueError(
        f"{what} is larger than the {max_size} bytes that a message may carry: give the service "
        "an address it can fetch, or raise max_file_size"
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _part(address: str, kind: str, name: str) -> dict[str, Any]:
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": address}}
    if kind.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": address}}
    return {"type": "file", "file": {"file_data": address, "filename": name}}


def _shown(part: dict[str, Any]) -> str:
    inside = part[part["type"]]
    return repr(inside.get("filename") or inside.get("url", "")[:80])


def _kind_of_address(address: str) -> str:
    if address[:5].lower() == "data:":
        return address[5:].partition(",")[0].partition(";")[0].lower() or "text/plain"
    import mimetypes

    return mimetypes.guess_type(urlsplit(address).path)[0] or "application/octet-stream"


def _name_of_address(address: str) -> str:
    if address[:5].lower() == "data:":
        return "file"
    return urlsplit(address).path.rpartition("/")[2] or "file"
