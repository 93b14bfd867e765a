"""The directory that holds everything a server keeps: its lock and the paths below it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from .file_lock import try_lock

logger = logging.getLogger(__name__)


class DataDirectoryError(OSError):
    """The data directory can't be used; the message says why and what to do."""


class DataDirectoryInUse(DataDirectoryError):
    """Another server process holds this data directory."""


class DataDirectory:
    """One server's data directory, held by one process at a time.

    Without a path a temporary directory is made, and removed by ``close``. The lock belongs to
    the process: however it ends, the directory is free again. Raises DataDirectoryInUse when
    another server holds it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._temporary = path is None
        self.root = _temporary_directory() if path is None else path.expanduser().absolute()
        # Inputs, results and logs are nobody else's business.
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self.root / "server.lock", self.root)
        self.package_data.mkdir(exist_ok=True)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "connect.sqlite3"

    @property
    def package_data(self) -> Path:
        """What packages keep for ever, one directory a package."""
        return self.root / "package-data"

    @property
    def incoming(self) -> Path:
        """Files on their way to a task, one directory a session; absent when there were none."""
        return self.root / "incoming"

    def session(self, session_id: str) -> Path:
        """Return the directory shared by the blocks of this session, and make it."""
        return _made(self.session_path(session_id))

    def session_path(self, session_id: str) -> Path:
        """Return where the directory of this session is, or would be."""
        return self.root / "sessions" / session_id

    def temporary(self, session_id: str) -> Path:
        """Return the directory for the temporary files of this session, and make it."""
        return _made(self.root / "temporary" / session_id)

    def remove_temporary(self, session_id: str) -> None:
        """Remove the temporary files of this session; one that can't be removed is left."""
        shutil.rmtree(self.root / "temporary" / session_id, ignore_errors=True)

    def remove_session(self, session_id: str) -> None:
        """Remove all files of this session; what can't be removed is left, and logged."""
        self.remove_temporary(session_id)
        path = self.session_path(session_id)
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            logger.warning("Not all of %s can be removed; its task is gone.", path)

    def close(self) -> None:
        """Let another process have the directory; a temporary one is removed."""
        os.close(self._lock)
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)


def sync_directory(path: str | Path) -> None:
    """Put the entries of a directory on disk, where the system has a way to."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Put a directory and all below it on disk for good."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb+") as file:
                os.fsync(file.fileno())
        sync_directory(folder)
    sync_directory(directory.parent)


def _temporary_directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="oomol-connect-")).resolve()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _lock(path: Path, directory: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if not try_lock(descriptor):
        os.close(descriptor)
        raise DataDirectoryInUse(
            f"The data directory {directory} is in use by another server process. "
            "Stop that server or choose another data directory."
        )
    return descriptor
