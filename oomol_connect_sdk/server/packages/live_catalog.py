"""The catalogue of a server whose packages come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ..engine.catalog import Catalog
from ..engine.manifests import Package
from .names import PackageId
from .store import PackageStore


class LiveCatalog:
    """The packages given at the start and the installed ones, as a catalogue.

    ``current`` is replaced, never changed: who runs by an older one keeps it. Raises
    ManifestError as the catalogue does.
    """

    def __init__(self, given: Sequence[Path], store: PackageStore) -> None:
        self._given = tuple(given)
        #: Where the installed packages are.
        self.store = store
        self.current = self._read()

    async def reload(self) -> None:
        """Read what has changed."""
        self.current = await asyncio.to_thread(self._read, self.current)

    def find(self, package: PackageId) -> Package | None:
        """Return this version of a package; None when it isn't there."""
        for candidate in self.current.packages:
            if (candidate.name, candidate.version) == (package.name, package.version):
                return candidate
        return None

    def _read(self, earlier: Catalog | None = None) -> Catalog:
        installed = [] if self.store.is_empty else [self.store.root]
        return Catalog([*self._given, *installed], earlier)
