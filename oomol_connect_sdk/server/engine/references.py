"""Finding and reading the manifest that a reference in a flow names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar, Union

from .errors import EngineError
from .manifests import (
    Flow,
    ManifestError,
    Package,
    ServiceManifest,
    TaskBlock,
    find_manifest,
    read_flow,
    read_package,
    read_service,
    read_task_block,
)
from .versions import version_key

BlockKind = Literal["task", "subflow", "slotflow", "service", "block"]

#: Where a package keeps the blocks of a kind: folder and manifest name, in search order.
FOLDERS: dict[BlockKind, tuple[tuple[str, str], ...]] = {
    "task": (("blocks", "block"), ("tasks", "task")),
    "subflow": (("subflows", "subflow"),),
    "slotflow": (("slotflows", "slotflow"),),
    "service": (("services", "service"), ("blocks", "service")),
    "block": (("blocks", "block"), ("tasks", "task"), ("subflows", "subflow")),
}

_Manifest = TypeVar("_Manifest", bound=Union[TaskBlock, Flow, ServiceManifest])
_Block = TypeVar("_Block", bound=Union[TaskBlock, Flow], covariant=True)


class BlockNotFound(EngineError, LookupError):
    """No manifest is where a reference says; the text names the flow, the node and the places."""


@dataclass(frozen=True)
class Caller:
    """Who refers to a block: a node of a flow of a package, or a block that runs another one."""

    #: The manifest file of the flow or block.
    path: Path
    package: Package
    node_id: str

    @property
    def directory(self) -> Path:
        """What relative references start from."""
        return self.path.parent


@dataclass(frozen=True)
class Located(Generic[_Block]):
    """A manifest and the package it belongs to."""

    manifest: _Block
    package: Package


class References:
    """Resolves references among packages; every manifest file is read once and then kept.

    ``search_paths`` are the directories in which a name without a package is looked for.
    ``earlier`` are references whose files are not read again when they didn't change.
    """

    def __init__(
        self,
        packages: Iterable[Package],
        search_paths: Sequence[Path] = (),
        earlier: References | None = None,
    ) -> None:
        self._packages: dict[str, list[Package]] = {}
        self._owners: dict[Path, Package] = {}
        self._search_paths = tuple(search_paths)
        self._shelves: _Shelves = earlier._shelves.renewed() if earlier else _Shelves()
        for package in packages:
            self._packages.setdefault(package.name, []).append(package)
            self._owners[package.directory] = package

    def task(self, reference: str, caller: Caller) -> Located[TaskBlock]:
        """Give the task block a reference names, or raise BlockNotFound or ManifestError."""
        path, package = self._find("task", reference, caller)
        return Located(self.read_task(path), package)

    def subflow(self, reference: str, caller: Caller) -> Located[Flow]:
        """Give the subflow a reference names, or raise BlockNotFound or ManifestError."""
        path, package = self._find("subflow", reference, caller)
        return Located(self.read_flow(path), package)

    def slotflow(self, reference: str, caller: Caller) -> Located[Flow]:
        """Give the slotflow a reference names, or raise BlockNotFound or ManifestError."""
        path, package = self._find("slotflow", reference, caller)
        return Located(self.read_flow(path), package)

    def service_block(self, reference: str, caller: Caller) -> Located[TaskBlock]:
        """Give the block ``service::block`` names, or raise BlockNotFound or ManifestError."""
        service, _, name = reference.rpartition("::")
        path, package = self._find("service", service or reference, caller)
        blocks = self.read_service(path).blocks
        if name not in blocks:
            raise BlockNotFound(
                f"service {reference!r} of node {caller.node_id!r} in {caller.path}: {path} has "
                f"no block {name!r} (there are {', '.join(map(repr, blocks)) or 'none'})"
            )
        return Located(blocks[name], package)

    def block(self, reference: str, caller: Caller) -> Located[TaskBlock | Flow]:
        """Give the task or else subflow of a name, or raise BlockNotFound or ManifestError."""
        path, package = self._find("block", reference, caller)
        manifest = self.read_flow(path) if _is_flow(path) else self.read_task(path)
        return Located(manifest, package)

    def package(self, name: str, caller: Caller) -> Package | None:
        """Give the package of a name, in the version the caller's package pins; None for none."""
        try:
            return self._package(name, name, caller)
        except BlockNotFound:
            return None

    def read_task(self, path: Path) -> TaskBlock:
        """Read a task's manifest file, or raise ManifestError."""
        return self._shelves.tasks.read(path)

    def read_flow(self, path: Path) -> Flow:
        """Read a flow's manifest file, or raise ManifestError."""
        return self._shelves.flows.read(path)

    def read_service(self, path: Path) -> ServiceManifest:
        """Read a service's manifest file, or raise ManifestError."""
        return self._shelves.services.read(path)

    def _find(self, kind: BlockKind, reference: str, caller: Caller) -> tuple[Path, Package]:
        """Give the manifest that a reference names, and the package it belongs to."""
        owner, _, _ = reference.partition("::")
        package = caller.package
        if names_package(reference):
            package = self._package(owner, reference, caller)
        searched: list[Path] = []
        for directory, names in self._places(kind, reference, caller, package):
            searched.append(directory)
            path = _manifest_at(directory, names)
            if path is not None:
                return path, self._owner(path, package)
        raise BlockNotFound(
            f"{kind} {reference!r} of node {caller.node_id!r} in {caller.path} "
            f"was not found; looked in {', '.join(map(str, searched))}"
        )

    def _places(
        self, kind: BlockKind, reference: str, caller: Caller, package: Package
    ) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Give each path the reference may mean, and the manifest names that count there.

        ``package`` is the one that it names, if it names one.
        """
        names = tuple(name for _, name in FOLDERS[kind])
        owner, separator, name = reference.partition("::")
        flow_directory = caller.directory
        if separator:
            directory = flow_directory.parent.parent if owner == "self" else package.directory
            for folder, manifest in FOLDERS[kind]:
                yield directory / folder / name, (manifest,)
        elif os.path.isabs(reference) or reference.startswith(("./", "../")):
            yield Path(os.path.normpath(flow_directory / reference)), names
        else:
            for directory in (*self._search_paths, flow_directory):
                yield directory / reference, names

    def _package(self, name: str, reference: str, caller: Caller) -> Package:
        """Give the package a reference means: its own, the pinned version, or the highest.

        One that is in none of the usual places may lie beside the flow.
        """
        if name == caller.package.name:
            return caller.package
        versions = self._packages.get(name, [])
        pin = caller.package.dependencies.get(name)
        wanted = [package for package in versions if pin in (None, package.version)]
        if wanted:
            return max(wanted, key=lambda package: version_key(package.version))
        for folder in (f"{name}-{pin}", name) if pin else (name,):
            if (caller.directory / folder).is_dir():
                return _package_in(caller.directory / folder, name)
        there = ", ".join(package.label for package in versions) or "no version of it"
        raise BlockNotFound(
            f"{reference!r} of node {caller.node_id!r} in {caller.path} needs the package "
            f"{name}{f'@{pin}' if pin else ''}; there is {there}"
        )

    def _owner(self, path: Path, default: Package) -> Package:
        """Give the package a manifest lies in: the nearest directory above with a package file."""
        for directory in path.parents:
            if directory == default.directory:
                return default
            if directory in self._owners:
                return self._owners[directory]
            if find_manifest(directory, "package") is not None:
                return self._owners.setdefault(directory, read_package(directory))
        return default


def names_package(reference: str) -> bool:
    """Whether a reference names the package of its block."""
    owner, separator, _ = reference.partition("::")
    return bool(separator) and owner != "self"


def _package_in(directory: Path, name: str) -> Package:
    """Give the package of a folder, which need not have a manifest of its own."""
    path = find_manifest(directory, "package")
    return read_package(directory) if path else Package(directory / "package.oo.yaml", name)


class _Shelf(Generic[_Manifest]):
    """Manifests by file, or what was wrong with them; no file is looked at twice."""

    def __init__(
        self,
        read: Callable[[Path], _Manifest],
        entries: Iterable[tuple[Path, _Entry[_Manifest]]] = (),
    ) -> None:
        self._reader = read
        self._entries = dict(entries)

    def renewed(self) -> _Shelf[_Manifest]:
        """Give a shelf that holds what didn't change since it was read."""
        entries = list(self._entries.items())
        unchanged = ((path, entry) for path, entry in entries if entry.is_current(path))
        return _Shelf(self._reader, unchanged)

    def read(self, path: Path) -> _Manifest:
        entry = self._entries.get(path)
        if entry is None:
            entry = self._entries[path] = self._read(path)
        manifest = entry.manifest
        if isinstance(manifest, ManifestError):
            # A copy: an exception that is raised again and again drags its tracebacks along.
            raise ManifestError(manifest.path, manifest.line, manifest.message)
        return manifest

    def _read(self, path: Path) -> _Entry[_Manifest]:
        stamp = _stamp(path)
        try:
            return _Entry(self._reader(path), stamp)
        except ManifestError as error:
            return _Entry(error, stamp)


@dataclass(frozen=True)
class _Entry(Generic[_Manifest]):
    manifest: _Manifest | ManifestError
    stamp: tuple[int, ...] | None

    def is_current(self, path: Path) -> bool:
        return self.stamp is not None and self.stamp == _stamp(path)


@dataclass(frozen=True)
class _Shelves:
    tasks: _Shelf[TaskBlock] = field(default_factory=lambda: _Shelf(read_task_block))
    flows: _Shelf[Flow] = field(default_factory=lambda: _Shelf(read_flow))
    services: _Shelf[ServiceManifest] = field(default_factory=lambda: _Shelf(read_service))

    def renewed(self) -> _Shelves:
        return _Shelves(self.tasks.renewed(), self.flows.renewed(), self.services.renewed())


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file; None when it can't be told."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_flow(path: Path) -> bool:
    return path.name.rpartition(".oo.")[0].endswith("flow")


def _manifest_at(path: Path, names: tuple[str, ...]) -> Path | None:
    """Find the manifest a path means: a directory that holds it, the file, or its stem."""
    if path.is_dir():
        found = (find_manifest(path, name) for name in names)
        return next((manifest for manifest in found if manifest is not None), None)
    if path.is_file():
        return path
    return find_manifest(path.parent, path.name)
