"""What ``run`` runs, and on which server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import ContextManager, List, Sequence

import click

from ..sync import SyncOomolConnectClient
from .server import connected


@dataclass(frozen=True)
class Target:
    """A block or flow, and the packages of the server to start for it; none for a remote one."""

    block_id: str
    packages: List[str]
    base_url: str | None

    @classmethod
    def of(cls, target: str, packages: Sequence[str], base_url: str | None) -> Target:
        """Read PATH::NAME or PACKAGE::NAME; a directory that exists is a path."""
        owner, colons, name = target.partition("::")
        if colons and Path(owner).is_dir():
            return cls(f"{_package_name(Path(owner))}::{name}", [owner, *packages], None)
        if colons and ("/" in owner.lstrip("@").partition("/")[2] or owner.startswith(".")):
            raise click.BadParameter(f"there is no directory {owner!r}", param_hint="TARGET")
        if packages:
            return cls(target, list(packages), None)
        if base_url is None:
            raise click.UsageError(
                f"{target!r} names no directory and no server is known: give PATH::NAME, "
                "--package PATH, or --server URL"
            )
        return cls(target, [], base_url)

    def client(
        self, token: str | None, data_dir: str | None
    ) -> ContextManager[SyncOomolConnectClient]:
        """Return a client; entering it starts the server when there is none."""
        if self.packages:
            return SyncOomolConnectClient.local(self.packages, data_dir=data_dir)
        return contextlib.closing(connected(self.base_url, token))


def _package_name(directory: Path) -> str:
    try:
        from ..server.engine.manifests import ManifestError, read_package
    except ImportError as error:
        raise click.UsageError(
            f"the local server is not installed ({error}): pip install 'oomol-connect-sdk[server]'"
        ) from error
    try:
        return read_package(directory).name or directory.name
    except (ManifestError, OSError) as error:
        raise click.BadParameter(str(error), param_hint="TARGET") from None
