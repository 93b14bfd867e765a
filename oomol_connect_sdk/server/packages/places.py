"""Packages that are named by where they are: a directory, an archive, a git repository."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Union
from urllib.parse import unquote, urldefrag, urlsplit

from ..engine.manifests import find_manifest
from .addresses import checked_address, is_this_machine, shown
from .archive import SUFFIXES, unpack
from .errors import InstallError, InvalidInstall
from .git import REF, fetch_commit
from .tree import Limits, PackageTree, copy_directory


@dataclass(frozen=True)
class LocalPath:
    """A directory or an archive on the server's machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class ArchiveAddress:
    """An archive on the web."""

    url: str

    def __str__(self) -> str:
        return shown(self.url)


@dataclass(frozen=True)
class GitRepository:
    """A git repository, and which of its commits; None is the default branch's."""

    url: str
    ref: str | None

    def __str__(self) -> str:
        return self.url if self.ref is None else f"{self.url}#{self.ref}"


Place = Union[LocalPath, ArchiveAddress, GitRepository]

#: Writes what is at an address into a file.
Download = Callable[[str, Path], Awaitable[None]]

_PATH = re.compile(r"\.{1,2}$|\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")
#: As ssh has it: user@host:path.
_SSH = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9.-]*:[^-].*")


def place_of(text: str) -> Place | None:
    """Return the place that a text names; None when it looks like the name of a package.

    Paths start with ``/``, ``./``, ``../`` or ``~/``. Raises InvalidInstall.
    """
    if not text.isprintable():
        raise InvalidInstall("The name of what is to be installed has control characters.")
    if _PATH.match(text):
        return LocalPath(Path(text).expanduser().absolute())
    if _SSH.fullmatch(text):
        return _repository(text)
    if "://" not in text:
        return None
    try:
        return _address(text)
    except (InstallError, ValueError) as error:
        raise InvalidInstall(str(error)) from error


async def fetch_place(place: Place, work: Path, download: Download, limits: Limits) -> Path:
    """Bring the package at a place into the directory ``work``; return the package's directory.

    Raises InstallError.
    """
    unpacked = work / "unpacked"
    if isinstance(place, GitRepository):
        clone = work / "clone"
        await fetch_commit(place.url, place.ref, clone)
        await asyncio.to_thread(copy_directory, clone, PackageTree(unpacked, limits))
    elif isinstance(place, ArchiveAddress):
        archive = work / "archive"
        await download(place.url, archive)
        await asyncio.to_thread(unpack, archive, unpacked, limits)
    else:
        await asyncio.to_thread(_copy, place.path, unpacked, limits)
    return package_in(unpacked)


def package_in(directory: Path) -> Path:
    """Return where in an unpacked archive the package is.

    That is the directory itself, the one directory in it (as npm and most hosts pack), or the
    directory ``package`` in that one (as OOMOL's tools publish). Raises InstallError.
    """
    candidates = [directory]
    children = [child for child in directory.iterdir() if child.is_dir()]
    if len(children) == 1:
        candidates += [children[0], children[0] / "package"]
    for candidate in candidates:
        if find_manifest(candidate, "package") is not None:
            return candidate
    raise InstallError("it holds no package.oo.yaml where a package has it")


def _copy(path: Path, target: Path, limits: Limits) -> None:
    if path.is_file():
        if path.stat().st_size > limits.download:
            raise InstallError(f"it is larger than the limit of {limits.download} bytes")
        unpack(path, target, limits)
    elif path.is_dir():
        if target.resolve().is_relative_to(path.resolve()):
            raise InstallError("it holds the server's own data directory; install from elsewhere")
        copy_directory(path, PackageTree(target, limits))
    else:
        raise InstallError("there is no such file or directory where the server runs")


def _address(text: str) -> Place:
    scheme = urlsplit(text).scheme
    if scheme.startswith("git+"):
        return _repository(text[len("git+") :])
    if scheme == "file" and _is_archive(text):
        return LocalPath(Path(unquote(urlsplit(text).path)))
    if scheme in ("http", "https") and _is_archive(text):
        if scheme == "http" and not is_this_machine(urlsplit(text).hostname):
            raise InvalidInstall(f"{shown(text)} is not encrypted: use https.")
        return ArchiveAddress(checked_address(text))
    return _repository(text)


def _is_archive(url: str) -> bool:
    return urlsplit(url).path.lower().endswith(SUFFIXES)


def _repository(text: str) -> GitRepository:
    url, ref = urldefrag(text)
    parts = urlsplit(url)
    if parts.scheme not in ("https", "ssh", "file") and not _SSH.fullmatch(url):
        raise InvalidInstall(
            f"{shown(url)} can't be installed from: repositories are had by https, ssh and file."
        )
    if parts.password or (parts.scheme == "https" and parts.username):
        raise InvalidInstall(
            f"{shown(url)} holds a name or password, which would end up in the records: use "
            "git's credential helpers."
        )
    if ref and not REF.fullmatch(ref):
        raise InvalidInstall(f"{ref!r} is no branch, tag or commit id.")
    return GitRepository(url, ref or None)
