"""Executors: the worker processes that run blocks, and the environments they run in.

Nothing here knows flows, the store or HTTP: jobs come in, messages go out.
"""

from __future__ import annotations

from .environments import EnvironmentFailed, Environments
from .pool import WorkerPool
from .session_executors import SessionDirectories, SessionExecutors

__all__ = [
    "EnvironmentFailed",
    "Environments",
    "SessionDirectories",
    "SessionExecutors",
    "WorkerPool",
]
