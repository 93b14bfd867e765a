"""Reading manifest files into the values of ``manifest_types``, which are public from here.

Unknown keys are ignored everywhere; a known key of the wrong shape is a ManifestError that
names the file, the line and the fault.
"""

from __future__ import annotations

import re
from pathlib import Path

from .block_manifests import service_manifest, task_block
from .handle_manifests import read_inputs_def, read_outputs_def, read_sources
from .manifest_types import (
    ABSENT,
    Absent,
    Case,
    ConditionsNode,
    Executor,
    Expression,
    Flow,
    FlowKind,
    Inject,
    InputDef,
    Node,
    NodeOutput,
    OtherNode,
    OutputDef,
    Package,
    ServiceManifest,
    ServiceNode,
    SlotNode,
    SlotProvider,
    Source,
    SubflowNode,
    TaskBlock,
    TaskNode,
    ValuesNode,
)
from .node_manifests import read_nodes
from .yaml_source import ManifestError, Place, read_yaml

__all__ = [
    "ABSENT",
    "Absent",
    "Case",
    "ConditionsNode",
    "Executor",
    "Expression",
    "Flow",
    "FlowKind",
    "Inject",
    "InputDef",
    "ManifestError",
    "Node",
    "NodeOutput",
    "OtherNode",
    "OutputDef",
    "Package",
    "ServiceManifest",
    "ServiceNode",
    "SlotNode",
    "SlotProvider",
    "Source",
    "SubflowNode",
    "TaskBlock",
    "TaskNode",
    "ValuesNode",
    "find_manifest",
    "package_name_from_directory",
    "read_flow",
    "read_package",
    "read_service",
    "read_task_block",
]

_SUFFIXES = (".oo.yaml", ".oo.yml")
_VERSION_SUFFIX = re.compile(r"-v?\d+\.\d+\.\d+.*$")


def find_manifest(directory: Path, kind: str) -> Path | None:
    """Find the manifest of a kind (``package``, ``task``, ``flow`` ...) in a directory."""
    for suffix in _SUFFIXES:
        path = directory / (kind + suffix)
        if path.is_file():
            return path
    return None


def package_name_from_directory(directory: Path) -> str:
    """Give the name that a package's directory stands for: ``name-1.2.3`` without its version."""
    name = _VERSION_SUFFIX.sub("", directory.name)
    scope = directory.parent.name
    return f"{scope}/{name}" if scope.startswith("@") else name


def read_package(directory: Path) -> Package:
    """Read a directory's ``package.oo.yaml``; a package without a name has its directory's."""
    path = find_manifest(directory, "package") or directory / "package.oo.yaml"
    fields = read_yaml(path).fields()
    return Package(
        path=path,
        name=fields.text("name") or package_name_from_directory(directory),
        version=fields.text("version"),
        description=fields.text("description"),
        dependencies=_texts(fields.get("dependencies")),
    )


def read_task_block(path: Path) -> TaskBlock:
    """Read a ``task.oo.yaml`` or ``block.oo.yaml``."""
    return task_block(read_yaml(path).fields(), path.parent.name, path, path.parent)


def read_service(path: Path) -> ServiceManifest:
    """Read a ``service.oo.yaml``."""
    return service_manifest(read_yaml(path).fields(), path)


def read_flow(path: Path) -> Flow:
    """Read a ``flow.oo.yaml``, ``subflow.oo.yaml`` or ``slotflow.oo.yaml``."""
    fields = read_yaml(path).fields()
    return Flow(
        name=path.parent.name,
        path=path,
        description=fields.text("description"),
        nodes=read_nodes(fields, path.parent),
        inputs_def=read_inputs_def(fields),
        outputs_def=read_outputs_def(fields),
        outputs_from=read_sources(fields, "outputs_from"),
        forward_previews=tuple(place.text() for place in fields.items("forward_previews")),
        injection=_texts(fields.get("injection")),
    )


def _texts(place: Place | None) -> dict[str, str]:
    """Read a mapping of names to texts; an absent one is empty."""
    places = place.fields().places if place else {}
    return {name: text.text() for name, text in places.items()}
