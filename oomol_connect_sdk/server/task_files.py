"""The files of one task: those it was given, and those its blocks left in its directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


class UnknownFile(Exception):
    """The task has no file of this name."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a task."""

    #: Its path below the directory of the task, with slashes.
    name: str
    #: Bytes.
    size: int
    #: Unix milliseconds.
    modified_at: int


class TaskFiles:
    """The regular files below some directories; symbolic links are not followed, nor listed.

    ``folders`` maps the beginning of the names (empty, or ending in a slash) to the directory
    whose files have it; of two that fit a name the first counts.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def entries(self) -> list[FileEntry]:
        """Return all files, by name."""
        found: dict[str, FileEntry] = {}
        for prefix, folder in self._folders.items():
            for entry in _entries(folder, prefix):
                found.setdefault(entry.name, entry)
        return [found[name] for name in sorted(found)]

    def path(self, name: str) -> Path:
        """Return where a file is; raises UnknownFile, also for a name that leads elsewhere."""
        for prefix, folder in self._folders.items():
            path = _path(folder, name[len(prefix) :]) if name.startswith(prefix) else None
            if path is not None:
                return path
        raise UnknownFile(f"The task has no file {name!r}.")


def _entries(folder: Path, prefix: str) -> Iterator[FileEntry]:
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            status = _status(path)
            if status is not None and stat.S_ISREG(status.st_mode):
                relative = prefix + path.relative_to(folder).as_posix()
                yield FileEntry(relative, status.st_size, status.st_mtime_ns // 1_000_000)


def _path(folder: Path, name: str) -> Path | None:
    """Return the regular file of this name below a folder, if there is one."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or set(part) & set("\0\\:") for part in parts):
        return None
    path = folder
    for part in parts[:-1]:
        path = path / part
        if not _is(path, stat.S_ISDIR):
            return None
    path = path / parts[-1]
    return path if _is(path, stat.S_ISREG) else None


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    status = _status(path)
    return status is not None and kind(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:  # It was removed meanwhile, or there can be none of this name.
        return None
