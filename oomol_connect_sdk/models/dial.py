"""DIAL: deployments that are asked like OpenAI's, applications, ratings, and files."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, List
from urllib.parse import unquote_to_bytes, urlencode, urlsplit

from .._io import closing
from ..answers import endpoint, expect
from .http import HttpPort
from .openai import chat_body, piece_of, reply_of
from .service import ChatCall, Service
from .values import Piece, Reply

if TYPE_CHECKING:
    from .dial_files import DialFiles
    from .face import Face
    from .options import Settings

_RATINGS = ("thumbs_up", "rate")

#: How an address begins that an attachment can have; ``files/`` is one in DIAL's own storage.
_ADDRESSES = ("data:", "https://", "http://", "files/")


class DialService(Service):
    """Speaks to DIAL Core: ``/openai/deployments``, ``/openai/applications`` and ``/v1``.

    A model is a deployment, and the ``model`` of a reply is the one that was asked; the name
    that the deployment gives is in ``raw``, and so is ``custom_content``. A call may name its own
    ``api_version``; without any none is sent, as each deployment has its own.
    """

    name = "DIAL"

    def __init__(self, settings: Settings, face: Face) -> None:
        super().__init__(settings, face)
        self._port = HttpPort(self.name, settings, face, key_header="api-key")
        self._files: DialFiles | None = None

    async def chat(self, call: ChatCall) -> Reply:
        """Ask a deployment for a whole completion."""
        path, body = self._asked(call)
        answered = await self._port.request("POST", path, body=body)
        return replace(reply_of(answered.body, answered.request_id), model=call.model)

    async def stream(self, call: ChatCall) -> AsyncGenerator[Piece, None]:
        """Ask a deployment for a completion in pieces; its usage comes without being asked for."""
        path, body = self._asked(call)
        async with closing(self._port.events(path, {**body, "stream": True})) as events:
            async for chunk, headers in events:
                yield replace(piece_of(chunk, headers), model=call.model)

    async def feedback(
        self, reply: Reply | str, metric: str, value: Any, options: Mapping[str, Any]
    ) -> Any:
        """Rate an answer of a deployment.

        That is the reply's; for an id alone it is ``model`` of the options, or the client's.
        """
        if metric not in _RATINGS:
            raise ValueError(f"DIAL takes the metric {' or '.join(_RATINGS)}, not {metric!r}")
        if not isinstance(value, bool):
            raise TypeError(f"DIAL rates an answer with True or False, not {value!r}")
        further = dict(options)
        response_id, deployment = _rated(reply)
        deployment = further.pop("model", None) or deployment or self.settings.model
        if not deployment:
            raise ValueError("the deployment that answered is not known: pass model='…'")
        body = {"responseId": response_id, "rate": value, **further}
        answered = await self._port.request("POST", endpoint("v1", deployment, "rate"), body=body)
        return answered.body

    async def list(self) -> List[dict[str, Any]]:
        """Return the deployments, with what each can do in its ``features``."""
        return await self._rows("/openai/deployments")

    async def applications(self) -> List[dict[str, Any]]:
        """Return the applications."""
        return await self._rows("/openai/applications")

    async def application(self, id: str) -> dict[str, Any]:
        """Return one application."""
        path = endpoint("openai", "applications", id)
        return _row((await self._port.request("GET", path)).body, f"GET {path}")

    @property
    def files(self) -> DialFiles:
        """The files in DIAL's storage."""
        if self._files is None:
            from .dial_files import DialFiles

            self._files = DialFiles(self._port, self.settings, self.face)
        return self._files

    def _asked(self, call: ChatCall) -> tuple[str, dict[str, Any]]:
        path = endpoint("openai", "deployments", call.model, "chat", "completions")
        body = chat_body(call)
        body["messages"] = [_with_attachments(message) for message in call.messages]
        version = body.pop("api_version", None) or self.settings.special.get("api_version")
        if version is None:
            return path, body
        if not isinstance(version, str):
            raise TypeError(f"api_version must be text, not {version!r}")
        return f"{path}?{urlencode({'api-version': version})}", body

    async def _rows(self, path: str) -> List[dict[str, Any]]:
        where = f"GET {path}"
        rows = expect((await self._port.request("GET", path)).body, "data", list, where)
        return [_row(row, where) for row in rows]


def _row(value: Any, where: str) -> dict[str, Any]:
    expect(value, "id", str, where)
    row: dict[str, Any] = value
    return row


def _rated(reply: Reply | str) -> tuple[str, str | None]:
    """Return the id of an answer, and the deployment it came from where that is known."""
    id, deployment = (reply.id, reply.model) if isinstance(reply, Reply) else (reply, None)
    if not isinstance(id, str) or not id:
        raise ValueError(f"only an answer with an id can be rated, not {reply!r:.120}")
    return id, deployment


def _with_attachments(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message with its video and file parts as attachments, which DIAL has for them."""
    content = message.get("content")
    if not isinstance(content, Sequence) or isinstance(content, str):
        return message
    attachments, parts = [], []
    for part in content:
        attachment = _attachment(part)
        if attachment is None:
            parts.append(part)
        else:
            attachments.append(attachment)
    if not attachments:
        return message
    custom = message.get("custom_content") or {}
    given = custom.get("attachments") or [] if isinstance(custom, Mapping) else None
    if not isinstance(given, list):
        raise TypeError(f"custom_content must be a mapping, not {custom!r:.120}")
    custom = {**custom, "attachments": [*given, *attachments]}
    return {**message, "content": _content(parts), "custom_content": custom}


def _attachment(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a part as an attachment, or None when it stays where it is."""
    kind = part["type"]
    place = {"video_url": "url", "file": "file_data"}.get(kind)
    value = part.get(kind)
    if place is None or not isinstance(value, Mapping):
        return None
    address = value.get(place)
    if not isinstance(address, str) or not address.startswith(_ADDRESSES):
        return None
    title = value.get("filename") or ("video" if kind == "video_url" else "file")
    return {**_source(address), "title": title}


def _source(address: str) -> dict[str, str]:
    """Return the content of a ``data:`` address in base64, any other address as it is."""
    if not address.startswith("data:"):
        kind = mimetypes.guess_type(urlsplit(address).path)[0]
        return {"type": kind or "application/octet-stream", "url": address}
    head, _, data = address[len("data:") :].partition(",")
    kind, *flags = head.split(";")
    if "base64" not in flags:
        data = base64.b64encode(unquote_to_bytes(data)).decode("ascii")
    return {"type": kind or "text/plain", "data": data}


def _content(parts: Sequence[Mapping[str, Any]]) -> Any:
    """Return what is left of the parts of a message; text alone as text, which every app reads."""
    if not parts:
        return ""
    if len(parts) == 1 and set(parts[0]) == {"type", "text"}:
        return parts[0]["text"]
    return list(parts)
