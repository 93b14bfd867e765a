"""The log events of a session, in the shapes of the OOMOL engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .manifests import Flow

Stacks = tuple[Mapping[str, Any], ...]

#: Flow kind → how its events begin, and the key of its path.
_FLOW_EVENTS = {
    "flow": ("Flow", "flow_path"),
    "subflow": ("SubflowBlock", "block_path"),
    "slotflow": ("Slotflow", "block_path"),
}


@dataclass(frozen=True)
class JobInfo:
    """Which run of a block or flow an event is about."""

    job_id: str
    stacks: Stacks
    #: The manifest file; None for an inline task and for a conditions node.
    path: Path | None

    def fields(self) -> dict[str, Any]:
        """Give the keys that every event of a block has."""
        fields: dict[str, Any] = {"job_id": self.job_id, "stacks": list(self.stacks)}
        if self.path is not None:
            fields["block_path"] = str(self.path)
        return fields


@dataclass(frozen=True)
class Trouble:
    """Why a job failed, and where it ran."""

    message: str
    info: JobInfo

    def stack(self) -> list[Mapping[str, Any]]:
        """Give the nodes from the outermost flow to the block that failed."""
        return list(self.info.stacks)


@dataclass(frozen=True)
class Extent:
    """How much of a flow a session runs."""

    #: Whether only some nodes run.
    partial: bool = False
    #: Whether values of an earlier run are used.
    cache: bool = False

    def fields(self) -> dict[str, Any]:
        """Give the keys that the session's events have."""
        return {"partial": self.partial, "cache": self.cache}


class Events:
    """Builds every event of one session and hands it to ``write``."""

    def __init__(
        self, session_id: str, clock: Callable[[], int], write: Callable[[dict[str, Any]], None]
    ) -> None:
        self._session_id = session_id
        self._clock = clock
        self._write = write

    def session_started(self, path: Path, extent: Extent) -> None:
        """The session begins."""
        whole = {"create_at": self._clock(), "path": str(path), **extent.fields()}
        self._send("SessionStarted", **whole)

    def session_finished(self, path: Path, extent: Extent, error: Mapping[str, Any]) -> None:
        """The session is over; ``error`` holds ``error`` and ``_error`` when it failed."""
        whole = {"finish_at": self._clock(), "path": str(path), **error, **extent.fields()}
        self._send("SessionFinished", **whole)

    def flow_started(self, flow: Flow, info: JobInfo, inputs: Mapping[str, Any]) -> None:
        """A flow begins."""
        given = {} if flow.kind == "flow" else {"inputs": dict(inputs) or None}
        self._send_flow("Started", flow, info, **given, create_at=self._clock())

    def flow_nodes_will_run(
        self,
        flow: Flow,
        info: JobInfo,
        start: Sequence[str],
        middle: Sequence[str],
        ends: Sequence[str],
    ) -> None:
        """Which nodes of the outermost flow run at once, which later, and up to which it runs."""
        groups = {"start_nodes": start, "mid_nodes": middle, "end_nodes": ends}
        lists = {name: list(nodes) for name, nodes in groups.items()}
        self._send_flow("NodesWillRun", flow, info, **lists)

    def flow_output(self, flow: Flow, info: JobInfo, handle: str, value: Any) -> None:
        """A subflow gave an output; a ``flow.oo.yaml`` has no such event."""
        if flow.kind != "flow":
            self._send_flow("Output", flow, info, output=value, handle=handle)

    def flow_progress(self, flow: Flow, info: JobInfo, progress: float) -> None:
        """A subflow came further; a ``flow.oo.yaml`` has no such event."""
        if flow.kind != "flow":
            self._send("BlockProgress", **info.fields(), progress=progress, rate=progress)

    def flow_finished(
        self, flow: Flow, info: JobInfo, error: str | None = None, trouble: Trouble | None = None
    ) -> None:
        """A flow is over; its own message names the node, ``trouble`` where it comes from."""
        detail = {} if trouble is None else {"_error": {"stack": trouble.stack()}}
        self._send_flow("Finished", flow, info, error=error, **detail, finish_at=self._clock())

    def block_started(self, info: JobInfo, inputs: Mapping[str, Any]) -> None:
        """A job begins; inputs that are none are null."""
        self._send(
            "BlockStarted", **info.fields(), inputs=dict(inputs) or None, create_at=self._clock()
        )

    def block_finished(self, info: JobInfo, **outcome: Any) -> None:
        """A job that the engine ran itself is over."""
        self._send("BlockFinished", **info.fields(), **outcome, finish_at=self._clock())

    def timed_out(self, info: JobInfo, seconds: float) -> None:
        """A subflow took longer than its node allows."""
        error = f"{info.job_id} timeout after {seconds:g}s"
        self._send("BlockError", **info.fields(), error=error, timeout=seconds)

    def warning(self, info: JobInfo, warning: str) -> None:
        """Something about a block that a person should know."""
        self._send("BlockWarning", **info.fields(), warning=warning)

    def preview(self, info: JobInfo, payload: Any, node_id: str) -> None:
        """A flow shows the preview of one of its nodes."""
        self._send("BlockPreview", **info.fields(), payload=payload, node_id=node_id)

    def message(self, message: Mapping[str, Any], info: JobInfo) -> None:
        """Write an executor's message as the event it is."""
        event = {**message, **info.fields(), "session_id": self._session_id}
        if message.get("type") == "BlockFinished":
            event["finish_at"] = self._clock()
        self._write(event)

    def _send_flow(self, name: str, flow: Flow, info: JobInfo, **fields: Any) -> None:
        prefix, path_key = _FLOW_EVENTS[flow.kind]
        identity = {"job_id": info.job_id, path_key: str(flow.path), "stacks": list(info.stacks)}
        self._send(prefix + name, **identity, **fields)

    def _send(self, event_type: str, **fields: Any) -> None:
        self._write({"type": event_type, "session_id": self._session_id, **fields})
