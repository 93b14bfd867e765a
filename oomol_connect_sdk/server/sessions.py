"""From a stored task to the engine's session."""

from __future__ import annotations

from .engine.catalog import Catalog, Target
from .engine.session import Session
from .inputs import ROOT, by_node
from .records import TaskRecord


def open_session(catalog: Catalog, target: Target, task: TaskRecord) -> Session:
    """Return the session of a task, not started.

    Raises an EngineError when a manifest, the inputs or the nodes can't be used.
    """
    nodes_inputs = by_node(task.input_values)
    return Session(
        session_id=task.session_id,
        target=target.manifest,
        package=target.package,
        references=catalog.references,
        inputs=nodes_inputs.pop(ROOT),
        nodes_inputs=nodes_inputs,
        nodes=task.nodes or (),
        cache=task.cache,
    )
