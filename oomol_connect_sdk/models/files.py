"""The files that a model service keeps for its users."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..files import FileInput

#: A file or folder of the service: ``files/…`` as `ModelFiles.home` gives it, or its address.
FileUrl = str | PurePosixPath


class ModelFiles(Protocol):
    """The files of one user on a model service."""

    async def home(self) -> PurePosixPath:
        """Return the user's own folder, to be joined with ``/``."""
        ...

    async def upload(
        self,
        url: FileUrl,
        file: FileInput,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> dict[str, Any]:
        """Save a file and return its metadata.

        ``if_match`` replaces only the version with that etag, ``if_none_match="*"`` only what
        is not there yet; else ApiError with status 412.
        """
        ...

    def read(self, url: FileUrl) -> AsyncGenerator[bytes, None]:
        """Give the content of a file piece by piece."""
        ...

    async def content(self, url: FileUrl) -> bytes:
        """Return the whole content of a file; `read` and `download` are for large ones."""
        ...

    async def download(self, url: FileUrl, target: str | os.PathLike[str]) -> Path:
        """Save a file here and return where it is; it appears when it is whole."""
        ...

    async def metadata(self, url: FileUrl) -> dict[str, Any]:
        """Return what the service knows of a file, or of a folder (which ends with ``/``)."""
        ...

    async def delete(self, url: FileUrl, *, if_match: str | None = None) -> None:
        """Remove a file."""
        ...
