"""What the processes of blocks may use (the size of a file, and memory), and what all are told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..limits import size_text

#: Seconds between two measurements.
PERIOD = 1.0
#: What Linux adds to the score by which it ends processes when memory runs out: it ends those of
#: blocks before the server.
_OOM_SCORE = "500"
_PROC = Path("/proc")
#: `ulimit` counts in blocks of so many bytes, whatever the file system's are.
_BLOCK = 512


class Group(Protocol):
    """A process group that can be ended."""

    @property
    def group_id(self) -> int:
        """Its number."""

    def end(self, why: str) -> None:
        """Kill it; ``why`` is the reason it gives for its end."""


class ProcessGuard:
    """Sets the limits of processes and watches over those that the system can't set.

    ``file_size`` and ``memory`` are bytes; None is for no limit. ``variables`` are added to the
    environment of each.
    """

    def __init__(
        self,
        *,
        file_size: int | None = None,
        memory: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.variables = dict(variables or {})
        self._file_size = file_size
        self._memory = memory
        self._groups: dict[int, Group] = {}
        self._watching: asyncio.Task[None] | None = None

    def limited(self, command: Sequence[str]) -> Sequence[str]:
        """The command that runs another one within the limits that the system sets."""
        if self._file_size is None or os.name != "posix":
            return command
        blocks = max(1, self._file_size // _BLOCK)
        # What runs it may already have a lower limit.
        return ("sh", "-c", f'ulimit -f {blocks} 2>/dev/null; exec "$@"', "sh", *command)

    def started(self, group: Group) -> None:
        """Watch over a process group."""
        # The process may be gone already, and only Linux has the file.
        with contextlib.suppress(OSError):
            (_PROC / str(group.group_id) / "oom_score_adj").write_text(_OOM_SCORE)
        if self._memory is None or not _PROC.is_dir():
            return
        self._groups[group.group_id] = group
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(self._memory))

    def ended(self, group: Group) -> None:
        """Forget a process group."""
        self._groups.pop(group.group_id, None)

    @property
    def file_limit(self) -> str:
        """The limit of a file's size, in words."""
        return "" if self._file_size is None else size_text(self._file_size)

    def close(self) -> None:
        """Watch over nothing any more."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, limit: int) -> None:
        while self._groups:
            await asyncio.sleep(PERIOD)
            used = await asyncio.to_thread(_memory_of_groups, frozenset(self._groups), limit)
            for group_id, size in used.items():
                group = self._groups.get(group_id)
                if group is not None and size > limit:
                    group.end(
                        f"the processes that ran the block used {size_text(size)} of memory; "
                        f"the limit is {size_text(limit)}"
                    )


def _memory_of_groups(groups: frozenset[int], limit: int) -> dict[int, int]:
    """Return the bytes of memory each group uses."""
    used: Counter[int] = Counter()
    members: dict[int, list[str]] = {}
    for process in _PROC.iterdir():
        if process.name.isdigit():
            group, resident = _group_and_memory(process)
            if group in groups:
                used[group] += resident
                members.setdefault(group, []).append(process.name)
    # What forked processes share was counted for each: this is exact, and takes longer.
    for group in [group for group in used if used[group] > limit]:
        used[group] = sum(_proportional_memory(_PROC / name) for name in members[group])
    return used


def _group_and_memory(process: Path) -> tuple[int, int]:
    try:
        # The name of the program, in parentheses, may contain anything.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return 0, 0
    return int(fields[2]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def _proportional_memory(process: Path) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return _group_and_memory(process)[1]
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
