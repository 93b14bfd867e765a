"""Which packages the tasks that have not ended may work with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..engine.catalog import Catalog
from ..engine.manifests import Package

#: The package of a reference such as ``package::block``.
_REFERENCE = re.compile(r"([A-Za-z0-9@/._~-]+)::")


def packages_in_use(catalog: Catalog, manifests: Iterable[str]) -> frozenset[Path]:
    """Return the directories of the packages that runs of these manifests may need.

    Where a reference names no exact version, all versions count. Reads the packages' manifests.
    """
    paths = [Path(manifest) for manifest in manifests]
    waiting = [
        package
        for package in catalog.packages
        if any(path.is_relative_to(package.directory) for path in paths)
    ]
    used: set[Path] = set()
    while waiting:
        package = waiting.pop()
        if package.directory not in used:
            used.add(package.directory)
            waiting.extend(_needed(package, catalog))
    return frozenset(used)


def _needed(package: Package, catalog: Catalog) -> Iterator[Package]:
    names = {*package.dependencies, *_referred(package.directory)}
    for other in catalog.packages:
        pin = package.dependencies.get(other.name)
        if other.name in names and pin in (None, other.version):
            yield other


def _referred(directory: Path) -> set[str]:
    names: set[str] = set()
    for suffix in ("yaml", "yml"):
        for manifest in directory.rglob(f"*.oo.{suffix}"):
            names.update(_REFERENCE.findall(manifest.read_text("utf-8", errors="replace")))
    return names
