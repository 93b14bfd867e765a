"""Putting an installer together from the parts of a server."""

from __future__ import annotations

import asyncio

from ..data_directory import DataDirectory
from ..engine.manifests import Package
from ..executors import Environments
from ..store import Store
from .addresses import checked_address
from .errors import InstallError
from .install_tasks import InstallTasks
from .installation import InstallParts
from .installer import Installer
from .live_catalog import LiveCatalog
from .options import InstallOptions
from .tree import Limits
from .usage import packages_in_use


def open_installer(
    options: InstallOptions,
    directory: DataDirectory,
    catalog: LiveCatalog,
    store: Store,
    environments: Environments,
) -> Installer:
    """Return an installer, not yet started, that spares what the stored tasks work with.

    Raises ValueError when the registry's address is none.
    """
    try:
        checked_address(options.registry_address)
    except InstallError as error:
        raise ValueError(f"The address of the registry can't be used: {error}.") from error

    async def in_use(package: Package) -> bool:
        manifests = [task.manifest_path for task in await store.unfinished()]
        used = await asyncio.to_thread(packages_in_use, catalog.current, manifests)
        return package.directory in used

    return Installer(
        InstallTasks(directory.root / "installs"),
        InstallParts(catalog, options, Limits(), in_use),
        environments=environments if options.build_environments else None,
    )
