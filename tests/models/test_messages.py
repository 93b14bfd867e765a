"""Messages and the files that go with them, as they reach a service."""

from __future__ import annotations

import base64
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import OpenAIServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
def models(openai: OpenAIServer, models_face: ModelsFace) -> Any:
    return models_face(openai.url, model="m", max_file_size=1000)


@pytest.fixture
def sent(models: Any, openai: OpenAIServer) -> Any:
    """Ask, and return the messages as they arrived."""

    def ask(messages: Any, **options: Any) -> Any:
        models.chat(messages, **options)
        return openai.calls[-1].json["messages"]

    return ask


def data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        (None, TypeError, "messages must be text or a sequence"),
        (5, TypeError, "messages must be text or a sequence"),
        (b"hi", TypeError, "messages must be text or a sequence"),
        ({"role": "user", "content": "a"}, TypeError, "messages must be text or a sequence"),
        ([], ValueError, "messages must not be empty"),
        (["hi"], TypeError, r"messages\[0\] must be a mapping"),
        ([{"content": "a"}], ValueError, r"messages\[0\] has the role None"),
        ([{"role": "robot", "content": "a"}], ValueError, "has the role 'robot'; roles are system"),
        ([{"role": [], "content": "a"}], ValueError, r"has the role \[\]"),
        ([{"role": "user"}], ValueError, r"messages\[0\] has no content"),
        ([{"role": "assistant"}], ValueError, r"messages\[0\] has no content"),
        ([{"role": "user", "content": 5}], TypeError, "content must be text or a list of parts"),
        ([{"role": "user", "content": b"a"}], TypeError, "content must be text or a list of parts"),
        ([{"role": "user", "content": ["a"]}], TypeError, r"content\[0\] must be a mapping with a"),
        ([{"role": "user", "content": [{"a": 1}]}], TypeError, r"content\[0\] must be a mapping"),
        (
            [{"role": "user", "content": [{"type": "text", "text": {1, 2}}]}],
            TypeError,
            r"messages\[0\]\['content'\]\[0\]\['text'\] can't be sent as JSON",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": "a", "x": float("nan")}],
            ValueError,
            r"messages\[1\]\['x'\] is nan",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_unusable_message_is_named(
    models: Any, openai: OpenAIServer, messages: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        models.chat(messages)
    assert openai.calls == []
    assert models.stats.requests == 0


def test_an_unusable_parameter_is_named(models: Any, openai: OpenAIServer) -> None:
    with pytest.raises(ValueError, match="temperature is nan"):
        models.chat("hi", temperature=float("nan"))
    with pytest.raises(TypeError, match="stop can't be sent as JSON"):
        models.chat("hi", stop={"a"})
    with pytest.raises(TypeError, match="'stream' is no parameter"):
        models.chat("hi", stream=True)
    assert openai.calls == []


def test_a_model_must_be_named(models_face: ModelsFace, openai: OpenAIServer) -> None:
    with pytest.raises(ValueError, match="no model is named"):
        models_face(openai.url).chat("hi")


def test_messages_arrive_as_they_were_given(sent: Any) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "me"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "user", "content": "\ud800 🙂"},
    ]
    assert sent(tuple(messages)) == messages


class Model:
    """Something like a model of pydantic's."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        assert exclude_none
        return {name: value for name, value in self.fields.items() if value is not None}


def test_parts_of_googles_become_openais(sent: Any) -> None:
    parts = [
        Model(text="look", inline_data=None),
        Model(inline_data={"mime_type": "image/png", "data": PNG}),
        Model(
            inline_data={"mime_type": "application/pdf", "data": "QUJD", "display_name": "a.pdf"}
        ),
        Model(file_data={"file_uri": "https://x.example/a.mp4", "mime_type": "video/mp4"}),
        {"file_data": {"file_uri": "https://x.example/b/c.png"}},
        {"file_data": {"file_uri": "gs://bucket/d", "mime_type": "application/pdf"}},
    ]
    (message,) = sent([Model(role="user", content=parts, name=None)])
    assert message == {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": data(PNG, "image/png")}},
            {
                "type": "file",
                "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"},
            },
            {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}},
            {"type": "image_url", "image_url": {"url": "https://x.example/b/c.png"}},
            {
                "type": "file",
                "file": {
                    "file_data": "gs://bucket/d",
                    "filename": "d",
                    "mime_type": "application/pdf",
                },
            },
        ],
    }


def test_a_part_of_googles_that_openai_lacks_is_named(models: Any) -> None:
    part = Model(function_call={"name": "f"})
    with pytest.raises(TypeError, match=r"content\[0\] must be a mapping with a 'type'"):
        models.chat([{"role": "user", "content": [part]}])


def image(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


def document(address: str, name: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": address, "filename": name}}


UNKNOWN = "application/octet-stream"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.png"], [image(data(PNG, "image/png"))]),
        ("a.png", [image(data(PNG, "image/png"))]),
        (Path("a.png"), [image(data(PNG, "image/png"))]),
        (PurePosixPath("a.png"), [image(data(PNG, "image/png"))]),
        (["a.png", "a.png"], [image(data(PNG, "image/png"))] * 2),
        (("a.png", "a.png"), [image(data(PNG, "image/png"))] * 2),
        (lambda: iter(["a.png"]), [image(data(PNG, "image/png"))]),
        (b"raw", [document(data(b"raw", UNKNOWN), "file-1")]),
        ([bytearray(b"raw")], [document(data(b"raw", UNKNOWN), "file-1")]),
        (("x.jpg", b"raw"), [image(data(b"raw", "image/jpeg"))]),
        ([("x", b"raw", "image/webp")], [image(data(b"raw", "image/webp"))]),
        ([("x.txt", "text")], [document(data(b"text", "text/plain"), "x.txt")]),
        (
            [("x.mp4", b"raw")],
            [{"type": "video_url", "video_url": {"url": data(b"raw", "video/mp4")}}],
        ),
        (
            lambda: [("x.pdf", BytesIO(b"raw"))],
            [document(data(b"raw", "application/pdf"), "x.pdf")],
        ),
        (lambda: StringIO("ä"), [document(data("ä".encode(), UNKNOWN), "file-1")]),
        (["https://x.example/y/z.png?a=1"], [image("https://x.example/y/z.png?a=1")]),
        (["HTTPS://x.example/z.png"], [image("HTTPS://x.example/z.png")]),
        (
            ["http://x.example/z.mov"],
            [{"type": "video_url", "video_url": {"url": "http://x.example/z.mov"}}],
        ),
        (["https://x.example"], [document("https://x.example", "file")]),
        (["data:image/png;base64,QUJD"], [image("data:image/png;base64,QUJD")]),
        (["data:IMAGE/PNG;base64,QUJD"], [image("data:IMAGE/PNG;base64,QUJD")]),
        (["data:,abc"], [document("data:,abc", "file")]),
        (None, []),
        ((), []),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_files_go_with_the_last_user_message(
    models: Any, openai: OpenAIServer, files: Any, expected: Any, as_text: bool
) -> None:
    Path("a.png").write_bytes(PNG)
    text = {"type": "text", "text": "look"}
    messages = [
        {"role": "user", "content": "before"},
        {"role": "user", "content": "look" if as_text else [text]},
        {"role": "assistant", "content": "go on"},
    ]
    models.chat(messages, files=files() if callable(files) else files)
    unchanged = "look" if as_text and not expected else [text, *expected]
    assert openai.calls[0].json["messages"] == [
        messages[0],
        {"role": "user", "content": unchanged},
        messages[2],
    ]
    assert messages[1]["content"] == ("look" if as_text else [text])


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("nowhere.png", FileNotFoundError, "no such file"),
        ("", TypeError, "a path must be non-empty text"),
        (".", IsADirectoryError, "a directory can't be sent"),
        ("empty.png", ValueError, "the file 'empty.png' is empty"),
        (b"", ValueError, "is empty"),
        ("large.png", ValueError, "'large.png' is larger than the 1000 bytes"),
        (("x.png", b"x" * 1001), ValueError, "'x.png' is larger than the 1000 bytes"),
        ("data:image/png;base64," + "QUJD" * 400, ValueError, "larger than the 1000 bytes"),
        ("data:image/png;base64,", ValueError, "is no data address with content"),
        ("data:image/png", ValueError, "is no data address with content"),
        ("https://", ValueError, "names no host"),
        (5, TypeError, "must be a path, bytes, an open file"),
        (("x", 5), TypeError, "must be a path, bytes, an open file"),
        (("x", b"a", "no type"), ValueError, "is not a content type"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_unusable_file_is_named(
    models: Any, openai: OpenAIServer, file: Any, error: Any, message: str
) -> None:
    Path("empty.png").touch()
    Path("large.png").write_bytes(b"x" * 1001)
    with pytest.raises(error, match=message):
        models.chat("look", files=[file])
    assert openai.calls == []


def test_a_file_of_just_the_largest_size_is_sent(sent: Any) -> None:
    (message,) = sent("look", files=[("x.png", b"x" * 1000)])
    assert len(message["content"]) == 2
    sent("look", files=["data:image/png;base64," + base64.b64encode(b"x" * 1000).decode()])


def test_files_need_a_user_message(models: Any) -> None:
    with pytest.raises(ValueError, match="files go with a user message"):
        models.chat([{"role": "system", "content": "a"}], files=[b"x"])


def test_a_file_that_was_read_in_part_is_sent_from_there(sent: Any) -> None:
    file = BytesIO(b"abcdef")
    file.read(3)
    (message,) = sent("look", files=[("x.png", file)])
    assert message["content"][1] == image(data(b"def", "image/png"))
    assert not file.closed
