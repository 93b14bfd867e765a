"""Starts and stops the DIAL of the tests (`dial_app.py`), in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, OTHER_KEY, TOKEN = "key-1", "key-2", "token-1"

#: A deployment that answers like the OpenAI server of the tests.
DEPLOYMENT = "echo"


@dataclass(frozen=True)
class DialServer:
    """A running DIAL."""

    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address as `Models` takes it."""
        return f"dial+{self.base}"


@contextmanager
def dial_server() -> Iterator[DialServer]:
    """A running DIAL, stopped in the end; skips where aidial-sdk is not installed."""
    if importlib.util.find_spec("aidial_sdk") is None:
        pytest.skip("aidial-sdk is not installed: pip install 'aidial-sdk>=0.46'")
    script = Path(__file__).with_name("dial_app.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield DialServer(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
