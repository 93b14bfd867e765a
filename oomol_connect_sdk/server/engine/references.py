"""Finding and reading the manifest that a reference in a flow names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar, Union

from .errors import EngineError
from .manifests import (
    Flow,
    ManifestError,
    Package,
    TaskBlock,
    find_manifest,
    read_flow,
    read_package,
    read_task_block,
)
from .versions import version_key

BlockKind = Literal["task", "subflow", "service"]

#: Where a package keeps the blocks of a kind: folder and manifest name, in search order.
FOLDERS: dict[BlockKind, tuple[tuple[str, str], ...]] = {
    "task": (("blocks", "block"), ("tasks", "task")),
    "subflow": (("subflows", "subflow"),),
    "service": (("services", "service"), ("blocks", "service")),
}

_Manifest = TypeVar("_Manifest", bound=Union[TaskBlock, Flow])


class BlockNotFound(EngineError, LookupError):
    """No manifest is where a reference says; the text names the flow, the node and the places."""


@dataclass(frozen=True)
class Caller:
    """Who refers to a block: a node of a flow of a package."""

    flow: Flow
    package: Package
    node_id: str


@dataclass(frozen=True)
class Located(Generic[_Manifest]):
    """A manifest and the package it belongs to."""

    manifest: _Manifest
    package: Package


class References:
    """Resolves references among packages; every manifest file is read once and then kept.

    ``search_paths`` are the directories in which a name without a package is looked for.
    """

    def __init__(self, packages: Iterable[Package], search_paths: Sequence[Path] = ()) -> None:
        self._packages: dict[str, list[Package]] = {}
        self._owners: dict[Path, Package] = {}
        self._search_paths = tuple(search_paths)
        self._tasks = _Shelf(read_task_block)
        self._flows = _Shelf(read_flow)
        for package in packages:
            self._packages.setdefault(package.name, []).append(package)
            self._owners[package.directory] = package

    def task(self, reference: str, caller: Caller) -> Located[TaskBlock]:
        """Give the task block a reference names, or raise BlockNotFound or ManifestError."""
        path = self._find("task", reference, caller)
        return Located(self.read_task(path), self._owner(path, caller.package))

    def subflow(self, reference: str, caller: Caller) -> Located[Flow]:
        """Give the subflow a reference names, or raise BlockNotFound or ManifestError."""
        path = self._find("subflow", reference, caller)
        return Located(self.read_flow(path), self._owner(path, caller.package))

    def read_task(self, path: Path) -> TaskBlock:
        """Read a task's manifest file, or raise ManifestError."""
        return self._tasks.read(path)

    def read_flow(self, path: Path) -> Flow:
        """Read a flow's manifest file, or raise ManifestError."""
        return self._flows.read(path)

    def _find(self, kind: BlockKind, reference: str, caller: Caller) -> Path:
        searched: list[Path] = []
        for directory, names in self._places(kind, reference, caller):
            searched.append(directory)
            path = _manifest_at(directory, names)
            if path is not None:
                return path
        raise BlockNotFound(
            f"{kind} {reference!r} of node {caller.node_id!r} in {caller.flow.path} "
            f"was not found; looked in {', '.join(map(str, searched))}"
        )

    def _places(
        self, kind: BlockKind, reference: str, caller: Caller
    ) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Give each path the reference may mean, and the manifest names that count there."""
        names = tuple(name for _, name in FOLDERS[kind])
        owner, separator, name = reference.partition("::")
        flow_directory = caller.flow.directory
        if separator:
            directory = (
                flow_directory.parent.parent
                if owner == "self"
                else self._package(owner, reference, caller).directory
            )
            for folder, manifest in FOLDERS[kind]:
                yield directory / folder / name, (manifest,)
        elif os.path.isabs(reference) or reference.startswith(("./", "../")):
            yield Path(os.path.normpath(flow_directory / reference)), names
        else:
            for directory in (*self._search_paths, flow_directory):
                yield directory / reference, names

    def _package(self, name: str, reference: str, caller: Caller) -> Package:
        """Give the package a reference means: its own, the pinned version, or the highest."""
        if name == caller.package.name:
            return caller.package
        versions = self._packages.get(name, [])
        pin = caller.package.dependencies.get(name)
        wanted = [package for package in versions if pin in (None, package.version)]
        if wanted:
            return max(wanted, key=lambda package: version_key(package.version))
        there = ", ".join(package.label for package in versions) or "no version of it"
        raise BlockNotFound(
            f"{reference!r} of node {caller.node_id!r} in {caller.flow.path} needs the package "
            f"{name}{f'@{pin}' if pin else ''}; there is {there}"
        )

    def _owner(self, path: Path, default: Package) -> Package:
        """Give the package a manifest lies in: the nearest directory above with a package file."""
        for directory in path.parents:
            if directory in self._owners:
                return self._owners[directory]
            if find_manifest(directory, "package") is not None:
                return self._owners.setdefault(directory, read_package(directory))
        return default


class _Shelf(Generic[_Manifest]):
    """Manifests by file, or what was wrong with them."""

    def __init__(self, read: Callable[[Path], _Manifest]) -> None:
        self._reader = read
        self._manifests: dict[Path, _Manifest | ManifestError] = {}

    def read(self, path: Path) -> _Manifest:
        if path not in self._manifests:
            try:
                self._manifests[path] = self._reader(path)
            except ManifestError as error:
                self._manifests[path] = error
        manifest = self._manifests[path]
        if isinstance(manifest, ManifestError):
            # A copy: an exception that is raised again and again drags its tracebacks along.
            raise ManifestError(manifest.path, manifest.line, manifest.message)
        return manifest


def _manifest_at(path: Path, names: tuple[str, ...]) -> Path | None:
    """Find the manifest a path means: a directory that holds it, the file, or its stem."""
    if path.is_dir():
        found = (find_manifest(path, name) for name in names)
        return next((manifest for manifest in found if manifest is not None), None)
    if path.is_file():
        return path
    return find_manifest(path.parent, path.name)
