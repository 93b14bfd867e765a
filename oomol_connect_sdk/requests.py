"""Requests that a caller composes, for what the client has no method for."""

from __future__ import annotations

from typing import Any, Mapping

from .files import FileInputs
from .multipart import MultipartBody
from .transport import Transport


async def send(
    transport: Transport,
    path: str,
    method: str,
    json_data: Any,
    data: Mapping[str, str] | None,
    files: FileInputs | None,
    headers: Mapping[str, str] | None,
) -> Any:
    """Send JSON, or a form when there are fields or files, and return the decoded answer."""
    if json_data is not None and (data is not None or files is not None):
        raise ValueError("a request has either json_data, or data and files")
    form = None
    if data is not None or files is not None:
        form = await MultipartBody.of(transport.io, data or {}, files)
    return await transport.request(
        method.upper(),
        "/" + path.lstrip("/"),
        body=json_data,
        content=form,
        headers=headers,
    )
