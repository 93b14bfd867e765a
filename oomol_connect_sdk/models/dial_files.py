"""The files in DIAL's storage, named by addresses: ``files/{bucket}/{path}``."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from .._io import closing
from ..answers import expect
from ..downloads import Download
from ..errors import BadAnswerError
from ..multipart import MultipartBody

if TYPE_CHECKING:
    from .._http import Streamed
    from ..files import FileInput
    from .face import Face
    from .files import FileUrl
    from .http import HttpPort
    from .options import Settings

#: Entries of a folder that are asked for at once: DIAL's own limit.
_PAGE = 1000

#: DIAL's spelling → ours; the rest of its metadata keeps its names.
_METADATA = {
    "name": "name",
    "parentPath": "parent_path",
    "bucket": "bucket",
    "url": "url",
    "nodeType": "node_type",
    "resourceType": "resource_type",
    "contentLength": "content_length",
    "contentType": "content_type",
    "items": "items",
    "updatedAt": "updatedAt",
    "createdAt": "createdAt",
    "etag": "etag",
}

_DEFAULT_PORTS = {"http": 80, "https": 443}


class DialFiles:
    """Files in the buckets of a DIAL service.

    A file is named by ``files/{bucket}/{path}``, as `home` and metadata give it, or by its whole
    address at this service; a folder ends with ``/``. What is percent-encoded in it stays so
    (``%20``), everything else is encoded: a ``%`` before two hexadecimal digits that belongs to
    a name must be written ``%25``. Raises ValueError for any other address.
    """

    def __init__(self, port: HttpPort, settings: Settings, face: Face) -> None:
        self._port = port
        self._settings = settings
        self._face = face
        self._home: PurePosixPath | None = None

    async def home(self) -> PurePosixPath:
        """Return the folder of the caller's bucket, ``files/{bucket}``; DIAL is asked once."""
        if self._home is None:
            answered = await self._port.request("GET", "/v1/bucket")
            bucket = expect(answered.body, "bucket", str, "GET /v1/bucket")
            if bucket in ("", ".", "..") or "/" in bucket:
                raise BadAnswerError(f"GET /v1/bucket answered no bucket: {bucket!r}", 200, bucket)
            self._home = PurePosixPath("files", bucket)
        return self._home

    async def upload(
        self,
        url: FileUrl,
        file: FileInput,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> dict[str, Any]:
        """Save a file and return its metadata.

        DIAL's own order ``(name, content_type, content)`` is taken too.
        """
        path = self._file(url)
        content = await MultipartBody.of(self._face.io, {}, [_uploaded(file, _name(path))])
        headers = _conditions(if_match, if_none_match)
        answered = await self._port.request("PUT", path, content=content, headers=headers)
        return _metadata(answered.body, f"PUT {path}", answered.headers)

    async def read(self, url: FileUrl) -> AsyncGenerator[bytes, None]:
        """Give the content of a file piece by piece."""
        async with closing(self._download(self._file(url)).content()) as pieces:
            async for piece in pieces:
                yield piece

    async def content(self, url: FileUrl) -> bytes:
        """Return the whole content of a file."""
        return b"".join([piece async for piece in self._download(self._file(url)).content()])

    async def download(self, url: FileUrl, target: str | os.PathLike[str]) -> Path:
        """Save a file at a path, or under its name in a directory; it appears when it is whole."""
        path = self._file(url)
        return await self._download(path).save(target, _name(path))

    async def metadata(self, url: FileUrl) -> dict[str, Any]:
        """Return what DIAL knows of a file, or of a folder with all its ``items``."""
        path = self._resource(url)
        if path.count("/") == 3:
            # The bucket itself, as `home` gives it.
            path += "/"
        path = path.replace("/v1/", "/v1/metadata/", 1)
        params = {"limit": str(_PAGE)} if path.endswith("/") else {}
        answered = await self._port.request("GET", path, params=params)
        found = _metadata(answered.body, f"GET {path}", answered.headers)
        seen = set()
        while token := found.pop("nextToken", None):
            if not isinstance(token, str) or token in seen:
                raise BadAnswerError(f"GET {path} has no end: its next page is {token!r:.120}", 200)
            seen.add(token)
            answered = await self._port.request("GET", path, params={**params, "token": token})
            page = _metadata(answered.body, f"GET {path}", answered.headers)
            found["items"] = [*(found["items"] or ()), *(page["items"] or ())]
            found["nextToken"] = page.get("nextToken")
        return found

    async def delete(self, url: FileUrl, *, if_match: str | None = None) -> None:
        """Remove a file."""
        await self._port.request("DELETE", self._file(url), headers=_conditions(if_match, None))

    def _download(self, path: str) -> Download:
        def open_stream(headers: Mapping[str, str]) -> AbstractAsyncContextManager[Streamed]:
            return self._port.download(path, headers)

        what = f"DIAL's file {unquote(path)!r}"
        return Download(self._face.io, open_stream, what, self._settings.max_retries)

    def _file(self, url: FileUrl) -> str:
        """Return the path of requests for a file."""
        path = self._resource(url)
        if path.endswith("/"):
            raise ValueError(f"{str(url)!r} names a folder: a file is needed")
        if path.count("/") == 3:
            raise ValueError(f"{str(url)!r} names no bucket, or no file in it")
        return path

    def _resource(self, url: FileUrl) -> str:
        """Return the path of requests for a file or folder, percent-encoded."""
        if not isinstance(url, (str, PurePosixPath)):
            raise TypeError(f"a file of DIAL is named by text or a PurePosixPath, not {url!r:.120}")
        text = str(url)
        relative = self._relative(text) if "://" in text else text
        if relative.startswith("/"):
            raise ValueError(f"{text!r} begins with '/': a file of DIAL is named by files/…")
        if relative.startswith("v1/"):
            raise ValueError(f"{text!r} begins with 'v1/': a file of DIAL is named by files/…")
        kind, *segments = relative.split("/")
        if kind != "files":
            raise ValueError(f"{text!r} names {kind!r} instead of 'files'")
        names = segments[:-1] if len(segments) > 1 and not segments[-1] else segments
        if not names or not names[0]:
            raise ValueError(f"{text!r} names no bucket: a file of DIAL is files/bucket/path")
        for name in names:
            if unquote(name) in ("", ".", "..") or "/" in unquote(name):
                raise ValueError(f"{text!r} holds {name!r}, which is no name of a file or folder")
        return "/".join(["/v1/files", *(_encoded(segment) for segment in segments)])

    def _relative(self, text: str) -> str:
        """Return what stands behind ``/v1/`` in an address at this service."""
        base, parts = self._port.base_url, urlsplit(text)
        if parts.query or parts.fragment:
            raise ValueError(f"{text!r} has a query or fragment: a file of DIAL has none")
        if _origin(text) != _origin(base):
            raise ValueError(f"{text!r} is no address at {base}")
        prefix = urlsplit(base).path + "/v1/"
        if not parts.path.startswith(prefix):
            raise ValueError(f"{text!r} is no file of DIAL: its address begins with {base}/v1/")
        return parts.path[len(prefix) :]


def _origin(address: str) -> tuple[str, str | None, int | None, bool]:
    parts = urlsplit(address)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    return parts.scheme, parts.hostname, port, "@" in parts.netloc


def _encoded(segment: str) -> str:
    """Percent-encode what is not yet percent-encoded."""
    return re.sub("%(?![0-9A-Fa-f]{2})", "%25", quote(segment, safe="%"))


def _name(path: str) -> str:
    return unquote(path.rpartition("/")[2])


def _uploaded(file: Any, name: str) -> Any:
    """Return a file in the form that uploads take; one without a name gets this one."""
    if isinstance(file, tuple) and len(file) == 3:
        first, second, third = file
        # In our own order the third is always text, in DIAL's never.
        return file if isinstance(third, str) else (first, third, second)
    nameless = isinstance(file, (bytes, bytearray, memoryview)) or (
        hasattr(file, "read") and not isinstance(getattr(file, "name", None), str)
    )
    return (name, file) if nameless else file


def _conditions(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    headers = {"If-Match": if_match, "If-None-Match": if_none_match}
    return {name: value for name, value in headers.items() if value is not None}


def _metadata(body: Any, where: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return metadata with the documented names, None for what DIAL did not say."""
    found = _entry(body, where)
    found["etag"] = found["etag"] or headers.get("etag")
    if found["items"] is not None:
        found["items"] = [_entry(item, where) for item in expect(body, "items", list, where)]
    return found


def _entry(body: Any, where: str) -> dict[str, Any]:
    expect(body, "url", str, where)
    found = {ours: body.get(theirs) for theirs, ours in _METADATA.items()}
    return {**found, **{name: body[name] for name in body if name not in _METADATA}}
