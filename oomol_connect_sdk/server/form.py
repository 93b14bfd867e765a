"""Receiving multipart forms: texts into memory, files straight to disk."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .data_directory import sync_tree
from .file_names import disposition_names, safe_name
from .json_body import check_announced_length
from .uploads import Upload

#: Bytes that are parsed and written at a time.
_PORTION = 256 * 1024
#: Parts that may stand beside the files.
_TEXTS = 100
#: Bytes of the longest header of a part.
_HEADER_SIZE = 8 * 1024


@dataclass(frozen=True)
class FormLimits:
    """How large a form may be; sizes in bytes."""

    files: int = 1_000
    file_size: int = 16 * 1024**3
    total_size: int = 32 * 1024**3
    #: All texts together.
    text_size: int = 64 * 1024**2


@dataclass(frozen=True)
class Form:
    """A form that was received completely; its files are on disk."""

    texts: Mapping[str, bytes]
    uploads: list[Upload]


async def receive_form(request: Request, directory: Path, limits: FormLimits) -> Form:
    """Receive a form, its files into ``directory``.

    A part with a file name, or called ``files``, is a file. What is refused raises
    HTTPException, a client that goes away ClientDisconnect; files may be left in the directory.
    """
    check_announced_length(request, limits.total_size)
    receiver = _Receiver(_boundary(request), directory, limits)
    try:
        portion = bytearray()
        async for chunk in request.stream():
            portion += chunk
            if len(portion) >= _PORTION:
                await asyncio.to_thread(receiver.write, bytes(portion))
                portion.clear()
        return await asyncio.to_thread(receiver.finish, bytes(portion))
    finally:
        receiver.close()


def _boundary(request: Request) -> bytes:
    _, parameters = parse_options_header(request.headers.get("content-type"))
    boundary = parameters.get(b"boundary", b"")
    # What the standard allows; a longer one would only slow the search for it.
    if not 0 < len(boundary) <= 70:
        raise HTTPException(400, "The Content-Type of the form must name a boundary.")
    return boundary


class _Receiver:
    """Takes the bytes of a form, in one thread at a time."""

    def __init__(self, boundary: bytes, directory: Path, limits: FormLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_begin": self._header_begins,
                "on_header_field": self._header_name_data,
                "on_header_value": self._header_value_data,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._part: _TextPart | _FilePart | None = None
        self._texts: dict[str, bytes] = {}
        self._uploads: list[Upload] = []
        self._size = 0
        self._text_size = 0
        self._complete = False

    def write(self, portion: bytes) -> None:
        """Take the next bytes."""
        self._size += len(portion)
        if self._size > self._limits.total_size:
            _refuse_size(f"The form is larger than the limit of {self._limits.total_size} bytes.")
        try:
            self._parser.write(portion)
        except FormParserError as error:
            raise HTTPException(400, f"The body is no valid form: {error}.") from error

    def finish(self, portion: bytes) -> Form:
        """Take the last bytes and return the form; its files are on disk for good."""
        self.write(portion)
        if not self._complete:
            raise HTTPException(400, "The body is no valid form: its end is missing.")
        sync_tree(self._directory)
        return Form(self._texts, self._uploads)

    def close(self) -> None:
        """Close a file that was not received completely."""
        if isinstance(self._part, _FilePart):
            self._part.file.close()

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_begins(self) -> None:
        self._header_name.clear()
        self._header_value.clear()

    def _header_name_data(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _HEADER_SIZE:
            _refuse_size(f"A header in the form is larger than {_HEADER_SIZE} bytes.")

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)

    def _headers_end(self) -> None:
        name, file_name = disposition_names(self._disposition)
        if file_name is None and name != "files":
            if len(self._texts) >= _TEXTS:
                _refuse_size(f"The form has more than {_TEXTS} texts.")
            self._part = _TextPart(name or "")
        elif len(self._uploads) >= self._limits.files:
            _refuse_size(f"The form has more files than the limit of {self._limits.files}.")
        else:
            self._part = _FilePart.create(self._directory, len(self._uploads), file_name or "")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        content = memoryview(data)[start:end]
        if isinstance(self._part, _FilePart):
            self._part.write(content, self._limits.file_size)
        elif self._part is not None:
            self._text_size += len(content)
            if self._text_size > self._limits.text_size:
                _refuse_size(f"The texts of the form pass {self._limits.text_size} bytes.")
            self._part.content += content

    def _part_ends(self) -> None:
        part, self._part = self._part, None
        if isinstance(part, _TextPart):
            self._texts[part.name] = bytes(part.content)
        elif part is not None:
            upload = part.finish()
            if upload is not None:
                self._uploads.append(upload)

    def _form_ends(self) -> None:
        self._complete = True


@dataclass
class _TextPart:
    name: str
    content: bytearray = field(default_factory=bytearray)


@dataclass
class _FilePart:
    name: str
    path: Path
    file: BinaryIO
    size: int = 0
    hash: Any = field(default_factory=hashlib.blake2b)

    @classmethod
    def create(cls, directory: Path, number: int, name: str) -> _FilePart:
        """Begin a file in a directory of its own, so that two of one name don't meet."""
        folder = directory / str(number)
        folder.mkdir()
        path = folder / safe_name(name)
        return cls(name, path, path.open("xb"))

    def write(self, content: memoryview, limit: int) -> None:
        """Take the next bytes of the file."""
        self.size += len(content)
        if self.size > limit:
            _refuse_size(f"The file {self.name!r} is larger than the limit of {limit} bytes.")
        self.hash.update(content)
        self.file.write(content)

    def finish(self) -> Upload | None:
        """End the file; None when a browser sent it for a field that was left empty."""
        self.file.close()
        folder = self.path.parent
        if not self.name and not self.size:
            shutil.rmtree(folder)
            return None
        path = f"{folder.name}/{self.path.name}"
        return Upload(self.name or self.path.name, path, self.size, self.hash.hexdigest())


def _refuse_size(message: str) -> NoReturn:
    raise HTTPException(413, message)
