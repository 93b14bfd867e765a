"""Bundles: a TypeScript file and what it imports by path, as one module that Node.js runs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from .building import run_command
from .node_environments import Node

#: Knows for each source file in a bundle where it lies, but is slow to start.
_SCRIPT = Path(__file__).parent / "node_worker" / "bundle.mjs"
_OWN_PLACE = re.compile(r"\b__(?:dirname|filename)\b|\bimport\.meta\b")


async def make_bundle(
    entry: Path, bundle: Path, package_dir: Path, node: Node, esbuild: Path
) -> None:
    """Write the bundle of an entry file. Raises BuildFailed.

    The dependencies of the package stay outside; they are found when the bundle runs.
    """
    options = _options(bundle, node)
    metafile = bundle.with_suffix(".json")
    places = {f"define:{name}": json.dumps(value) for name, value in _places(entry).items()}
    flags = _flags({**options, **places, "metafile": str(metafile)})
    await run_command([str(esbuild), str(entry), *flags], package_dir, _unheard)
    if await asyncio.to_thread(_imports_who_ask_for_their_place, metafile, entry, package_dir):
        modules = next(parent for parent in esbuild.parents if parent.name == "node_modules")
        arguments = str(modules / "esbuild"), json.dumps({**options, "entryPoints": [str(entry)]})
        await run_command([str(node.program), str(_SCRIPT), *arguments], package_dir, _unheard)


def _options(bundle: Path, node: Node) -> dict[str, Any]:
    return {
        "outfile": str(bundle),
        "bundle": True,
        "platform": "node",
        "format": "esm",
        "target": f"node{node.version}",
        # What is installed is found at run time: it may be native or look for its own files.
        "packages": "external",
        "sourcemap": "inline",
        "logLevel": "warning",
        "color": False,
    }


def _flags(options: dict[str, Any]) -> list[str]:
    """The options of esbuild's ``build`` as its command line has them."""
    flags = []
    for option, value in options.items():
        name = option.replace("logLevel", "log-level")
        flags.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return flags


def _places(entry: Path) -> dict[str, str]:
    """What a file asks for where it lies, and the answers; a bundle lies elsewhere."""
    return {
        "__dirname": str(entry.parent),
        "__filename": str(entry),
        "import.meta.url": entry.as_uri(),
        "import.meta.dirname": str(entry.parent),
        "import.meta.filename": str(entry),
    }


def _imports_who_ask_for_their_place(metafile: Path, entry: Path, package_dir: Path) -> bool:
    """Whether a file that the entry imports would take the place of the entry for its own."""
    inputs = json.loads(metafile.read_text("utf-8"))["inputs"]
    sources = {(package_dir / name).resolve() for name in inputs} - {entry.resolve()}
    # Some inputs are esbuild's own.
    files = (source for source in sources if source.is_file())
    return any(_OWN_PLACE.search(file.read_text("utf-8", "replace")) for file in files)


def _unheard(line: str) -> None:
    """What esbuild says is told when it fails."""
