"""TensorZero: inferences and feedback over HTTP.

Messages, tools and answers are translated between OpenAI's shape and TensorZero's own; the
embedded gateway (`tensorzero_embedded`) has the same translation.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from .._io import closing
from ..answers import expect
from ..errors import BadAnswerError, NotSupported, OomolConnectError
from ..inputs import to_json_value
from .face import Face
from .http import Answered, HttpPort
from .options import Settings
from .service import ChatCall, Service
from .values import Piece, Reply, ToolCall, ToolCallPiece, Usage

#: How TensorZero's OpenAI route writes models and functions; here they may be written so too.
MODEL_PREFIX = "tensorzero::model_name::"
FUNCTION_PREFIX = "tensorzero::function_name::"

#: OpenAI's parameters that TensorZero takes among those of a chat completion, and their names.
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "stop": "stop_sequences",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "reasoning_effort": "reasoning_effort",
    "service_tier": "service_tier",
    "verbosity": "verbosity",
}

_OF_THE_CALL = ("input", "model_name")


class GatewayPort(Protocol):
    """The way to a gateway: over HTTP, or into this process."""

    async def request(self, method: str, path: str, *, body: Any = None) -> Answered:
        """Hand over a body and return the answer's."""
        ...

    def events(
        self, path: str, body: Any
    ) -> AsyncGenerator[tuple[dict[str, Any], Mapping[str, str]], None]:
        """Hand over a body and give the events that come, with the answer's headers."""
        ...


class TensorZeroService(Service):
    """Speaks ``POST /inference`` and ``POST /feedback``.

    A call names a model (``openai::gpt-4o-mini``, or one of the configuration) or, with the
    keyword ``function_name`` or as ``tensorzero::function_name::NAME``, a function of the
    configuration. OpenAI's sampling parameters and ``tool_choice`` are translated; every other
    keyword is a member of TensorZero's request (``episode_id``, ``variant_name``, ``tags``,
    ``dryrun``, ``cache_options``, ``output_schema``, ``params``, …). Of a reply ``id`` is the
    inference's and ``model`` the variant's name; the text of a JSON function is its raw output.
    What the models' own services refuse, TensorZero tries again by itself and then answers 502.
    """

    name = "TensorZero"

    def __init__(self, settings: Settings, face: Face) -> None:
        super().__init__(settings, face)
        self._port = self._port_to_gateway()

    def _port_to_gateway(self) -> GatewayPort:
        if "clickhouse_url" in self.settings.special:
            raise ValueError("clickhouse_url is an option of tensorzero+file://… only")
        return HttpPort(self.name, self.settings, self.face)

    def needs_model(self, params: Mapping[str, Any]) -> bool:
        """Return whether a call must name a model: not when it names a function."""
        return params.get("function_name") is None

    async def chat(self, call: ChatCall) -> Reply:
        """Ask for an inference."""
        answered = await self._port.request("POST", "/inference", body=inference_body(call))
        return reply_of(answered.body, answered.request_id)

    async def stream(self, call: ChatCall) -> AsyncGenerator[Piece, None]:
        """Ask for an inference in pieces."""
        body = {**inference_body(call), "stream": True}
        async with closing(self._port.events("/inference", body)) as events:
            async for chunk, headers in events:
                yield piece_of(chunk, headers.get("x-request-id"))

    async def feedback(
        self, reply: Reply | str, metric: str, value: Any, options: Mapping[str, Any]
    ) -> Any:
        """Assign a metric to an inference, or to the whole episode that ``episode_id`` names.

        ``comment`` and ``demonstration`` are metrics that every TensorZero has.
        """
        body = {name: to_json_value(option, name) for name, option in options.items()}
        body.update(metric_name=metric, value=to_json_value(value, "value"))
        if body.get("episode_id") is None:
            body["inference_id"] = reply.id if isinstance(reply, Reply) else reply
            if not isinstance(body["inference_id"], str) or not body["inference_id"]:
                raise ValueError("feedback needs a reply with an id, or the id of an inference")
        answered = await self._port.request("POST", "/feedback", body=body)
        expect(answered.body, "feedback_id", str, "POST /feedback")
        return answered.body


def inference_body(call: ChatCall) -> dict[str, Any]:
    """Return the body of an inference request."""
    params = dict(call.params)
    for name in _OF_THE_CALL:
        if name in params:
            raise OomolConnectError(f"{name!r} is no parameter: TensorZero gets it from the call")
    sampling = _taken(params, _SAMPLING)
    if isinstance(sampling.get("stop_sequences"), str):
        sampling["stop_sequences"] = [sampling["stop_sequences"]]
    body = {**params, **_target(call), "input": inference_input(call.messages)}
    if sampling:
        given = _mapping(body.get("params"), "params")
        completion = _mapping(given.get("chat_completion"), "params['chat_completion']")
        body["params"] = {**given, "chat_completion": {**completion, **sampling}}
    if call.tools:
        tools = [_tool(tool["function"]) for tool in call.tools]
        if body.get("additional_tools"):
            raise OomolConnectError("a call has tools or additional_tools, not both")
        body["additional_tools"] = tools
    if "tool_choice" in body:
        body["tool_choice"] = _tool_choice(body["tool_choice"])
    return body


def inference_input(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return OpenAI's messages as the input of an inference.

    All system messages become one, in front.
    """
    system = []
    turns = []
    names: dict[str, str] = {}
    for number, message in enumerate(messages):
        role, where = message["role"], f"messages[{number}]"
        if role == "function":
            raise NotSupported(f"{where}: TensorZero has no role 'function', use 'tool'")
        if role in ("system", "developer"):
            system.append(_text_of_blocks(_blocks(message, where), where))
        elif role == "tool":
            turns.append({"role": "user", "content": [_tool_result(message, names, where)]})
        else:
            calls = [_tool_call_block(item, where) for item in message.get("tool_calls") or ()]
            names.update((call["id"], call["name"]) for call in calls)
            said = [] if calls and not message.get("content") else _blocks(message, where)
            turns.append({"role": role, "content": [*said, *calls]})
    return {**({"system": "\n\n".join(system)} if system else {}), "messages": turns}


def reply_of(body: Any, request_id: str | None) -> Reply:
    """Read an inference; BadAnswerError when it is none."""
    where = "the inference"
    output = body.get("output") if isinstance(body, dict) else None
    blocks = [] if isinstance(output, dict) else list(_content(body))
    text = _text(output.get("raw")) if isinstance(output, dict) else _joined_text(blocks)
    return Reply(
        text=text,
        tool_calls=tuple(
            ToolCall(
                *(expect(block, key, str, where) for key in ("id", "raw_name", "raw_arguments"))
            )
            for block in blocks
            if block.get("type") == "tool_call"
        ),
        finish=_optional(body, "finish_reason"),
        usage=Usage.of(body.get("usage")),
        id=_optional(body, "inference_id"),
        model=_optional(body, "variant_name"),
        request_id=request_id,
        raw=body,
    )


def piece_of(chunk: dict[str, Any], request_id: str | None) -> Piece:
    """Read one chunk of a streamed inference; that of a JSON function has ``raw``."""
    blocks = [] if "raw" in chunk else list(_content(chunk))
    return Piece(
        text=_text(chunk.get("raw")) + _joined_text(blocks),
        tool_calls=tuple(
            ToolCallPiece(
                id=expect(block, "id", str, "the inference"),
                name=_text(block.get("raw_name")),
                arguments=_text(block.get("raw_arguments")),
            )
            for block in blocks
            if block.get("type") == "tool_call"
        ),
        finish=_optional(chunk, "finish_reason"),
        usage=Usage.of(chunk.get("usage")),
        id=_optional(chunk, "inference_id"),
        model=_optional(chunk, "variant_name"),
        request_id=request_id,
        raw=chunk,
    )


def _target(call: ChatCall) -> dict[str, Any]:
    if call.params.get("function_name") is not None:
        if call.model:
            raise OomolConnectError("a call of TensorZero names a model or a function, not both")
        return {}
    if call.model.startswith(FUNCTION_PREFIX):
        return {"function_name": call.model.removeprefix(FUNCTION_PREFIX)}
    return {"model_name": call.model.removeprefix(MODEL_PREFIX)}


def _taken(params: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: params.pop(name) for name in names if name in params}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, (dict, type(None))):
        raise OomolConnectError(f"{where} must be a mapping, not {value!r:.120}")
    return value or {}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": function["name"],
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {"type": "object", "properties": {}},
        "strict": bool(function.get("strict")),
    }


def _tool_choice(choice: Any) -> Any:
    function = choice.get("function") if isinstance(choice, dict) else None
    return {"specific": function.get("name")} if isinstance(function, dict) else choice


def _blocks(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_block(part, where) for part in content or ()]


def _block(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a part of OpenAI's as TensorZero's block; a block of TensorZero's own stays."""
    kind = part["type"]
    value = part.get(kind)
    details = value if isinstance(value, dict) else {}
    if kind == "text" and isinstance(value, str):
        return {"type": "text", "text": value}
    if kind in ("image_url", "video_url"):
        address = value if isinstance(value, str) else details.get("url")
        detail = {"detail": details["detail"]} if details.get("detail") else {}
        return {**_file(address, where), **detail}
    if kind == "file" and details:
        name = {"filename": details["filename"]} if details.get("filename") else {}
        block = _file(details.get("file_data"), where)
        return {**block, **name} if block["file_type"] == "base64" else block
    if kind == "input_audio":
        format = details.get("format")
        subtype = "mpeg" if format == "mp3" else format
        return _file(f"data:audio/{subtype};base64,{details.get('data')}", where)
    return dict(part)


def _file(address: Any, where: str) -> dict[str, Any]:
    if not isinstance(address, str) or not address.startswith(("data:", "http://", "https://")):
        raise OomolConnectError(
            f"{where}: TensorZero takes files as data: or https: addresses, not {address!r:.80}"
        )
    if not address.startswith("data:"):
        return {"type": "file", "file_type": "url", "url": address}
    head, _, data = address.removeprefix("data:").partition(",")
    kind, *flags = head.split(";")
    if "base64" not in flags:
        data = base64.b64encode(unquote_to_bytes(data)).decode("ascii")
    return {
        "type": "file",
        "file_type": "base64",
        "mime_type": kind or "text/plain",
        "data": data,
    }


def _tool_call_block(item: Any, where: str) -> dict[str, Any]:
    call = item if isinstance(item, dict) else {}
    given = call.get("function")
    function = given if isinstance(given, dict) else {}
    id, name = call.get("id"), function.get("name")
    if not isinstance(id, str) or not isinstance(name, str):
        raise OomolConnectError(f"{where}: a tool call needs an id and a function with a name")
    arguments = function.get("arguments") or "{}"
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def _tool_result(
    message: Mapping[str, Any], names: Mapping[str, str], where: str
) -> dict[str, Any]:
    """Return a tool message as a block, which has the name of the tool besides the call's id."""
    id = message.get("tool_call_id")
    name = names.get(id) if isinstance(id, str) else None
    name = name or message.get("name")
    if not isinstance(id, str) or not isinstance(name, str):
        raise OomolConnectError(
            f"{where} answers the tool call {id!r}, which no assistant message before it made"
        )
    result = _text_of_blocks(_blocks(message, where), where)
    return {"type": "tool_result", "id": id, "name": name, "result": result}


def _text_of_blocks(blocks: Sequence[Mapping[str, Any]], where: str) -> str:
    for block in blocks:
        if block["type"] != "text":
            raise NotSupported(f"{where}: TensorZero takes only text there, not {block['type']!r}")
    return "".join(block["text"] for block in blocks)


def _content(body: Any) -> Iterator[dict[str, Any]]:
    for block in expect(body, "content", list, "the inference"):
        if not isinstance(block, dict):
            raise BadAnswerError(
                f"the inference has a block that is none: {block!r:.200}", 200, body
            )
        yield block


def _joined_text(blocks: Sequence[Mapping[str, Any]]) -> str:
    return "".join(_text(block.get("text")) for block in blocks if block.get("type") == "text")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _optional(body: Mapping[str, Any], key: str) -> str | None:
    return _text(body.get(key)) or None
