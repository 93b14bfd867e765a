"""Watching how much disk space the files of a task take."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

#: Seconds between two measurements.
PERIOD = 1.0
#: A measurement takes at most this share of the time.
_SHARE = 0.05


@contextlib.asynccontextmanager
async def watched_disk(
    directories: Sequence[Path],
    limit: int | None,
    exceeded: Callable[[int], None],
    *,
    except_for: Path | None = None,
) -> AsyncIterator[None]:
    """Call ``exceeded`` once, with the bytes in use, when these directories hold too much."""
    if limit is None:
        yield
        return
    watch = asyncio.create_task(_watch(directories, limit, exceeded, except_for))
    try:
        yield
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


def disk_use(directories: Sequence[Path], except_for: Path | None = None) -> int:
    """Return the bytes that all regular files below these directories take on the disk."""
    return sum(_sizes([str(directory) for directory in directories], str(except_for)))


async def _watch(
    directories: Sequence[Path],
    limit: int,
    exceeded: Callable[[int], None],
    except_for: Path | None,
) -> None:
    time = asyncio.get_running_loop().time
    used, took = 0, 0.0
    while used < limit:
        await asyncio.sleep(max(PERIOD, took / _SHARE))
        start = time()
        used = await asyncio.to_thread(disk_use, directories, except_for)
        took = time() - start
    exceeded(used)


def _sizes(waiting: list[str], except_for: str) -> Iterator[int]:
    while waiting:
        # Blocks make and remove files meanwhile.
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.path == except_for:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    # A file with holes takes less than its length.
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else int(blocks) * 512
