"""Conversations in Google's words: what a ``generate_content`` request takes and gives."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from .values import Reply, ToolCall, Usage

#: What an address is taken for when its name does not tell: Google wants to know.
_USUAL_TYPES = {"image_url": "image/jpeg", "video_url": "video/mp4"}


def google_request(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the request that says the same; ``params`` go along as they are.

    Raises TypeError or ValueError for what Google has no words for.
    """
    if "contents" in params:
        raise TypeError("'contents' is no parameter: the messages say it")
    config = params.get("config") or {}
    if not isinstance(config, Mapping):
        raise TypeError(f"config must be a mapping, not {config!r:.120}")
    config = dict(config)
    system = "\n\n".join(
        _text(message) for message in messages if message["role"] in ("system", "developer")
    )
    if system:
        config.setdefault("system_instruction", system)
    if tools:
        functions = [_declaration(tool["function"]) for tool in tools]
        config["tools"] = [*(config.get("tools") or ()), {"function_declarations": functions}]
    request = {**params, "contents": _contents(messages)}
    return {**request, "config": config} if config else request


def google_reply(raw: Mapping[str, Any], earlier: int = 0) -> Reply:
    """Read what an answer says besides its text.

    Google names no tool calls: they are numbered, after the ``earlier`` ones of the same answer.
    """
    candidate = _mapping(next(iter(_listed(raw.get("candidates"))), None))
    parts = _mapping(candidate.get("content")).get("parts")
    wanted = [_mapping(part).get("function_call") for part in _listed(parts)]
    calls = enumerate((call for call in wanted if isinstance(call, dict)), earlier)
    return Reply(
        tool_calls=tuple(_tool_call(call, number) for number, call in calls),
        finish=_text_at(candidate, "finish_reason"),
        usage=google_usage(raw.get("usage_metadata")),
        id=_text_at(raw, "response_id"),
        model=_text_at(raw, "model_version"),
    )


def google_usage(value: Any) -> Usage | None:
    """Read a usage object in Google's words; None when it says nothing."""
    usage = _mapping(value)
    return Usage.of(
        {
            "prompt_tokens": usage.get("prompt_token_count"),
            "completion_tokens": usage.get("candidates_token_count"),
            "total_tokens": usage.get("total_token_count"),
        }
    )


def _tool_call(call: Mapping[str, Any], number: int) -> ToolCall:
    id = _text_at(call, "id") or f"call_{number}"
    return ToolCall(id, _text_at(call, "name") or "", json.dumps(call.get("args") or {}))


def _contents(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names: dict[Any, str] = {}
    contents: list[dict[str, Any]] = []
    after_result = False
    for message in messages:
        role = message["role"]
        if role in ("system", "developer"):
            continue
        if role not in ("tool", "function"):
            parts = [*_parts(message), *_function_calls(message, names)]
            contents.append({"role": "model" if role == "assistant" else "user", "parts": parts})
        elif after_result:
            # Google wants the results of all calls of one turn in one turn.
            contents[-1]["parts"].append(_function_response(message, names))
        else:
            contents.append({"role": "user", "parts": [_function_response(message, names)]})
        after_result = role in ("tool", "function")
    return contents


def _function_calls(message: Mapping[str, Any], names: dict[Any, str]) -> list[dict[str, Any]]:
    """Return the parts for the tools that a message calls, and keep their names by their ids."""
    parts = []
    for call in message.get("tool_calls") or ():
        function = _mapping(_mapping(call).get("function"))
        name = _text_at(function, "name")
        if name is None:
            raise ValueError(f"an assistant message calls a tool without a name: {call!r:.120}")
        names[call.get("id")] = name
        parts.append({"function_call": {"name": name, "args": _arguments(function, name)}})
    return parts


def _arguments(function: Mapping[str, Any], name: str) -> dict[str, Any]:
    arguments = function.get("arguments") or "{}"
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"the arguments of the tool call {name!r} are no JSON object")
    return value


def _function_response(message: Mapping[str, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    id = message.get("tool_call_id")
    name = names.get(id) or message.get("name")
    if not name:
        raise ValueError(f"there is no tool call {id!r} before the message with its result")
    return {"function_response": {"name": name, "response": {"result": _text(message)}}}


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content") or ""
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    inside = _mapping(part.get(kind))
    text = _text_at(part, "text")
    data = _text_at(inside, "data")
    address = _text_at(inside, "url") or _text_at(inside, "file_data")
    if kind == "text" and text is not None:
        return {"text": text}
    if kind == "input_audio" and data is not None:
        return _inline(f"audio/{_text_at(inside, 'format') or 'wav'}", data, kind)
    if kind not in ("image_url", "video_url", "file") or address is None:
        raise ValueError(f"a Google model can't be told this {kind!r} part: {part!r:.120}")
    if address[:5].lower() == "data:":
        head, _, data = address[5:].partition(",")
        mime_type, *options = head.split(";")
        return _inline(mime_type or "text/plain", data, kind, plain="base64" not in options)
    guessed = _guessed_type(address) or _USUAL_TYPES.get(kind)
    told = _text_at(inside, "mime_type") or guessed
    typed = {} if told is None else {"mime_type": told}
    return {"file_data": {"file_uri": address, **typed}}


def _inline(mime_type: str, data: str, kind: str, plain: bool = False) -> dict[str, Any]:
    try:
        content = unquote_to_bytes(data) if plain else base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the data of a {kind!r} part is no base64: {error}") from error
    return {"inline_data": {"mime_type": mime_type, "data": content}}


def _guessed_type(address: str) -> str | None:
    import mimetypes

    return mimetypes.guess_type(urlsplit(address).path)[0]


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    return {key: function[key] for key in ("name", "description", "parameters") if key in function}


def _text(message: Mapping[str, Any]) -> str:
    """Return what a message says where there is only room for text."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    texts = [_text_at(part, "text") for part in content]
    if None in texts:
        raise ValueError(f"a {message['role']} message to a Google model can only hold text")
    return "".join(text or "" for text in texts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text_at(value: Mapping[str, Any], key: str) -> str | None:
    text = value.get(key)
    return text if isinstance(text, str) else None
