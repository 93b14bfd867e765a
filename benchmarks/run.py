"""Measures our client, the official one and a bare loop, and prints the tables of the results.

    python benchmarks/run.py [--counts 1,100,1000] [--skip official] [--file-mb 2048]

Needs the development environment of this project. The official client and aiohttp get environments
of their own, made by uv in a temporary directory. Everything runs on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from relay import relay

HERE = Path(__file__).parent
TIMEOUT = 600
LINES = 100_000
MB = 1 << 20

#: Key of a report, title of its column, and how it is written.
Column = Tuple[str, str, str]

RUN_COLUMNS: List[Column] = [
    ("finished", "finished", "{}"),
    ("cpu_ms_per_task", "CPU ms/task", "{:.2f}"),
    ("ratio", "CPU to bare", "{:.1f}"),
    ("requests_per_task", "requests/task", "{:.2f}"),
    ("lag_p50_s", "end to return p50 s", "{:.3f}"),
    ("lag_p99_s", "p99 s", "{:.3f}"),
    ("memory_mb", "memory MB", "{:.0f}"),
    ("wall_s", "wall s", "{:.1f}"),
]

FILE_COLUMNS: List[Column] = [
    ("wall_s", "seconds", "{:.1f}"),
    ("mb_per_s", "MB/s", "{:.0f}"),
    ("cpu_s", "CPU s", "{:.1f}"),
    ("memory_mb", "extra memory MB", "{:.1f}"),
    ("stall_ms", "worst stall of the loop ms", "{:.1f}"),
]

LOG_COLUMNS: List[Column] = [
    ("lines_heard", "lines heard", "{}"),
    ("each_once_and_in_order", "each once, in order", "{}"),
    ("log_mb", "log MB", "{:.1f}"),
    ("moved_mb", "moved MB", "{:.1f}"),
    ("moved_ratio", "moved to log", "{:.2f}"),
    ("cpu_s", "CPU s", "{:.1f}"),
    ("wall_s", "seconds", "{:.1f}"),
    ("memory_mb", "memory MB", "{:.0f}"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default="1,100,1000,10000")
    parser.add_argument("--skip", default="", help="clients to leave out, separated by commas")
    parser.add_argument("--file-mb", type=int, default=2048, help="size of the file; 0 for none")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.counts.split(",")]
    clients = [c for c in ("bare", "ours", "official") if c not in arguments.skip.split(",")]
    with tempfile.TemporaryDirectory() as directory:
        pythons = interpreters(Path(directory), clients)
        print_poll_table(pythons, counts)
        print_local_table(counts)
        print_log_table()
        if arguments.file_mb:
            print_file_table(pythons, Path(directory), arguments.file_mb)
    print_import_table()


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
    print_head(RUN_COLUMNS, "tasks at once", "client")
    for count in counts:
        bare = None
        for client, python in pythons.items():
            with server([sys.executable, str(HERE / "poll_server.py")]) as url:
                row = measure(python, client, url, "", "p::b", count, f"{url}/stats")
            cpu = row.get("cpu_ms_per_task")
            bare = cpu if client == "bare" else bare
            row["ratio"] = cpu / bare if cpu and bare else None
            print_row(RUN_COLUMNS, [str(count), client], row)


def print_local_table(counts: List[int]) -> None:
    print("\n## The local server, blocks that end at once\n")
    print_head(RUN_COLUMNS, "tasks at once", "client")
    for count in counts:
        with local_server() as url:
            row = measure(sys.executable, "ours", url, "t", "bench::nap", count)
            print_row(RUN_COLUMNS, [str(count), "ours"], row)


def print_log_table() -> None:
    print(f"\n## A log of {LINES:,} lines with on_log, on the local server\n")
    print_head(LOG_COLUMNS, "client")
    with local_server() as url, relay(url) as passing:
        row = report_of([sys.executable, client_script("ours_log"), passing.url, "t", str(LINES)])
        row["moved_mb"] = passing.received / MB
    row["log_mb"] = row["log_bytes"] / MB
    row["moved_ratio"] = row["moved_mb"] / row["log_mb"]
    print_row(LOG_COLUMNS, ["ours"], row)


def print_file_table(pythons: Dict[str, str], directory: Path, size_mb: int) -> None:
    """Move a file up and down with each client that can, on a new server each."""
    print(f"\n## A file of {size_mb:,} MB, on the local server\n")
    # The file, the server's copy and the one that comes back; and some room to spare.
    needed = 3 * size_mb * MB + 512 * MB
    if shutil.disk_usage(directory).free < needed:
        print(f"Left out: it takes {needed // MB:,} MB of free disk in {directory.parent}.")
        return
    file, copy = directory / "file", directory / "copy"
    write_file(file, size_mb)
    print_head(FILE_COLUMNS, "direction", "client")
    for client in [client for client in pythons if client != "official"]:
        command = [pythons[client], client_script(f"{client}_files")]
        data = directory / f"{client}-data"
        with local_server("--data", str(data)) as url:
            up = report_of([*command, url, "t", "up", str(file), ""])
            print_row(FILE_COLUMNS, ["up", client], with_rate(up, size_mb))
            down = report_of([*command, url, "t", "down", str(copy), up["moved"]])
            print_row(FILE_COLUMNS, ["down", client], with_rate(down, size_mb))
        if not filecmp.cmp(file, copy, shallow=False):
            raise SystemExit(f"{client}: the file that came back is another one")
        copy.unlink()
        shutil.rmtree(data)
    file.unlink()


def write_file(path: Path, size_mb: int) -> None:
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(os.urandom(MB))


def with_rate(row: Dict[str, Any], size_mb: int) -> Dict[str, Any]:
    return {**row, "mb_per_s": size_mb / row["wall_s"]}


def print_import_table() -> None:
    print("\n## Import, best of 5\n")
    print("| module | ms | to httpx |\n|---|---|---|")
    best = {module: best_import(module) for module in ("oomol_connect_sdk", "httpx")}
    for module, seconds in best.items():
        print(f"| {module} | {1000 * seconds:.1f} | {seconds / best['httpx']:.2f} |")


def best_import(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return min(
        float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5)
    )


def print_head(columns: List[Column], *first: str) -> None:
    names = [*first, *(title for _, title, _ in columns)]
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names), flush=True)


def print_row(columns: List[Column], first: List[str], row: Mapping[str, Any]) -> None:
    cells = [
        "" if row.get(key) is None else pattern.format(row[key]) for key, _, pattern in columns
    ]
    note = f" {row['error']}" if row.get("error") else ""
    print("| " + " | ".join([*first, *cells]) + " |" + note, flush=True)


def measure(
    python: str, client: str, url: str, token: str, block: str, count: int, stats_url: str = ""
) -> Dict[str, Any]:
    command = [python, client_script(client), url, token, block, str(count), stats_url]
    try:
        return report_of(command)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {TIMEOUT} s"}


def client_script(name: str) -> str:
    return str(HERE / "clients" / f"{name}.py")


def report_of(command: List[str]) -> Dict[str, Any]:
    """Run a client and return what it reports."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        raise SystemExit(f"{Path(command[1]).name} failed: {done.stderr}")
    report: Dict[str, Any] = json.loads(done.stdout)
    return report


@contextlib.contextmanager
def local_server(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "oomol_connect_sdk", "serve", "--port", "0", "--token", "t"]
    with server([*command, "--package", str(HERE / "package"), *options]) as line:
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
