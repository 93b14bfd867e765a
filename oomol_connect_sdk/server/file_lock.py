"""A lock between processes that ends with its holder, however that ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType

#: Seconds between two tries.
_PAUSE = 0.1


class FileLock:
    """Held by one process at a time; the file itself is left behind.

    async with FileLock(path):
        ...
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    async def __aenter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Not in a thread: one that waits for a lock can't be cancelled.
            while True:
                if try_lock(self._descriptor):
                    return
                await asyncio.sleep(_PAUSE)
        except BaseException:
            os.close(self._descriptor)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file unless another process has; tell whether it is locked now."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock an open file unless another process has; tell whether it is locked now."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
