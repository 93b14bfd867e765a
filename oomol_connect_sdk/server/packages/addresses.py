"""Addresses on the web: which may be asked, and how they are shown."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from .errors import InstallError


def checked_address(url: str, *, after: str = "") -> str:
    """Return an http(s) address that may be asked; ``after`` is the one that led to it.

    Raises InstallError. Plain http is for this machine, and never follows https.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError as error:
        raise InstallError(f"{url!r} is no address: {error}") from error
    if not known:
        raise InstallError(f"{shown(url)} is no http or https address")
    if parts.username or parts.password:
        raise InstallError(f"{shown(url)} holds a name or password; an address may not")
    if parts.scheme == "http" and urlsplit(after).scheme == "https":
        raise InstallError(f"{shown(after)} leads to {shown(url)}, which is not encrypted")
    return url


def is_this_machine(host: str | None) -> bool:
    """Whether a host's name is one for the loopback interface."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def shown(url: str) -> str:
    """Return an address for people: without password, and without the secrets of its query."""
    parts = urlsplit(url)
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return the scheme, host and port of an address."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or default
