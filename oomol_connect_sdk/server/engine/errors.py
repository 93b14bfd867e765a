"""The root of everything the engine refuses."""

from __future__ import annotations


class EngineError(Exception):
    """A manifest, a reference, a target or an input that can't be used, in words for a person."""
