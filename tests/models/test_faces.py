"""Both faces of the client are alike, and importing them costs little."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from oomol_connect_sdk import models
from oomol_connect_sdk.models import Models, SyncModels
from oomol_connect_sdk.models.files import ModelFiles
from oomol_connect_sdk.models.sync import SyncModelFiles

PAIRS = [(Models, SyncModels), (ModelFiles, SyncModelFiles)]


def public(kind: type) -> dict[str, Any]:
    # What a protocol has for itself is no method of ours.
    members = inspect.getmembers(kind, lambda member: inspect.isroutine(member))
    return {name: method for name, method in members if not name.startswith("_")}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_both_faces_have_the_same_methods(one: type, other: type) -> None:
    assert set(public(one)) == set(public(other))
    for name, method in public(one).items():
        twin = public(other)[name]
        assert inspect.getdoc(method), name
        assert inspect.getdoc(method) == inspect.getdoc(twin), name
        assert inspect.signature(method).parameters == inspect.signature(twin).parameters, name
        assert not inspect.iscoroutinefunction(twin), name
        assert not inspect.isasyncgenfunction(twin), name


def test_both_faces_have_the_same_attributes() -> None:
    made: list[Any] = [Models("http://x.example", model="m"), SyncModels("http://x.example")]
    for client in made:
        assert client.stats.requests == 0
    assert [client.model for client in made] == ["m", None]
    assert isinstance(inspect.getattr_static(SyncModels, "files"), property)
    assert isinstance(inspect.getattr_static(Models, "files"), property)


def test_both_clients_are_constructed_alike() -> None:
    ours = inspect.signature(Models.__init__)
    assert ours.parameters == inspect.signature(SyncModels.__init__).parameters


def test_every_public_name_is_there() -> None:
    for name in models.__all__:
        assert getattr(models, name) is not None
        assert name in dir(models)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        models.Nothing  # noqa: B018


HEAVY = ("httpx", "tenacity", "asyncio", "yaml", "grpc", "google", "jwt", "tensorzero", "dotenv")


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import oomol_connect_sdk", ()),
        ("import oomol_connect_sdk.models", ()),
        ("from oomol_connect_sdk.models import Reply, Tool, Usage", ()),
        (
            "from oomol_connect_sdk.models import Models, SyncModels;"
            "Models('http://x.example'); SyncModels('http://x.example')",
            ("httpx", "tenacity", "asyncio"),
        ),
    ],
)
def test_an_import_loads_no_more_than_it_needs(code: str, allowed: tuple[str, ...]) -> None:
    shown = f"import sys; {code}; print(*{{name.split('.')[0] for name in sys.modules}})"
    output = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True
    )
    assert sorted({*HEAVY} & {*output.stdout.split()}) == sorted(allowed)
