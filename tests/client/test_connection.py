from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import traceback
from typing import Any, Callable

import pytest
from scripted import Reply, ScriptedServer

from oomol_connect_sdk import (
    ApiError,
    BadAnswerError,
    ConnectionFailedError,
    OomolConnectClient,
    OomolConnectError,
    TaskFailedError,
    TimeoutError,
)

TASKS = "GET /api/v1/tasks"


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"api_token": "api-1"}, "api-1"),
        ({"api_token": "api-1", "auth_scheme": "bearer"}, "Bearer api-1"),
        ({"api_token": "api-1", "default_headers": {"authorization": "Basic x"}}, "Basic x"),
        ({}, None),
    ],
)
def test_the_token_is_sent_as_asked(
    face: Callable[..., Any], server: ScriptedServer, options: Any, header: Any
) -> None:
    server.on(TASKS, {"tasks": []})
    face(base_url=server.url, **options).tasks.list()
    assert server.calls[0].headers.get("authorization") == header


def test_a_get_has_no_body_and_no_content_type(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on(TASKS, {"tasks": []})
    face(base_url=server.url + "/").tasks.list()
    (call,) = server.calls
    assert call.body == b""
    assert "content-type" not in call.headers
    assert call.headers["accept"] == "application/json"


def test_the_environment_fills_what_was_not_given(
    face: Callable[..., Any], server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_BASE_URL", server.url)
    monkeypatch.setenv("OOMOL_CONNECT_API_TOKEN", "from-environment")
    server.on(TASKS, {"tasks": []})
    face().tasks.list()
    face({"api_token": "given"}).tasks.list()
    sent = [call.headers["authorization"] for call in server.calls]
    assert sent == ["from-environment", "given"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"base_url": "http://localhost:99999"}, "a port that is none"),
        ({"base_url": "http://localhost:x"}, "a port that is none"),
        ({"base_url": "ftp://x/api"}, "http:// or https://"),
        ({"base_url": "http:///api"}, "http:// or https://"),
        ({"base_url": "http://user:secret@x/api"}, "user name"),
        ({"base_url": "http://x/api?a=1"}, "no query"),
        ({"base_url": 5}, "base_url must be text"),
        ({"api_token": "a\nb"}, "api_token"),
        ({"api_token": 5}, "api_token must be text"),
        ({"auth_scheme": "digest"}, "auth_scheme"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"base_uri": "http://x"}, "unknown client option 'base_uri'"),
    ],
)
def test_an_unusable_option_is_named(face: Callable[..., Any], options: Any, fault: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fault) as caught:
        face(options)
    assert "secret" not in str(caught.value)


def test_a_client_without_a_server_says_how_to_name_one(face: Callable[..., Any]) -> None:
    with pytest.raises(OomolConnectError, match="OOMOL_CONNECT_BASE_URL"):
        face(base_url="/api").tasks.list()


def test_a_name_that_can_be_no_host_is_a_failed_connection(face: Callable[..., Any]) -> None:
    client = face(base_url="http://a..b/api", max_retries=0)
    with pytest.raises(ConnectionFailedError) as caught:
        client.tasks.list()
    assert not caught.value.outcome_unknown


def test_no_secret_is_shown(face: Callable[..., Any], server: ScriptedServer) -> None:
    server.on(TASKS, Reply({"message": "wrong token"}, status=401))
    headers = {"X-Key": "api-secret"}
    client = face(base_url=server.url, api_token="api-secret", default_headers=headers)
    with pytest.raises(ApiError, match="wrong token") as caught:
        client.tasks.list()
    shown = [repr(client), repr(caught.value), repr(vars(caught.value))]
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        if "oomol_connect_sdk" in frame.f_globals["__name__"]:
            shown += [repr(value) for value in frame.f_locals.values()]
    assert len(shown) > 10
    assert not [text for text in shown if "api-secret" in text]


def test_a_get_is_sent_again_after_trouble(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    later = Reply({"message": "later"}, status=503, headers={"Retry-After": "0"})
    server.on(TASKS, Reply(cut=0), later, Reply(b"{", cut=1), Reply({"tasks": []}))
    assert face(base_url=server.url).tasks.list() == {"tasks": []}
    assert len(server.calls) == 4


def test_retries_end_with_the_last_error(face: Callable[..., Any], server: ScriptedServer) -> None:
    server.on(TASKS, Reply({"message": "still down"}, status=500, headers={"X-Request-Id": "r7"}))
    with pytest.raises(ApiError, match="still down") as caught:
        face(base_url=server.url, max_retries=1).tasks.list()
    assert len(server.calls) == 2
    assert (caught.value.status, caught.value.request_id) == (500, "r7")
    assert caught.value.response == {"message": "still down"}


# The connections of a loop that is gone can't be closed, only collected, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_client_serves_two_event_loops(server: ScriptedServer) -> None:
    server.on(TASKS, {"tasks": []})
    client = OomolConnectClient(base_url=server.url)
    for _ in range(2):
        assert asyncio.run(client.tasks.list()) == {"tasks": []}
    del client
    gc.collect()


async def test_many_calls_at_once_never_fail_for_want_of_a_connection(
    server: ScriptedServer,
) -> None:
    server.on(TASKS, {"tasks": []})
    async with OomolConnectClient(base_url=server.url, max_retries=0) as client:
        answers = await asyncio.gather(*[client.tasks.list() for _ in range(300)])
    assert len(answers) == 300


@pytest.mark.parametrize(
    "error",
    [
        ApiError("m", 404, {"a": 1}, request_id="r", retry_after=2.0),
        BadAnswerError("m", 200, "text"),
        ConnectionFailedError("m", outcome_unknown=False, idempotency_key="k"),
        TaskFailedError("m", "t1", {"id": "t1"}, reason="r", node_id="n"),
        TimeoutError("m", "t1", None, stopped=True),
    ],
)
def test_errors_survive_pickling_and_copying(error: Any) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error) == "m"


def test_a_request_of_ones_own_reaches_the_server(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on("POST /api/extra/thing", {"ok": 1})
    client = face(base_url=server.url, api_token="secret", default_headers={"X-A": "1"})
    assert client.request("/extra/thing", "post", {"n": 1}, headers={"X-B": "2"}) == {"ok": 1}
    (call,) = server.calls
    assert call.json == {"n": 1}
    assert (call.headers["x-a"], call.headers["x-b"]) == ("1", "2")
    assert client.get_default_headers() == {"X-A": "1"}
    with pytest.raises(ValueError, match="either json_data"):
        client.request("extra/thing", "POST", {}, {"field": "x"})


def test_another_server_gets_neither_token_nor_headers(
    face: Callable[..., Any], server: ScriptedServer
) -> None:
    server.on("GET /api/elsewhere", {"ok": 1})
    client = face(
        base_url="http://127.0.0.1:1", api_token="secret", default_headers={"X-A": "secret"}
    )
    assert client.request_to_server(server.url, "elsewhere") == {"ok": 1}
    assert "secret" not in repr(server.calls)
