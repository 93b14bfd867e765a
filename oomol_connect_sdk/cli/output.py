"""What commands print: tables for people, words between tabs for pipes, or JSON."""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import Any, Callable, Iterable, List, Mapping, Sequence, TypeVar

import click
from rich.cells import cell_len, set_cell_size

from .display import printable

Command = TypeVar("Command", bound=Callable[..., Any])

#: What a terminal would obey or hide, and half characters, which can't be printed.
_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
#: Cells between two columns.
_GAP = 2


def json_option(command: Command) -> Command:
    """Add the option that asks for JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def show_json(value: Any) -> None:
    """Print a value as JSON for people and programs."""
    text = json.dumps(value, ensure_ascii=not _prints_unicode(), indent=2)
    click.echo(_UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text))


def show_json_line(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows: aligned below their titles on a terminal, else with tabs and without titles.

    On a terminal the last column ends where the line does.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _show_aligned([list(columns), *texts], shutil.get_terminal_size().columns)
    else:
        for row in texts:
            click.echo("\t".join(row))


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line; those without a value are left out."""
    given = {name: value for name, value in fields.items() if value not in (None, "", {}, [])}
    width = max(map(len, given), default=0) + _GAP
    for name, value in given.items():
        lines = printable(_text(value)).splitlines() or [""]
        for number, line in enumerate(lines):
            click.echo(("" if number else name).ljust(width) + line)


def _show_aligned(rows: List[List[str]], width: int) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    room = max(1, width - sum(widths[:-1]) - _GAP * (len(widths) - 1))
    for number, row in enumerate(rows):
        cells = [set_cell_size(cell, size) for cell, size in zip(row[:-1], widths)]
        last = row[-1]
        if cell_len(last) > room:
            last = set_cell_size(last, room - 1).rstrip() + "…"
        line = (" " * _GAP).join([*cells, last]).rstrip()
        click.secho(line, bold=True if number == 0 else None)


def _cell(value: Any) -> str:
    return " ".join(printable(_text(value)).split())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _prints_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
