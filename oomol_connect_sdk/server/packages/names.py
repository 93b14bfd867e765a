"""Package names and versions, checked before they become part of a path or an address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from .errors import InvalidInstall

#: npm's rules for the names of new packages.
_NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_LONGEST_NAME = 214
#: Names npm keeps for itself.
_RESERVED = ("node_modules", "favicon.ico")

_NUMBER = r"(?:0|[1-9]\d{0,15})"
_IDENTIFIER = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
#: A version of semver.org, and nothing that only stands for one.
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_LONGEST_VERSION = 128


@dataclass(frozen=True)
class PackageId:
    """One version of a package; made by ``package_id``, which checks both."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def path(self) -> PurePosixPath:
        """Where a store keeps it: ``name-1.0.0``, or ``@scope/name-1.0.0``."""
        return PurePosixPath(f"{self.name}-{self.version}")


def package_id(name: str, version: str) -> PackageId:
    """Return the id of a name and an exact version, or raise InvalidInstall."""
    return PackageId(checked_name(name), checked_version(version))


def checked_name(name: str) -> str:
    """Return a package name that npm's rules allow, or raise InvalidInstall."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidInstall(
            f"{name[:_LONGEST_NAME]!r} is no package name: that is lower-case letters, digits, "
            "'-', '.', '_' and '~', perhaps after a scope, as in 'name' and '@scope/name'."
        )
    return name


def checked_version(version: str) -> str:
    """Return an exact version, or raise InvalidInstall."""
    if len(version) > _LONGEST_VERSION or not _VERSION.fullmatch(version):
        raise InvalidInstall(
            f"{version[:_LONGEST_VERSION]!r} is no exact version such as '1.2.3' or '1.2.3-beta.1'."
        )
    return version
