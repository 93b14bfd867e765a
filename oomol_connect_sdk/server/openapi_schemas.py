"""The shapes of the wire, as the schemas of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Return a reference to one of these schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def text(description: str = "", **more: Any) -> Schema:
    """Return the schema of a text."""
    return _described({"type": "string"}, description, more)


def number(description: str = "", **more: Any) -> Schema:
    """Return the schema of a whole number."""
    return _described({"type": "integer"}, description, more)


def record(required: str, **properties: Schema) -> Schema:
    """Return the schema of an object; ``required`` names properties, separated by spaces."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _described(schema: Schema, description: str, more: Mapping[str, Any]) -> Schema:
    return {**schema, **({"description": description} if description else {}), **more}


ANYTHING: Schema = {}
TRUE: Schema = {"const": True}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
TIME = number("Unix milliseconds.")
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
STATUSES = ["created", "pending", "running", "completed", "failed", "stopped"]

_TARGET = "What to run, such as package::block; one of manifest, blockId and flowName is needed."
_INPUT = record(
    "handle",
    handle=text(),
    json_schema=ANYTHING,
    description=text(),
    nullable=FLAG,
    value=ANYTHING,
)
_INPUTS = array(record("handle value", handle=text(), value=ANYTHING))
_NODE_INPUTS = array(record("nodeId inputs", nodeId=text(), inputs=_INPUTS))
#: What a request for a task has besides its files.
_TASK_OPTIONS: dict[str, Schema] = {
    "manifest": text(_TARGET),
    "blockId": text(_TARGET),
    "flowName": text(_TARGET),
    "priority": number("Of the tasks that wait, a higher one starts first.", default=0),
    "labels": LABELS,
    "deadline": number("Unix milliseconds: a task that has not ended by then is stopped."),
    "nodes": array(text("Id of a node of the flow: it runs only up to these nodes.")),
    "useCache": {**FLAG, "description": "Whether inputs nodes had in earlier runs serve again."},
}

SCHEMAS: dict[str, Schema] = {
    "Task": record(
        "id project_id manifest_path status created_at updated_at",
        id=text(),
        project_id=text(),
        manifest_path=text(),
        status=text(enum=STATUSES),
        inputValues=_NODE_INPUTS,
        created_at=TIME,
        updated_at=TIME,
        session_id=text(),
        progress={"type": "number", "minimum": 0, "maximum": 100, "description": "Percent."},
        result={**OBJECT, "description": "Handle to value."},
        nodeResults={**OBJECT, "description": "Node id to handle to value."},
        error=record("message nodePath", message=text(), nodePath=array(text()), blockPath=text()),
        priority=number(),
        labels=LABELS,
        deadline=TIME,
        rerunOf=text("Id of the task this one repeats."),
        nodes=array(text()),
        useCache=FLAG,
    ),
    "CreateTask": {
        "type": "object",
        "properties": {
            **_TASK_OPTIONS,
            "inputValues": {
                "description": "Handle to value; or a list of handles with values; or such lists "
                "by node, where the node _ is the block or flow itself.",
                "anyOf": [OBJECT, _INPUTS, _NODE_INPUTS],
            },
        },
    },
    "CreateTaskForm": {
        "type": "object",
        "description": "All but the names of what to run and the files are JSON texts.",
        "properties": {
            **_TASK_OPTIONS,
            "inputValues": text('{"__OOMOL_FILE__": 0} in it stands for the path of a file.'),
            "files": array({"type": "string", "format": "binary"}),
        },
    },
    "TaskLog": record(
        "id project_name session_id node_id manifest_path type event created_at",
        id=number("Ascends over all tasks."),
        project_name=text(),
        session_id=text(),
        node_id=text("none for events of the block or flow itself."),
        manifest_path=text(),
        type=text(),
        event=OBJECT,
        created_at=TIME,
    ),
    "TaskFile": record(
        "name size modified_at", name=text(), size=number("Bytes."), modified_at=TIME
    ),
    "Block": record(
        "package name path blockId inputs outputs",
        package=text(),
        name=text(),
        path=text(),
        version=text(),
        description=text(),
        blockId=text(),
        inputs=array(_INPUT),
        outputs=array(_INPUT),
    ),
    "Flow": record(
        "package name path inputs",
        package=text(),
        name=text(),
        path=text(),
        version=text(),
        description=text(),
        error=text("Why it can't run."),
        inputs=array(record("nodeId inputs", nodeId=text(), inputs=array(_INPUT))),
    ),
    "Package": record("path", name=text(), version=text(), path=text(), description=text()),
    "InstallTask": record(
        "id name status createdAt updatedAt",
        id=text(),
        name=text(),
        version=text(),
        status=text(enum=["pending", "running", "success", "failed"]),
        packagePath=text(),
        dependencies=array(
            record("name version packagePath", name=text(), version=text(), packagePath=text())
        ),
        error=text(),
        createdAt=TIME,
        updatedAt=TIME,
        source=text("The path or address it came from, if it was one."),
    ),
    "Error": record(
        "success message error",
        success={"const": False},
        message=text(),
        error=record("message", message=text()),
    ),
}
