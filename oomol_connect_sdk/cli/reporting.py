"""Errors as a person sees them, and as exit statuses."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import Iterator

import click

from ..errors import OomolConnectError

#: Exit status after Ctrl-C, as shells count it: 128 + the signal's number.
INTERRUPTED = 128 + signal.SIGINT


@contextlib.contextmanager
def reported_errors() -> Iterator[None]:
    """Show an error in one line and exit: with 2 when the call was wrong, else with 1.

    Ctrl-C exits with INTERRUPTED.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # Who read our output has enough; click ends quietly.
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except (OomolConnectError, OSError, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_status(error))


def _status(error: Exception) -> int:
    refused = getattr(error, "status", 0) in (400, 401, 403, 404, 413, 415, 422)
    return 2 if refused or isinstance(error, ValueError) else 1
