"""An npm-compatible registry: which versions there are, and their archives, verified."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .addresses import checked_address, shown
from .errors import HttpRefused, InstallError
from .names import PackageId, package_id

if TYPE_CHECKING:
    from .downloads import Downloads

#: The algorithms a registry may vouch with, the strongest first.
_ALGORITHMS = ("sha512", "sha384", "sha256", "sha1")
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Checksum:
    """What a file has to be: any one of some digests of one algorithm."""

    algorithm: str
    digests: frozenset[bytes]

    def matches(self, file: Path) -> bool:
        """Whether the file has one of the digests; it is read for that."""
        digest = hashlib.new(self.algorithm)
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
        return any(hmac.compare_digest(digest.digest(), wanted) for wanted in self.digests)


@dataclass(frozen=True)
class Published:
    """One version as a registry offers it."""

    package: PackageId
    tarball: str
    checksum: Checksum


class Registry:
    """Asks one registry. All methods raise InstallError."""

    def __init__(self, address: str, downloads: Downloads) -> None:
        self._address = checked_address(address).rstrip("/")
        self._downloads = downloads

    async def find(self, name: str, version: str | None) -> Published:
        """Return a version of a package with a valid name; without a version the latest."""
        packument = await self._packument(name)
        if version is None:
            version = self._latest(name, packument)
        versions = _object(packument, "versions")
        if version not in versions:
            there = f"; the latest is {latest}" if (latest := _tag(packument)) else ""
            raise InstallError(f"there is no version {version} of {name} in {self}{there}")
        return self._published(package_id(name, version), _object(versions, version))

    def __str__(self) -> str:
        return shown(self._address)

    async def _packument(self, name: str) -> Mapping[str, Any]:
        url = f"{self._address}/{name.replace('/', '%2f')}"
        try:
            value = await self._downloads.json(url)
        except HttpRefused as error:
            if error.status == 404:
                raise InstallError(f"there is no package {name} in {self}") from error
            if error.status in (401, 403):
                raise InstallError(
                    f"{self} refuses to show {name} (HTTP {error.status}): does the server know "
                    "a token for this registry?"
                ) from error
            raise
        if not isinstance(value, dict):
            raise InstallError(f"{self} gives no description of {name}")
        return value

    def _latest(self, name: str, packument: Mapping[str, Any]) -> str:
        version = _tag(packument)
        if version is None:
            raise InstallError(f"{self} names no latest version of {name}; ask for an exact one")
        return version

    def _published(self, package: PackageId, description: Mapping[str, Any]) -> Published:
        dist = _object(description, "dist")
        tarball = dist.get("tarball")
        if not isinstance(tarball, str):
            raise InstallError(f"{self} names no archive of {package}")
        checksum = _checksum(dist)
        if checksum is None:
            raise InstallError(f"{self} gives no checksum of {package}, so it can't be verified")
        return Published(package, checked_address(tarball, after=self._address), checksum)


def _tag(packument: Mapping[str, Any]) -> str | None:
    version = _object(packument, "dist-tags").get("latest")
    return version if isinstance(version, str) else None


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    item = value.get(key)
    return item if isinstance(item, dict) else {}


def _checksum(dist: Mapping[str, Any]) -> Checksum | None:
    """Read ``integrity`` (as the web's subresource integrity is written), else ``shasum``."""
    digests: dict[str, set[bytes]] = {}
    for word in str(dist.get("integrity") or "").split():
        algorithm, _, text = word.partition("-")
        digest = _decoded(text.partition("?")[0])
        if algorithm in _ALGORITHMS and digest:
            digests.setdefault(algorithm, set()).add(digest)
    for algorithm in _ALGORITHMS:
        if algorithm in digests:
            return Checksum(algorithm, frozenset(digests[algorithm]))
    try:
        shasum = bytes.fromhex(str(dist.get("shasum") or ""))
    except ValueError:
        return None
    return Checksum("sha1", frozenset({shasum})) if shasum else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
