"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from .errors import InstallError
from .tree import Limits, PackageTree

#: The names archives are known by.
SUFFIXES = (".tgz", ".tar.gz", ".zip")

_CHUNK = 256 * 1024
#: What is read into memory in one piece: the list of a zip archive, an extended tar header.
_LARGEST_READ = 4 * 1024 * 1024
#: What the standard library raises over archives that are broken.
_FAULTS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    IndexError,
    NotImplementedError,
)


def unpack(archive: Path, root: Path, limits: Limits) -> None:
    """Unpack a ``.tgz`` or ``.zip`` file into a directory that is empty or absent.

    Raises InstallError for an archive that is broken, too large, or holds what no package
    may; what was written until then is left behind. While this runs, a second file next to
    ``root`` takes as much room as the archive's contents.
    """
    tree = PackageTree(root, limits)
    try:
        with archive.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                _unpack_tgz(file, root.with_suffix(".tar"), tree, limits)
            elif magic == b"PK\x03\x04":
                _unpack_zip(file, tree)
            else:
                raise InstallError("it is neither a .tgz nor a .zip archive")
    except _FAULTS as error:
        raise InstallError(f"the archive is broken: {error}") from error


def _unpack_tgz(file: IO[bytes], plain: Path, tree: PackageTree, limits: Limits) -> None:
    # Expanded to disk first: a tar file is read with seeks, and a bomb must not go off in memory.
    with plain.open("w+b") as expanded:
        try:
            _gunzip(file, expanded, limits.expanded)
            expanded.seek(0)
            _unpack_tar(expanded, tree)
        finally:
            plain.unlink()


def _gunzip(file: IO[bytes], expanded: IO[bytes], limit: int) -> None:
    size = 0
    with gzip.GzipFile(fileobj=file) as packed:
        while chunk := packed.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise InstallError(f"it holds more than the limit of {limit} bytes")
            expanded.write(chunk)


def _unpack_tar(file: IO[bytes], tree: PackageTree) -> None:
    bounded = _BoundedReads(file)
    with tarfile.open(fileobj=bounded, mode="r:", errors="strict") as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.size < 0:
                raise InstallError(f"{member.name!r} has a negative size")
            if member.isdir():
                tree.add_directory(member.name)
            elif member.isreg() and not member.issparse():
                content = archive.extractfile(member)
                tree.add_file(member.name, content, executable=bool(member.mode & stat.S_IXUSR))
            else:
                raise InstallError(_not_a_file(member.name))


def _unpack_zip(file: IO[bytes], tree: PackageTree) -> None:
    with zipfile.ZipFile(_BoundedReads(file)) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir():
                tree.add_directory(entry.filename)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise InstallError(_not_a_file(entry.filename))
            elif entry.flag_bits & 1:
                raise InstallError(f"{entry.filename!r} is encrypted")
            # The other methods expand without a limit on what one read gives.
            elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InstallError(f"{entry.filename!r} is compressed in a way that is not known")
            else:
                with archive.open(entry) as content:
                    tree.add_file(entry.filename, content, executable=bool(mode & stat.S_IXUSR))


def _not_a_file(name: str) -> str:
    return f"{name!r} is a link or a device, neither a file nor a directory"


class _BoundedReads:
    """A file that can be read and sought, but not swallowed whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell
        self.seekable = file.seekable

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; one before the beginning is a fault of the archive, not of the disk."""
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError(f"it points {-offset} bytes before its beginning")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if 0 <= size <= _LARGEST_READ else _LARGEST_READ + 1)
        if len(content) > _LARGEST_READ:
            raise InstallError(f"one of its headers is larger than {_LARGEST_READ} bytes")
        return content
