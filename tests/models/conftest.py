"""Fixtures of the model services' tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faces import NAMES, ModelsFace
from openai_server import OpenAIServer, openai_server

_OURS = ("OOMOL_", "OPENAI_", "TENSORZERO_API", "MODEL_MANAGER_")


@pytest.fixture(autouse=True)
def _no_services_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away the variables and the ``.env`` of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def openai() -> Iterator[OpenAIServer]:
    """An OpenAI-compatible server."""
    with openai_server() as server:
        yield server


@pytest.fixture(params=NAMES)
def models_face(request: pytest.FixtureRequest) -> Iterator[ModelsFace]:
    """Make clients of one face, in blocking shape."""
    face = ModelsFace(request.param)
    yield face
    face.close()
