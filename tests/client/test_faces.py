from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import oomol_connect_sdk
from oomol_connect_sdk import OomolConnectClient, SyncOomolConnectClient

CONTEXT = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
SUB_CLIENTS = ("tasks", "flows", "blocks", "packages", "applets")


def public(thing: Any) -> Any:
    methods = inspect.getmembers(type(thing), callable)
    return {name: method for name, method in methods if not name.startswith("_")}


@pytest.mark.parametrize("sub_client", [None, *SUB_CLIENTS])
def test_both_faces_have_the_same_methods(sub_client: Any) -> None:
    one: Any = OomolConnectClient(base_url="http://x")
    other: Any = SyncOomolConnectClient(base_url="http://x")
    if sub_client:
        one, other = getattr(one, sub_client), getattr(other, sub_client)
    assert set(public(one)) == set(public(other))
    for name, method in public(one).items():
        twin = public(other)[name]
        assert inspect.getdoc(method) == inspect.getdoc(twin), name
        assert inspect.getdoc(method), name
        assert inspect.signature(method).parameters == inspect.signature(twin).parameters, name


def test_both_clients_are_constructed_alike() -> None:
    ours = inspect.signature(OomolConnectClient.__init__)
    assert ours.parameters == inspect.signature(SyncOomolConnectClient.__init__).parameters


def test_every_public_name_is_there() -> None:
    for name in [*oomol_connect_sdk.__all__, "TimeoutError"]:
        assert getattr(oomol_connect_sdk, name) is not None
        assert name in dir(oomol_connect_sdk)
    assert "TimeoutError" not in oomol_connect_sdk.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        oomol_connect_sdk.Nothing  # noqa: B018


def test_the_import_loads_neither_httpx_nor_the_server() -> None:
    code = (
        "import sys, oomol_connect_sdk as o; o.OomolConnectError; o.BackoffStrategy;"
        "print([m for m in sys.modules if m.split('.')[0] in ('httpx', 'tenacity', 'asyncio')"
        " or 'server' in m])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
