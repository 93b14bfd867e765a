"""One install: a package and all it needs, made ready together and put in place at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.manifests import ManifestError, Package, find_manifest, read_package
from ..engine.yaml_source import read_yaml
from .archive import unpack
from .errors import InstallError, InvalidInstall, PackageInUse
from .live_catalog import LiveCatalog
from .names import PackageId, checked_name, checked_version, package_id
from .options import InstallOptions
from .places import Place, fetch_place, package_in
from .registry import Published, Registry
from .threads import finished
from .tree import Limits

if TYPE_CHECKING:
    from .downloads import Downloads

#: Whether a task that has not ended works with a package.
InUse = Callable[[Package], Awaitable[bool]]


@dataclass(frozen=True)
class Installed:
    """What an install led to: the package, and all it needs."""

    package: Package
    dependencies: tuple[Package, ...]
    #: Those that were not there before.
    new: tuple[Package, ...]


@dataclass(frozen=True)
class InstallParts:
    """What every install of a server works with."""

    catalog: LiveCatalog
    options: InstallOptions
    limits: Limits
    in_use: InUse


class Installation:
    """Carries out one install. ``work`` is an empty directory of the store, for it alone."""

    def __init__(self, work: Path, parts: InstallParts, downloads: Downloads) -> None:
        self._work = work
        self._parts = parts
        self._downloads = downloads
        self._registry = Registry(parts.options.registry_address, downloads)
        #: Packages made ready, not yet in their places.
        self._staged: dict[PackageId, Package] = {}

    async def by_name(self, name: str, version: str | None) -> Installed:
        """Install a package from the registry, the latest version if none is named.

        A version that is there already is kept as it is. Raises InstallError.
        """
        published = None
        if version is None:
            published = await self._registry.find(name, None)
            version = published.package.version
        return await self._with_dependencies(
            await self._obtain(package_id(name, version), published)
        )

    async def from_place(self, place: Place, version: str | None) -> Installed:
        """Install the package at a place; an installed one of the same version is replaced.

        Raises InstallError.
        """
        try:
            directory = await fetch_place(
                place, self._new_directory(), self._download, self._parts.limits
            )
            package, identity = await asyncio.to_thread(_read_complete, directory)
        except InstallError as error:
            raise InstallError(f"{place}: {error}") from error
        if version not in (None, identity.version):
            raise InstallError(f"{place} holds {identity}, not version {version}")
        await self._check_replaceable(identity)
        self._staged[identity] = package
        return await self._with_dependencies(package)

    async def _check_replaceable(self, identity: PackageId) -> None:
        old = self._parts.catalog.find(identity)
        if old is None:
            return
        if not self._parts.catalog.store.holds(old.directory):
            raise InstallError(f"the server was started with {identity} from {old.directory}")
        if await self._parts.in_use(old):
            raise PackageInUse(f"{identity} can't be replaced while a task works with it")

    async def _with_dependencies(self, root: Package) -> Installed:
        found = {PackageId(root.name, root.version or ""): root}
        waiting = deque([root])
        while waiting:
            package = waiting.popleft()
            for dependency in _dependencies(package):
                if dependency not in found:
                    found[dependency] = await self._obtain_for(package, dependency)
                    waiting.append(found[dependency])
        placed = await finished(self._put, list(found))
        package, *dependencies = ((placed.get(key) or kept) for key, kept in found.items())
        return Installed(package, tuple(dependencies), tuple(placed.values()))

    async def _obtain_for(self, package: Package, dependency: PackageId) -> Package:
        try:
            return await self._obtain(dependency)
        except InstallError as error:
            raise InstallError(f"{package.label} needs {dependency}: {error}") from error

    async def _obtain(self, wanted: PackageId, published: Published | None = None) -> Package:
        """Return a package that is there, or else make it ready."""
        package = self._parts.catalog.find(wanted)
        if package is None:
            published = published or await self._registry.find(wanted.name, wanted.version)
            package = self._staged[wanted] = await self._fetch(published)
        return package

    async def _fetch(self, published: Published) -> Package:
        directory = self._new_directory()
        archive = directory / "archive"
        await self._download(published.tarball, archive)
        if not await asyncio.to_thread(published.checksum.matches, archive):
            raise InstallError(
                f"the archive of {published.package} is not the one {self._registry} vouches for: "
                f"its {published.checksum.algorithm} checksum differs"
            )
        try:
            package, identity = await asyncio.to_thread(
                _unpacked, archive, directory / "unpacked", self._parts.limits
            )
        except InstallError as error:
            raise InstallError(f"the archive of {published.package}: {error}") from error
        if identity != published.package:
            raise InstallError(f"the archive of {published.package} holds {identity}")
        return package

    async def _download(self, url: str, archive: Path) -> None:
        await self._downloads.file(url, archive, self._parts.limits.download)

    def _put(self, order: list[PackageId]) -> dict[PackageId, Package]:
        """Put what was made ready into its place, each after what it led to, the root last."""
        placed = {}
        for identity in reversed(order):
            package = self._staged.get(identity)
            if package is not None:
                place = self._parts.catalog.store.put(package.directory, identity)
                placed[identity] = replace(package, path=place / package.path.name)
        return placed

    def _new_directory(self) -> Path:
        directory = self._work / str(len(list(self._work.iterdir())))
        directory.mkdir()
        return directory


def _unpacked(archive: Path, target: Path, limits: Limits) -> tuple[Package, PackageId]:
    unpack(archive, target, limits)
    archive.unlink()
    return _read_complete(package_in(target))


def _read_complete(directory: Path) -> tuple[Package, PackageId]:
    """Read a package and its id, which it has to state itself."""
    path = find_manifest(directory, "package")
    if path is None:
        raise InstallError("it holds no package.oo.yaml")
    try:
        fields = read_yaml(path).fields()
        name, version = fields.need("name").text(), fields.need("version").text()
        return read_package(directory), package_id(name, version)
    except ManifestError as error:
        raise InstallError(f"{path.name}, line {error.line}: {error.message}") from error


def _dependencies(package: Package) -> Iterator[PackageId]:
    for name, version in package.dependencies.items():
        if name == package.name:
            raise InstallError(f"{package.label} needs itself, which no package may")
        try:
            yield PackageId(checked_name(name), checked_version(version))
        except InvalidInstall as error:
            raise InstallError(f"{package.label} needs {name} at {version}: {error}") from error
