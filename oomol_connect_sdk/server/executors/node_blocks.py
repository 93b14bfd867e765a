"""JavaScript and TypeScript blocks: which worker runs them, and how."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engine.actions import Job
from .build_cache import EnvironmentFailed
from .building import BuildFailed, run_command
from .environments import Environments
from .job_orders import JobOrders, directory_of
from .node_environments import Node
from .worker import WorkerSpec

Report = Callable[[str], None]

_WORKER = Path(__file__).parent / "node_worker" / "main.mjs"
#: Frames take other descriptors than standard input and output, which children inherit.
_LAUNCH = ("sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2', "sh")
#: The entries that are looked for when a manifest names none.
_ENTRIES = ("main.ts", "index.ts", "main.js", "index.js", "main.mjs", "index.mjs")
_TYPESCRIPT = frozenset({".ts", ".mts", ".cts", ".tsx", ".jsx"})


class NodeBlocks:
    """Plans the Node.js jobs of one task."""

    def __init__(self, environments: Environments, orders: JobOrders) -> None:
        self._environments = environments.node
        self._orders = orders
        self._bundles: dict[Path, Path] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    async def plan(self, job: Job, report: Report) -> tuple[WorkerSpec, dict[str, Any]]:
        """The worker for a job and its order; what is missing is installed and bundled first.

        Raises EnvironmentFailed, JobRefused and SecretsUnreadable.
        """
        if sys.platform == "win32":
            raise EnvironmentFailed("JavaScript and TypeScript blocks don't run on Windows")
        node = await self._environments.find_node()
        modules = await self._environments.modules(job.package_dir, report)
        entry = self._orders.entry(job, _default_entry(directory_of(job)))
        if entry.suffix in _TYPESCRIPT and entry.is_file():
            entry = await self._runnable(entry, job.package_dir, node, report)
        command = (str(node.program), str(_WORKER), str(job.package_dir), str(modules or ""))
        # Modules that were imported once can't be forgotten.
        spec = WorkerSpec(job.package_dir, (*_LAUNCH, *command), reusable=False)
        return spec, self._orders.order(job, entry)

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
        bundle = self._orders.generated(f"{entry.stem}_{digest}.mjs")
        command = [str(esbuild), *_bundle_options(entry, bundle, node)]
        try:
            await run_command(command, package_dir, lambda line: None)
        except BuildFailed as error:
            raise EnvironmentFailed(f"{entry} can't be bundled: {error}") from error
        return bundle


def _bundle_options(entry: Path, bundle: Path, node: Node) -> list[str]:
    known = {
        "import.meta.url": entry.as_uri(),
        "__filename": str(entry),
        "__dirname": str(entry.parent),
    }
    return [
        str(entry),
        f"--outfile={bundle}",
        *("--bundle", "--platform=node", "--format=esm", f"--target=node{node.version}"),
        # What is installed is found at run time: it may be native or look for its own files.
        *("--packages=external", "--sourcemap=inline", "--log-level=warning", "--color=false"),
        *(f"--define:{name}={json.dumps(value)}" for name, value in known.items()),
    ]


def _default_entry(directory: Path) -> str:
    return next((name for name in _ENTRIES if (directory / name).is_file()), _ENTRIES[0])
