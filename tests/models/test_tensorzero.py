"""TensorZero over HTTP and embedded: every behaviour on both ways, and on both faces."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faces import ModelsFace
from openai_server import (
    OpenAIServer,
    chunk,
    completion,
    failure,
    openai_server,
    respond,
    stream,
    tool_call,
    usage_chunk,
)
from tensorzero_server import (
    TensorZeroServer,
    configuration,
    openai_route,
    plain,
    tensorzero_server,
)

from oomol_connect_sdk.errors import ApiError, BadAnswerError, NotSupported, OomolConnectError
from oomol_connect_sdk.models import PieceJoiner, Reply, Tool, Usage

ADD = Tool("add", "Add two numbers.", {"type": "object", "properties": {"x": {"type": "number"}}})
SUBTRACT = Tool("subtract")
SOMEBODY = "01a21e95-e0ed-7783-a8bc-0ae561222d8e"


@pytest.fixture(autouse=True)
def _quiet_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_LOG", "off")
    monkeypatch.setenv("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")
    for database in ("CLICKHOUSE", "POSTGRES", "VALKEY"):
        monkeypatch.delenv(f"TENSORZERO_{database}_URL", raising=False)


@pytest.fixture
def config(tmp_path: Path, openai: OpenAIServer) -> Path:
    """The configuration of a gateway whose models are at the OpenAI-compatible server."""
    pytest.importorskip("tensorzero", reason="needs pip install tensorzero")
    return configuration(tmp_path, openai.url)


@pytest.fixture
def tensorzero(config: Path) -> Iterator[TensorZeroServer]:
    """TensorZero's native routes over HTTP."""
    with tensorzero_server(config) as server:
        yield server


@pytest.fixture(params=["http", "embedded"])
def address(request: pytest.FixtureRequest, config: Path) -> str:
    """The address of a gateway: over HTTP, or inside this process."""
    if request.param == "embedded":
        return f"tensorzero+file://{config}"
    return f"tensorzero+{request.getfixturevalue('tensorzero').url}"


def joined(pieces: Iterator[Any]) -> Reply:
    joiner = PieceJoiner()
    for piece in pieces:
        joiner.add(piece)
    return joiner.reply()


def asked(openai: OpenAIServer) -> Any:
    """Return what the model was asked last."""
    return openai.calls[-1].json


def test_a_question_is_answered_whole(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    reply = models_face(address).chat("hi", model="m")
    assert reply.text == "Echo: hi"
    assert (reply.finish, reply.model) == ("stop", "m")
    assert reply.usage == Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
    assert reply.id == reply.raw["inference_id"]
    assert reply.raw["content"][0]["text"] == "Echo: hi"
    assert asked(openai)["messages"] == [{"role": "user", "content": "hi"}]


def test_an_answer_comes_in_pieces(address: str, models_face: ModelsFace) -> None:
    pieces = list(models_face(address, model="m").stream("one two three"))
    assert [piece.text for piece in pieces if piece.text] == ["Echo:", " one", " two", " three"]
    reply = joined(iter(pieces))
    assert reply.text == "Echo: one two three"
    assert (reply.finish, reply.model) == ("stop", "m")
    assert reply.usage == Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
    assert {piece.id for piece in pieces} == {reply.id}
    assert reply.id == reply.raw[0]["inference_id"]


def test_a_whole_answer_and_a_joined_one_are_the_same(
    address: str, models_face: ModelsFace
) -> None:
    models = models_face(address, model="m")
    text = 'call add {"x": 1}\ncall subtract {"x": 2}'
    whole = models.chat(text, tools=[ADD, SUBTRACT])
    pieces = joined(models.stream(text, tools=[ADD, SUBTRACT]))
    assert [(call.name, call.parsed()) for call in whole.tool_calls] == [
        ("add", {"x": 1}),
        ("subtract", {"x": 2}),
    ]
    assert pieces.tool_calls == whole.tool_calls
    assert pieces.finish == whole.finish == "tool_call"
    assert pieces.usage == whole.usage


def test_pieces_of_parallel_tool_calls_may_come_in_any_order(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    openai.script(
        stream(
            chunk(tools=[tool_call(0, "add", ""), tool_call(1, "subtract", "")]),
            chunk(tools=[tool_call(1, None, '{"y":', None)]),
            chunk(tools=[tool_call(0, None, '{"x":', None)]),
            chunk(tools=[tool_call(1, None, "2}", None), tool_call(0, None, "1}", None)]),
            chunk(finish="tool_calls"),
            usage_chunk(),
        )
    )
    reply = joined(models_face(address, model="m").stream("go", tools=[ADD, SUBTRACT]))
    calls = [(call.id, call.name, call.arguments) for call in reply.tool_calls]
    assert calls == [("call_0", "add", '{"x":1}'), ("call_1", "subtract", '{"y":2}')]


@pytest.mark.parametrize(
    ("model", "keywords"),
    [
        (None, {"function_name": "chat"}),
        ("m", {"function_name": "chat"}),
        ("tensorzero::function_name::chat", {}),
    ],
)
def test_a_function_of_the_configuration_is_asked_instead_of_a_model(
    address: str, models_face: ModelsFace, model: str | None, keywords: dict[str, Any]
) -> None:
    models = models_face(address, **({"model": model} if model else {}))
    assert models.chat("hi", **keywords).model == "a"
    assert joined(models.stream("hi", **keywords)).model == "a"
    assert [reply.model for reply in models.batch([{"messages": "hi", **keywords}])] == ["a"]


def test_a_model_may_be_written_as_on_the_openai_route(
    address: str, models_face: ModelsFace
) -> None:
    assert models_face(address).chat("hi", model="tensorzero::model_name::m").model == "m"


def test_a_call_names_a_model_or_a_function(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    models = models_face(address)
    with pytest.raises(ValueError, match="no model is named"):
        models.chat("hi")
    with pytest.raises(OomolConnectError, match="not both"):
        models.chat("hi", model="m", function_name="chat")
    assert not openai.calls


def test_a_json_function_gives_its_raw_output_as_text(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    models = models_face(address)
    openai.script(respond(completion('{"capital": "Tokyo"}')))
    whole = models.chat("Japan", function_name="facts")
    assert json.loads(whole.text) == whole.raw["output"]["parsed"] == {"capital": "Tokyo"}
    pieces = joined(models.stream("Japan", function_name="facts"))
    assert pieces.text == "Echo: Japan"
    assert pieces.id == pieces.raw[0]["inference_id"]
    assert (pieces.finish, pieces.usage) == ("stop", whole.usage)


def test_a_conversation_arrives_as_it_was(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}}
    other = {"id": "c2", "type": "function", "function": {"name": "subtract", "arguments": ""}}
    models_face(address, model="m").chat(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "text", "text": "Add."}]},
            {"role": "assistant", "content": "Adding.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": None, "tool_calls": [other]},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "0"}]},
            {"role": "user", "content": "And?"},
        ],
        tools=[ADD],
    )
    assert asked(openai)["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "Adding.", "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {
            "role": "assistant",
            "tool_calls": [{**other, "function": {"name": "subtract", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "0", "tool_call_id": "c2"},
        {"role": "user", "content": "And?"},
    ]


def test_a_tool_loop_goes_on_from_the_replies_own_message(
    address: str, models_face: ModelsFace
) -> None:
    models = models_face(address, model="m")
    messages: list[Any] = [{"role": "user", "content": 'call add {"x": 1}'}]
    reply = models.chat(messages, tools=[ADD])
    messages += [
        reply.message(),
        {"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "two"},
    ]
    assert models.chat(messages, tools=[ADD]).text == "Tools: two"


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"role": "tool", "tool_call_id": "c9", "content": "2"}, "tool call 'c9'"),
        ({"role": "function", "name": "add", "content": "2"}, "no role 'function'"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}, "a name"),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": "data:,x"}]},
            "only text",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]},
            "data: or https: addresses",
        ),
    ],
)
def test_what_tensorzero_can_not_be_told_is_named_and_not_sent(
    address: str,
    models_face: ModelsFace,
    openai: OpenAIServer,
    message: dict[str, Any],
    fault: str,
) -> None:
    with pytest.raises(OomolConnectError, match=fault) as raised:
        models_face(address, model="m").chat([{"role": "user", "content": "hi"}, message])
    assert "messages[1]" in str(raised.value)
    assert not openai.calls


def data(kind: str, content: bytes = b"content") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize(
    ("part", "arrives"),
    [
        (
            {"type": "image_url", "image_url": {"url": data("image/png"), "detail": "low"}},
            {"type": "image_url", "image_url": {"url": data("image/png"), "detail": "low"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://127.0.0.1:9/a.png"}},
            {"type": "image_url", "image_url": {"url": "https://127.0.0.1:9/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": "data:image/svg+xml,%3Csvg/%3E"},
            {"type": "image_url", "image_url": {"url": data("image/svg+xml", b"<svg/>")}},
        ),
        (
            {"type": "file", "file": {"file_data": data("application/pdf"), "filename": "a.pdf"}},
            {"type": "file", "file": {"file_data": data("application/pdf"), "filename": "a.pdf"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": data("video/mp4")}},
            {"type": "file", "file": {"file_data": data("video/mp4"), "filename": "input.mpg4"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "mp3"}},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "mp3"}},
        ),
        ({"type": "raw_text", "value": "as it is"}, {"type": "text", "text": "as it is"}),
    ],
)
def test_files_and_blocks_arrive_at_the_model(
    address: str, models_face: ModelsFace, openai: OpenAIServer, part: Any, arrives: Any
) -> None:
    content = [{"type": "text", "text": "What is this?"}, part]
    models_face(address, model="m").chat([{"role": "user", "content": content}])
    assert asked(openai)["messages"][0]["content"][1] == arrives


def test_files_of_the_caller_go_with_the_last_user_message(
    address: str, models_face: ModelsFace, openai: OpenAIServer, tmp_path: Path
) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"content")
    models_face(address, model="m").chat("What is this?", files=[picture])
    assert asked(openai)["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": data("image/png")}},
    ]


def test_sampling_parameters_of_openai_arrive(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    models_face(address, model="m").chat(
        "hi",
        temperature=0.5,
        top_p=0.25,
        max_tokens=9,
        seed=4,
        stop="END",
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        reasoning_effort="low",
        params={"chat_completion": {"json_mode": "on"}},
    )
    body = asked(openai)
    assert body["max_completion_tokens"] == 9
    assert body["stop"] == ["END"]
    assert body["response_format"] == {"type": "json_object"}
    expected = {"temperature": 0.5, "top_p": 0.25, "seed": 4, "reasoning_effort": "low"}
    assert expected.items() <= body.items()
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.5, -0.5)


@pytest.mark.parametrize(
    ("choice", "arrives"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "add"}},
            {"type": "function", "function": {"name": "add"}},
        ),
        ({"specific": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tools_and_their_choice_arrive(
    address: str, models_face: ModelsFace, openai: OpenAIServer, choice: Any, arrives: Any
) -> None:
    models_face(address, model="m").chat("hi", tools=[ADD], tool_choice=choice)
    body = asked(openai)
    assert body["tool_choice"] == arrives
    assert [tool["function"] for tool in body["tools"]] == [ADD.definition()["function"]]


def test_other_keywords_are_members_of_the_request(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    models = models_face(address, model="m")
    first = models.chat("hi", include_raw_response=True, tags={"who": "me"}, dryrun=True)
    assert "Echo: hi" in first.raw["raw_response"][0]["data"]
    again = models.chat("and?", episode_id=first.raw["episode_id"])
    assert again.raw["episode_id"] == first.raw["episode_id"]
    assert again.id != first.id
    models.chat("hi", model="keyed", credentials={"upstream_key": "k1"})
    assert openai.calls[-1].headers["authorization"] == "Bearer k1"


@pytest.mark.parametrize(
    ("keywords", "fault"),
    [
        ({"input": {"messages": []}}, "'input' is no parameter"),
        ({"tools": [ADD], "additional_tools": [{"name": "b"}]}, "not both"),
        ({"seed": 1, "params": "x"}, "params must be a mapping"),
        ({"seed": 1, "params": {"chat_completion": []}}, "must be a mapping"),
    ],
)
def test_keywords_that_contradict_the_call_are_refused(
    address: str, models_face: ModelsFace, openai: OpenAIServer, keywords: Any, fault: str
) -> None:
    with pytest.raises(OomolConnectError, match=fault):
        models_face(address, model="m").chat("hi", **keywords)
    assert not openai.calls


def test_feedback_is_assigned_to_an_inference_or_its_episode(
    address: str, models_face: ModelsFace
) -> None:
    models = models_face(address, model="m")
    reply = models.chat("hi")
    streamed = joined(models.stream("hi"))
    given = [
        models.feedback(reply, "thumbs_up", True),
        models.feedback(reply.id, "thumbs_up", False, tags={"who": "me"}),
        models.feedback(streamed, "comment", "well said"),
        models.feedback(reply, "solved", True, episode_id=reply.raw["episode_id"]),
    ]
    assert len({answer["feedback_id"] for answer in given}) == 4


@pytest.mark.parametrize(
    ("metric", "value", "options", "status", "message"),
    [
        ("beauty", 3, {}, 404, "Unknown metric: beauty"),
        ("thumbs_up", 3, {}, 400, "must be a boolean"),
        ("solved", True, {}, 400, "Correct ID was not provided"),
        ("solved", True, {"episode_id": "x"}, 400, "episode_id"),
    ],
)
def test_feedback_that_is_refused_says_why(
    address: str,
    models_face: ModelsFace,
    metric: str,
    value: Any,
    options: Any,
    status: int,
    message: str,
) -> None:
    with pytest.raises(ApiError, match=message) as raised:
        models_face(address).feedback(SOMEBODY, metric, value, **options)
    assert raised.value.status == status


@pytest.mark.parametrize("reply", [Reply(), "", 7])
def test_feedback_needs_an_id(address: str, models_face: ModelsFace, reply: Any) -> None:
    with pytest.raises(ValueError, match="the id of an inference"):
        models_face(address).feedback(reply, "thumbs_up", True)


def test_a_model_that_is_not_there_is_an_api_error(address: str, models_face: ModelsFace) -> None:
    models = models_face(address, model="nowhere")
    with pytest.raises(ApiError, match="'nowhere' not found") as whole:
        models.chat("hi")
    with pytest.raises(ApiError, match="'nowhere' not found") as streamed:
        list(models.stream("hi"))
    assert whole.value.status == streamed.value.status == 400
    assert "nowhere" in whole.value.response["error"]


@pytest.mark.parametrize("keywords", [{"episode_id": "x"}, {"no_such_keyword": 1}])
def test_a_bad_parameter_is_an_api_error(
    address: str, models_face: ModelsFace, keywords: Any
) -> None:
    (name,) = keywords
    with pytest.raises(ApiError, match=name) as raised:
        models_face(address, model="m").chat("hi", **keywords)
    assert raised.value.status == 400


def test_what_the_models_own_service_refuses_is_a_bad_gateway(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    models = models_face(address, model="m", max_retries=0)
    openai.script(failure(429, "slow down"), failure(429, "slow down"))
    with pytest.raises(ApiError, match="slow down") as whole:
        models.chat("hi")
    with pytest.raises(ApiError, match="slow down") as streamed:
        list(models.stream("hi"))
    assert whole.value.status == streamed.value.status == 502
    assert len(openai.calls) == 2
    assert (models.stats.requests, models.stats.errors) == (2, 2)


def test_an_error_in_the_middle_of_a_stream_comes_after_its_pieces(
    address: str, models_face: ModelsFace, openai: OpenAIServer
) -> None:
    openai.script(stream(chunk("one"), {"error": {"message": "boom"}}))
    pieces = models_face(address, model="m").stream("hi")
    assert next(pieces).text == "one"
    with pytest.raises(ApiError, match="Error from openai server"):
        next(pieces)
    assert len(openai.calls) == 1


def test_a_batch_keeps_its_order_and_each_failure_to_itself(
    address: str, models_face: ModelsFace
) -> None:
    requests = [{"messages": f"q{n}", "custom_id": f"c{n}"} for n in range(6)]
    requests[2] = {**requests[2], "model": "nowhere"}
    replies = models_face(address, model="m").batch(requests, limit=3)
    assert [reply.custom_id for reply in replies] == [f"c{n}" for n in range(6)]
    assert "nowhere" in str(replies[2].error)
    assert [reply.text for reply in replies if not reply.error] == [
        f"Echo: q{n}" for n in (0, 1, 3, 4, 5)
    ]


def test_what_tensorzero_lacks_says_so(address: str, models_face: ModelsFace) -> None:
    models = models_face(address)
    for lacking in (models.list, models.applications, lambda: models.application("a")):
        with pytest.raises(NotSupported, match="TensorZero has no"):
            lacking()
    with pytest.raises(NotSupported, match="TensorZero has no files"):
        _ = models.files


def test_exchanges_are_told_without_the_credentials(address: str, models_face: ModelsFace) -> None:
    told: list[Any] = []
    models = models_face(address, model="keyed", on_exchange=told.append, max_retries=0)
    reply = models.chat("hi", credentials={"upstream_key": "secret-1"})
    pieces = list(models.stream("hi", credentials={"upstream_key": "secret-1"}))
    with pytest.raises(ApiError):
        models.chat("hi", model="nowhere")
    assert [(exchange.method, exchange.status) for exchange in told] == [
        ("POST", 200),
        ("POST", 200),
        ("POST", 400),
    ]
    assert all(exchange.url.endswith("/inference") for exchange in told)
    assert told[0].answer == reply.raw
    assert told[1].answer == [piece.raw for piece in pieces]
    assert "nowhere" in told[2].error
    assert told[0].body["input"]["messages"][0]["content"] == [{"type": "text", "text": "hi"}]
    assert "secret-1" not in repr(told)


class TestOverHttp:
    """What only the way over HTTP has."""

    def test_the_key_is_a_bearer_token(
        self,
        tensorzero: TensorZeroServer,
        models_face: ModelsFace,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tensorzero.keys = {"sk-t0-1"}
        url = f"tensorzero+{tensorzero.url}"
        assert models_face(url, model="m", api_key="sk-t0-1").chat("hi").text == "Echo: hi"
        with pytest.raises(ApiError) as raised:
            models_face(url, model="m", api_key="sk-t0-2").chat("hi")
        assert raised.value.status == 401
        monkeypatch.setenv("TENSORZERO_API_KEY", "sk-t0-1")
        assert models_face(url, model="m").chat("hi").text == "Echo: hi"

    def test_a_stream_that_is_left_lets_the_connections_go(
        self, tensorzero: TensorZeroServer, models_face: ModelsFace
    ) -> None:
        pieces = models_face(f"tensorzero+{tensorzero.url}", model="m").stream("one two three")
        next(pieces)
        pieces.close()
        tensorzero.wait_for(lambda: not tensorzero.connections)

    def test_a_database_is_of_the_embedded_gateway_only(self, models_face: ModelsFace) -> None:
        with pytest.raises(ValueError, match=r"tensorzero\+file"):
            models_face("tensorzero+http://127.0.0.1:9", clickhouse_url="http://127.0.0.1:9/t")

    @pytest.mark.parametrize(
        "body",
        [
            [],
            {},
            {"content": None},
            {"content": "text"},
            {"content": [None]},
            {"content": [{"type": "tool_call", "raw_name": "a", "raw_arguments": "{}"}]},
            {"content": [{"type": "tool_call", "id": 1, "raw_name": "a", "raw_arguments": "{}"}]},
            {"output": "text"},
        ],
    )
    def test_an_answer_that_is_none_is_named_so(
        self, openai: OpenAIServer, models_face: ModelsFace, body: Any
    ) -> None:
        models = models_face(f"tensorzero+http://127.0.0.1:{openai.port}", model="m", max_retries=0)
        openai.script(respond(body))
        with pytest.raises(BadAnswerError):
            models.chat("hi")
        openai.script(stream(b"data: " + json.dumps(body).encode() + b"\n\n"))
        with pytest.raises(BadAnswerError):
            list(models.stream("hi"))
        openai.script(respond(body))
        with pytest.raises(BadAnswerError):
            models.feedback(SOMEBODY, "thumbs_up", True)

    @pytest.mark.parametrize(
        "odd",
        [
            {"usage": "much", "finish_reason": 1, "inference_id": None, "variant_name": []},
            {"usage": {"input_tokens": "7", "output_tokens": None, "cost": True}},
        ],
    )
    def test_odd_details_do_not_harm_an_answer(
        self, openai: OpenAIServer, models_face: ModelsFace, odd: Any
    ) -> None:
        models = models_face(f"tensorzero+http://127.0.0.1:{openai.port}", model="m")
        body = {"content": [{"type": "text", "text": None}, {"type": "unknown"}], **odd}
        openai.script(respond(body), stream(body))
        for reply in (models.chat("hi"), joined(models.stream("hi"))):
            assert (reply.text, reply.finish, reply.usage, reply.id, reply.model) == (
                *("", None, None, None, None),
            )

    def test_an_error_event_ends_the_stream(
        self, openai: OpenAIServer, models_face: ModelsFace
    ) -> None:
        models = models_face(f"tensorzero+http://127.0.0.1:{openai.port}", model="m")
        good = {"content": [{"type": "text", "id": "0", "text": "one"}]}
        openai.script(stream(good, {"error": "boom"}, good))
        pieces = models.stream("hi")
        assert next(pieces).text == "one"
        with pytest.raises(ApiError, match="boom"):
            next(pieces)


class TestAgainstTheWheelsOwnClients:
    """What our two ends agree on is what the wheel's own ends say."""

    def test_its_http_client_sends_and_gets_the_same(
        self, tensorzero: TensorZeroServer, models_face: ModelsFace
    ) -> None:
        from tensorzero import TensorZeroGateway

        models = models_face(f"tensorzero+{tensorzero.url}", model="m")
        content = [{"type": "text", "text": 'call add {"x": 1}'}]
        request: dict[str, Any] = {
            "model_name": "m",
            "input": {"system": "Be brief.", "messages": [{"role": "user", "content": content}]},
            "params": {"chat_completion": {"temperature": 0.5}},
            "additional_tools": [{**ADD.definition()["function"], "strict": False}],
            "tool_choice": "auto",
        }
        ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
        ours = {"tools": [ADD], "temperature": 0.5, "tool_choice": "auto"}
        with TensorZeroGateway.build_http(gateway_url=tensorzero.url) as client:
            theirs = plain(client.inference(**request))
            their_body = tensorzero.calls[-1].json
            reply = models.chat(ask, **ours)
            assert within(tensorzero.calls[-1].json, their_body)
            assert alike(reply.raw) == alike(theirs)

            their_chunks = [plain(item) for item in client.inference(**request, stream=True)]
            their_body = tensorzero.calls[-1].json
            pieces = list(models.stream(ask, **ours))
            assert within(tensorzero.calls[-1].json, their_body)
            assert [alike(piece.raw) for piece in pieces] == [alike(c) for c in their_chunks]

            given = {"metric_name": "thumbs_up", "value": True, "inference_id": reply.id}
            client.feedback(**given)
            their_body = tensorzero.calls[-1].json
            models.feedback(reply, "thumbs_up", True)
            assert tensorzero.calls[-1].json == given
            assert within(given, their_body)

    def test_its_http_server_is_an_openai_compatible_service(
        self, config: Path, models_face: ModelsFace
    ) -> None:
        with openai_route(config) as url:
            models = models_face(f"openai+{url}", model="tensorzero::model_name::m")
            assert models.chat("hi").text == "Echo: hi"
            reply = joined(models.stream('call add {"x": 1}', tools=[ADD]))
            assert [call.parsed() for call in reply.tool_calls] == [{"x": 1}]
            assert reply.usage == Usage(prompt_tokens=7, completion_tokens=5, total_tokens=12)
            with pytest.raises(ApiError, match="must start with") as raised:
                models.chat("hi", model="m")
            assert raised.value.status == 400


def test_a_gateway_without_models_behind_it_says_so(
    tmp_path: Path, models_face: ModelsFace
) -> None:
    pytest.importorskip("tensorzero", reason="needs pip install tensorzero")
    with openai_server() as gone:
        config = configuration(tmp_path, gone.url)
    with pytest.raises(ApiError) as raised:
        models_face(f"tensorzero+file://{config}", model="m").chat("hi")
    assert raised.value.status == 502


def within(ours: Any, theirs: Any) -> bool:
    """Return whether all that is in the one is in the other, which also spells out defaults."""
    if isinstance(ours, dict):
        return all(name in theirs and within(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(within, ours, theirs))
    return bool(ours == theirs)


def alike(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without the ids, which are others each time."""
    return {name: value for name, value in answer.items() if not name.endswith("_id")}
