"""Files that come with a task: received beside everything else, kept only with their task."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .data_directory import DataDirectory
from .store import Store

#: Where the files are, in the directory of their session.
FOLDER = "uploads"


@dataclass(frozen=True)
class Upload:
    """One file that was received."""

    #: The name the client gave it.
    name: str
    #: Below the folder of the uploads: ``<number>/<safe name>``.
    path: str
    #: Bytes.
    size: int
    #: A hash of its content.
    digest: str


class Uploads:
    """The files of tasks, from their arrival to their place below the session's directory.

    They are received into a directory of their own and moved once their task is stored; what a
    server left there when it was killed is settled by ``recover``.
    """

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory

    def receive(self, session_id: str) -> Path:
        """Make the directory that the files for a session are received into."""
        path = self._directory.incoming / session_id
        path.mkdir(parents=True)
        return path

    def place(self, session_id: str, upload: Upload) -> Path:
        """Return where a file is once its task is stored."""
        return self._directory.session_path(session_id) / FOLDER / upload.path

    def keep(self, session_id: str) -> None:
        """Move the files of a session, whose task is stored, to their place."""
        os.replace(
            self._directory.incoming / session_id, self._directory.session(session_id) / FOLDER
        )

    def discard(self, session_id: str) -> None:
        """Remove the files of a session that will have no task."""
        shutil.rmtree(self._directory.incoming / session_id, ignore_errors=True)

    async def recover(self, store: Store) -> None:
        """Keep or discard what was received for sessions before the last server was killed."""
        for session_id in self._waiting():
            if await store.has_session(session_id):
                self.keep(session_id)
            else:
                self.discard(session_id)

    def _waiting(self) -> Sequence[str]:
        incoming = self._directory.incoming
        return sorted(path.name for path in incoming.iterdir()) if incoming.is_dir() else []
