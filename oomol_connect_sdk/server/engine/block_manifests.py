"""Reading what a task or a service says about its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .actions import Service
from .handle_manifests import read_inputs_def, read_outputs_def
from .manifest_types import Executor, ServiceManifest, TaskBlock
from .yaml_source import Fields, Place

_START_AT = ("block_start", "session_start", "app_start")
_STOP_AT = ("session_end", "block_end", "app_end", "never")


def task_block(fields: Fields, name: str, path: Path | None, directory: Path) -> TaskBlock:
    """Read a task; ``path`` is None for one written inline in a flow."""
    executor = fields.need("executor").fields()
    options = executor.get("options")
    return TaskBlock(
        name=name,
        path=path,
        directory=directory,
        executor=Executor(executor.need("name").text(), options.mapping() if options else {}),
        description=fields.text("description"),
        inputs_def=read_inputs_def(fields),
        outputs_def=read_outputs_def(fields),
        additional_inputs=_additional(fields, "additional_inputs"),
        additional_outputs=_additional(fields, "additional_outputs"),
    )


def service_manifest(fields: Fields, path: Path) -> ServiceManifest:
    """Read a service; a ``start_at`` or ``stop_at`` that doesn't exist counts as the default."""
    blocks: dict[str, TaskBlock] = {}
    for place, block in _service_blocks(fields, path):
        if block.name in blocks:
            raise place.error(f"the block {block.name!r} is declared twice")
        blocks[block.name] = block
    return ServiceManifest(path.parent.name, path, blocks)


def _service_blocks(fields: Fields, path: Path) -> Iterator[tuple[Place, TaskBlock]]:
    executor = fields.need("executor").fields()
    name = executor.need("name").text()
    options = _service_options(executor)
    keep_alive = executor.get("keep_alive")
    for place in fields.items("blocks"):
        block = place.fields()
        block_name = block.need("name").text()
        service = Service(
            path=path,
            block_name=block_name,
            executor=name,
            options=options,
            start_at=_choice(executor.text("start_at"), _START_AT),
            stop_at=_choice(executor.text("stop_at"), _STOP_AT),
            keep_alive=None if keep_alive is None else keep_alive.number(),
        )
        yield (
            place,
            TaskBlock(
                name=block_name,
                path=path,
                directory=path.parent,
                executor=Executor(name, options),
                description=block.text("description"),
                inputs_def=read_inputs_def(block),
                outputs_def=read_outputs_def(block),
                service=service,
            ),
        )


def _service_options(executor: Fields) -> dict[str, Any]:
    texts = {name: executor.text(name) for name in ("entry", "function")}
    return {name: text for name, text in texts.items() if text is not None}


def _choice(text: str | None, choices: tuple[str, ...]) -> str:
    return text if text in choices else choices[0]


def _additional(fields: Fields, name: str) -> bool:
    place = fields.get(name)
    return place is not None and (place.is_mapping or place.boolean())
