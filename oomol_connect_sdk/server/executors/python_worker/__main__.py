"""Started by file path: load this directory as a package of its own and run the worker."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

PACKAGE = "_oomol_worker"


def launch() -> None:
    """Run the worker until its server is gone; the package's directory is the only argument."""
    here = os.path.dirname(os.path.abspath(__file__))
    # A block's `import frames` must find the block's own module, never ours.
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    if spec is None:
        raise ImportError(f"{here} can't be loaded as a package")
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    # First of all: what the other imports print must not get between the frames.
    channel = importlib.import_module(f"{PACKAGE}.channel").Channel()
    importlib.import_module(f"{PACKAGE}.process").run(channel, sys.argv[1])


# A child of `multiprocessing` imports this file again under another name.
if __name__ == "__main__":
    launch()
