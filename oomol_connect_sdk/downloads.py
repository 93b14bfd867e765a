"""The files of a task, listed, read as they come or saved whole; and how a file is fetched."""

from __future__ import annotations

import os
import random
import re
import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import (
    Any,
    AsyncContextManager,
    AsyncGenerator,
    AsyncIterator,
    BinaryIO,
    Callable,
    List,
    Mapping,
    Tuple,
)

from ._http import Streamed
from ._io import IO, closing
from .answers import endpoint, expect
from .errors import ApiError, BadAnswerError, OomolConnectError
from .files import PIECE, PathLike, open_file
from .transport import Transport
from .types import ListFilesResponse


class TaskFiles:
    """The files that a task left on the server, where the server gives them out."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, task_id: str) -> ListFilesResponse:
        """Return ``{"files": […]}``: name, size and time of every file of the task."""
        path = endpoint("v1", "tasks", task_id, "files")
        answer: Any = await self._transport.request("GET", path)
        expect(answer, "files", list, f"the files of task {task_id}")
        response: ListFilesResponse = answer
        return response

    async def read(self, task_id: str, name: str) -> AsyncGenerator[bytes, None]:
        """Give the content of a file piece by piece.

        A broken connection is taken up where it broke, as long as the file is still the same.
        """
        async with closing(self._download(task_id, name).content()) as pieces:
            async for piece in pieces:
                yield piece

    async def download(self, task_id: str, name: str, target: PathLike) -> Path:
        """Save a file of the task and return where it is.

        ``target`` is the path of the new file, or a directory that is there, in which the file
        then keeps its name. The file appears when it is whole, and replaces what was there. A
        broken connection is taken up where it broke. Raises ApiError, or OSError for trouble
        with the target.
        """
        return await self._download(task_id, name).save(target, name)

    def _download(self, task_id: str, name: str) -> Download:
        transport = self._transport
        path = endpoint("v1", "tasks", task_id, "files", name)

        def open_stream(headers: Mapping[str, str]) -> AsyncContextManager[Streamed]:
            return transport.stream(path, headers=headers, out_of_turn=True)

        what = f"file {name!r} of task {task_id}"
        return Download(transport.io, open_stream, what, transport.config.max_retries)


class Download:
    """One file, from as many connections as it takes.

    ``open_stream`` GETs it with the headers that it is given, ``what`` is how errors call it. A
    connection that breaks is followed by ``max_retries`` further ones that bring nothing new.
    """

    def __init__(
        self,
        io: IO,
        open_stream: Callable[[Mapping[str, str]], AsyncContextManager[Streamed]],
        what: str,
        max_retries: int,
    ) -> None:
        self._io = io
        self._open_stream = open_stream
        self._what = what
        self._max_retries = max_retries
        self._position = 0
        self._furthest = 0
        self._version: str | None = None

    async def content(self) -> AsyncGenerator[bytes, None]:
        """Give it piece by piece; OomolConnectError when it can't be read on where it broke."""
        async with closing(self._pieces()) as pieces:
            position = 0
            async for start, piece in pieces:
                if start != position:
                    raise OomolConnectError(
                        f"{self._what} can't be read on after {position} "
                        "bytes: the server has another version of it, or only whole files"
                    )
                position += len(piece)
                if piece:
                    yield piece

    async def save(self, target: PathLike, name: str) -> Path:
        """Save it at a path, or under its name in a directory that is there."""
        io = self._io
        path: Path = await io.offload(_destination, os.fspath(target), name)
        unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            await self._write(unfinished)
            await io.offload(os.replace, unfinished, path)
        except BaseException:
            # Not off the loop: cleaning up must not wait when it is cancelled.
            _remove(unfinished)
            raise
        return path

    async def _pieces(self) -> AsyncGenerator[Tuple[int, bytes], None]:
        """Give pieces and where they begin; a place before the last one's end is a new start."""
        failures = 0
        while True:
            try:
                async with self._open() as chunks, closing(_gathered(chunks)) as pieces:
                    yield self._position, b""
                    async for piece in pieces:
                        yield self._position, piece
                        self._position += len(piece)
                return
            except ApiError as error:
                failures = 1 if self._position > self._furthest else failures + 1
                self._furthest = max(self._furthest, self._position)
                if not error.transient or failures > self._max_retries:
                    raise
                jitter = random.uniform(0, min(8.0, 0.25 * 2**failures))
                pause = max(jitter, min(error.retry_after or 0.0, 60.0))
            await self._io.sleep(pause)

    async def _write(self, path: Path) -> None:
        io = self._io
        with await open_file(io, path, "wb") as file:
            async with closing(self._pieces()) as pieces:
                async for start, piece in pieces:
                    await io.offload(_write_at, file, start, piece)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        # Only the bytes as they are stored can be counted, so no compression.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self._position and self._version:
            headers["Range"] = f"bytes={self._position}-"
            headers["If-Range"] = self._version
        async with self._open_stream(headers) as streamed:
            self._begin(streamed)
            yield streamed.chunks

    def _begin(self, streamed: Streamed) -> None:
        version = _version_of(streamed.headers)
        if streamed.status != 206:
            self._position = 0
        elif _range_start(streamed.headers) != self._position or version != self._version:
            self._version = None
            shown = streamed.headers.get("content-range")
            message = f"{self._what} came with another range than was asked for: {shown}"
            raise BadAnswerError(message, 206)
        self._version = version


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Join small chunks to larger pieces, and give what is there before an error leaves."""
    waiting: List[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= PIECE:
                yield b"".join(waiting)
                waiting, size = [], 0
    except Exception:
        if waiting:
            yield b"".join(waiting)
        raise
    if waiting:
        yield b"".join(waiting)


def _version_of(headers: Mapping[str, str]) -> str | None:
    """Return what names exactly these bytes: a strong ETag of a file that is sent as it is."""
    version = headers.get("etag")
    if not version or version.startswith("W/") or "content-encoding" in headers:
        return None
    return version


def _range_start(headers: Mapping[str, str]) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("content-range", ""))
    return int(match.group(1)) if match else None


def _destination(target: str, name: str) -> Path:
    """Return where a file goes; a server's name for it never leads out of the directory."""
    if not os.path.isdir(target):
        return Path(target)
    parts = re.split(r"[\\/]", name)
    if not all(map(_is_file_name, parts)):
        raise ValueError(f"{name!r} is not a file name to save under: name the file in target")
    directory = Path(target).resolve()
    path = directory.joinpath(*parts)
    if directory not in path.resolve().parents:
        raise ValueError(f"{name!r} leads out of {target!r} by a link: name the file in target")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_file_name(part: str) -> bool:
    return part not in ("", ".", "..") and not re.search(r"[\0-\x1f:]", part)


def _write_at(file: BinaryIO, position: int, piece: bytes) -> None:
    if file.tell() != position:
        file.seek(position)
        file.truncate()
    file.write(piece)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
