"""The messages of Tamar Model Manager, made at run time: no generated code that could grow old.

The field table was recovered from the public client (versions 0.1.14 and 0.8.44 agree).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

#: The name of the service on the wire.
SERVICE = "model_service.ModelService"

#: Message → fields by number: their type, ``?`` for an optional and ``*`` for a repeated one.
FIELDS: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "ModelRequestItem": {
        1: ("provider", "string"),
        2: ("channel", "string"),
        3: ("invoke_type", "string"),
        4: ("stream", "bool"),
        5: ("org_id", "string"),
        6: ("user_id", "string"),
        7: ("client_type", "string"),
        8: ("priority", "int32?"),
        9: ("custom_id", "string?"),
        10: ("extra", "google.protobuf.Struct"),
        11: ("region", "string?"),
    },
    "ModelRequest": {1: ("items", "ModelRequestItem*")},
    "ModelResponseItem": {
        1: ("content", "string"),
        2: ("usage", "string"),
        3: ("raw_response", "string"),
        4: ("error", "string"),
        5: ("custom_id", "string?"),
        6: ("request_id", "string?"),
    },
    "ModelResponse": {1: ("request_id", "string"), 2: ("items", "ModelResponseItem*")},
}

_PACKAGE = "model_service"


class Wire:
    """The message classes; see `wire`."""

    def __init__(self) -> None:
        from google.protobuf import descriptor_pool, message_factory, struct_pb2

        # A pool of its own: the public client puts the same names into the common one.
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(_file_descriptor())

        def message(name: str) -> Any:
            return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))

        self.ModelRequestItem = message("ModelRequestItem")
        self.ModelRequest = message("ModelRequest")
        self.ModelResponseItem = message("ModelResponseItem")
        self.ModelResponse = message("ModelResponse")

    def request_item(self, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> Any:
        """Make one request; ``extra`` is what the provider gets.

        Raises ValueError for what the messages can't hold.
        """
        from google.protobuf import json_format

        try:
            item = self.ModelRequestItem(**{k: v for k, v in fields.items() if v is not None})
            json_format.ParseDict(_struct_value(extra), item.extra)
        except (ValueError, OverflowError, json_format.ParseError) as error:
            raise ValueError(f"a message of gRPC can't hold this request: {error}") from error
        return item


@cache
def wire() -> Wire:
    """Return the message classes, made once. Needs protobuf."""
    return Wire()


def _struct_value(value: Any) -> Any:
    """Bring a value to what a Struct can hold; bytes are written as the public client does."""
    if isinstance(value, Mapping):
        return {key: _struct_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_struct_value(item) for item in value]
    if isinstance(value, bytes):
        return "bytes:" + base64.b64encode(value).decode("ascii")
    return value


def _file_descriptor() -> bytes:
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="model_service.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in fields.items():
            _add_field(message, field_name, number, kind)
    serialized: bytes = file.SerializeToString()
    return serialized


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Proto

    field = message.field.add(name=name, number=number, label=Proto.LABEL_OPTIONAL)
    scalars = {"string": Proto.TYPE_STRING, "bool": Proto.TYPE_BOOL, "int32": Proto.TYPE_INT32}
    plain = kind.rstrip("?*")
    if plain in scalars:
        field.type = scalars[plain]
    else:
        field.type = Proto.TYPE_MESSAGE
        field.type_name = f".{plain}" if "." in plain else f".{_PACKAGE}.{plain}"
    if kind.endswith("*"):
        field.label = Proto.LABEL_REPEATED
    if kind.endswith("?"):
        # In proto3 an optional field is the only one of a group that nobody sees.
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
