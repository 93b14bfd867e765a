from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from servers import Connection, wait_until

from oomol_connect_sdk.server import LocalServer

TEN = "deep/est/größe 1.txt"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outside") / "secret.txt"
    path.write_text("secret")
    return path


@pytest.fixture(scope="module")
def task(connection: Connection, secret: Path) -> dict[str, Any]:
    """A task that left files: one of ten bytes, a page, an empty one, and links out."""
    return connection.run("shop::leave", {"secret": str(secret)})


def get(
    connection: Connection, task: dict[str, Any], name: str, method: str = "GET", **headers: str
) -> httpx.Response:
    url = f"/v1/tasks/{task['id']}/files/{quote(name)}"
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return connection.http.request(method, url, headers=named)


def test_files_are_listed_by_their_names_and_links_are_not(
    connection: Connection, task: dict[str, Any]
) -> None:
    files = connection.http.get(f"/v1/tasks/{task['id']}/files").json()["files"]
    assert [(file["name"], file["size"]) for file in files] == [
        (TEN, 10),
        ("empty", 0),
        ("page.html", 25),
    ]
    for file in files:
        assert set(file) == {"name", "size", "modified_at"}
        assert task["created_at"] <= file["modified_at"] <= task["updated_at"]


def test_a_file_is_sent_as_a_download_that_can_do_nothing(
    connection: Connection, task: dict[str, Any]
) -> None:
    answer = get(connection, task, TEN)
    assert (answer.status_code, answer.text) == (200, "0123456789")
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "filename*=UTF-8''gr%C3%B6%C3%9Fe%201.txt" in answer.headers["Content-Disposition"]
    page = get(connection, task, "page.html")
    assert page.text == "<script>alert(1)</script>"
    assert page.headers["Content-Type"] == "text/html"
    assert page.headers["Content-Disposition"].startswith("attachment;")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Content-Security-Policy"].startswith("sandbox;")


def test_the_headers_of_a_file_can_be_asked_for_alone(
    connection: Connection, task: dict[str, Any]
) -> None:
    whole, head = get(connection, task, TEN), get(connection, task, TEN, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Content-Disposition"):
        assert head.headers[name] == whole.headers[name]


def test_a_known_file_is_not_sent_again(connection: Connection, task: dict[str, Any]) -> None:
    etag = get(connection, task, TEN).headers["ETag"]
    answer = get(connection, task, TEN, If_None_Match=etag)
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "status", "text", "content_range"),
    [
        ("bytes=0-3", 206, "0123", "bytes 0-3/10"),
        ("bytes=3-3", 206, "3", "bytes 3-3/10"),
        ("bytes=4-", 206, "456789", "bytes 4-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=-100", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=8-100", 206, "89", "bytes 8-9/10"),
        ("BYTES = 0-0", 206, "0", "bytes 0-0/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=99-100", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-4", 200, "0123456789", None),
        ("bytes=-", 200, "0123456789", None),
        ("bytes=a-b", 200, "0123456789", None),
        ("lines=0-1", 200, "0123456789", None),
        ("bytes=0-1,4-5", 200, "0123456789", None),
        ("bytes=0-" + "9" * 30, 200, "0123456789", None),
    ],
)
def test_a_part_of_a_file_can_be_asked_for(
    connection: Connection,
    task: dict[str, Any],
    wanted: str,
    status: int,
    text: str | None,
    content_range: str | None,
) -> None:
    answer = get(connection, task, TEN, Range=wanted)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == content_range
    if text is None:
        assert answer.json()["success"] is False
    else:
        assert answer.text == text
        assert answer.headers["Content-Length"] == str(len(text))


def test_an_empty_file_has_no_part(connection: Connection, task: dict[str, Any]) -> None:
    assert get(connection, task, "empty").content == b""
    assert get(connection, task, "empty", Range="bytes=0-").status_code == 416


def test_a_part_is_sent_only_of_the_file_it_belongs_to(
    connection: Connection, task: dict[str, Any]
) -> None:
    etag = get(connection, task, TEN).headers["ETag"]
    same = get(connection, task, TEN, Range="bytes=0-3", If_Range=etag)
    assert same.status_code == 206
    other = get(connection, task, TEN, Range="bytes=0-3", If_Range='"other"')
    assert (other.status_code, other.text) == (200, "0123456789")
    head = get(connection, task, TEN, "HEAD", Range="bytes=0-3")
    assert (head.status_code, head.headers["Content-Length"]) == (200, "10")


@pytest.mark.parametrize(
    "path",
    [
        "link",
        "folder/secret.txt",
        "deep",
        "deep/est",
        "nothing",
        "page.html/",
        "page.html/x",
        "/page.html",
        "deep//est",
        "./page.html",
        "deep/../page.html",
        "..",
        "../secret.txt",
        "%2e%2e/%2e%2e/connect.sqlite3",
        "..%2f..%2fconnect.sqlite3",
        "..%5c..%5cconnect.sqlite3",
        "C:/page.html",
        "page.html%00",
        "%ff",
        "x" * 300,
    ],
)
def test_no_name_leads_out_of_the_tasks_directory(
    server: LocalServer, task: dict[str, Any], path: str
) -> None:
    address = httpx.URL(server.base_url)
    # httpx would tidy the path.
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port)) as client:
        url = f"/v1/tasks/{task['id']}/files/{path}"
        client.request("GET", url, headers={"Authorization": server.token})
        answer = client.getresponse()
        assert answer.status == 404
        assert json.load(answer)["success"] is False


def test_files_of_an_unknown_task_are_refused(connection: Connection) -> None:
    assert connection.http.get("/v1/tasks/nobody/files").status_code == 404
    assert connection.http.get("/v1/tasks/nobody/files/x").status_code == 404


def test_a_task_that_left_nothing_has_no_files(connection: Connection) -> None:
    task = connection.run("shop::add", {"a": 1})
    assert connection.http.get(f"/v1/tasks/{task['id']}/files").json() == {"files": []}


def test_uploaded_files_are_among_those_of_the_task_also_after_it_started_over(
    shop: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with LocalServer([shop], data_dir=tmp_path / "data", token="") as server:
        connection = Connection(server.base_url, "")
        inputs = {"file": {"__OOMOL_FILE__": "notes.txt"}, "gate": str(gate)}
        form = [
            ("manifest", (None, "shop::objects")),
            ("inputValues", (None, json.dumps(inputs))),
            ("files", ("notes.txt", b"")),
        ]
        first = connection.http.post("/v1/tasks", files=form).json()["task"]
        path = Path(first["inputValues"][0]["inputs"][0]["value"])
        wait_until(lambda: path.read_text() == "made\nused\n")
        connection.http.close()
    gate.touch()
    with LocalServer([shop], data_dir=tmp_path / "data", token="") as server:
        connection = Connection(server.base_url, "")
        task = connection.wait(first["id"])
        assert task["session_id"] != first["session_id"]
        (file,) = connection.http.get(f"/v1/tasks/{task['id']}/files").json()["files"]
        assert file["name"] == "uploads/0/notes.txt"
        answer = get(connection, task, file["name"])
        assert answer.text == "made\nused\nmade\nused\n"
        connection.http.close()


def test_a_large_file_comes_whole(connection: Connection, tmp_path: Path) -> None:
    content = os.urandom(20 * 2**20)
    form = [("manifest", (None, "shop::press")), ("files", ("large.bin", content))]
    task = connection.http.post("/v1/tasks", files=form).json()["task"]
    connection.wait(task["id"])
    with connection.http.stream("GET", f"/v1/tasks/{task['id']}/files/uploads/0/large.bin") as got:
        digest = hashlib.sha256(got.read()).digest()
    assert digest == hashlib.sha256(content).digest()
