"""The blocks a server can run, and the versions they come from."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from .answers import endpoint, expect
from .transport import Transport
from .types import Block, ListBlocksResponse

UNKNOWN_VERSION = "unknown"

_VERSION = re.compile(
    r"v?(\d+)\.(\d+)\.(\d+)"  # release
    r"(?:-([0-9A-Za-z.-]+))?"  # prerelease
    r"(?:\+[0-9A-Za-z.-]+)?"  # build: does not count
)


class BlocksClient:
    """The blocks of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, include_all_versions: bool = False) -> ListBlocksResponse:
        """Return ``{"blocks": […]}``, each block with its ``blockId`` and ``version``.

        Of a package that is installed in several versions only the latest one's blocks are
        listed, unless ``include_all_versions``. The version is the server's own, or read from
        the path of the block; a path that names none gives ``"unknown"``.
        """
        answer: Any = await self._transport.request("GET", endpoint("v1", "blocks"))
        rows = [_block(row) for row in expect(answer, "blocks", list, "the block list")]
        return {**answer, "blocks": rows if include_all_versions else _latest(rows)}


def version_in_path(path: str, package: str) -> str:
    """Return the version of a package that a path inside it names.

    Reads ``…/name-1.2.3/…`` and ``…/name/1.2.3/…`` with either slash; a scoped name counts by
    its last part.
    """
    name = package.rsplit("/", 1)[-1]
    segments = re.split(r"[\\/]", path)
    for segment, following in zip(reversed(segments), ["", *segments[:0:-1]]):
        candidate = following if segment == name else segment[len(name) + 1 :]
        belongs = segment == name or segment.startswith(name + "-")
        if belongs and _VERSION.fullmatch(candidate):
            return candidate
    return UNKNOWN_VERSION


def version_key(version: str) -> Tuple[Any, ...]:
    """Return a key that sorts versions by semantic version; what is none sorts first."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (0,)
    major, minor, patch, prerelease = match.groups()
    release = (int(major), int(minor), int(patch))
    if prerelease is None:
        return (1, release, 1, ())
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in prerelease.split(".")
    )
    return (1, release, 0, parts)


def _block(row: Mapping[str, Any]) -> Block:
    package, name = str(row.get("package", "")), str(row.get("name", ""))
    version = row.get("version") or version_in_path(str(row.get("path", "")), package)
    block: Any = {**row, "blockId": row.get("blockId") or f"{package}::{name}", "version": version}
    typed: Block = block
    return typed


def _latest(blocks: List[Block]) -> List[Block]:
    latest: Dict[str, str] = {}
    for block in blocks:
        known = latest.setdefault(block["package"], block["version"])
        latest[block["package"]] = max(known, block["version"], key=version_key)
    return [block for block in blocks if block["version"] == latest[block["package"]]]
