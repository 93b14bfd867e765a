"""Executors: the worker processes that run blocks, and the environments they run in.

Nothing here knows flows, the store or HTTP: jobs come in, messages go out.
"""

from __future__ import annotations

from .app_services import AppServices
from .build_cache import EnvironmentFailed
from .environments import Environments
from .job_orders import SessionDirectories
from .pool import WorkerPool
from .process_guard import ProcessGuard
from .session_executors import SessionExecutors

__all__ = [
    "AppServices",
    "EnvironmentFailed",
    "Environments",
    "ProcessGuard",
    "SessionDirectories",
    "SessionExecutors",
    "WorkerPool",
]
