"""Progress and logs of a running task, on standard error."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from typing_extensions import Protocol


class Display(Protocol):
    """What is shown while a task runs."""

    def progress(self, task: Mapping[str, Any]) -> None:
        """Show how far the task is."""
        ...

    def log(self, row: Mapping[str, Any]) -> None:
        """Show one row of its log."""
        ...


@contextlib.contextmanager
def display(quiet: bool) -> Iterator[Display]:
    """Give a bar with log lines above it on a terminal, plain lines in a pipe, or nothing."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield Silence()
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as bar:
            yield Bar(bar)
    else:
        yield Lines(console)


class Silence:
    """Shows nothing."""

    def progress(self, task: Mapping[str, Any]) -> None:
        """Show nothing."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Show nothing."""


class Lines:
    """Plain lines: every log line, and the progress in steps of ten per cent."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0

    def progress(self, task: Mapping[str, Any]) -> None:
        """Print a line when another tenth is done."""
        percent = int(task.get("progress") or 0)
        if percent // 10 > self._shown // 10:
            self._shown = percent
            self._console.print(Text(f"{percent} %"))

    def log(self, row: Mapping[str, Any]) -> None:
        """Print the row."""
        line = log_line(row)
        if line is not None:
            self._console.print(line)


class Bar:
    """A progress bar at the bottom, log lines above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("starting", total=100)

    def progress(self, task: Mapping[str, Any]) -> None:
        """Move the bar."""
        done = 100 if task["status"] == "completed" else task.get("progress") or 0
        self._progress.update(self._bar, description=task["status"], completed=done)

    def log(self, row: Mapping[str, Any]) -> None:
        """Print the row above the bar."""
        line = log_line(row)
        if line is not None:
            self._progress.console.print(line)


def print_log(row: Mapping[str, Any]) -> None:
    """Print a log row on standard output, if a person should see it."""
    line = log_line(row)
    if line is not None:
        Console(highlight=False, soft_wrap=True).print(line)


_COLOURS = {"BlockError": "red", "BlockWarning": "yellow", "BlockStarted": "dim"}


def log_line(row: Mapping[str, Any]) -> Text | None:
    """Return what a person should see of a log row: ``node | text``; None for nothing."""
    event = row.get("event") or {}
    kind = str(row.get("type"))
    text = _text(kind, event)
    if text is None:
        return None
    style = "red" if event.get("error") else _COLOURS.get(kind, "")
    node = str(row.get("node_id") or "")
    place = f"{node} | " if node not in ("", "none") else ""
    return Text(place, style="cyan").append(printable(text), style=style or "default")


def printable(text: str) -> str:
    """Return the text without control characters, which could rewrite the terminal."""
    return "".join(
        c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _text(kind: str, event: Mapping[str, Any]) -> str | None:
    if kind == "BlockLog":
        return str(event.get("log", ""))
    if kind == "BlockWarning":
        return f"warning: {event.get('warning')}"
    if kind == "BlockError":
        return f"error: {event.get('error')}"
    if kind == "BlockStarted":
        return "started"
    if kind == "BlockFinished":
        return "failed" if event.get("error") else "finished"
    return None
