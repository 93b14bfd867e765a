"""DIAL's files, against a stand-in that keeps the rules of DIAL Core."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from dial_server import KEY, DialServer, dial_server
from faces import ModelsFace
from openai_server import BREAK, Answer, OpenAIServer, broken, head, respond

from oomol_connect_sdk.errors import (
    ApiError,
    BadAnswerError,
    ConnectionFailedError,
    OomolConnectError,
)

#: The names that the documentation of DIAL's client shows of a file's metadata.
DOCUMENTED = {
    "name",
    "parent_path",
    "bucket",
    "url",
    "node_type",
    "resource_type",
    "content_length",
    "content_type",
    "items",
    "updatedAt",
    "createdAt",
    "etag",
}


@pytest.fixture(scope="module")
def dial() -> Iterator[DialServer]:
    with dial_server() as server:
        yield server


@pytest.fixture
def files(dial: DialServer, models_face: ModelsFace) -> Any:
    return models_face(dial.url, api_key=KEY, retry_delay=0.01).files


@pytest.fixture
def folder(files: Any) -> PurePosixPath:
    """A folder that no other test uses."""
    folder: PurePosixPath = files.home() / uuid.uuid4().hex
    return folder


def scripted_files(openai: OpenAIServer, models_face: ModelsFace, **options: Any) -> Any:
    """Files of a DIAL that answers what the test says."""
    options = {"max_retries": 0, "retry_delay": 0.01, **options}
    return models_face(f"dial+http://127.0.0.1:{openai.port}/prefix", **options).files


def content_of(files: Any, url: Any) -> bytes:
    return b"".join(files.read(url))


def test_home_is_asked_once(dial: DialServer, models_face: ModelsFace) -> None:
    exchanges: list[Any] = []
    models = models_face(dial.url, api_key=KEY, on_exchange=exchanges.append)
    homes = [models.files.home(), models.files.home()]

    assert homes == [PurePosixPath("files/bucket1")] * 2
    assert str(homes[0] / "a folder" / "a file.txt") == "files/bucket1/a folder/a file.txt"
    assert [exchange.url for exchange in exchanges] == [f"{dial.base}/v1/bucket"]


class Text(io.StringIO):
    name = "somewhere/text.html"


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (b"content", "text/csv"),
        (bytearray(b"content"), "text/csv"),
        (io.BytesIO(b"content"), "text/csv"),
        (Text("content"), "text/html"),
        (("a.txt", b"content"), "text/plain"),
        (("a.txt", "content"), "text/plain"),
        (("a.txt", b"content", "text/x-ours"), "text/x-ours"),
        (("a.txt", "content", "text/x-ours"), "text/x-ours"),
        (("a.txt", "text/x-dial", b"content"), "text/x-dial"),
        (("a.txt", "text/x-dial", io.BytesIO(b"content")), "text/x-dial"),
    ],
)
def test_a_file_is_uploaded_in_every_form(
    files: Any, folder: PurePosixPath, file: Any, kind: str
) -> None:
    for part in file if isinstance(file, tuple) else [file]:
        if hasattr(part, "seek"):
            part.seek(0)
    metadata = files.upload(folder / "a.csv", file)

    assert (metadata["content_length"], metadata["content_type"]) == (7, kind)
    assert content_of(files, folder / "a.csv") == b"content"


def test_a_path_is_uploaded_in_both_orders_of_a_tuple(
    files: Any, folder: PurePosixPath, tmp_path: Path
) -> None:
    path = tmp_path / "here.json"
    path.write_bytes(b"{}")

    kinds = [
        files.upload(folder / "there", file)["content_type"]
        for file in (path, str(path), ("a.xml", path), ("a", path, "a/b"), ("a", "c/d", path))
    ]
    assert kinds == ["application/json", "application/json", "application/xml", "a/b", "c/d"]


def test_what_is_no_file_is_refused_before_anything_is_sent(models_face: ModelsFace) -> None:
    files = models_face("dial+http://127.0.0.1:1").files

    with pytest.raises(TypeError, match="must be a path, bytes, an open file"):
        files.upload("files/b/a", 5)
    with pytest.raises(FileNotFoundError):
        files.upload("files/b/a", "no/such/file")
    with pytest.raises(ValueError, match="'not a type' is not a content type"):
        files.upload("files/b/a", ("a", "text", "not a type"))


def test_metadata_has_the_documented_names(files: Any, folder: PurePosixPath) -> None:
    uploaded = files.upload(folder / "a.txt", b"content")
    metadata = files.metadata(folder / "a.txt")

    assert set(metadata) == DOCUMENTED
    assert metadata == uploaded
    assert (metadata["name"], metadata["parent_path"]) == ("a.txt", folder.name)
    assert (metadata["bucket"], metadata["url"]) == ("bucket1", str(folder / "a.txt"))
    assert (metadata["node_type"], metadata["resource_type"]) == ("ITEM", "FILE")
    assert metadata["etag"] == "9a0364b9e99bb480dd25e1f0284c8555"
    assert metadata["items"] is None
    assert metadata["updatedAt"] >= metadata["createdAt"] > 1_700_000_000_000


def test_a_folder_ends_with_a_slash_and_shows_all_it_holds(
    files: Any, folder: PurePosixPath
) -> None:
    names = [f"{number}.txt" for number in range(7)]
    for name in [*names, "below/one.txt", "below/two.txt"]:
        files.upload(folder / name, b"x")

    metadata = files.metadata(f"{folder}/")
    # The stand-in gives three entries at once.
    assert [item["name"] for item in metadata["items"]] == [*names, "below"]
    assert (metadata["node_type"], metadata["name"]) == ("FOLDER", folder.name)
    assert set(metadata) == DOCUMENTED == set(metadata["items"][0])
    (below,) = [item for item in metadata["items"] if item["node_type"] == "FOLDER"]
    assert [item["name"] for item in files.metadata(below["url"])["items"]] == [
        "one.txt",
        "two.txt",
    ]
    with pytest.raises(ApiError, match="answered with HTTP status 404"):
        files.metadata(folder)


def test_the_bucket_itself_is_a_folder(files: Any, folder: PurePosixPath) -> None:
    files.upload(folder / "a.txt", b"x")

    for home in (files.home(), str(files.home()), f"{files.home()}/"):
        assert folder.name in [item["name"] for item in files.metadata(home)["items"]]


@pytest.mark.parametrize(
    "name",
    [
        "with blanks.txt",
        "ünï/文件.txt",
        "100%.txt",
        "50%-off.txt",
        "a+b&c=d;e,f@g:h.txt",
        "a?b#c.txt",
        "[x]{y}~'!*().txt",
        "\\back\\slash",
        "..hidden",
    ],
)
def test_a_name_is_percent_encoded_once(files: Any, folder: PurePosixPath, name: str) -> None:
    uploaded = files.upload(folder / name, name.encode())

    assert uploaded["name"] == PurePosixPath(name).name
    # The address comes back percent-encoded, and names the same file.
    for url in (folder / name, f"{folder}/{name}", uploaded["url"]):
        assert content_of(files, url) == name.encode()
        assert files.metadata(url) == uploaded


def test_what_is_percent_encoded_stays_so(files: Any, folder: PurePosixPath) -> None:
    assert files.upload(f"{folder}/a%20b%2525.txt", b"x")["name"] == "a b%25.txt"
    assert content_of(files, folder / "a b%2525.txt") == b"x"


def test_an_address_may_be_whole(
    dial: DialServer, files: Any, folder: PurePosixPath, models_face: ModelsFace
) -> None:
    address = f"{dial.base}/v1/{folder}/a b.txt"
    files.upload(address, b"content")

    assert content_of(files, folder / "a b.txt") == b"content"
    assert content_of(files, address.replace(" ", "%20").replace("http:", "HTTP:")) == b"content"
    files.delete(address)
    with pytest.raises(ApiError, match="404"):
        content_of(files, address)


def test_addresses_stand_below_the_path_of_the_service(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    files = scripted_files(openai, models_face)
    base = f"http://127.0.0.1:{openai.port}/prefix"
    openai.script(*[respond(b"")] * 2)

    files.delete("files/b/a")
    files.delete(f"{base}/v1/files/b/a")

    assert [call.path for call in openai.calls] == ["/prefix/v1/files/b/a"] * 2
    with pytest.raises(ValueError, match="its address begins with"):
        files.delete(f"http://127.0.0.1:{openai.port}/v1/files/b/a")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/files/b/a", "begins with '/'"),
        ("v1/files/b/a", "begins with 'v1/'"),
        ("", "names '' instead of 'files'"),
        ("prompts/b/a", "names 'prompts' instead of 'files'"),
        ("files", "names no bucket"),
        ("files/", "names no bucket"),
        ("files//a", "names no bucket"),
        ("files/a.txt", "names no bucket, or no file in it"),
        ("files/b/", "names a folder"),
        ("files/b/folder/", "names a folder"),
        ("files/b//a", "holds ''"),
        ("files/b/../c/a", "holds '..'"),
        ("files/b/%2e%2E/c/a", "holds '%2e%2E'"),
        ("files/b/./a", "holds '.'"),
        ("files/b/a%2Fb", "holds 'a%2Fb'"),
        ("http://example.com/v1/files/b/a", "is no address at http://127.0.0.1:1"),
        ("https://127.0.0.1:1/v1/files/b/a", "is no address at"),
        ("http://127.0.0.1:2/v1/files/b/a", "is no address at"),
        ("http://user@127.0.0.1:1/v1/files/b/a", "is no address at"),
        ("http://127.0.0.1:1/files/b/a", "its address begins with http://127.0.0.1:1/v1/"),
        ("http://127.0.0.1:1/v1/prompts/b/a", "names 'prompts' instead of 'files'"),
        ("http://127.0.0.1:1/v1/files/b/a?x=1", "has a query or fragment"),
        ("http://127.0.0.1:1/v1/files/b/a#x", "has a query or fragment"),
    ],
)
def test_any_other_address_is_refused_with_the_reason(
    models_face: ModelsFace, tmp_path: Path, url: str, reason: str
) -> None:
    files = models_face("dial+http://127.0.0.1:1").files

    for use in (
        lambda: files.upload(url, b"x"),
        lambda: list(files.read(url)),
        lambda: files.download(url, tmp_path),
        lambda: files.delete(url),
    ):
        with pytest.raises(ValueError, match=re.escape(reason)) as refused:
            use()
        assert repr(url) in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_another_kind_is_refused(models_face: ModelsFace) -> None:
    files = models_face("dial+http://127.0.0.1:1").files
    for url in (None, b"files/b/a", Path("files/b/a").absolute().parts):
        with pytest.raises(TypeError, match="named by text or a PurePosixPath"):
            files.metadata(url)


def test_conditions_are_kept(files: Any, folder: PurePosixPath) -> None:
    url = folder / "a.txt"
    first = files.upload(url, b"one", if_none_match="*")["etag"]

    with pytest.raises(ApiError, match="If-match condition is failed") as there:
        files.upload(url, b"two", if_none_match="*")
    second = files.upload(url, b"two", if_match=first)["etag"]
    with pytest.raises(ApiError) as changed:
        files.upload(url, b"three", if_match=first)
    with pytest.raises(ApiError) as kept:
        files.delete(url, if_match=first)

    assert [error.value.status for error in (there, changed, kept)] == [412] * 3
    assert content_of(files, url) == b"two"
    files.delete(url, if_match=second)
    with pytest.raises(ApiError) as gone:
        files.delete(url)
    assert gone.value.status == 404


def test_what_has_a_condition_is_not_sent_again_when_it_may_have_been_done(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    files = scripted_files(openai, models_face, max_retries=2)
    for ask in (
        lambda: files.upload("files/b/a", b"x", if_none_match="*"),
        lambda: files.delete("files/b/a", if_match="e1"),
    ):
        openai.calls.clear()
        openai.script(broken, respond(b"condition failed", 412))
        with pytest.raises(ConnectionFailedError, match="may have been carried out") as failed:
            ask()
        assert failed.value.outcome_unknown
        assert len(openai.calls) == 1
        with pytest.raises(ApiError, match="condition failed"):
            ask()


def test_without_a_condition_it_is_sent_again(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    files = scripted_files(openai, models_face, max_retries=2)
    openai.script(broken, respond(b"bad gateway", 502), respond({"url": "files/b/a"}))

    assert files.upload("files/b/a", b"x")["url"] == "files/b/a"
    assert len(openai.calls) == 3
    assert all(b"\r\n\r\nx\r\n--" in call.body for call in openai.calls)


def test_a_folder_of_another_user_is_refused(files: Any) -> None:
    with pytest.raises(ApiError, match="You don't have an access to: files") as refused:
        files.upload("files/bucket2/a.txt", b"x")
    assert refused.value.status == 403


def test_a_large_file_goes_up_and_down_in_pieces(
    files: Any, folder: PurePosixPath, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 12_000
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    files.upload(folder / "large.bin", path)

    pieces = list(files.read(folder / "large.bin"))
    assert b"".join(pieces) == content
    assert len(pieces) > 1
    saved = files.download(folder / "large.bin", tmp_path / "saved.bin")
    assert saved == tmp_path / "saved.bin"
    assert saved.read_bytes() == content


def test_a_stream_that_can_only_be_read_once_is_uploaded(files: Any, folder: PurePosixPath) -> None:
    left = [b"some ", b"content"]

    class Once:
        def read(self, size: int) -> bytes:
            return left.pop(0) if size and left else b""

    files.upload(folder / "once.txt", Once())
    assert content_of(files, folder / "once.txt") == b"some content"


def test_a_file_is_saved_under_its_name_in_a_directory(
    files: Any, folder: PurePosixPath, tmp_path: Path
) -> None:
    files.upload(folder / "my file.txt", b"content")

    assert files.download(folder / "my file.txt", tmp_path) == tmp_path / "my file.txt"
    assert (tmp_path / "my file.txt").read_bytes() == b"content"


def test_reading_may_stop_early(files: Any, folder: PurePosixPath) -> None:
    files.upload(folder / "large.bin", bytes(3_000_000))

    pieces = files.read(folder / "large.bin")
    assert next(pieces)
    pieces.close()
    assert files.metadata(folder / "large.bin")["content_length"] == 3_000_000


def test_a_broken_download_is_begun_again_and_the_file_appears_whole(
    files: Any, folder: PurePosixPath, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 8_000
    files.upload(folder / "breaks.bin", content)

    files.download(folder / "breaks.bin", tmp_path / "saved.bin")
    assert (tmp_path / "saved.bin").read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "saved.bin"]


def test_reading_from_a_broken_connection_never_gives_bytes_twice(
    files: Any, folder: PurePosixPath
) -> None:
    content = bytes(range(256)) * 8_000
    files.upload(folder / "breaks.bin", content)

    got = bytearray()
    pieces = (got.extend(piece) for piece in files.read(folder / "breaks.bin"))
    with pytest.raises(OomolConnectError, match="can't be read on after"):
        list(pieces)
    assert content.startswith(bytes(got))
    assert len(got) < len(content)


def test_a_service_with_ranges_is_read_on_where_it_broke(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    files = scripted_files(openai, models_face, max_retries=1)
    openai.script(ranged(b"0123", 0, 10, cut=True), ranged(b"456789", 4, 10))

    assert content_of(files, "files/b/a") == b"0123456789"
    first, second = (call.headers for call in openai.calls)
    assert "range" not in first
    assert (second["range"], second["if-range"]) == ("bytes=4-", '"v1"')


def test_a_download_is_tried_as_often_as_said_and_leaves_nothing(
    openai: OpenAIServer, models_face: ModelsFace, tmp_path: Path
) -> None:
    files = scripted_files(openai, models_face, max_retries=2)
    openai.script(*[respond(b"not now", 503)] * 3)

    with pytest.raises(ApiError, match=r"^not now$"):
        files.download("files/b/a", tmp_path / "saved")
    assert len(openai.calls) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_amid_leaves_what_was_there(
    openai: OpenAIServer, models_face: ModelsFace, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    saved.write_bytes(b"old")
    openai.script(ranged(b"0123", 0, 10, cut=True))

    with pytest.raises(ConnectionFailedError):
        scripted_files(openai, models_face).download("files/b/a", saved)
    assert saved.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize("body", [b"", [], {}, {"bucket": 5}, {"bucket": ""}, {"bucket": "../x"}])
def test_what_is_no_bucket_is_a_bad_answer(
    openai: OpenAIServer, models_face: ModelsFace, body: Any
) -> None:
    openai.script(respond(body))
    with pytest.raises(BadAnswerError, match="GET /v1/bucket answered"):
        scripted_files(openai, models_face).home()


@pytest.mark.parametrize(
    "body",
    [b"", [], {}, {"url": 5}, {"url": "u", "items": {}}, {"url": "u", "items": [1]}],
)
def test_what_is_no_metadata_is_a_bad_answer(
    openai: OpenAIServer, models_face: ModelsFace, body: Any
) -> None:
    files = scripted_files(openai, models_face)
    for ask in (lambda: files.metadata("files/b/a"), lambda: files.upload("files/b/a", b"x")):
        openai.script(respond(body))
        with pytest.raises(BadAnswerError, match="answered without"):
            ask()


@pytest.mark.parametrize("token", ["again", 5])
def test_a_folder_without_end_is_a_bad_answer(
    openai: OpenAIServer, models_face: ModelsFace, token: Any
) -> None:
    page = {"url": "u", "items": [], "nextToken": token}
    openai.script(*[respond(page)] * 2)
    with pytest.raises(BadAnswerError, match="has no end"):
        scripted_files(openai, models_face).metadata("files/b/a/")


def test_metadata_keeps_what_has_no_documented_name(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    body = {"url": "u", "author": "me", "items": [{"url": "v", "permissions": ["READ"]}]}
    openai.script(respond(body, ETag="e1"))
    metadata = scripted_files(openai, models_face).metadata("files/b/a/")

    assert (metadata["author"], metadata["etag"]) == ("me", "e1")
    assert metadata["items"][0]["permissions"] == ["READ"]


def ranged(content: bytes, start: int, size: int, cut: bool = False) -> Answer:
    """Answer a file of this size from this place on; ``cut`` breaks off behind the content."""
    headers = {"Content-Length": str(size - start), "ETag": '"v1"', "Content-Type": "a/b"}
    if start:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    pieces = [head(206 if start else 200, headers) + content]
    return lambda call: [*pieces, BREAK] if cut else pieces
