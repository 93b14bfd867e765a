"""The local Connect server: HTTP face, store, dispatcher, runner, engine and executors.

Nothing outside this package is imported here, and the client never imports this package
except to start a local server.
"""

from __future__ import annotations

from .limits import TaskLimits
from .packages import InstallOptions
from .serving import LocalServer, serve

__all__ = ["InstallOptions", "LocalServer", "TaskLimits", "serve"]
