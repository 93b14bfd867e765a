"""The command line ``oomol-connect``: thin commands over the blocking client and the server.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from .commands import commands
    except ImportError as error:
        print(
            f"the command line is not installed ({error}): pip install 'oomol-connect-sdk[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from error
    commands(prog_name="oomol-connect")
