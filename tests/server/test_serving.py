from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from servers import Connection, ServerProcess, is_running, wait_until

from oomol_connect_sdk.server import LocalServer, serve
from oomol_connect_sdk.server.backend import environments_cache
from oomol_connect_sdk.server.data_directory import DataDirectoryInUse
from oomol_connect_sdk.server.engine.manifests import ManifestError

StartProcess = Callable[..., ServerProcess]


def packages(server: LocalServer) -> httpx.Response:
    return httpx.get(f"{server.base_url}/packages", headers={"Authorization": server.token})


def test_a_server_answers_as_soon_as_it_was_started_and_no_longer_than_that(shop: Path) -> None:
    server = LocalServer([shop])
    server.start()
    address = server.base_url
    assert packages(server).status_code == 200
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
    server.stop()


def test_a_server_can_be_started_again_on_its_data(shop: Path, tmp_path: Path) -> None:
    server = LocalServer([shop], data_dir=tmp_path)
    with server:
        connection = Connection(server.base_url, server.token)
        task = connection.run("shop::add", {"a": 1})
        logs = connection.logs(task["id"])
        connection.http.close()
    with server:
        connection = Connection(server.base_url, server.token)
        assert connection.task(task["id"]) == task
        assert connection.logs(task["id"]) == logs
        connection.http.close()


def test_each_server_has_a_port_and_a_token_of_its_own(shop: Path) -> None:
    with LocalServer([shop]) as one, LocalServer([shop]) as two:
        assert one.base_url != two.base_url
        assert one.token != two.token
        assert len(one.token) > 20
        assert packages(one).status_code == packages(two).status_code == 200
        stranger = httpx.get(f"{one.base_url}/packages", headers={"Authorization": two.token})
        assert stranger.status_code == 401


def test_an_empty_token_lets_everybody_in(shop: Path) -> None:
    with LocalServer([shop], token="") as server:
        assert httpx.get(f"{server.base_url}/packages").status_code == 200
        anything = {"Authorization": "Bearer whatever"}
        assert httpx.get(f"{server.base_url}/packages", headers=anything).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_address_that_others_reach_requires_a_token(shop: Path, host: str) -> None:
    with pytest.raises(ValueError, match=f"token is required to listen on {host}"):
        LocalServer([shop], host=host, token="")
    with pytest.raises(ValueError, match="token is required"):
        serve([shop], host=host)


def test_a_server_for_all_addresses_takes_any_host_name(shop: Path) -> None:
    with LocalServer([shop], host="0.0.0.0") as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        headers = {"Host": "my-machine.example", "Authorization": server.token}
        assert httpx.get(f"{server.base_url}/packages", headers=headers).status_code == 200


def test_a_port_in_use_is_named(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"Port {port} of 127\.0\.0\.1 is in use"):
            LocalServer([shop], port=port).start()


def test_a_data_directory_in_use_is_named(shop: Path, tmp_path: Path) -> None:
    with LocalServer([shop], data_dir=tmp_path):
        other = LocalServer([shop], data_dir=tmp_path)
        with pytest.raises(DataDirectoryInUse, match=str(tmp_path)):
            other.start()
    with other:
        assert packages(other).status_code == 200


def test_a_package_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no-such-package"):
        LocalServer([tmp_path / "no-such-package"]).start()


def test_a_package_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "package.oo.yaml").write_text("name: [unclosed\n")
    with pytest.raises(ManifestError, match=r"package\.oo\.yaml"):
        LocalServer([tmp_path]).start()


def test_a_stop_is_prompt_and_leaves_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    pids = tmp_path / "pids"
    server = LocalServer([shop])
    server.start()
    # A client that keeps its connection open must not hold the stop up.
    connection = Connection(server.base_url, server.token)
    connection.create("shop::forever", {"file": str(pids)})
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    assert any(temporary.iterdir())
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5
    connection.http.close()
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()))
    assert not any(temporary.iterdir())


def test_a_server_that_nobody_stopped_ends_with_its_process(shop: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    pids = tmp_path / "pids"
    subprocess.run(
        [sys.executable, "-c", _FORGET, str(shop), str(pids)],
        env=environment,
        check=True,
        timeout=30,
    )
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()))
    assert not any((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_process_ends_cleanly_by_a_signal(
    start_process: StartProcess, tmp_path: Path, number: signal.Signals
) -> None:
    process = start_process()
    pids = tmp_path / "pids"
    task_id = process.connection.create("shop::forever", {"file": str(pids)})
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    assert process.terminate(number) == 0
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()))
    assert start_process().connection.task(task_id)["status"] in ("pending", "running")


def test_the_cache_of_the_environments_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OOMOL_CONNECT_CACHE", "/somewhere")
    assert environments_cache() == Path("/somewhere/environments")
    monkeypatch.delenv("OOMOL_CONNECT_CACHE")
    assert environments_cache().parts[-2:] == ("oomol-connect", "environments")


_FORGET = """
import sys, time, json, os
import httpx
from oomol_connect_sdk.server import LocalServer
server = LocalServer([sys.argv[1]])
server.start()
body = {"manifest": "shop::forever", "inputValues": {"file": sys.argv[2]}}
headers = {"Authorization": server.token}
httpx.post(server.base_url + "/v1/tasks", json=body, headers=headers).raise_for_status()
while not os.path.exists(sys.argv[2]) or not open(sys.argv[2]).read().endswith("\\n"):
    time.sleep(0.01)
"""
