"""Conversations in Google's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomol_connect_sdk.models.google import google_reply, google_request, google_usage
from oomol_connect_sdk.models.values import Reply, ToolCall, Usage


def contents(*messages: Any) -> Any:
    """Return a conversation in Google's words."""
    return google_request(messages, (), {})["contents"]


def parts(*given: Any) -> Any:
    """Return the parts of a user's message in Google's words."""
    ((content,),) = [contents({"role": "user", "content": list(given)})]
    return content["parts"]


def calling(id: str, name: str, arguments: Any = "{}") -> Any:
    """Return an assistant's message that calls a tool."""
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(id: str, content: Any = "done") -> Any:
    return {"role": "tool", "tool_call_id": id, "content": content}


def test_turns_keep_their_order_and_roles() -> None:
    said = contents(
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    )
    assert said == [
        {"role": "user", "parts": [{"text": "one"}]},
        {"role": "model", "parts": [{"text": "two"}]},
        {"role": "user", "parts": [{"text": "three"}]},
    ]


def test_what_the_system_says_is_the_systems_instruction() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, text("kind.")]},
    ]
    request = google_request(messages, (), {"config": {"top_k": 3}, "temperature": 0.5})
    assert request == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "config": {"system_instruction": "Be brief.\n\nBe kind.", "top_k": 3},
        "temperature": 0.5,
    }


def test_a_callers_own_instruction_stays() -> None:
    config = {"system_instruction": "own"}
    request = google_request([{"role": "system", "content": "other"}], (), {"config": config})
    assert request["config"] == {"system_instruction": "own"}


def text(text: str) -> Any:
    return {"type": "text", "text": text}


def test_tools_are_declared_beside_the_callers_own() -> None:
    schema = {"type": "object", "properties": {}}
    function = {"name": "f", "description": "does", "parameters": schema, "strict": True}
    own = {"google_search": {}}
    tools = [{"type": "function", "function": function}]
    request = google_request(
        [{"role": "user", "content": "hi"}], tools, {"config": {"tools": [own]}}
    )
    declared = {"name": "f", "description": "does", "parameters": schema}
    assert request["config"]["tools"] == [own, {"function_declarations": [declared]}]


def test_the_callers_config_is_left_as_it_was() -> None:
    config: dict[str, Any] = {"tools": []}
    tools = [{"type": "function", "function": {"name": "f"}}]
    google_request([{"role": "system", "content": "x"}], tools, {"config": config})
    assert config == {"tools": []}


def test_a_call_and_its_result_go_by_the_tools_name() -> None:
    said = contents(calling("a", "weather", '{"city": "Kyoto"}'), result("a", "rain"))
    assert said == [
        {
            "role": "model",
            "parts": [{"function_call": {"name": "weather", "args": {"city": "Kyoto"}}}],
        },
        {
            "role": "user",
            "parts": [{"function_response": {"name": "weather", "response": {"result": "rain"}}}],
        },
    ]


def test_the_results_of_one_turn_are_one_turn() -> None:
    first, second = calling("a", "f"), calling("b", "g")
    both = {**first, "tool_calls": [*first["tool_calls"], *second["tool_calls"]]}
    said = contents(both, result("b"), result("a"), calling("a", "h"), result("a"))
    names = [[next(iter(part.values()))["name"] for part in content["parts"]] for content in said]
    assert names == [["f", "g"], ["g", "f"], ["h"], ["h"]]
    assert [content["role"] for content in said] == ["model", "user", "model", "user"]


def test_what_is_said_beside_a_call_comes_first() -> None:
    said = contents({**calling("a", "f"), "content": "Let me see."})
    assert [next(iter(part)) for part in said[0]["parts"]] == ["text", "function_call"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
            {"inline_data": {"mime_type": "image/png", "data": b"\x89PNG"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8,a%20b"}},
            {"inline_data": {"mime_type": "text/plain", "data": b"a b"}},
        ),
        (
            {"type": "file", "file": {"file_data": "DATA:;base64,YQ=="}},
            {"inline_data": {"mime_type": "text/plain", "data": b"a"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}},
            {"inline_data": {"mime_type": "audio/mp3", "data": b"a"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?x=1"}},
            {
                "file_data": {
                    "file_uri": "https://example.com/a.webp?x=1",
                    "mime_type": "image/webp",
                }
            },
        ),
        (
            {
                "type": "file",
                "file": {"file_data": "gs://bucket/doc", "mime_type": "application/pdf"},
            },
            {"file_data": {"file_uri": "gs://bucket/doc", "mime_type": "application/pdf"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "gs://bucket/unnamed"}},
            {"file_data": {"file_uri": "gs://bucket/unnamed", "mime_type": "image/jpeg"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://example.com/watch?v=1"}},
            {"file_data": {"file_uri": "https://example.com/watch?v=1", "mime_type": "video/mp4"}},
        ),
        (
            {"type": "file", "file": {"file_data": "https://example.com/unnamed"}},
            {"file_data": {"file_uri": "https://example.com/unnamed"}},
        ),
    ],
)
def test_a_file_is_inline_or_linked(part: Any, expected: Any) -> None:
    assert parts(part) == [expected]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([calling("a", "f", "no JSON")], "the arguments of the tool call 'f'"),
        ([calling("a", "f", "[1]")], "the arguments of the tool call 'f'"),
        ([calling("a", "f", "[" * 100_000)], "the arguments of the tool call 'f'"),
        ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], "a tool without a name"),
        ([{"role": "assistant", "tool_calls": [5]}], "a tool without a name"),
        ([result("nowhere")], "no tool call 'nowhere'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "'text' part"),
        ([{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}], "'refusal' part"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "'image_url'"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "é"}}]}],
            "no base64",
        ),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "a system message to a Google model can only hold text",
        ),
    ],
)
def test_what_google_has_no_words_for_is_named(messages: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        google_request(messages, (), {})


def test_a_config_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(TypeError, match="config must be a mapping, not 5"):
        google_request([{"role": "user", "content": "hi"}], (), {"config": 5})


def test_the_function_calls_of_an_answer_are_numbered() -> None:
    called = [
        {"function_call": {"name": "f", "args": {"a": 1}}},
        {"text": "between"},
        {"function_call": {"name": "g", "id": "own"}},
    ]
    raw = {"candidates": [{"content": {"parts": called}, "finish_reason": "STOP"}]}
    assert google_reply(raw, 3) == Reply(
        tool_calls=(ToolCall("call_3", "f", '{"a": 1}'), ToolCall("own", "g", "{}")),
        finish="STOP",
    )


def test_usage_is_read_in_googles_words() -> None:
    usage = {"prompt_token_count": 3, "candidates_token_count": 4, "thoughts_token_count": 2}
    assert google_usage({**usage, "total_token_count": 9}) == Usage(3, 4, 9)
    assert google_usage({}) is None
    assert google_usage("?") is None


NAMES = [
    "candidates",
    "content",
    "parts",
    "function_call",
    "name",
    "args",
    "id",
    "finish_reason",
    "usage_metadata",
    "prompt_token_count",
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=20,
)


def within(names: list[str], inner: Any) -> Any:
    """Return the value as deep inside as a function call is."""
    for name in reversed(names):
        inner = {name: [inner] if name in ("candidates", "parts") else inner}
    return inner


@given(st.integers(0, 4), ANYTHING)
def test_whatever_an_answer_says_is_read(depth: int, inner: Any) -> None:
    raw = within(NAMES[:depth], inner)
    reply = google_reply(raw if isinstance(raw, dict) else {"candidates": raw})
    for call in reply.tool_calls:
        assert isinstance(call.name, str)
        assert isinstance(json.loads(call.arguments), object)
    assert isinstance(reply.finish, (str, type(None)))
