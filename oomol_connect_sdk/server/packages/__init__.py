"""Installing packages: where they come from, how they are checked, where they are kept.

Nothing here knows HTTP answers or how tasks run; what the rest of the server needs is the
installer, and the catalogue that follows it.
"""

from __future__ import annotations

from .errors import (
    InstallError,
    InvalidInstall,
    NotInstalled,
    PackageInUse,
    SourceNotAllowed,
    UnknownInstall,
)
from .install_tasks import InstallTask, InstallTasks
from .installation import InstallParts
from .installer import Installer
from .live_catalog import LiveCatalog
from .opening import open_installer
from .options import InstallOptions
from .store import PackageStore
from .tree import Limits

__all__ = [
    "InstallError",
    "InstallOptions",
    "InstallParts",
    "InstallTask",
    "InstallTasks",
    "Installer",
    "InvalidInstall",
    "Limits",
    "LiveCatalog",
    "NotInstalled",
    "PackageInUse",
    "PackageStore",
    "SourceNotAllowed",
    "UnknownInstall",
    "open_installer",
]
