"""Writes ``docs/conformance.md`` from the cases: ``python tests/conformance/document.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"

_HEAD = """\
# Conformance

What the engine does, rule by rule. Each rule has a case in `tests/conformance/cases`: a small
package, a script of what its blocks do, and the events, result or refusal that must come of it.
The test of a case is `pytest tests/conformance -k <id>`. A rule that only real processes and
files can show names its test instead.

This file is written by `python tests/conformance/document.py`; a test compares the two.
"""


def written() -> str:
    """Write the document."""
    from case import read_areas

    parts = [_HEAD]
    for area in read_areas():
        rows = "".join(
            f"| {case.id} | {case.rule}{_elsewhere(case.test)} |\n" for case in area.cases
        )
        parts.append(f"## {area.title}\n\n{area.about}\n\n| case | rule |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _elsewhere(test: str) -> str:
    """Name the test of a rule that has no flow of its own."""
    file, _, name = test.partition("::")
    return f" [`{name}`](../{file})" if test else ""


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests" / "server"))
    DOCUMENT.write_text(written(), encoding="utf-8")
