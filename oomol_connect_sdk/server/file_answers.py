"""Downloads: a file, or the part of it that was asked for."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from .conditions import matches
from .file_names import attachment
from .streaming import StreamedAnswer

_PORTION = 256 * 1024
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


def file_answer(request: Request, path: Path, name: str) -> ASGIApp:
    """Return a file, or the part of it that ``Range`` asks for.

    Several ranges at once, and what is no range, are answered with the whole file.
    """
    status = path.stat()
    size = status.st_size
    etag = f'"{status.st_mtime_ns:x}-{size:x}"'
    if matches(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = _headers(name, etag)
    part = _wanted(request, etag, size)
    if part is None:
        headers["Content-Length"] = str(size)
        return StreamedAnswer(_content(path, range(size)), headers)
    headers["Content-Length"] = str(len(part))
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return StreamedAnswer(_content(path, part), headers, status=206)


def _headers(name: str, etag: str) -> dict[str, str]:
    return {
        "Content-Type": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "Content-Disposition": attachment(name.rpartition("/")[2]),
        "Accept-Ranges": "bytes",
        "ETag": etag,
        # What a block wrote must never run as a page of this server.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }


def _wanted(request: Request, etag: str, size: int) -> range | None:
    """Return the bytes that are asked for; None for the whole file."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if first:
        part = range(int(first), min(int(last) + 1 if last else size, size))
        is_range = not last or int(first) <= int(last)
    else:
        part = range(max(size - int(last or 0), 0), size)
        is_range = bool(last)
    if is_range and not part:
        message = f"The file has no such bytes: it has {size}."
        raise HTTPException(416, message, {"Content-Range": f"bytes */{size}"})
    return part if is_range else None


async def _content(path: Path, part: range) -> AsyncGenerator[bytes, None]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        await asyncio.to_thread(file.seek, part.start)
        left = len(part)
        while left:
            content = await asyncio.to_thread(file.read, min(left, _PORTION))
            if not content:
                raise EOFError(f"{path} became shorter while it was sent.")
            left -= len(content)
            yield content
