from __future__ import annotations

import itertools
from typing import Any, Callable

import pytest
from scripted import ScriptedServer

from oomol_connect_sdk import BadAnswerError
from oomol_connect_sdk.blocks import version_in_path, version_key


@pytest.mark.parametrize(
    ("path", "package", "version"),
    [
        ("/p/ffmpeg-0.1.9/tasks/cut/task.oo.yaml", "ffmpeg", "0.1.9"),
        ("/p/ffmpeg/0.1.9/tasks/cut/task.oo.yaml", "ffmpeg", "0.1.9"),
        (r"C:\p\ffmpeg-0.1.9\blocks\cut\block.oo.yaml", "ffmpeg", "0.1.9"),
        (r"C:\p\ffmpeg\0.1.9\blocks\cut", "ffmpeg", "0.1.9"),
        ("/p/a-1.0.0-beta.1/tasks/x", "a", "1.0.0-beta.1"),
        ("/p/a-b-1.0.0/tasks/x", "a-b", "1.0.0"),
        ("/p/a-b-1.0.0/tasks/x", "a", "unknown"),
        ("/p/@scope/name-1.2.3/tasks/x", "@scope/name", "1.2.3"),
        ("/p/name-9.9.9/name-1.2.3/tasks/x", "name", "1.2.3"),
        ("/p/ffmpeg/tasks/1.2.3/task.oo.yaml", "ffmpeg", "unknown"),
        ("/p/ffmpeg-1.2/tasks/x", "ffmpeg", "unknown"),
        ("", "ffmpeg", "unknown"),
    ],
)
def test_the_version_is_read_from_every_layout(path: str, package: str, version: str) -> None:
    assert version_in_path(path, package) == version


def test_versions_sort_as_semantic_versioning_says() -> None:
    ascending = ["unknown", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0", "1.2.0", "1.10.0"]
    for low, high in itertools.combinations(ascending, 2):
        assert version_key(low) < version_key(high)


def row(package: str, name: str, version: str) -> Any:
    return {"package": package, "name": name, "path": f"/p/{package}-{version}/tasks/{name}"}


def test_only_the_latest_version_of_each_package_is_listed(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    rows = [
        row("a", "x", "1.9.0"),
        row("a", "x", "1.10.0"),
        row("a", "y", "1.9.0"),
        row("b", "z", "0.1.0"),
    ]
    server.on("GET /api/v1/blocks", {"blocks": rows, "total": 4})
    blocks = face(base_url=server.url).blocks
    latest = blocks.list()
    assert [(b["blockId"], b["version"]) for b in latest["blocks"]] == [
        ("a::x", "1.10.0"),
        ("b::z", "0.1.0"),
    ]
    assert latest["total"] == 4
    assert len(blocks.list(include_all_versions=True)["blocks"]) == 4


def test_a_block_without_a_path_has_an_unknown_version(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on("GET /api/v1/blocks", {"blocks": [{"package": "a", "name": "x"}]})
    (block,) = face(base_url=server.url).blocks.list()["blocks"]
    assert block == {"package": "a", "name": "x", "blockId": "a::x", "version": "unknown"}


def test_flows_are_listed_as_the_server_has_them(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on("GET /api/v1/flows", {"flows": [{"name": "f", "path": "/p/flows/f"}]}, {"flow": []})
    flows = face(base_url=server.url).flows
    assert flows.list() == {"flows": [{"name": "f", "path": "/p/flows/f"}]}
    with pytest.raises(BadAnswerError, match="without 'flows'"):
        flows.list()
