from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import PATIENCE, Connection, ServerProcess, wait_until

from oomol_connect_sdk.server import LocalServer
from oomol_connect_sdk.server.app import HttpLimits, create_app
from oomol_connect_sdk.server.backend import open_service
from oomol_connect_sdk.server.form import FormLimits

StartProcess = Callable[..., ServerProcess]

Part = tuple[str, tuple[str | None, bytes]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def connection(shop: Path, data: Path) -> Iterator[Connection]:
    """A client of a server whose data directory the tests look into."""
    with LocalServer([shop], data_dir=data, token="") as server:
        connection = Connection(server.base_url, "")
        yield connection
        connection.http.close()


def files(*named: tuple[str, str]) -> list[Part]:
    return [("files", (name, content.encode())) for name, content in named]


def post(
    connection: Connection, parts: list[Part], headers: dict[str, str] | None = None, **texts: Any
) -> httpx.Response:
    fields = {"manifest": "shop::press", **texts}
    given = [
        (name, (None, (value if isinstance(value, str) else json.dumps(value)).encode()))
        for name, value in fields.items()
    ]
    return connection.http.post("/v1/tasks", files=[*given, *parts], headers=headers)


def pressed(connection: Connection, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    task = connection.wait(answer.json()["task"]["id"])
    assert task["status"] == "completed", task
    result: dict[str, Any] = task["result"]
    return result


def contents(data: Path) -> set[str]:
    """Name all that stands below the directories of sessions and of files on their way."""
    # Not rglob: it fails on a directory that is removed while it is looked at.
    return {
        os.path.relpath(os.path.join(parent, name), data)
        for folder in ("sessions", "incoming")
        for parent, directories, names in os.walk(data / folder)
        for name in directories + names
    }


def test_files_go_to_the_inputs_for_files_in_their_order(connection: Connection) -> None:
    parts = files(("a.txt", "A"), ("größe 文字.txt", "B"), ("c.txt", "C"), ("c.txt", "D"))
    assert pressed(connection, post(connection, parts)) == {
        "cover": "a.txt: A",
        "paper": "größe 文字.txt: B",
        "pages": ["c.txt: C", "c.txt: D"],
        "more": None,
    }


def test_an_input_that_has_a_value_gets_no_file(connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("own")
    values = {"cover": str(tmp_path / "own.txt"), "paper": "plain"}
    answer = post(connection, files(("a.txt", "A")), inputValues=values)
    assert pressed(connection, answer)["pages"] == ["a.txt: A"]
    task = answer.json()["task"]
    handles = [item["handle"] for item in task["inputValues"][0]["inputs"]]
    assert handles == ["cover", "paper", "pages"]


def test_a_placeholder_anywhere_in_the_inputs_is_replaced(connection: Connection) -> None:
    values = {
        "more": {"deep": [{"__OOMOL_FILE__": "b.txt"}]},
        "pages": [{"__OOMOL_FILE__": 2}, {"__OOMOL_FILE__": "b.txt"}],
    }
    parts = files(("a.txt", "A"), ("b.txt", "B"), ("c.txt", "C"))
    answer = post(connection, parts, inputValues=values)
    assert pressed(connection, answer) == {
        "cover": "a.txt: A",
        "paper": "plain",
        "pages": ["c.txt: C", "b.txt: B"],
        "more": "b.txt: B",
    }


@pytest.mark.parametrize(
    ("parts", "texts", "words"),
    [
        (files(("a", "")), {"manifest": "shop::add", "inputValues": {"a": 1}}, ["'a'", "none"]),
        (
            files(("x", "1")),
            {"inputValues": {"cover": "c", "paper": "p", "pages": []}},
            ["'x'", "'cover', 'paper', 'pages'"],
        ),
        (files(("a", "")), {"inputValues": {"cover": {"__OOMOL_FILE__": "b"}}}, ["'b'", "'a'"]),
        (files(("a", "")), {"inputValues": {"cover": {"__OOMOL_FILE__": 1}}}, ["file 1"]),
        (files(("a", "")), {"inputValues": {"cover": {"__OOMOL_FILE__": True}}}, ["True"]),
        (
            files(("a", ""), ("a", "")),
            {"inputValues": {"cover": {"__OOMOL_FILE__": "a"}}},
            ["2 files", "numbers"],
        ),
        ([], {}, ["cover"]),
        (files(("a", "")), {"inputValues": "{"}, ["inputValues is not valid JSON"]),
        (files(("a", "")), {"inputValues": [1]}, ["inputValues[0]"]),
        (files(("a", "")), {"labels": "[]"}, ["labels"]),
        (files(("a", "")), {"manifest": ""}, ["manifest"]),
        (files(("a", "")), {"blockId": "shop::add"}, ["different things"]),
    ],
    ids=range(12),
)
def test_a_form_that_is_refused_leaves_nothing_on_disk(
    connection: Connection, data: Path, parts: list[Part], texts: dict[str, Any], words: list[str]
) -> None:
    before = contents(data)
    tasks = connection.http.get("/v1/tasks").json()
    answer = post(connection, parts, **texts)
    assert answer.status_code == 400, answer.text
    for word in words:
        assert word in answer.json()["message"]
    assert contents(data) == before
    assert connection.http.get("/v1/tasks").json() == tasks


def test_the_texts_of_a_form_are_those_of_a_json_request(connection: Connection) -> None:
    headers = {"Oomol-Connect-Client": "forms"}
    answer = connection.http.post(
        "/v1/tasks",
        headers=headers,
        files={
            "blockId": (None, "shop::add"),
            "inputValues": (None, '[{"handle": "a", "value": 3}]'),
            "priority": (None, "4"),
            "labels": (None, '{"a": "ü"}'),
            "deadline": (None, "9000000000000"),
            "unknown": (None, "ignored"),
        },
    )
    task = answer.json()["task"]
    assert (task["priority"], task["labels"], task["deadline"]) == (4, {"a": "ü"}, 9 * 10**12)
    assert connection.wait(task["id"])["result"] == {"sum": 13}
    with connection.events(client="forms", logs=0) as events:
        assert next(events).data["task"]["id"] == task["id"]


def test_any_field_with_a_file_name_is_a_file_and_an_empty_field_of_a_page_is_none(
    connection: Connection,
) -> None:
    parts: list[Part] = [
        ("cover picture", ("a.txt", b"A")),
        ("files", (None, b"without a name")),
        ("empty", ("", b"")),
    ]
    assert pressed(connection, post(connection, parts))["paper"] == "file: without a name"


@pytest.mark.parametrize(
    "name",
    [
        "../../../escaped.txt",
        "..\\..\\escaped.txt",
        "/tmp/escaped.txt",
        "C:\\escaped.txt",
        "..",
        "nul\0byte",
        "CON",
        "x" * 1_000,
        "%2e%2e%2fescaped.txt",
        "\u202etxt.exe",
    ],
)
def test_no_name_of_a_file_leads_out_of_the_tasks_directory(
    connection: Connection, data: Path, name: str
) -> None:
    raw = name.encode().replace(b'"', b"%22")
    boundary = b"--b\r\nContent-Disposition: form-data; "
    body = boundary + b'name="manifest"\r\n\r\nshop::press\r\n'
    body += boundary + b'name="files"; filename="' + raw + b'"\r\n\r\ncontent\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = connection.http.post("/v1/tasks", content=body, headers=headers)
    assert pressed(connection, answer)["cover"].endswith(": content")
    task = answer.json()["task"]
    (value,) = (item["value"] for item in task["inputValues"][0]["inputs"])
    uploads = data / "sessions" / task["session_id"] / "uploads" / "0"
    assert Path(value).parent == uploads
    assert [path.name for path in uploads.iterdir()] == [Path(value).name]
    assert not (data / "incoming").exists() or not any((data / "incoming").iterdir())


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data; boundary=b"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b"no boundary", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\nhalf', None),
        (b"--b\r\n" + b"X: y\r\n" * 10_000, "multipart/form-data; boundary=b"),
        (b"--b\r\nX: " + b"y" * 100_000, "multipart/form-data; boundary=b"),
        (b"--b--\r\n", "multipart/form-data"),
        (b"--b--\r\n", "multipart/form-data; boundary=" + "b" * 71),
    ],
    ids=range(8),
)
def test_a_body_that_is_no_form_is_refused(
    connection: Connection, data: Path, body: bytes, content_type: str | None
) -> None:
    before = contents(data)
    headers = {"Content-Type": content_type or "multipart/form-data; boundary=b"}
    answer = connection.http.post("/v1/tasks", content=body, headers=headers)
    assert answer.status_code in (400, 413)
    assert answer.json()["success"] is False
    assert contents(data) == before


def test_a_key_covers_the_files_too(connection: Connection, data: Path) -> None:
    headers = {"Idempotency-Key": "with files"}
    first = post(connection, files(("a.txt", "A")), headers)
    pressed(connection, first)
    before = contents(data)
    again = post(connection, files(("a.txt", "A")), headers)
    assert again.json()["task"]["id"] == first.json()["task"]["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    for parts in (files(("a.txt", "B")), files(("b.txt", "A")), files(("a.txt", "A"), ("b", ""))):
        assert post(connection, parts, headers).status_code == 422
    assert contents(data) == before


def test_more_files_than_allowed_are_refused(connection: Connection, data: Path) -> None:
    before = contents(data)
    answer = post(connection, files(*((f"{n}.txt", "") for n in range(1_001))))
    assert answer.status_code == 413
    assert "1000" in answer.json()["message"]
    assert contents(data) == before


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (FormLimits(file_size=999), "file 'big'"),
        (FormLimits(total_size=1_000), "1000 bytes"),
        (FormLimits(text_size=5), "texts"),
        (FormLimits(file_size=1_000, text_size=11), None),
    ],
)
async def test_what_is_larger_than_a_limit_is_refused(
    shop: Path, tmp_path: Path, limits: FormLimits, word: str | None
) -> None:
    async with open_service([shop], data_dir=tmp_path) as service:
        app = create_app(service, token=None, hosts=None, limits=HttpLimits(form=limits))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            form = {"manifest": (None, "shop::press"), "files": ("big", b"x" * 1_000)}
            request = client.build_request("POST", "/v1/tasks", files=form)
            announced = await client.send(request)
            body = request.read()

            async def unannounced() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 100):
                    yield body[start : start + 100]

            headers = {"Content-Type": request.headers["Content-Type"]}
            streamed = await client.post("/v1/tasks", content=unannounced(), headers=headers)
        for answer in (announced, streamed):
            assert answer.status_code == (413 if word else 200)
            assert word is None or word in answer.json()["message"]
        names = [Path(name).name for name in contents(tmp_path)]
        assert names.count("big") == (0 if word else 2)
        assert not any(name.startswith("incoming/") for name in contents(tmp_path))


def begin_upload(connection: Connection, size: int, sent: int) -> socket.socket:
    """Send the beginning of a form that announces a file of this size."""
    address = connection.http.base_url
    stream = socket.create_connection((address.host, address.port))
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    stream.sendall(
        b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: " + str(len(head) + size).encode() + b"\r\n\r\n" + head
    )
    stream.sendall(b"x" * sent)
    return stream


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    connection: Connection, data: Path
) -> None:
    before = contents(data)
    with begin_upload(connection, 10_000_000, 2_000_000):
        wait_until(lambda: contents(data) != before)
    wait_until(lambda: contents(data) == before)


def test_a_kill_in_the_middle_leaves_rubbish_only_until_the_next_start(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process()
    incoming = tmp_path / "data" / "incoming"
    with begin_upload(process.connection, 10_000_000, 2_000_000):
        wait_until(lambda: incoming.exists() and any(incoming.rglob("f")))
        process.kill()
    assert any(incoming.iterdir())
    process = start_process()
    assert not any(incoming.iterdir())
    assert process.connection.http.get("/v1/tasks").json() == {"tasks": []}


def test_files_whose_task_was_stored_just_before_a_kill_are_kept(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process()
    answer = post(process.connection, files(("a.txt", "A")))
    task = answer.json()["task"]
    process.connection.wait(task["id"])
    process.kill()
    # As it would be, had the kill come between the commit and the move.
    root = tmp_path / "data"
    uploads = root / "sessions" / task["session_id"] / "uploads"
    os.replace(uploads, root / "incoming" / task["session_id"])
    start_process()
    assert (uploads / "0" / "a.txt").read_text() == "A"
    assert not any((root / "incoming").iterdir())


def test_the_files_of_a_task_survive_a_kill_and_are_there_when_it_runs(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process(max_tasks=1)
    blocker = process.connection.create("shop::forever", {"file": str(tmp_path / "pids")})
    answer = post(process.connection, files(("a.txt", "A")))
    process.kill()
    connection = start_process(max_tasks=1).connection
    connection.stop(blocker)
    assert pressed(connection, answer)["cover"] == "a.txt: A"


def test_a_large_file_passes_through_little_memory(
    start_process: StartProcess, tmp_path: Path
) -> None:
    process = start_process()
    connection = process.connection
    pressed(connection, post(connection, files(("warm", "up"))))
    size, chunk = 300 * 2**20, os.urandom(2**20)
    digest = hashlib.sha256()
    before = peak = process.memory

    def form() -> Iterator[bytes]:
        nonlocal peak
        part = b"--b\r\nContent-Disposition: form-data; "
        yield part + b'name="manifest"\r\n\r\nshop::press\r\n'
        yield part + b'name="files"; filename="large.bin"\r\n\r\n'
        for number in range(size // len(chunk)):
            digest.update(chunk)
            yield chunk
            if number % 10 == 0:
                peak = max(peak, process.memory)
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    began = time.monotonic()
    answer = connection.http.post(
        "/v1/tasks", content=form(), headers=headers, timeout=4 * PATIENCE
    )
    seconds = time.monotonic() - began
    grown = max(peak, process.memory) - before
    print(f"300 MB in {seconds:.1f} s, with {grown / 2**20:.1f} MB more memory")
    assert pressed(connection, answer)["cover"] == digest.hexdigest()
    assert grown < 60 * 2**20
