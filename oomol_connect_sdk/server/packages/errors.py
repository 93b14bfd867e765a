"""What can go wrong with an install, in words for the person who asked for it."""

from __future__ import annotations


class InstallError(Exception):
    """A package can't be installed or uninstalled; the message says why."""


class InvalidInstall(InstallError):
    """What was asked for is no package name, version, path or address."""


class SourceNotAllowed(InstallError):
    """The server installs by name only, not from paths and addresses."""


class UnknownInstall(InstallError):
    """There is no install task of this id."""


class NotInstalled(InstallError):
    """The package is not among those the server has installed."""


class PackageInUse(InstallError):
    """A task that has not ended works with the package."""


class HttpRefused(InstallError):
    """The server at an address answered with an error; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
