"""Which executor runs a program, and why one can't be run here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from .environments import Environments
from .node_blocks import NodeBlocks
from .programs import GeneratedFiles, Plan, Program, Report
from .python_blocks import PythonBlocks
from .worker import JobRefused

#: Executors of OOMOL that need what only its own products have.
_ELSEWHERE = {
    "rust": (
        "such a block talks to the message broker of OOMOL's own engine, so that cargo alone "
        "would not do"
    ),
    "connector": "such a block calls OOMOL's connector service for an account there",
}


class Planner:
    """Plans the programs of one task or of the server; what they need is built first.

    Files that have to be made go to the ``generated`` directory, which need not exist.
    """

    def __init__(self, environments: Environments, generated: Path) -> None:
        self._environments = environments
        files = GeneratedFiles(generated)
        self._languages: Mapping[str, Callable[[Program, Report], Awaitable[Plan]]] = {
            "python": PythonBlocks(environments, files).plan,
            "nodejs": NodeBlocks(environments, files).plan,
        }

    async def plan(self, program: Program, where: str, report: Report) -> Plan:
        """How to run a program; ``where`` names it in words.

        Raises EnvironmentFailed and JobRefused.
        """
        language = self._languages.get(program.executor)
        if language is None:
            raise JobRefused(_unavailable(program.executor, where, ["shell", *self._languages]))
        await self.prepare(program, report)
        return await language(program, report)

    async def prepare(self, program: Program, report: Report) -> None:
        """Set the package of a program up. Raises EnvironmentFailed."""
        await self._environments.bootstrap(program.package_dir, report, program.scripts)


def _unavailable(executor: str, where: str, available: list[str]) -> str:
    why = f": {_ELSEWHERE[executor]}" if executor in _ELSEWHERE else ""
    return (
        f"{where} needs the executor {executor!r}, which is not available here{why}; "
        f"available: {', '.join(sorted(available))}"
    )
