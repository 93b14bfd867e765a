"""How much one task may use of what all tasks share."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 1024**3


@dataclass(frozen=True)
class TaskLimits:
    """Bytes that one task may use; None is for no limit. A task that uses more fails.

    ``disk``: files in its session and temporary directories, without those that were uploaded
    with it. They are measured about once a second; where the system can, no process of a task
    writes a single file that is larger, wherever that is.

    ``memory``: what a worker process or shell command and its children use together, measured
    once a second; on Linux only. There is no limit by default, since a block may well be meant
    to use the whole machine; when memory runs out, Linux ends processes of blocks before the
    server.

    ``log``: its journal of events, inputs and outputs of blocks included.
    """

    disk: int | None = 20 * _GIB
    memory: int | None = None
    log: int | None = 1 * _GIB

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"The limit {name!r} must be a number of bytes above 0 or None.")


def size_text(size: int) -> str:
    """Write a number of bytes for a person."""
    for unit, factor in (("GiB", _GIB), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{size} bytes"
