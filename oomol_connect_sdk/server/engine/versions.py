"""The order of package versions."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[0-9]{1,18}")

VersionKey = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def version_key(version: str | None) -> VersionKey:
    """Give a key that sorts versions as semantic versioning does; no version sorts lowest.

    Anything can be compared: a part that isn't a number counts as one that is lower than all.
    """
    if version is None:
        return ((), False, ())
    release, _, prerelease = version.split("+")[0].lstrip("v").partition("-")
    numbers = tuple(_number(part) for part in release.split("."))
    identifiers = tuple(_identifier(part) for part in prerelease.split(".")) if prerelease else ()
    return (numbers, not prerelease, identifiers)


def _number(part: str) -> int:
    return int(part) if _NUMBER.fullmatch(part) else -1


def _identifier(part: str) -> tuple[bool, int, str]:
    # Numeric identifiers are lower than the others and compare as numbers.
    return (False, int(part), "") if _NUMBER.fullmatch(part) else (True, 0, part)
