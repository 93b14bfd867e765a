"""The directory of installed packages, whole at every moment."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..engine.manifests import ManifestError, find_manifest, read_package
from .errors import InstallError, NotInstalled
from .names import PackageId

#: What is not complete yet, or no longer wanted. Removed at the next start.
_INCOMING = ".incoming"
#: Packages whose successors are being put in their places.
_REPLACED = ".replaced"


class PackageStore:
    """Installed packages at ``<root>/<name>-<version>``, scoped ones at ``<root>/@scope/…``.

    A package appears and disappears by one rename, so that a process killed at any point leaves
    it as it was or as it should be; opening the store removes the rest. To be used by one
    process at a time.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self._recover()

    def path(self, package: PackageId) -> Path:
        """Return where this version is, or would be."""
        return self.root / package.path

    @property
    def is_empty(self) -> bool:
        """Whether no package is installed."""
        return next(_packages_below(self.root), None) is None

    def holds(self, directory: Path) -> bool:
        """Whether a package's directory is in this store."""
        return directory.is_relative_to(self.root)

    def new_work(self) -> Path:
        """Make an empty directory in which packages are made ready for ``put``."""
        work = self._unused()
        work.mkdir(parents=True)
        return work

    def put(self, staged: Path, package: PackageId) -> Path:
        """Move a complete package, made in a ``new_work`` directory, into its place.

        One of the same id is replaced. Raises InstallError when another has that place.
        """
        place = self.path(package)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            staged.rename(place)
            return place
        _check_same(place, package)
        old = self.root / _REPLACED / package.path
        old.parent.mkdir(parents=True, exist_ok=True)
        place.rename(old)
        staged.rename(place)
        self.discard(old)
        return place

    def remove(self, package: PackageId) -> None:
        """Remove a package; raises NotInstalled."""
        place = self.path(package)
        if not place.is_dir():
            raise NotInstalled(f"{package} is not installed.")
        _check_same(place, package)
        self.discard(place)
        if place.parent != self.root and not any(place.parent.iterdir()):
            place.parent.rmdir()

    def discard(self, directory: Path) -> None:
        """Remove a directory of the store, out of sight at once."""
        rubbish = self._unused()
        rubbish.parent.mkdir(exist_ok=True)
        directory.rename(rubbish)
        # What can't be removed now is removed at the next start.
        shutil.rmtree(rubbish, ignore_errors=True)

    def _unused(self) -> Path:
        return self.root / _INCOMING / uuid.uuid4().hex

    def _recover(self) -> None:
        replaced = self.root / _REPLACED
        for old in _packages_below(replaced) if replaced.is_dir() else ():
            place = self.root / old.relative_to(replaced)
            if not place.exists():
                old.rename(place)
        for rubbish in (replaced, self.root / _INCOMING):
            shutil.rmtree(rubbish, ignore_errors=True)


def _check_same(place: Path, package: PackageId) -> None:
    """Refuse a place whose package only looks alike: a-1.0.0-1 may be a or a-1.0.0."""
    try:
        there = read_package(place)
    except ManifestError:
        return  # A broken package may be replaced and removed.
    if (there.name, there.version) != (package.name, package.version):
        raise InstallError(f"{place} already holds {there.label}; uninstall that first.")


def _packages_below(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as listing:
        children = sorted(Path(entry.path) for entry in listing if entry.is_dir())
    for child in children:
        if find_manifest(child, "package") is not None:
            yield child
        elif child.name.startswith("@"):
            yield from _packages_below(child)
