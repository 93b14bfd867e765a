"""Measures our client, the official one and a bare loop, and prints the tables of the results.

    python benchmarks/run.py [--counts 1,100,1000] [--skip official]

Needs the development environment of this project. The official client and aiohttp get environments
of their own, made by uv in a temporary directory. Everything runs on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

HERE = Path(__file__).parent
TIMEOUT = 600

COLUMNS = [
    ("finished", "finished", "{}"),
    ("cpu_ms_per_task", "CPU ms/task", "{:.2f}"),
    ("ratio", "CPU to bare", "{:.1f}"),
    ("requests_per_task", "requests/task", "{:.2f}"),
    ("lag_p50_s", "end to return p50 s", "{:.3f}"),
    ("lag_p99_s", "p99 s", "{:.3f}"),
    ("memory_mb", "memory MB", "{:.0f}"),
    ("wall_s", "wall s", "{:.1f}"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default="1,100,1000,10000")
    parser.add_argument("--skip", default="", help="clients to leave out, separated by commas")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    clients = [c for c in ("bare", "ours", "official") if c not in arguments.skip.split(",")]
    with tempfile.TemporaryDirectory() as directory:
        pythons = interpreters(Path(directory), clients)
        print_poll_table(pythons, counts)
        print_local_table(counts)
    print_log_line()
    print_imports()


def interpreters(directory: Path, clients: List[str]) -> Dict[str, str]:
    """Make an environment for each client but ours."""
    needs = {"official": "oomol-connect-sdk==1.0.3", "bare": "aiohttp"}
    pythons = {}
    for client in clients:
        if client == "ours":
            pythons[client] = sys.executable
            continue
        place = directory / client
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--python", sys.executable, str(place)], check=True)
        python = str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        subprocess.run([*uv, "pip", "install", "--python", python, needs[client]], check=True)
        pythons[client] = python
    return pythons


def print_poll_table(pythons: Dict[str, str], counts: List[int]) -> None:
    print("\n## A plain poll-only server, tasks of 0.5 to 4 s\n")
    print_head("tasks at once", "client")
    for count in counts:
        bare = None
        for client, python in pythons.items():
            with server([sys.executable, str(HERE / "poll_server.py")]) as url:
                row = measure(python, client, url, "", "p::b", count, f"{url}/stats")
            bare = row["cpu_ms_per_task"] if client == "bare" else bare
            row["ratio"] = row["cpu_ms_per_task"] / bare if bare else None
            print_row([str(count), client], row)


def print_local_table(counts: List[int]) -> None:
    print("\n## The local server, blocks that end at once\n")
    print_head("tasks at once", "client")
    for count in counts:
        with local_server() as url:
            print_row(
                [str(count), "ours"], measure(sys.executable, "ours", url, "t", "bench::nap", count)
            )


def print_log_line() -> None:
    with local_server() as url:
        command = [sys.executable, str(HERE / "clients" / "ours_log.py"), url, "t", "100000"]
        report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    print("\n## A log of 100,000 lines with on_log, on the local server\n")
    for key, value in report.items():
        print(f"- {key}: {value}")


def print_imports() -> None:
    print("\n## Import, best of 5, ms\n")
    for module in ("oomol_connect_sdk", "httpx"):
        code = (
            f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        )
        times = [
            float(
                subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
            )
            for _ in range(5)
        ]
        print(f"- {module}: {1000 * min(times):.1f}")


def print_head(*first: str) -> None:
    names = [*first, *(title for _, title, _ in COLUMNS)]
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))


def print_row(first: List[str], row: Dict[str, Any]) -> None:
    cells = [
        "" if row.get(key) is None else pattern.format(row[key]) for key, _, pattern in COLUMNS
    ]
    note = f" {row['error']}" if row.get("error") else ""
    print("| " + " | ".join([*first, *cells]) + " |" + note, flush=True)


def measure(
    python: str, client: str, url: str, token: str, block: str, count: int, stats_url: str = ""
) -> Any:
    script = str(HERE / "clients" / f"{client}.py")
    command = [python, script, url, token, block, str(count), stats_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        raise SystemExit(f"{client} failed: {done.stderr}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def local_server() -> Iterator[str]:
    command = [sys.executable, "-m", "oomol_connect_sdk", "serve", "--port", "0", "--token", "t"]
    with server([*command, "--package", str(HERE / "package")]) as line:
        yield line.rpartition(" ")[2]


@contextlib.contextmanager
def server(command: List[str]) -> Iterator[str]:
    """Start a server that names its address in its first line, and end it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


if __name__ == "__main__":
    main()
