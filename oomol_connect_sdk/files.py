"""Files to upload: what a caller may pass, and how it is read."""

from __future__ import annotations

import errno
import mimetypes
import os
import re
import stat
from io import BytesIO
from typing import (
    Any,
    AsyncGenerator,
    Awaitable,
    List,
    Mapping,
    Sequence,
    Tuple,
    Union,
)

from typing_extensions import Protocol

from ._io import IO, closing
from .errors import OomolConnectError

#: Bytes of a file that are read at once.
PIECE = 512 * 1024

#: Seconds that a cancelled opening of a file gets to end.
_OPEN_GRACE = 1.0

_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;[ -~]*)?")

_NO_FILE = "there is no such file (to send text, pass (name, text))"

PathLike = Union[str, "os.PathLike[str]"]


class Readable(Protocol):
    """An open file: text or binary; one with an async ``read`` on the asynchronous client."""

    def read(self, size: int, /) -> Union[bytes, str, Awaitable[Union[bytes, str]]]:
        """Read up to that many bytes or characters."""
        ...


#: The content of a named file; here a ``str`` is text, and a path is a ``pathlib.Path``.
FileContent = Union[str, bytes, "os.PathLike[str]", Readable]

NamedFile = Union[Tuple[str, FileContent], Tuple[str, FileContent, str]]

#: One file. A ``str`` by itself is the path of an existing file.
FileInput = Union[str, bytes, "os.PathLike[str]", Readable, NamedFile]

#: One file, several, or a mapping name → content.
FileInputs = Union[FileInput, Sequence[FileInput], Mapping[str, FileContent]]


class FilePart:
    """One file of an upload. `examine` comes before anything else.

    ``size`` is in bytes, None when only reading to the end tells it; ``rewindable`` is whether
    the file can be read a second time. A content type that was not given is guessed from the
    name.
    """

    def __init__(self, name: str, content_type: str | None) -> None:
        self.name = name
        self.content_type = content_type
        self.size: int | None = None
        self.rewindable = False

    async def examine(self, io: IO) -> None:
        """Find out the size and where the caller has the file; raise if it can't be read."""
        if self.content_type is None:
            self.content_type = await io.offload(_guessed_type, self.name)

    def pieces(self, io: IO) -> AsyncGenerator[bytes, None]:
        """Read the file from where the caller had it to its end."""
        raise NotImplementedError


class PathPart(FilePart):
    """A file that is opened when its turn comes, and closed right after."""

    def __init__(self, path: str, name: str | None = None, content_type: str | None = None) -> None:
        super().__init__(os.path.basename(path) if name is None else name, content_type)
        self._path = path

    async def examine(self, io: IO) -> None:
        """Look at the file without opening it."""
        await super().examine(io)
        found = await io.offload(_file_status, self._path)
        if stat.S_ISREG(found.st_mode):
            self.size = found.st_size
            self.rewindable = True

    async def pieces(self, io: IO) -> AsyncGenerator[bytes, None]:
        """Open the file, read it and close it."""
        file = await open_file(io, self._path, "rb")
        try:
            async with closing(_pieces(io, file, self.size, self.name)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await io.offload(file.close)


class ObjectPart(FilePart):
    """An open file of the caller's; it is read, and rewound to be sent again, but never closed."""

    def __init__(self, file: Any, name: str, content_type: str | None = None) -> None:
        super().__init__(name, content_type)
        self._file = file
        self._start: Any = None

    async def examine(self, io: IO) -> None:
        """Ask the file for its place and its end, where it can tell."""
        await super().examine(io)
        file = self._file
        is_text = isinstance(await io.offload(file.read, 0), str)
        self.rewindable = await _is_seekable(io, file)
        if not self.rewindable:
            return
        self._start = await io.offload(file.tell)
        if not is_text:
            await io.offload(file.seek, 0, os.SEEK_END)
            self.size = max(0, await io.offload(file.tell) - self._start)
            await io.offload(file.seek, self._start)

    async def pieces(self, io: IO) -> AsyncGenerator[bytes, None]:
        """Go back to where the caller had the file, and read it from there."""
        if self.rewindable:
            await io.offload(self._file.seek, self._start)
        async with closing(_pieces(io, self._file, self.size, self.name)) as pieces:
            async for piece in pieces:
                yield piece


class TextPart(ObjectPart):
    """A file whose name and text were both given as ``str``."""

    def __init__(self, text: str, name: str, content_type: str | None) -> None:
        super().__init__(BytesIO(text.encode("utf-8")), name, content_type)
        self._text = text

    async def examine(self, io: IO) -> None:
        """Refuse what may be meant as two paths."""
        # ("a.csv", "b.csv") reads like two paths; a path must never be sent as text.
        if await io.offload(_both_exist, self.name, self._text):
            raise ValueError(
                f"({self.name!r}, {self._text!r}) is a name and a text, but both are existing "
                "files: pass a list for two files, or bytes for the text"
            )
        await super().examine(io)


def file_parts(files: FileInputs | None) -> List[FilePart]:
    """Return the files that were passed in any of the accepted forms.

    * a path: ``str`` or ``os.PathLike``; ``bytes``; an open file, binary or text (sent as UTF-8);
    * ``(name, content)`` or ``(name, content, content_type)``: here ``str`` content is text;
    * a list or tuple of these, or a mapping name → content.

    Raises TypeError or ValueError that shows the offending element.
    """
    if files is None:
        return []
    if isinstance(files, Mapping):
        return [_named_part((name, content), f"files[{name!r}]") for name, content in files.items()]
    if _is_one_file(files):
        return [_part(files, "files", 1)]
    if isinstance(files, Sequence):
        return [_part(item, f"files[{i}]", i + 1) for i, item in enumerate(files)]
    raise _not_a_file(files, "files")


async def open_file(io: IO, path: PathLike, mode: str) -> Any:
    """Open a file; when that is cancelled, the file is closed as soon as it is open."""
    return await io.complete(
        io.offload(open, path, mode), lambda file: io.offload(file.close), _OPEN_GRACE
    )


def _is_one_file(value: Any) -> bool:
    return (
        isinstance(value, (str, bytes, bytearray, memoryview, os.PathLike))
        or hasattr(value, "read")
        or _is_named(value)
    )


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) in (2, 3) and isinstance(value[0], str)


def _part(value: Any, where: str, number: int) -> FilePart:
    if _is_named(value):
        return _named_part(value, where)
    if isinstance(value, (str, os.PathLike)):
        return PathPart(_path(value, where))
    return _content_part(value, _own_name(value) or f"file-{number}", None, where)


def _named_part(value: Tuple[Any, ...], where: str) -> FilePart:
    name, content, *rest = value
    content_type = rest[0] if rest else None
    if not isinstance(name, str) or not name:
        raise TypeError(f"{where}: a file name must be non-empty text, not {name!r}")
    if content_type is not None and not _is_content_type(content_type):
        raise ValueError(f"{where}: {content_type!r} is not a content type such as 'text/plain'")
    if isinstance(content, os.PathLike):
        return PathPart(_path(content, where), name, content_type)
    if isinstance(content, str):
        return TextPart(content, name, content_type)
    return _content_part(content, name, content_type, where)


def _content_part(content: Any, name: str, content_type: str | None, where: str) -> FilePart:
    if isinstance(content, (bytes, bytearray, memoryview)):
        return ObjectPart(BytesIO(content), name, content_type)
    if hasattr(content, "read"):
        return ObjectPart(content, name, content_type)
    raise _not_a_file(content, where)


async def _pieces(io: IO, file: Any, size: int | None, name: str) -> AsyncGenerator[bytes, None]:
    left = size
    while left is None or left > 0:
        piece = await io.offload(file.read, PIECE if left is None else min(PIECE, left))
        if not isinstance(piece, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"the file {name!r} read {type(piece).__name__} instead of bytes")
        if not piece:
            break
        data = piece.encode("utf-8") if isinstance(piece, str) else bytes(piece)
        if left is not None:
            left -= len(data)
        yield data
    if left:
        raise OomolConnectError(
            f"the file {name!r} has not the {size} bytes it had at first: "
            "it was changed while it was sent"
        )


async def _is_seekable(io: IO, file: Any) -> bool:
    if not (hasattr(file, "seek") and hasattr(file, "tell")):
        return False
    return not hasattr(file, "seekable") or bool(await io.offload(file.seekable))


def _guessed_type(name: str) -> str:
    guessed, encoding = mimetypes.guess_type(name)
    return guessed if guessed and not encoding else "application/octet-stream"


def _file_status(path: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise FileNotFoundError(errno.ENOENT, _NO_FILE, path) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise FileNotFoundError(errno.ENOENT, _NO_FILE, path[:80] + "...") from error
        raise
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a directory can't be sent as a file", path)
    return found


def _both_exist(name: str, text: str) -> bool:
    return len(text) < 1024 and "\0" not in name + text and all(map(os.path.isfile, (name, text)))


def _own_name(file: Any) -> str | None:
    name = getattr(file, "name", None)
    return os.path.basename(name) or None if isinstance(name, str) else None


def _path(value: Any, where: str) -> str:
    path = os.fspath(value)
    if not isinstance(path, str) or not path:
        raise TypeError(f"{where}: a path must be non-empty text, not {path!r}")
    return path


def _is_content_type(value: Any) -> bool:
    return isinstance(value, str) and _CONTENT_TYPE.fullmatch(value) is not None


def _not_a_file(value: Any, where: str) -> TypeError:
    return TypeError(
        f"{where} must be a path, bytes, an open file or (name, content), "
        f"not {type(value).__name__}: {repr(value)[:120]}"
    )
