from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_sources import PackageRegistry, package_files, write_files

from oomol_connect_sdk.server import InstallOptions, LocalServer


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    registry = PackageRegistry()
    yield registry
    registry.close()


@pytest.fixture
def server(registry: PackageRegistry) -> Iterator[LocalServer]:
    options = InstallOptions(registry.url, allow_local_sources=True)
    with LocalServer([], installing=options) as server:
        yield server


def call(server: LocalServer, *words: str, cwd: Path | None = None) -> tuple[int, list[str], str]:
    """Run a command on the server; return its status, its lines and what it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", "oomol_connect_sdk", "packages", *words],
        env={
            **os.environ,
            "OOMOL_CONNECT_BASE_URL": server.base_url,
            "OOMOL_CONNECT_API_TOKEN": server.token,
        },
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_packages_are_installed_listed_and_uninstalled(
    server: LocalServer, registry: PackageRegistry
) -> None:
    registry.publish("@acme/app", "1.0.0", {"base": "1.0.0"})
    registry.publish("@acme/app", "2.0.0")
    registry.publish("base", "1.0.0")
    status, lines, _ = call(server, "install", "@acme/app@1.0.0")
    assert status == 0
    assert [line.split("\t")[:2] for line in lines] == [["@acme/app", "1.0.0"], ["base", "1.0.0"]]
    assert lines[0].endswith(os.path.join("@acme", "app-1.0.0"))
    assert call(server, "install", "@acme/app")[1][0].split("\t")[1] == "2.0.0"
    assert call(server, "uninstall", "@acme/app@1.0.0") == (0, [], "")
    listed = [line.split("\t")[:2] for line in call(server, "list")[1]]
    assert sorted(listed) == [["@acme/app", "2.0.0"], ["base", "1.0.0"]]


def test_a_relative_path_is_one_of_the_commands_directory(
    server: LocalServer, tmp_path: Path
) -> None:
    write_files(tmp_path / "source", package_files("app", "1.0.0"))
    status, lines, errors = call(server, "install", "./source", cwd=tmp_path)
    assert (status, errors) == (0, "")
    assert lines[0].startswith("app\t1.0.0\t")


@pytest.mark.parametrize(
    ("words", "status", "fault"),
    [
        (["install", "nothing"], 1, "there is no package nothing in"),
        (["install", "No Name"], 1, "is no package name"),
        (["install", "app@new"], 1, "no exact version"),
        (["uninstall", "app@1.0.0"], 2, "app@1.0.0 is not installed"),
        (["uninstall", "app"], 2, "names no version"),
        (["install"], 2, "NAME[@VERSION]|PATH|URL"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(
    server: LocalServer, words: list[str], status: int, fault: str
) -> None:
    returned, lines, errors = call(server, *words)
    assert (returned, lines) == (status, [])
    assert fault in errors
    assert "Traceback" not in errors


def test_a_registry_that_is_no_address_keeps_a_server_from_starting() -> None:
    for address in ("registry.example.org", "ftp://example.org", "http://me:pw@example.org"):
        server = LocalServer([], installing=InstallOptions(address))
        with pytest.raises(ValueError, match="address of the registry can't be used") as refused:
            server.start()
        assert "pw" not in str(refused.value)
