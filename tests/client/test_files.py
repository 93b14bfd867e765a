from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Iterator, List
from urllib.parse import unquote

import pytest
from file_server import FileServer, StoredFile, file_server
from scripted import ScriptedServer, task

from oomol_connect_sdk import (
    ApiError,
    ConnectionFailedError,
    OomolConnectClient,
    OomolConnectError,
)

Face = Callable[..., Any]


@pytest.fixture
def files() -> Iterator[FileServer]:
    """A server of files."""
    with file_server() as running:
        yield running


class Pipe(io.RawIOBase):
    """A binary file that can't be rewound."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


FORMS: Any = {
    "a path": (lambda path: str(path), "note.txt", "text/plain"),
    "a path object": (lambda path: path, "note.txt", "text/plain"),
    "bytes": (lambda path: b"one\ntwo", "file-1", "application/octet-stream"),
    "a byte array": (lambda path: bytearray(b"one\ntwo"), "file-1", "application/octet-stream"),
    "bytes in memory": (lambda path: io.BytesIO(b"one\ntwo"), "file-1", "application/octet-stream"),
    "text in memory": (lambda path: io.StringIO("one\ntwo"), "file-1", "application/octet-stream"),
    "a pipe": (lambda path: Pipe(b"one\ntwo"), "file-1", "application/octet-stream"),
    "a name and bytes": (lambda path: ("a.csv", b"one\ntwo"), "a.csv", "text/csv"),
    "a name and a text": (lambda path: ("a.csv", "one\ntwo"), "a.csv", "text/csv"),
    "a name and a path": (lambda path: ("a.csv", path), "a.csv", "text/csv"),
    "a name, a file and a type": (
        lambda path: ("a.csv", io.BytesIO(b"one\ntwo"), "text/x-own"),
        "a.csv",
        "text/x-own",
    ),
    "a packed file": (
        lambda path: ("a.csv.gz", b"one\ntwo"),
        "a.csv.gz",
        "application/octet-stream",
    ),
    "a mapping": (lambda path: {"a.csv": "one\ntwo"}, "a.csv", "text/csv"),
    "a list": (lambda path: [path], "note.txt", "text/plain"),
    "a tuple of files": (lambda path: (io.BytesIO(b"one\ntwo"),), "file-1", None),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_arrives_whole_in_whatever_form_it_is_passed(
    face: Face, files: FileServer, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes(b"one\ntwo")
    make, name, media_type = FORMS[form]
    face(base_url=files.url).tasks.create_with_files("p::b", {"n": 1}, make(path))
    (upload,) = files.uploads
    assert upload.files == [(name, media_type or "application/octet-stream", b"one\ntwo")]


def test_open_files_are_read_from_where_they_are_and_left_open(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("skipped,hällo", encoding="utf-8")
    with open(path, "rb") as binary, open(path, encoding="utf-8") as text:
        binary.seek(8)
        text.read(8)
        face(base_url=files.url).tasks.create_with_files("p::b", {}, [binary, text])
        assert not binary.closed
        assert not text.closed
    (upload,) = files.uploads
    assert [content.decode() for _, _, content in upload.files] == ["hällo", "hällo"]
    assert [name for name, _, _ in upload.files] == ["note.txt", "note.txt"]


def test_several_files_keep_their_order_and_nameless_ones_get_a_number(
    face: Face, files: FileServer
) -> None:
    same = io.BytesIO(b"c")
    content = [b"a", ("b.txt", "b"), same, same]
    face(base_url=files.url).tasks.create_with_files("p::b", {}, content)
    names = [(name, body) for name, _, body in files.uploads[0].files]
    assert names == [("file-1", b"a"), ("b.txt", b"b"), ("file-3", b"c"), ("file-4", b"c")]


def test_what_to_run_and_its_inputs_are_fields_of_the_same_request(
    face: Face, files: FileServer
) -> None:
    client = face(base_url=files.url)
    client.tasks.create_with_files("p::b", {"text": 'ü "1"\n'}, b"x")
    client.tasks.create_with_files("flow-1", None, b"x")
    client.tasks.create_with_files("p::b", {"n": 1})
    block, flow, bare = files.uploads
    inputs = [{"nodeId": "_", "inputs": [{"handle": "text", "value": 'ü "1"\n'}]}]
    fields = block.fields
    assert json.loads(fields.pop("inputValues")) == inputs
    assert fields == {"manifest": "p::b", "blockId": "p::b"}
    assert flow.fields == {"manifest": "flow-1", "blockId": "flow-1", "flowName": "flow-1"}
    assert bare.headers["content-type"].startswith("multipart/form-data")
    assert bare.files == []
    assert json.loads(bare.fields["inputValues"])[0]["inputs"] == [{"handle": "n", "value": 1}]


@pytest.mark.parametrize(
    "name", ["naïve 名前.txt", 'quo"te.txt', "a\r\nX-Evil: 1\r\n\r\nb", "a;b='c'.txt", "%41.txt"]
)
def test_any_file_name_arrives(face: Face, files: FileServer, name: str) -> None:
    face(base_url=files.url).tasks.create_with_files("p::b", {}, [(name, b"1"), ("z", b"2")])
    (upload,) = files.uploads
    arrived = [(name, body) for name, _, body in upload.files]
    escaped = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    assert arrived == [(escaped, b"1"), ("z", b"2")]
    assert unquote(arrived[0][0]) == unquote(name)
    assert _as_a_web_framework_sees(upload) == arrived


def _as_a_web_framework_sees(upload: Any) -> Any:
    multipart = pytest.importorskip("python_multipart", reason="part of the server extra")
    found: List[Any] = []
    multipart.parse_form(
        {key.title(): value.encode() for key, value in upload.headers.items()},
        io.BytesIO(upload.body),
        lambda field: None,
        lambda file: found.append((file.file_name.decode(), file.file_object)),
    )
    return [(name, (stream.seek(0), stream.read())[1]) for name, stream in found]


def test_the_length_is_told_when_all_sizes_are_known(face: Face, files: FileServer) -> None:
    client = face(base_url=files.url)
    client.tasks.create_with_files("p::b", {}, [b"x" * 70000, ("a", "ü"), b""])
    client.tasks.create_with_files("p::b", {}, [b"x", Pipe(b"y" * 70000)])
    known, unknown = files.uploads
    assert int(known.headers["content-length"]) == known.size
    assert "transfer-encoding" not in known.headers
    assert unknown.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in unknown.headers
    assert [len(body) for _, _, body in unknown.files] == [1, 70000]


def test_an_upload_that_was_refused_with_a_pace_is_sent_again_from_the_same_place(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(700000))
    opened = io.BytesIO(b"skipped,rest")
    opened.seek(8)
    files.refusals = [503, 429]
    face(base_url=files.url).tasks.create_with_files("p::b", {}, [path, opened])
    contents = [[body for _, _, body in upload.files] for upload in files.uploads]
    assert contents == [[path.read_bytes(), b"rest"]] * 3


def test_a_file_that_cannot_be_rewound_is_sent_only_once(face: Face, files: FileServer) -> None:
    files.refusals = [503]
    with pytest.raises(ApiError, match=r"later.*'file-1' was read and can't be rewound") as caught:
        face(base_url=files.url).tasks.create_with_files("p::b", {}, Pipe(b"x"))
    assert caught.value.status == 503
    assert len(files.uploads) == 1


def test_a_file_that_was_never_read_is_sent_again_after_a_failed_connection(face: Face) -> None:
    pipe = Pipe(b"x")
    with pytest.raises(ConnectionFailedError) as caught:
        face(base_url="http://127.0.0.1:1/api", max_retries=1).tasks.create_with_files(
            "p::b", {}, pipe
        )
    assert not caught.value.outcome_unknown
    assert "rewound" not in str(caught.value)
    assert pipe.read() == b"x"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("hello world", "no such file.*hello world"),
        ("x" * 100000, "no such file"),
        ("nul\0l", "no such file"),
        ("", "non-empty text"),
        (7, "files must be a path, bytes, an open file"),
        ([b"a", 7], r"files\[1\] must be a path"),
        ([("", b"a")], r"files\[0\]: a file name"),
        ({"a.txt": 7}, r"files\['a.txt'\] must be"),
        ([("a", b"", "text")], "'text' is not a content type"),
        ([("a", b"", "a/b\r\nX: 1")], "is not a content type"),
        ([object()], r"files\[0\] must be"),
    ],
)
def test_what_is_no_file_is_named_and_nothing_is_sent(
    face: Face, files: FileServer, value: Any, fault: str
) -> None:
    with pytest.raises((TypeError, ValueError, OSError), match=fault):
        face(base_url=files.url).tasks.create_with_files("p::b", {}, value)
    assert files.uploads == []


def test_a_directory_and_a_closed_file_are_refused(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    closed = io.BytesIO()
    closed.close()
    create = face(base_url=files.url).tasks.create_with_files
    with pytest.raises(IsADirectoryError):
        create("p::b", {}, tmp_path)
    with pytest.raises(ValueError, match="closed file"):
        create("p::b", {}, closed)
    assert files.uploads == []


def test_two_paths_in_a_tuple_are_not_taken_for_a_name_and_a_text(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    paths = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for path in paths:
        Path(path).write_text(path)
    create = face(base_url=files.url).tasks.create_with_files
    with pytest.raises(ValueError, match="pass a list"):
        create("p::b", {}, tuple(paths))
    create("p::b", {}, paths)
    assert [name for name, _, _ in files.uploads[0].files] == ["a.csv", "b.csv"]


def test_progress_ends_at_the_size_of_the_body(face: Face, files: FileServer) -> None:
    told: List[Any] = []
    content = b"x" * 1500000
    face(base_url=files.url).tasks.create_with_files(
        "p::b", {}, content, on_upload=lambda sent, total: told.append((sent, total))
    )
    size = files.uploads[0].size
    sent = [count for count, _ in told]
    assert sent == sorted(sent)
    assert len(set(sent)) > 3
    assert told[-1] == (size, size)
    assert {total for _, total in told} == {size}


def test_an_error_in_the_progress_callback_reaches_the_caller(
    face: Face, files: FileServer
) -> None:
    def refuse(sent: int, total: Any) -> None:
        raise KeyError("stop here")

    with pytest.raises(KeyError, match="stop here"):
        face(base_url=files.url).tasks.create_with_files("p::b", {}, b"x", on_upload=refuse)


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 2000000)

    def cut(sent: int, total: Any) -> None:
        os.truncate(path, 1000)

    with pytest.raises(OomolConnectError, match=r"'a.bin' has not the 2000000 bytes"):
        face(base_url=files.url).tasks.create_with_files("p::b", {}, path, on_upload=cut)


def test_a_file_that_grows_is_sent_as_it_was_at_first(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 600000)

    def append(sent: int, total: Any) -> None:
        with open(path, "ab") as file:
            file.write(b"y")

    face(base_url=files.url).tasks.create_with_files("p::b", {}, path, on_upload=append)
    assert files.uploads[0].files[0][2] == b"x" * 600000


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to see open files")
def test_what_was_opened_for_an_upload_is_closed_however_it_ends(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 2000000)
    seen: List[bool] = []

    def refuse(sent: int, total: Any) -> None:
        seen.append(_is_open(path))
        if sent > 500:
            raise KeyError

    create = face(base_url=files.url).tasks.create_with_files
    with pytest.raises(KeyError):
        create("p::b", {}, path, on_upload=refuse)
    assert not _is_open(path)
    create("p::b", {}, path)
    assert not _is_open(path)
    assert any(seen)


def _is_open(path: Path) -> bool:
    directory = Path("/proc/self/fd")
    links = []
    for entry in directory.iterdir():
        try:
            links.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return str(path) in links


def test_a_large_file_is_never_in_memory_as_a_whole(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    with open(path, "wb") as file:
        file.truncate(48 * 1024 * 1024)
    files.keep = False
    client = face(base_url=files.url)
    client.tasks.create_with_files("p::b", {}, b"")
    tracemalloc.start()
    try:
        client.tasks.create_with_files("p::b", {}, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert files.uploads[-1].size > 48 * 1024 * 1024
    assert peak < 8 * 1024 * 1024


def test_run_with_files_waits_for_the_result(face: Face, files: FileServer) -> None:
    seen: List[str] = []
    result = face(base_url=files.url).tasks.run_with_files(
        "p::b", {"n": 1}, [b"a"], {"on_progress": lambda task: seen.append(task["status"])}
    )
    assert (result["task_id"], result["result"]) == ("t1", {"n": 1})
    assert seen[-1] == "completed"
    assert len(files.uploads) == 1


class AsyncFile:
    """A file of which every method is a coroutine function."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(size)

    async def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    async def tell(self) -> int:
        return self._file.tell()


async def test_an_asynchronous_file_is_awaited(files: FileServer) -> None:
    files.refusals = [503]
    async with OomolConnectClient(base_url=files.url) as client:
        await client.tasks.create_with_files("p::b", {}, ("a.txt", AsyncFile(b"one")))
    assert [upload.files for upload in files.uploads] == [[("a.txt", "text/plain", b"one")]] * 2


async def test_a_coroutine_function_is_told_of_the_progress(files: FileServer) -> None:
    told: List[int] = []

    async def tell(sent: int, total: Any) -> None:
        await asyncio.sleep(0)
        told.append(sent)

    async with OomolConnectClient(base_url=files.url) as client:
        await client.tasks.create_with_files("p::b", {}, b"x", on_upload=tell)
    assert told[-1] == files.uploads[0].size


async def test_the_event_loop_goes_on_while_a_file_is_read(files: FileServer) -> None:
    class SlowFile(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            loop.call_soon_threadsafe(begun.set)
            assert finish.wait(10), "the loop was blocked"
            return super().read(size)

    loop, begun, finish = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def wait_on_the_loop() -> None:
        await begun.wait()
        finish.set()

    async with OomolConnectClient(base_url=files.url) as client:
        upload = client.tasks.create_with_files("p::b", {}, SlowFile(b"one"))
        await asyncio.gather(upload, wait_on_the_loop())
    assert files.uploads[0].files[0][2] == b"one"


def test_the_blocking_client_refuses_an_asynchronous_file(files: FileServer) -> None:
    from oomol_connect_sdk import SyncOomolConnectClient

    with SyncOomolConnectClient(base_url=files.url) as client, pytest.raises(
        TypeError, match="a plain file"
    ):
        client.tasks.create_with_files("p::b", {}, AsyncFile(b"one"))
    assert files.uploads == []


def joined(client: Any, stream: Any) -> bytes:
    """Read a stream of either face to its end."""
    if not hasattr(stream, "__aiter__"):
        return b"".join(stream)

    async def join() -> bytes:
        return b"".join([piece async for piece in stream])

    content: bytes = client._loop.run_until_complete(join())
    return content


CONTENT = bytes(range(256)) * 8000


def test_the_files_of_a_task_are_listed(face: Face, files: FileServer) -> None:
    files.files = {"a b.csv": StoredFile(b"123")}
    listed = face(base_url=files.url).tasks.list_files("t1")
    assert listed == {"files": [{"name": "a b.csv", "size": 3}]}


def test_a_file_is_saved_under_its_name_or_another(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    files.files = {"rép ört.csv": StoredFile(CONTENT), "empty": StoredFile(b"")}
    tasks = face(base_url=files.url).tasks
    other = tmp_path / "other.csv"
    other.write_text("replaced")
    assert tasks.download("t1", "rép ört.csv", tmp_path) == tmp_path / "rép ört.csv"
    assert tasks.download("t1", "rép ört.csv", str(other)) == other
    assert tasks.download("t1", "empty", tmp_path).read_bytes() == b""
    assert other.read_bytes() == (tmp_path / "rép ört.csv").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["empty", "other.csv", "rép ört.csv"]


def test_a_broken_download_goes_on_where_it_broke(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    files.files = {"a": StoredFile(CONTENT, cuts=[1000, 700000])}
    client = face(base_url=files.url)
    assert client.tasks.download("t1", "a", tmp_path).read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=1000-", "bytes=701000-"]
    files.files["a"].cuts = [600000]
    assert joined(client, client.tasks.read_file("t1", "a")) == CONTENT


def test_a_file_that_changed_after_the_break_is_read_from_its_beginning(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    stored = StoredFile(b"old" * 500, cuts=[1000])
    files.files = {"a": stored}

    class Changing(list):  # type: ignore[type-arg]
        def pop(self, *_: Any) -> Any:
            stored.content, stored.etag = b"new", '"two"'
            return super().pop()

    stored.cuts = Changing([1000])
    client = face(base_url=files.url)
    assert client.tasks.download("t1", "a", tmp_path).read_bytes() == b"new"
    stored.content, stored.etag, stored.cuts = b"old" * 500, '"one"', Changing([1000])
    with pytest.raises(OomolConnectError, match="can't be read on after 1000 bytes"):
        joined(client, client.tasks.read_file("t1", "a"))


def test_without_a_version_a_broken_download_begins_again(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    files.files = {"a": StoredFile(CONTENT, etag='W/"weak"', cuts=[1000])}
    assert face(base_url=files.url).tasks.download("t1", "a", tmp_path).read_bytes() == CONTENT
    assert files.ranges == [None, None]


def test_a_download_that_makes_no_progress_fails_and_leaves_nothing(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    target = tmp_path / "a"
    target.write_text("as it was")
    files.files = {"a": StoredFile(CONTENT, etag=None, cuts=[1000] * 9)}
    with pytest.raises(ConnectionFailedError):
        face(base_url=files.url, max_retries=1).tasks.download("t1", "a", target)
    with pytest.raises(ApiError, match="no file b") as caught:
        face(base_url=files.url).tasks.download("t1", "b", target)
    assert caught.value.status == 404
    assert len(files.ranges) == 2
    assert os.listdir(tmp_path) == ["a"]
    assert target.read_text() == "as it was"


@pytest.mark.parametrize(
    "name", ["../a", "/etc/a", r"..\a", "a/../../b", "x//y", "c:a", "sub/../a", "a\0b", "link/a"]
)
def test_a_name_never_leads_out_of_the_directory(
    face: Face, files: FileServer, tmp_path: Path, name: str
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"name the file in target"):
        face(base_url=files.url).tasks.download("t1", name, inside)
    assert files.ranges == []
    assert os.listdir(tmp_path) == ["inside"]


def test_a_name_with_folders_keeps_them_inside_the_directory(
    face: Face, server: ScriptedServer, tmp_path: Path
) -> None:
    server.on("GET /api/v1/tasks/t1/files/out%2Fa.csv", {"id": task("x")["id"]})
    path = face(base_url=server.url).tasks.download("t1", "out/a.csv", tmp_path)
    assert path == tmp_path / "out" / "a.csv"
    assert json.loads(path.read_text()) == {"id": "t1"}


async def test_a_stream_that_is_left_early_frees_its_connection(files: FileServer) -> None:
    files.files = {"a": StoredFile(CONTENT * 4)}
    async with OomolConnectClient(base_url=files.url) as client:
        for _ in range(12):
            stream = client.tasks.read_file("t1", "a")
            assert await stream.__anext__()
            await stream.aclose()
        assert (await client.tasks.get("t1"))["status"] == "completed"


async def test_a_cancelled_download_leaves_nothing(files: FileServer, tmp_path: Path) -> None:
    files.files = {"a": StoredFile(CONTENT * 4)}
    async with OomolConnectClient(base_url=files.url) as client:
        download = asyncio.ensure_future(client.tasks.download("t1", "a", tmp_path))
        while not os.listdir(tmp_path):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_a_named_pipe_is_sent_without_a_length(
    face: Face, files: FileServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"one"))
    writer.start()
    face(base_url=files.url).tasks.create_with_files("p::b", {}, pipe)
    writer.join()
    assert files.uploads[0].headers["transfer-encoding"] == "chunked"
    assert files.uploads[0].files == [("pipe", "application/octet-stream", b"one")]
