"""The requests of OOMOL's TypeScript client, sent by Node's own fetch, FormData and File."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Connection
from shop import write_shop

from oomol_connect_sdk.server import LocalServer

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")

#: Sends one request the way that client does, and prints status and answer.
SEND = """
const [address, token, method, body] = JSON.parse(process.argv[1]);
const headers = { Authorization: token };
let content;
if (body?.files) {
  content = new FormData();
  content.append("manifest", body.manifest);
  content.append("inputValues", JSON.stringify(body.inputValues));
  for (const [name, text] of body.files) {
    content.append("files", new File([text], name, { type: "text/plain" }));
  }
} else if (body) {
  content = JSON.stringify(body);
  headers["Content-Type"] = "application/json";
}
const answer = await fetch(address, { method, headers, body: content });
console.log(JSON.stringify([answer.status, await answer.json()]));
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server with two versions of the shop, in directories named as OOMOL's tools name them."""
    store = tmp_path_factory.mktemp("store")
    for version in ("1.9.0", "1.10.0"):
        write_shop(store / f"shop-{version}")
        (store / f"shop-{version}" / "package.oo.yaml").write_text(
            f"name: shop\nversion: {version}\n", encoding="utf-8"
        )
    with LocalServer([store / "shop-1.9.0", store / "shop-1.10.0"]) as server:
        yield server


@pytest.fixture
def wire(versions: LocalServer) -> Iterator[Connection]:
    connection = Connection(versions.base_url + "/api", versions.token)
    yield connection
    connection.http.close()


def send(server: LocalServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = json.dumps([f"{server.base_url}/api{path}", server.token, method, body])
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SEND, request],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    status, answer = json.loads(done.stdout)
    return status, answer


def first_result(logs: list[dict[str, Any]]) -> Any:
    """The result as that client finds it: of the first ``BlockFinished`` that has one."""
    results = (row["event"].get("result") for row in logs if row["type"] == "BlockFinished")
    return next((result for result in results if result), None)


@needs_node
def test_a_block_named_by_manifest_gives_its_result_in_the_first_block_finished(
    versions: LocalServer, wire: Connection
) -> None:
    values = [{"nodeId": "_", "inputs": [{"handle": "a", "value": 2}]}]
    status, created = send(
        versions, "POST", "/v1/tasks", {"manifest": "shop::add", "inputValues": values}
    )
    assert status == 200
    task = wire.wait(created["task"]["id"])
    assert task["status"] == "completed"
    assert first_result(wire.logs(task["id"])) == {"sum": 12}


@needs_node
def test_files_of_a_node_form_arrive_by_their_names(
    versions: LocalServer, wire: Connection
) -> None:
    body = {
        "manifest": "shop::press",
        "inputValues": [{"nodeId": "_", "inputs": [{"handle": "paper", "value": "plain"}]}],
        "files": [["größe 文.txt", "one"], ['a "b".txt', "two"], ["same.txt", ""]],
    }
    status, created = send(versions, "POST", "/v1/tasks", body)
    assert status == 200, created
    task = wire.wait(created["task"]["id"])
    assert first_result(wire.logs(task["id"])) == {
        "cover": "größe 文.txt: one",
        "paper": "plain",
        "pages": ["a _b_.txt: two", "same.txt: "],
        "more": None,
    }


@needs_node
def test_a_post_without_a_body_stops_a_task(
    versions: LocalServer, wire: Connection, tmp_path: Path
) -> None:
    inputs = {"file": str(tmp_path / "pid"), "gate": str(tmp_path / "never")}
    task_id = wire.create("shop::gated", inputs)
    status, stopped = send(versions, "POST", f"/v1/tasks/{task_id}/stop")
    assert (status, stopped["task"]["status"], stopped["success"]) == (200, "stopped", True)


def test_the_version_of_a_block_stands_in_its_path(wire: Connection) -> None:
    blocks = wire.http.get("/v1/blocks").json()["blocks"]
    adds = [block for block in blocks if block["name"] == "add"]
    # The directory of the package, between two separators: <name>-<version>.
    found = [
        re.search(r"[\\/]([a-z0-9-]+)-(\d+\.\d+\.\d+)[\\/]", block["path"], re.IGNORECASE)
        for block in adds
    ]
    in_paths = [match and match.groups() for match in found]
    assert sorted(in_paths, key=str) == [("shop", "1.10.0"), ("shop", "1.9.0")]
    assert [match and match[2] for match in found] == [block["version"] for block in adds]
