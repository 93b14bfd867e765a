"""JavaScript and TypeScript programs: which worker runs them, and how."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

from .build_cache import EnvironmentFailed
from .building import BuildFailed
from .environments import Environments
from .node_bundles import make_bundle
from .node_environments import Node
from .programs import GeneratedFiles, Plan, Program, Report
from .worker import WorkerSpec

_WORKER = Path(__file__).parent / "node_worker" / "main.mjs"
#: Frames take other descriptors than standard input and output, which children inherit.
_LAUNCH = ("sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2', "sh")
#: The entries that are looked for when a manifest names none.
_ENTRIES = ("main.ts", "index.ts", "main.js", "index.js", "main.mjs", "index.mjs")
_TYPESCRIPT = frozenset({".ts", ".mts", ".cts", ".tsx", ".jsx"})


class NodeBlocks:
    """Plans the Node.js programs of one task."""

    def __init__(self, environments: Environments, files: GeneratedFiles) -> None:
        self._environments = environments.node
        self._files = files
        self._bundles: dict[Path, Path] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    async def plan(self, program: Program, report: Report) -> Plan:
        """How to run a program; what is missing is installed and bundled first.

        Raises EnvironmentFailed.
        """
        if sys.platform == "win32":
            raise EnvironmentFailed("JavaScript and TypeScript blocks don't run on Windows")
        node = await self._environments.find_node()
        package_dir = program.package_dir
        modules = await self._environments.modules(package_dir, report)
        entry = self._files.entry(program, _default_entry(program.directory))
        if entry.suffix in _TYPESCRIPT and entry.is_file():
            entry = await self._runnable(entry, package_dir, node, report)
        command = (str(node.program), str(_WORKER), str(package_dir), str(modules or ""))
        return Plan(
            # Modules that were imported once can't be forgotten.
            spec=WorkerSpec(package_dir, (*_LAUNCH, *command), reusable=False),
            entry=entry,
            function=program.options.get("function"),
            import_dir=self._files.import_dir(program, entry),
        )

    async def _runnable(self, entry: Path, package_dir: Path, node: Node, report: Report) -> Path:
        """What Node.js runs for a TypeScript file, made once for the task."""
        async with self._locks.setdefault(entry, asyncio.Lock()):
            if entry not in self._bundles:
                self._bundles[entry] = await self._bundle(entry, package_dir, node, report)
            return self._bundles[entry]

    async def _bundle(self, entry: Path, package_dir: Path, node: Node, report: Report) -> Path:
        try:
            esbuild = await self._environments.esbuild(package_dir, report)
        except EnvironmentFailed as error:
            if not node.runs_typescript:
                raise
            report(f"{error}; Node.js runs {entry.name} as it is")
            return entry
        digest = hashlib.sha256(str(entry).encode()).hexdigest()[:16]
        bundle = self._files.path(f"{entry.stem}_{digest}.mjs")
        try:
            await make_bundle(entry, bundle, package_dir, node, esbuild)
        except BuildFailed as error:
            raise EnvironmentFailed(f"{entry} can't be bundled: {error}") from error
        return bundle


def _default_entry(directory: Path) -> str:
    return next((name for name in _ENTRIES if (directory / name).is_file()), _ENTRIES[0])
