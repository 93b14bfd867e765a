"""All packages a server offers: what can be run, and what a name means."""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .actions import ServiceStart
from .catalog_rows import block_row, flow_row
from .errors import EngineError
from .manifests import (
    Flow,
    ManifestError,
    Package,
    TaskBlock,
    find_manifest,
    package_name_from_directory,
    read_package,
)
from .references import References
from .versions import version_key

#: Where a package keeps what can be run: folder and manifest name. Of two with the same name
#: ``package::name`` means the first.
MEMBER_FOLDERS = (
    ("blocks", "block"),
    ("tasks", "task"),
    ("subflows", "subflow"),
    ("flows", "flow"),
)
#: Where a package keeps its services.
SERVICE_FOLDERS = ("services", "blocks")

#: A longer target is not compared with all names, nor repeated in full.
_LONGEST_NAME = 200


class NotAPackage(ManifestError):
    """A path that is neither a package nor a directory of packages; it has no line."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(path, 1, message)
        self.args = (f"{path}: {message}",)


class UnknownTarget(EngineError, LookupError):
    """Nothing, or more than one thing, has the name that was asked for.

    ``candidates`` are names that could be meant.
    """

    def __init__(self, message: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True)
class Target:
    """A block or flow that can be run."""

    package: Package
    name: str
    kind: Literal["block", "flow"]
    manifest: TaskBlock | Flow
    #: The manifest file.
    path: Path
    #: Names it whatever else there is: the path, and ``::block`` for a block of a service.
    address: str


class Catalog:
    """Every task, subflow, flow and service of some packages, read once.

    Each path is a package or a directory whose children are packages; a path that is neither,
    or a package whose own ``package.oo.yaml`` is broken, is a ManifestError at once. Any other
    broken manifest stops nothing: it is kept in ``broken``, and who asks for it gets its error.
    Of two packages with the same name and version the first counts.

    A catalogue never changes. After an installation a new one takes its place; with the
    ``earlier`` one given, only files that changed since are read again.
    """

    def __init__(self, packages: Sequence[Path], earlier: Catalog | None = None) -> None:
        self._broken: list[ManifestError] = []
        self._members: list[_Member] = []
        self._locales: dict[Path, Mapping[str, str]] = {}
        loaded: dict[str, _LoadedPackage] = {}
        for package in (found for path in packages for found in _load(path)):
            loaded.setdefault(package.key, package)
        self._packages = tuple(item.package for item in loaded.values() if item.error is None)
        search_paths = [path.resolve() for path in packages]
        known = None if earlier is None else earlier.references
        self._references = References(self._packages, search_paths, known)
        for package in loaded.values():
            self._add(package)

    @property
    def broken(self) -> tuple[ManifestError, ...]:
        """What is wrong with the manifests that can't be used."""
        return tuple(self._broken)

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages that can be used, every version."""
        return self._packages

    @property
    def references(self) -> References:
        """What resolves the references of these packages' flows."""
        return self._references

    def blocks(self) -> list[dict[str, Any]]:
        """Give the rows of ``/v1/blocks``: the tasks and subflows of every version."""
        return [
            block_row(member.manifest, member.package, member.path, self._locale(member))
            for member in self._members
            if member.kind not in ("flow", "service")
            and not isinstance(member.manifest, ManifestError)
        ]

    def flows(self) -> list[dict[str, Any]]:
        """Give the rows of ``/v1/flows``: the flows of every version.

        Node id ``_`` stands for the flow's own inputs; the other rows are what a caller may
        give to nodes. A flow that can't run has an ``error``.
        """
        return [
            flow_row(member.manifest, member.package, self._references, self._locale(member))
            for member in self._members
            if member.kind == "flow" and isinstance(member.manifest, Flow)
        ]

    def app_services(self) -> list[ServiceStart]:
        """Give the services that start with the server, of the highest version of each package."""
        starts: dict[Path, ServiceStart] = {}
        for member in self._newest():
            manifest, package = member.manifest, member.package
            service = manifest.service if isinstance(manifest, TaskBlock) else None
            if service is not None and service.start_at == "app_start":
                starts[service.path] = ServiceStart(service, package.directory, package.name)
        return list(starts.values())

    def resolve(self, target: str) -> Target:
        """Give the block or flow that a name or path means.

        ``package::name`` (a block rather than a flow, of the highest version unless
        ``package@1.2.3::name`` says which), the bare name of a flow or else of a block, or the
        path of a manifest or its directory, absolute or relative to its package. A block of a
        service is ``package::service::block``, or ``path::block``. Raises UnknownTarget, or
        ManifestError when the manifest is broken.
        """
        found = self._matching(target)
        if not found:
            raise self._unknown(target)
        if len(found) > 1:
            ids = [member.full_id for member in found]
            raise UnknownTarget(f"{target!r} may mean {', '.join(ids)}", ids)
        return found[0].target()

    def _matching(self, target: str) -> list[_Member]:
        start, _, name = target.partition("::")
        if os.path.isabs(start):
            # Tasks name their manifests as they stand here; to follow links takes longer.
            near = self._by_path.get(Path(start)) or self._by_path.get(_real_path(start), [])
            return [member for member in near if member.is_at(member.path, name)]
        in_package = self._in_package(start, name)[:1] if name else []
        if in_package:
            return in_package
        newest = self._newest()
        path = Path(os.path.normpath(start))
        at_path = [m for m in newest if m.is_at(m.package.directory / path, name)]
        named = [member for member in newest if member.name == target]
        flows = [member for member in named if member.kind == "flow"]
        return at_path or flows or named

    def _in_package(self, package: str, name: str) -> list[_Member]:
        named = [member for member in self._members if member.is_named(name)]
        exact = [m for m in named if m.package.version and m.package.label == package]
        if exact:
            return exact
        return [member for member in self._newest(named) if member.package.name == package]

    def _newest(self, members: Sequence[_Member] | None = None) -> list[_Member]:
        """Leave out what belongs to a version that isn't its package's highest."""
        return [
            member
            for member in (self._members if members is None else members)
            if self._highest[member.package.name].directory == member.package.directory
        ]

    @functools.cached_property
    def _highest(self) -> Mapping[str, Package]:
        highest: dict[str, Package] = {}
        for member in self._members:
            other = highest.setdefault(member.package.name, member.package)
            if version_key(other.version) < version_key(member.package.version):
                highest[member.package.name] = member.package
        return highest

    @functools.cached_property
    def _by_path(self) -> Mapping[Path, Sequence[_Member]]:
        """By the manifests of the members, and by the directories these are in."""
        members: dict[Path, list[_Member]] = {}
        for member in self._members:
            for path in (member.path, member.path.parent):
                members.setdefault(path, []).append(member)
        return members

    def _unknown(self, target: str) -> UnknownTarget:
        if len(target) > _LONGEST_NAME:
            return UnknownTarget(f"there is no block or flow {target[:_LONGEST_NAME]!r}...")
        names = dict.fromkeys(name for member in self._newest() for name in member.names)
        close = [name for name in names if name.startswith(f"{target}::")]
        close = close or difflib.get_close_matches(target, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        return UnknownTarget(f"there is no block or flow {target!r}{hint}", close)

    def _add(self, loaded: _LoadedPackage) -> None:
        package = loaded.package
        if loaded.error is not None:
            self._broken.append(loaded.error)
        self._locales[package.directory] = self._read_locale(package)
        block_names: list[str] = []
        for kind, path in _member_files(package):
            name = path.parent.name
            if kind != "flow":
                if name in block_names:
                    continue
                block_names.append(name)
            manifest = loaded.error or self._read(kind, path)
            self._members.append(_Member(package, name, kind, path, manifest))
        for path in _service_files(package):
            self._add_service(package, path, loaded.error)

    def _add_service(self, package: Package, path: Path, error: ManifestError | None) -> None:
        name = path.parent.name
        try:
            if error is not None:
                raise error
            blocks = self._references.read_service(path).blocks
        except ManifestError as fault:
            if error is None:
                self._broken.append(fault)
            self._members.append(_Member(package, name, "service", path, fault))
            return
        for block in blocks.values():
            full = f"{name}::{block.name}"
            self._members.append(_Member(package, full, "service", path, block, block.name))

    def _read(self, kind: str, path: Path) -> TaskBlock | Flow | ManifestError:
        try:
            if kind in ("block", "task"):
                return self._references.read_task(path)
            return self._references.read_flow(path)
        except ManifestError as error:
            self._broken.append(error)
            return error

    def _read_locale(self, package: Package) -> Mapping[str, str]:
        path = package.directory / "oo-locales" / "en.json"
        if not path.is_file():
            return {}
        try:
            texts = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            self._broken.append(ManifestError(path, getattr(error, "lineno", 1), str(error)))
            return {}
        return texts if isinstance(texts, dict) else {}

    def _locale(self, member: _Member) -> Mapping[str, str]:
        return self._locales[member.package.directory]


@dataclass(frozen=True)
class _LoadedPackage:
    """A package; one whose manifest is broken has the name of its directory."""

    package: Package
    error: ManifestError | None = None

    @property
    def key(self) -> str:
        """What two packages can't both have."""
        return self.package.label if self.error is None else str(self.package.path)


@dataclass(frozen=True)
class _Member:
    """A manifest of a package, or what is wrong with it."""

    package: Package
    name: str
    kind: str
    path: Path
    manifest: TaskBlock | Flow | ManifestError
    #: The name within a service.
    block: str = ""

    @property
    def id(self) -> str:
        return f"{self.package.name}::{self.name}"

    @property
    def full_id(self) -> str:
        return f"{self.package.label}::{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be asked for by."""
        return (self.id,) if self.kind == "service" else (self.id, self.name)

    def is_at(self, path: Path, block: str) -> bool:
        at_path = path in (self.path, self.path.parent)
        return at_path and (self.block == block or self._is_broken_service)

    def is_named(self, name: str) -> bool:
        starts = self._is_broken_service and name.startswith(f"{self.name}::")
        return self.name == name or starts

    @property
    def _is_broken_service(self) -> bool:
        """Whether it stands for all blocks of a service, none of which can be read."""
        return self.kind == "service" and isinstance(self.manifest, ManifestError)

    def target(self) -> Target:
        manifest = self.manifest
        if isinstance(manifest, ManifestError):
            raise ManifestError(manifest.path, manifest.line, manifest.message)
        kind: Literal["block", "flow"] = "block" if isinstance(manifest, TaskBlock) else "flow"
        address = f"{self.path}::{self.block}" if self.block else str(self.path)
        return Target(self.package, self.name, kind, manifest, self.path, address)


def _real_path(target: str) -> Path:
    """Follow symbolic links, as was done with the packages' own paths."""
    return Path(target if "\0" in target else os.path.realpath(target))


def _load(path: Path) -> Iterator[_LoadedPackage]:
    """Read the package in a directory, or else those in its children."""
    directory = path.resolve()
    if not directory.is_dir():
        raise NotAPackage(path, "is not a directory")
    if find_manifest(directory, "package") is not None:
        yield _LoadedPackage(read_package(directory))
        return
    children = list(_packages_below(directory))
    if not children:
        raise NotAPackage(path, "neither it nor a directory in it has a package.oo.yaml")
    yield from map(_load_child, children)


def _packages_below(directory: Path) -> Iterator[Path]:
    for child in sorted(directory.iterdir()):
        if find_manifest(child, "package") is not None:
            yield child
        elif child.name.startswith("@") and child.is_dir():
            yield from _packages_below(child)


def _load_child(directory: Path) -> _LoadedPackage:
    try:
        return _LoadedPackage(read_package(directory))
    except ManifestError as error:
        return _LoadedPackage(Package(error.path, package_name_from_directory(directory)), error)


def _member_files(package: Package) -> Iterator[tuple[str, Path]]:
    for folder, kind in MEMBER_FOLDERS:
        directory = package.directory / folder
        for child in sorted(directory.iterdir()) if directory.is_dir() else ():
            path = find_manifest(child, kind)
            if path is not None:
                yield kind, path


def _service_files(package: Package) -> Iterator[Path]:
    """Give the manifests of the services; of two with the same name the first counts."""
    names: set[str] = set()
    for folder in SERVICE_FOLDERS:
        directory = package.directory / folder
        for child in sorted(directory.iterdir()) if directory.is_dir() else ():
            path = find_manifest(child, "service")
            if path is not None and child.name not in names:
                names.add(child.name)
                yield path
