"""What was read from files, for as long as they stay as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamps = list[tuple[int, ...] | None]


class FileCache(Generic[T]):
    """Values by the directory they belong to; each counts until one of its files changes.

    Looking at a few stamps is cheap enough for the event loop, where a thread would cost more.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, _Kept[T]] = {}

    def current(self, directory: Path) -> T | None:
        """The value of a directory; None when there is none, or a file has changed."""
        kept = self._kept.get(directory)
        return kept.value if kept and kept.stamps == stamps(kept.files) else None

    def keep(self, directory: Path, value: T, files: Iterable[Path], stamps: Stamps) -> T:
        """Keep a value that was read from files, whose stamps were taken before."""
        self._kept[directory] = _Kept(value, tuple(map(str, files)), stamps)
        return value


@dataclass(frozen=True)
class _Kept(Generic[T]):
    value: T
    files: tuple[str, ...]
    stamps: Stamps


def stamps(files: Iterable[str | Path]) -> Stamps:
    """What changes with each file; None for one that is not there."""
    return list(map(_stamp, files))


def _stamp(file: str | Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
