"""From a stored task to the engine's session."""

from __future__ import annotations

from .engine.catalog import Catalog, Target
from .engine.session import Session
from .inputs import ROOT, NodeInputs, by_node


def open_session(
    catalog: Catalog, target: Target, session_id: str, input_values: NodeInputs | None
) -> Session:
    """Return a session that has not started.

    Raises an EngineError when a manifest or the inputs can't be used.
    """
    nodes_inputs = by_node(input_values)
    return Session(
        session_id=session_id,
        target=target.manifest,
        package=target.package,
        references=catalog.references,
        inputs=nodes_inputs.pop(ROOT),
        nodes_inputs=nodes_inputs,
    )
