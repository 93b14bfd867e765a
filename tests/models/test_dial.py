"""DIAL: deployments, applications and ratings, against a real aidial-sdk application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dial_server import DEPLOYMENT, KEY, OTHER_KEY, TOKEN, DialServer, dial_server
from faces import ModelsFace
from openai_server import OpenAIServer, completion, respond

from oomol_connect_sdk.errors import ApiError, BadAnswerError
from oomol_connect_sdk.models import ModelPool, PieceJoiner, Reply, SyncModelPool

#: A deployment with an id that needs quoting.
CUSTOM = "applications/bucket1/My App"

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def dial() -> Iterator[DialServer]:
    with dial_server() as server:
        yield server


@pytest.fixture
def models(dial: DialServer, models_face: ModelsFace) -> Any:
    return models_face(dial.url, api_key=KEY, model=DEPLOYMENT, max_retries=0)


def scripted_dial(openai: OpenAIServer) -> str:
    """The address of a DIAL that answers what the test says."""
    return f"dial+http://127.0.0.1:{openai.port}"


def shown(models: Any, messages: Any, **options: Any) -> Any:
    """What the application behind DIAL got."""
    if isinstance(messages, list):
        messages = [*messages, {"role": "user", "content": "show"}]
    return json.loads(models.chat(messages, **options).text)


def test_an_answer_comes_whole(models: Any) -> None:
    reply = models.chat("hi there")

    assert reply.text == "Echo: hi there"
    assert (reply.finish, reply.usage.prompt_tokens, reply.usage.total_tokens) == ("stop", 7, 12)
    assert reply.id == reply.raw["id"]


def test_the_model_of_a_reply_is_the_deployment_that_was_asked(models: Any) -> None:
    reply = models.chat("hi")
    *_, last = models.stream("hi")

    assert (reply.model, last.model) == (DEPLOYMENT, DEPLOYMENT)
    assert reply.raw["model"] == last.raw["model"] == "a-model-behind-it"


def test_a_stream_comes_in_pieces_and_the_last_one_has_the_usage(models: Any) -> None:
    pieces = list(models.stream("hi there"))

    assert [piece.text for piece in pieces if piece.text] == ["Echo:", " ", "hi", " ", "there"]
    assert (pieces[-1].finish, pieces[-1].usage.total_tokens) == ("stop", 12)
    assert all(piece.finish is None and piece.usage is None for piece in pieces[:-1])


def test_tools_are_called_and_their_results_taken(models: Any) -> None:
    ask = {"role": "user", "content": 'call add {"a": 1}\ncall add {"a": 22}'}
    whole = models.chat([ask], tools=[TOOL])
    joiner = PieceJoiner()
    for piece in models.stream([ask], tools=[TOOL]):
        joiner.add(piece)

    assert [call.parsed() for call in whole.tool_calls] == [{"a": 1}, {"a": 22}]
    assert joiner.reply().tool_calls == whole.tool_calls
    assert (whole.finish, joiner.reply().finish) == ("tool_calls", "tool_calls")

    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"result {number}"}
        for number, call in enumerate(whole.tool_calls)
    ]
    answer = models.chat([ask, whole.message(), *results], tools=[TOOL])
    assert answer.text == "Tools: result 0 | result 1"


def test_custom_content_of_an_answer_stays_in_raw(models: Any) -> None:
    custom = models.chat("stages").raw["choices"][0]["message"]["custom_content"]
    deltas = [piece.raw["choices"][0]["delta"] for piece in models.stream("stages")]

    assert custom["stages"] == [{"name": "Reading", "status": "completed", "content": "page 1"}]
    assert custom["attachments"] == [{"type": "text/plain", "title": "notes", "data": "some notes"}]
    assert custom["state"] == {"step": 1}
    assert {"state": {"step": 1}} in [delta.get("custom_content") for delta in deltas]


def given(secret: str, how: str) -> Any:
    async def coroutine() -> str:
        return secret

    return {"text": secret, "function": lambda: secret, "coroutine function": coroutine}[how]


@pytest.mark.parametrize("how", ["text", "function", "coroutine function"])
@pytest.mark.parametrize(("option", "secret"), [("api_key", KEY), ("bearer_token", TOKEN)])
def test_a_key_or_token_is_given_in_three_ways(
    dial: DialServer, models_face: ModelsFace, option: str, secret: str, how: str
) -> None:
    models = models_face(dial.url, model=DEPLOYMENT, **{option: given(secret, how)})

    assert models.chat("hi").text == "Echo: hi"
    assert str(models.files.home()) == "files/bucket1"


def test_a_key_that_was_refused_is_asked_for_again(
    dial: DialServer, models_face: ModelsFace
) -> None:
    keys = ["an-old-key", KEY, "never-asked"]
    models = models_face(dial.url, model=DEPLOYMENT, api_key=lambda: keys.pop(0))

    assert (models.chat("one").text, models.chat("two").text) == ("Echo: one", "Echo: two")
    assert keys == ["never-asked"]


def test_keys_are_refused_in_words_that_do_not_show_them(
    dial: DialServer, models_face: ModelsFace
) -> None:
    with pytest.raises(ApiError, match=r"^Unknown API key$") as wrong:
        models_face(dial.url, model=DEPLOYMENT, api_key="wrong-key").chat("hi")
    with pytest.raises(
        ApiError, match="/echo/chat/completions answered with HTTP status 401"
    ) as no:
        models_face(dial.url, model=DEPLOYMENT).chat("hi")

    assert (wrong.value.status, no.value.status) == (401, 401)
    assert "wrong-key" not in repr(wrong.value) + repr(wrong.value.__dict__)


def test_an_exchange_shows_no_key(dial: DialServer, models_face: ModelsFace) -> None:
    exchanges: list[Any] = []
    models = models_face(dial.url, api_key=KEY, model=DEPLOYMENT, on_exchange=exchanges.append)
    models.chat("hi")

    (exchange,) = exchanges
    assert exchange.headers["api-key"] == "***"
    assert KEY not in repr(exchange)
    assert exchange.url == f"{dial.base}/openai/deployments/echo/chat/completions"


def test_deployments_are_listed_with_what_they_can_do(models: Any) -> None:
    rows = models.list()

    assert [row["id"] for row in rows] == [DEPLOYMENT, CUSTOM]
    assert (rows[0]["model"], rows[0]["owner"]) == (DEPLOYMENT, "organization-owner")
    assert rows[0]["features"]["tools"] is True


def test_applications_are_listed_and_found_by_their_ids(models: Any) -> None:
    rows = models.applications()

    assert [row["id"] for row in rows] == ["an_app", CUSTOM]
    assert [models.application(row["id"]) for row in rows] == rows
    with pytest.raises(ApiError, match=r"GET /openai/applications/nothing answered with .* 404"):
        models.application("nothing")
    with pytest.raises(ValueError, match="is not an id"):
        models.application("")


def test_the_id_of_a_deployment_goes_into_one_segment_of_the_path(models: Any) -> None:
    assert shown(models, "show", model=CUSTOM)["deployment"] == CUSTOM
    with pytest.raises(ApiError, match=r"Unknown deployment: ../files") as refused:
        models.chat("hi", model="../files")
    assert refused.value.response["error"]["display_message"] == "The service is not there"


def test_an_api_version_is_the_call_s_or_the_client_s_or_none(
    dial: DialServer, models_face: ModelsFace
) -> None:
    with_one = models_face(dial.url, api_key=KEY, model=DEPLOYMENT, api_version="2024-02-15&x=1")
    without = models_face(dial.url, api_key=KEY, model=DEPLOYMENT)

    assert shown(with_one, "show")["version"] == "2024-02-15&x=1"
    assert shown(with_one, "show", api_version="2025")["version"] == "2025"
    assert shown(without, "show")["version"] is None
    text = "".join(piece.text for piece in without.stream("show", api_version="2026"))
    assert json.loads(text)["version"] == "2026"
    with pytest.raises(TypeError, match="api_version must be text, not 2024"):
        without.chat("hi", api_version=2024)


def test_images_stay_in_a_message_and_other_files_become_attachments(models: Any) -> None:
    files = [
        ("a.png", b"png"),
        ("a.mp4", b"video"),
        ("a.pdf", b"pdf"),
        "https://example.com/films/b.mp4?x=1",
    ]
    (message,) = shown(models, "show", files=files)["messages"]

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
    assert message["content"] == [{"type": "text", "text": "show"}, image]
    assert message["custom_content"]["attachments"] == [
        {"type": "video/mp4", "title": "video", "data": "dmlkZW8="},
        {"type": "application/pdf", "title": "a.pdf", "data": "cGRm"},
        {"type": "video/mp4", "title": "video", "url": "https://example.com/films/b.mp4?x=1"},
    ]


def test_text_beside_attachments_is_text_that_every_application_reads(models: Any) -> None:
    (message,) = shown(models, "show", files=[("a.pdf", b"pdf")])["messages"]

    assert message["content"] == "show"


PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "bXAz", "format": "mp3"}}
FILE_ID = {"type": "file", "file": {"file_id": "file-1"}}
TEXT = {"type": "text", "text": "look"}
STORED = {"type": "file", "file": {"file_data": "files/bucket1/a%20b.csv", "filename": "a b.csv"}}
PLAIN = {"type": "file", "file": {"file_data": "data:,a%20b"}}


def test_parts_that_dial_has_itself_stay_as_they_are(models: Any) -> None:
    parts = [TEXT, PNG, AUDIO, FILE_ID]
    (message, _) = shown(models, [{"role": "user", "content": parts}])["messages"]

    assert message["content"] == parts
    assert "custom_content" not in message


def test_attachments_join_the_custom_content_of_their_message(models: Any) -> None:
    own = {"type": "text/plain", "title": "mine", "data": "bWluZQ=="}
    custom = {"attachments": [own], "state": {"step": 1}}
    content = [TEXT, STORED, PNG, PLAIN]
    asked = {"role": "user", "content": content, "custom_content": custom}
    (message, _) = shown(models, [asked])["messages"]

    assert message["content"] == [TEXT, PNG]
    assert message["custom_content"]["state"] == {"step": 1}
    assert message["custom_content"]["attachments"] == [
        own,
        {"type": "text/csv", "title": "a b.csv", "url": "files/bucket1/a%20b.csv"},
        {"type": "text/plain", "title": "file", "data": "YSBi"},
    ]
    assert asked == {"role": "user", "content": content, "custom_content": custom}
    assert custom["attachments"] == [own]


def test_a_message_of_files_alone_has_empty_text(models: Any) -> None:
    (message, _) = shown(models, [{"role": "user", "content": [STORED]}])["messages"]

    assert message["content"] == ""
    assert len(message["custom_content"]["attachments"]) == 1


@pytest.mark.parametrize("custom", ["text", {"attachments": {"data": "x"}}])
def test_a_wrong_custom_content_is_named(models: Any, custom: Any) -> None:
    message = {"role": "user", "content": [STORED], "custom_content": custom}
    with pytest.raises(TypeError, match="custom_content must be a mapping"):
        models.chat([message])


def test_an_answer_is_rated_at_the_deployment_that_gave_it(models: Any) -> None:
    reply = models.chat("hi", model=CUSTOM)
    joiner = PieceJoiner()
    for piece in models.stream("hi"):
        joiner.add(piece)

    assert models.feedback(reply, "thumbs_up", True) is None
    models.feedback(joiner.reply(), "rate", False)
    models.feedback("an-id", "thumbs_up", True)
    models.feedback("another-id", "thumbs_up", False, model=CUSTOM)
    models.feedback(reply, "thumbs_up", False, model=DEPLOYMENT)

    assert json.loads(models.chat("ratings").text)[-5:] == [
        [CUSTOM, reply.id, True],
        [DEPLOYMENT, joiner.reply().id, False],
        [DEPLOYMENT, "an-id", True],
        [CUSTOM, "another-id", False],
        [DEPLOYMENT, reply.id, False],
    ]


def test_further_keywords_of_a_rating_go_to_dial_as_they_are(models: Any) -> None:
    with pytest.raises(ApiError, match="comment"):
        models.feedback("an-id", "thumbs_up", True, comment="aidial-sdk knows no comments")


def test_a_rating_that_can_t_be_sent_says_why(dial: DialServer, models_face: ModelsFace) -> None:
    models = models_face(dial.url, api_key=KEY)

    with pytest.raises(ValueError, match="DIAL takes the metric thumbs_up or rate, not 'stars'"):
        models.feedback("an-id", "stars", True)
    with pytest.raises(TypeError, match="True or False, not 5"):
        models.feedback("an-id", "thumbs_up", 5)
    with pytest.raises(ValueError, match="only an answer with an id can be rated"):
        models.feedback(Reply(text="hi"), "thumbs_up", True)
    with pytest.raises(ValueError, match="pass model="):
        models.feedback("an-id", "thumbs_up", True)


def test_an_error_of_a_deployment_comes_with_all_it_says(models: Any) -> None:
    for ask in (models.chat, lambda text: list(models.stream(text))):
        with pytest.raises(ApiError, match=r"^over the limit$") as refused:
            ask("refuse")
        assert refused.value.status == 403
        assert refused.value.response["error"]["display_message"] == "Please come back later"


def test_an_error_amid_a_stream_comes_after_the_pieces_before_it(models: Any) -> None:
    texts: list[str] = []
    pieces = (texts.append(piece.text) for piece in models.stream("break"))
    with pytest.raises(ApiError, match=r"^the model is gone$") as broken:
        list(pieces)

    assert "".join(texts) == "some "
    assert broken.value.status == 502
    assert broken.value.response["error"]["display_message"] == "Try again"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Access denied", "^Access denied$"),
        (b"", "^POST /openai/deployments/m/chat/completions answered with HTTP status 403$"),
        ({"detail": "Not Found"}, "^Not Found$"),
        ({"detail": [{"loc": ["body"]}]}, "answered with HTTP status 403$"),
        ({"error": {"message": "inner", "display_message": "outer"}}, "^inner$"),
    ],
)
def test_every_shape_of_error_has_a_message(
    openai: OpenAIServer, models_face: ModelsFace, body: Any, message: str
) -> None:
    models = models_face(scripted_dial(openai), model="m")
    for ask in (models.chat, lambda text: list(models.stream(text))):
        openai.script(respond(body, 403))
        with pytest.raises(ApiError, match=message):
            ask("hi")


@pytest.mark.parametrize("body", [{}, [], {"data": {}}, {"data": [1]}, {"data": [{"id": 1}]}])
def test_what_is_no_list_of_deployments_is_a_bad_answer(
    openai: OpenAIServer, models_face: ModelsFace, body: Any
) -> None:
    models = models_face(scripted_dial(openai))
    for ask in (models.list, models.applications):
        openai.script(respond(body))
        with pytest.raises(BadAnswerError, match="answered without"):
            ask()
    openai.script(respond(body))
    with pytest.raises(BadAnswerError, match="GET /openai/applications/x answered without 'id'"):
        models.application("x")


def test_clients_of_a_pool_share_their_connection_and_keep_their_keys(
    openai: OpenAIServer, models_face: ModelsFace
) -> None:
    openai.script(*[respond(completion("hi"))] * 6)
    pool: Any = SyncModelPool() if models_face.blocking else ModelPool()
    one = models_face.wrap(pool.client(scripted_dial(openai), api_key=KEY, model="m"))
    other = models_face.wrap(pool.client(scripted_dial(openai), bearer_token=TOKEN, model="m"))

    for _ in range(3):
        assert (one.chat("hi").text, other.chat("hi").text) == ("hi", "hi")

    assert len(openai.connections) == 1
    sent = [(c.headers.get("api-key"), c.headers.get("authorization")) for c in openai.calls]
    assert sent == [(KEY, None), (None, f"Bearer {TOKEN}")] * 3
    models_face.wrap(pool).close()


def test_each_user_has_a_bucket(dial: DialServer, models_face: ModelsFace) -> None:
    homes = [models_face(dial.url, api_key=key).files.home() for key in (KEY, OTHER_KEY)]

    assert [str(home) for home in homes] == ["files/bucket1", "files/bucket2"]
