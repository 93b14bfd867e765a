"""Fixtures for the client's tests."""

from __future__ import annotations

from typing import Iterator

import pytest
from scripted import ScriptedServer, scripted_server


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server."""
    with scripted_server() as running:
        yield running
