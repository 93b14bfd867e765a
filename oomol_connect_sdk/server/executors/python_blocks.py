"""Python programs: which worker runs them, and how."""

from __future__ import annotations

from pathlib import Path

from .environments import Environments
from .programs import GeneratedFiles, Plan, Program, Report
from .worker import WorkerSpec

_LAUNCHER = Path(__file__).parent / "python_worker" / "__main__.py"


class PythonBlocks:
    """Plans the Python programs of one task."""

    def __init__(self, environments: Environments, files: GeneratedFiles) -> None:
        self._environments = environments
        self._files = files

    async def plan(self, program: Program, report: Report) -> Plan:
        """How to run a program; a missing environment is built first.

        Raises EnvironmentFailed.
        """
        interpreter = await self._environments.interpreter(
            program.package_dir, report, program.scripts
        )
        entry = self._files.entry(program, "index.py")
        return Plan(
            spec=WorkerSpec(
                program.package_dir, (str(interpreter), str(_LAUNCHER), str(program.package_dir))
            ),
            entry=entry,
            function=program.options.get("function") or "main",
            import_dir=self._files.import_dir(program, entry),
        )
