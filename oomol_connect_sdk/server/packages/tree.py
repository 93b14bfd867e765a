"""Writing untrusted files below one directory, and nowhere else."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import InstallError

#: Names that belong to the place where a package was made; they are left out at any depth.
EXCLUDED = frozenset({"node_modules", ".git", ".DS_Store", "__pycache__", ".oomol", ".venv"})
_EXCLUDED_PREFIX = ".oo-thumbnail"

_CHUNK = 256 * 1024
_LONGEST_PART = 255
_LONGEST_PATH = 1024


@dataclass(frozen=True)
class Limits:
    """The largest package that is installed; sizes are in bytes."""

    #: Entries of an archive, and directories.
    entries: int = 20_000
    #: All files together, as they are on disk.
    expanded: int = 2 * 1024**3
    #: An archive as it comes.
    download: int = 512 * 1024**2


class PackageTree:
    """Files and directories of one package, written below ``root``, which has to be empty.

    A name that leads elsewhere, or elsewhere on another system, is refused with an
    InstallError. Links are never made. What is in EXCLUDED is passed over.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._entries = 0
        self._bytes = 0
        #: What is there: folded path → the path as it was first written, and whether it's a file.
        self._known: dict[str, tuple[str, bool]] = {}
        root.mkdir(exist_ok=True)

    def add_directory(self, name: str) -> None:
        """Make a directory; one that is there already is left alone."""
        self._count()
        parts = _parts(name)
        if not _is_excluded(parts):
            self._make(parts)

    def add_file(self, name: str, content: IO[bytes], *, executable: bool) -> None:
        """Write a file with what is left to read of ``content``."""
        self._count()
        parts = _parts(name)
        if _is_excluded(parts):
            return
        if not parts:
            raise InstallError(f"{name!r} is no name of a file")
        directory = self._make(parts[:-1])
        self._note(parts, is_file=True)
        path = directory / parts[-1]
        with path.open("xb") as file:
            while chunk := content.read(_CHUNK):
                self._bytes += len(chunk)
                if self._bytes > self._limits.expanded:
                    raise InstallError(
                        f"it holds more than the limit of {self._limits.expanded} bytes"
                    )
                file.write(chunk)
        if executable:
            path.chmod(0o755)

    def _make(self, parts: list[str]) -> Path:
        for depth in range(1, len(parts) + 1):
            if self._note(parts[:depth], is_file=False):
                self._count()
                self._root.joinpath(*parts[:depth]).mkdir()
        return self._root.joinpath(*parts)

    def _note(self, parts: list[str], *, is_file: bool) -> bool:
        """Note what is at a path; tell whether it is new."""
        path = "/".join(parts)
        # What two names of one package mean must not depend on the file system.
        folded = unicodedata.normalize("NFC", path.casefold())
        if folded not in self._known:
            self._known[folded] = path, is_file
            return True
        known, known_is_file = self._known[folded]
        if known != path:
            raise InstallError(f"{known!r} and {path!r} are one name where case does not count")
        if is_file or known_is_file:
            raise InstallError(f"{path!r} is there twice")
        return False

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise InstallError(f"it holds more than the limit of {self._limits.entries} entries")


def copy_directory(source: Path, tree: PackageTree) -> None:
    """Copy a directory into a tree; a link or a special file is refused."""
    _copy(source, "", tree)


def _copy(directory: Path, prefix: str, tree: PackageTree) -> None:
    with os.scandir(directory) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        mode = entry.stat(follow_symlinks=False).st_mode
        if _is_excluded([entry.name]):
            continue
        if stat.S_ISDIR(mode):
            tree.add_directory(name)
            _copy(Path(entry.path), name + "/", tree)
        elif stat.S_ISREG(mode):
            with open(entry.path, "rb") as content:
                tree.add_file(name, content, executable=bool(mode & stat.S_IXUSR))
        else:
            kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a directory"
            raise InstallError(f"{name!r} is {kind}, which a package may not hold")


def _parts(name: str) -> list[str]:
    """Split the name of an entry; ``./`` and a last slash mean nothing."""
    shown = repr(name[:_LONGEST_PART])
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise InstallError(f"the name {shown} has control characters, or is not UTF-8")
    if any(len(part.encode()) > _LONGEST_PART for part in parts) or len(name) > _LONGEST_PATH:
        raise InstallError(f"the name {shown}... is too long")
    if name.startswith("/"):
        raise InstallError(f"{shown} is an absolute path")
    if ".." in parts:
        raise InstallError(f"{shown} leads out of the package")
    # On Windows these separate directories, name drives and streams, or are dropped.
    if "\\" in name or ":" in name or any(part.endswith((".", " ")) for part in parts):
        raise InstallError(
            f"{shown} means something else on Windows: it has a '\\' or ':', or a "
            "part of it ends with '.' or a space"
        )
    return parts


def _is_excluded(parts: list[str]) -> bool:
    return any(part in EXCLUDED or part.startswith(_EXCLUDED_PREFIX) for part in parts)
