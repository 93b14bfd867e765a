"""How a server installs packages."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

#: OOMOL's public registry, asked when no other is named.
PUBLIC_REGISTRY = "https://registry.oomol.com"


@dataclass(frozen=True)
class InstallOptions:
    """Where packages may come from, and what is done with them at once.

    ``registry`` is the address of an npm-compatible registry, by default ``$OOMOL_REGISTRY``
    or else OOMOL's public one; ``registry_token``, by default ``$OOMOL_REGISTRY_TOKEN``, is
    sent to that address and to no other host. ``allow_local_sources`` lets whoever may install
    name paths on the server's machine and addresses of their choice. ``build_environments``
    builds a package's Python environment at its install instead of at its first run.
    """

    registry: str | None = None
    registry_token: str | None = field(default=None, repr=False)
    allow_local_sources: bool = False
    build_environments: bool = False

    @property
    def registry_address(self) -> str:
        """The registry that is asked."""
        return self.registry or os.environ.get("OOMOL_REGISTRY") or PUBLIC_REGISTRY

    @property
    def token(self) -> str | None:
        """What the registry gets to know the server by."""
        return self.registry_token or os.environ.get("OOMOL_REGISTRY_TOKEN") or None
