"""A multipart/form-data body (RFC 7578) that is read from its files while it is sent."""

from __future__ import annotations

import secrets
from typing import AsyncGenerator, Dict, List, Mapping, Sequence, Tuple

from ._io import IO, closing
from .files import FileInputs, FilePart, file_parts
from .types import UploadCallback

#: Where servers look for the files of a task.
FIELD = "files"


class MultipartBody:
    """The fields and files of one request, never in memory as a whole.

    ``headers`` are those the request needs. ``chunks`` gives the body from its beginning, every
    time it is called; files that can't be rewound allow that only once: see `unrepeatable`.
    """

    def __init__(
        self,
        io: IO,
        fields: Mapping[str, str],
        files: Sequence[FilePart],
        on_progress: UploadCallback | None = None,
    ) -> None:
        self._io = io
        self._on_progress = on_progress
        self._begun = False
        boundary = secrets.token_hex(16)
        delimiter = f"--{boundary}\r\n"
        self._fields = "".join(f"{delimiter}{_field(*item)}" for item in fields.items()).encode()
        self._files: List[Tuple[bytes, FilePart]] = [
            (delimiter.encode() + _head(part), part) for part in files
        ]
        self._end = f"--{boundary}--\r\n".encode()
        self._content_type = f"multipart/form-data; boundary={boundary}"

    @classmethod
    async def of(
        cls,
        io: IO,
        fields: Mapping[str, str],
        files: FileInputs | None,
        on_progress: UploadCallback | None = None,
    ) -> MultipartBody:
        """Take files in any accepted form and look at each, so that a bad one fails unsent."""
        parts = file_parts(files)
        for part in parts:
            await part.examine(io)
        return cls(io, fields, parts, on_progress)

    @property
    def length(self) -> int | None:
        """The bytes of the whole body, None when a file's size is unknown."""
        total = len(self._fields) + len(self._end)
        for head, part in self._files:
            if part.size is None:
                return None
            total += len(head) + part.size + len(b"\r\n")
        return total

    @property
    def headers(self) -> Dict[str, str]:
        """``Content-Type``, and ``Content-Length`` where it is known."""
        length = self.length
        known = {} if length is None else {"Content-Length": str(length)}
        return {"Content-Type": self._content_type, **known}

    @property
    def unrepeatable(self) -> str | None:
        """Why the body can't be sent (again), or None when it can."""
        if self._begun:
            for _, part in self._files:
                if not part.rewindable:
                    return f"the file {part.name!r} was read and can't be rewound"
        return None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body piece by piece; who stops early must close the generator."""
        self._begun = True
        sent = 0
        async with closing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece
                sent += len(piece)
                if self._on_progress is not None:
                    await self._io.call(self._on_progress, sent, self.length)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        before = self._fields
        for head, part in self._files:
            yield before + head
            async with closing(part.pieces(self._io)) as pieces:
                async for piece in pieces:
                    yield piece
            before = b"\r\n"
        yield before + self._end


def _field(name: str, value: str) -> str:
    return f'Content-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'


def _head(part: FilePart) -> bytes:
    lines = (
        f'Content-Disposition: form-data; name="{FIELD}"; filename="{_quoted(part.name)}"\r\n'
        f"Content-Type: {part.content_type}\r\n\r\n"
    )
    # A name that the file system could not decode has lone surrogates, which UTF-8 has not.
    return lines.encode("utf-8", "replace")


def _quoted(name: str) -> str:
    """Quote as browsers do: UTF-8 as it is, and only what would end the header escaped."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
