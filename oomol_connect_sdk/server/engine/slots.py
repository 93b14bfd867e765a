"""Slots: the nodes of a subflow whose blocks the flow around it provides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .definitions import additional_input
from .manifests import (
    Flow,
    InputDef,
    Package,
    SlotNode,
    SlotProvider,
    Source,
    SubflowNode,
    TaskBlock,
)
from .references import Caller, Located, References


@dataclass(frozen=True)
class Filling:
    """What runs in the place of one slot."""

    block: TaskBlock | Flow
    package: Package
    #: Inputs beside those of the slot. Each is also an input of the subflow, of another name.
    inputs: tuple[InputDef, ...] = ()
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class SlotFillings:
    """What a subflow node says about the slots of its subflow."""

    fillings: Mapping[str, Filling] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @classmethod
    def of(
        cls, node: SubflowNode, subflow: Flow, caller: Caller, references: References
    ) -> SlotFillings:
        """Resolve the providers, in the scope of the flow that names them."""
        slots = subflow.slots
        missing = [item.slot_node_id for item in node.slots if item.slot_node_id not in slots]
        return cls(
            fillings={
                item.slot_node_id: _filling(item, slots[item.slot_node_id], caller, references)
                for item in node.slots
                if item.slot_node_id in slots
            },
            warnings=[f"the subflow has no slot {slot_id!r}" for slot_id in missing],
        )

    @property
    def inputs(self) -> dict[str, InputDef]:
        """The further inputs of the subflow node that the providers need."""
        return {
            handle: replace(
                additional_input(item),
                handle=handle,
                definition={**item.definition, "handle": handle, "is_additional": True},
            )
            for handle, item in self._hidden()
        }

    @property
    def sources(self) -> list[Source]:
        """Where the values of those inputs come from."""
        return [
            replace(source, handle=hidden_handle(slot_id, source.handle))
            for slot_id, filling in self.fillings.items()
            for source in filling.sources
        ]

    def _hidden(self) -> Iterator[tuple[str, InputDef]]:
        for slot_id, filling in self.fillings.items():
            for item in filling.inputs:
                yield hidden_handle(slot_id, item.handle), item


def hidden_handle(slot_id: str, handle: str) -> str:
    """Name the input of a subflow that leads to an input of what runs in its slot."""
    return f"runtime::{slot_id}-{handle}"


def _filling(
    provider: SlotProvider, slot: SlotNode, caller: Caller, references: References
) -> Filling:
    taken = {item.handle for item in slot.inputs_def}
    inputs = tuple(
        additional_input(item) for item in provider.inputs_def if item.handle not in taken
    )
    handles = {item.handle for item in inputs}
    sources = tuple(item for item in provider.inputs_from if item.handle in handles)
    if provider.kind == "slotflow":
        slotflow = references.slotflow(provider.reference, caller)
        # A slotflow declares no inputs: it gets those of the place it runs in.
        flow = replace(slotflow.manifest, inputs_def=(*slot.inputs_def, *inputs))
        return Filling(flow, slotflow.package, inputs, sources)
    located: Located[TaskBlock | Flow] = (
        references.task(provider.reference, caller)
        if provider.kind == "task"
        else references.subflow(provider.reference, caller)
    )
    return Filling(located.manifest, located.package, inputs, sources)
