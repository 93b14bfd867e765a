from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from package_sources import (
    PackageRegistry,
    WebServer,
    content,
    contents,
    in_turn,
    installing,
    integrity,
    package_files,
    status,
    tgz,
)

from oomol_connect_sdk.server.packages import (
    InstallError,
    InstallOptions,
    InvalidInstall,
    Limits,
)
from oomol_connect_sdk.server.packages.addresses import checked_address
from oomol_connect_sdk.server.packages.downloads import Downloads


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    registry = PackageRegistry()
    yield registry
    registry.close()


@pytest.fixture
def stranger() -> Iterator[WebServer]:
    """Another server; its name differs, so that it is another origin even without its port."""
    server = WebServer()
    server.url = server.url.replace("127.0.0.1", "localhost")
    yield server
    server.close()


async def test_a_package_is_installed_by_its_name(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("weather", "1.0.0")
    registry.publish("weather", "1.2.0")
    async with installing(tmp_path, registry) as it:
        task = await it.install("weather")
        assert task.error is None
        assert (task.status, task.name, task.version) == ("success", "weather", "1.2.0")
        directory = it.store.root / "weather-1.2.0"
        assert task.package_path == str(directory)
        assert task.dependencies == []
        assert contents(directory) == package_files("weather", "1.2.0")
        assert it.catalog.current.resolve("weather::tell").path.is_relative_to(directory)


async def test_an_exact_version_is_installed(registry: PackageRegistry, tmp_path: Path) -> None:
    registry.publish("weather", "1.0.0")
    registry.publish("weather", "1.2.0-beta.1")
    async with installing(tmp_path, registry) as it:
        assert (await it.install("weather", "1.0.0")).version == "1.0.0"
        assert (await it.install("weather", "latest")).version == "1.2.0-beta.1"
        assert it.directories == ["weather-1.0.0", "weather-1.2.0-beta.1"]


async def test_a_scoped_name_is_one_segment_of_the_address(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("@acme/weather", "1.0.0")
    async with installing(tmp_path, registry) as it:
        task = await it.install("@acme/weather")
        assert task.package_path == str(it.store.root / "@acme" / "weather-1.0.0")
        assert registry.requests[0][0].lower() == "/@acme%2fweather"
        await it.installer.uninstall("@acme/weather", "1.0.0")
        assert not [path for path in it.store.root.iterdir() if path.name.startswith("@")]


NO_NAMES = ["", "Weather", ".hidden", "_x", "a b", "a/b", "@acme", "@/b", "a" * 215]
NO_NAMES += ["node_modules", "a%2fb", "a?x", "a#b", "..", "@../b", "@a/..", "w\u00e9", "a\n", "-\0"]
NO_VERSIONS = ["", "1", "1.0", "v1.0.0", "^1.0.0", "1.0.0 ", "01.0.0", "1.0.0-01", "x", "1.0.0-"]
NO_VERSIONS += ["../1.0.0", "1.0.0/..", "1.0.0+", "\u0661.0.0", "1.0.0\n", "1.0." + "1" * 200]


@pytest.mark.parametrize("name", [*NO_NAMES, "a@1.0.0"])
async def test_a_name_that_is_none_is_refused_before_anything_is_asked(
    registry: PackageRegistry, tmp_path: Path, name: str
) -> None:
    async with installing(tmp_path, registry, allow=False) as it:
        with pytest.raises(InstallError):
            await it.installer.install(name)
        assert it.installer.all() == []
    assert registry.requests == []


@pytest.mark.parametrize("version", NO_VERSIONS)
async def test_a_version_that_is_none_is_refused(
    registry: PackageRegistry, tmp_path: Path, version: str
) -> None:
    async with installing(tmp_path, registry) as it:
        with pytest.raises(InvalidInstall, match="no exact version"):
            await it.installer.install("weather", version)
        with pytest.raises(InvalidInstall, match="no exact version"):
            await it.installer.uninstall("weather", version)
    assert registry.requests == []


async def test_what_the_registry_does_not_have_is_named(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("weather", "1.0.0")
    async with installing(tmp_path, registry) as it:
        task = await it.install("nothing")
        assert task.status == "failed"
        assert task.error == f"there is no package nothing in {registry.url}"
        assert (await it.install("weather", "2.0.0")).error == (
            f"there is no version 2.0.0 of weather in {registry.url}; the latest is 1.0.0"
        )
        assert it.directories == []


async def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with installing(tmp_path) as it:
        task = await it.install("weather")
        assert task.status == "failed"
        assert "http://127.0.0.1:9/weather can't be had" in str(task.error)


WRONG = {
    "a wrong checksum": ({"integrity": integrity(b"other")}, "sha512 checksum differs"),
    "a right weak checksum beside a wrong strong one": (
        {"integrity": f"{integrity(b'other')} sha1-{{}}"},
        "sha512 checksum differs",
    ),
    "a wrong shasum": (
        {"integrity": None, "shasum": hashlib.sha1(b"other").hexdigest()},
        "sha1 checksum differs",
    ),
    "no checksum": ({"integrity": None}, "gives no checksum"),
    "a checksum that is none": ({"integrity": "sha512-???", "shasum": "xyz"}, "gives no checksum"),
    "a checksum of an unknown kind": ({"integrity": "md5-AAAA"}, "gives no checksum"),
    "no archive": ({"tarball": None}, "names no archive"),
    "an archive that is no web address": ({"tarball": "file:///etc/passwd"}, "no http or https"),
    "an address with a password": ({"tarball": "http://me:pw@127.0.0.1/x"}, "name or password"),
}


@pytest.mark.parametrize(("dist", "reason"), WRONG.values(), ids=WRONG.keys())
async def test_an_archive_that_nobody_vouches_for_is_not_installed(
    registry: PackageRegistry, tmp_path: Path, dist: dict[str, Any], reason: str
) -> None:
    archive = tgz(package_files("weather", "1.0.0"))
    if dist.get("integrity"):
        dist = {**dist, "integrity": dist["integrity"].format(integrity(archive, "sha1")[5:])}
    registry.publish("weather", "1.0.0", **dist)
    async with installing(tmp_path, registry) as it:
        task = await it.install("weather")
        assert task.status == "failed"
        assert reason in str(task.error)
        assert "pw" not in str(task.error)
        assert it.directories == []


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
async def test_every_usual_checksum_is_understood(
    registry: PackageRegistry, tmp_path: Path, algorithm: str
) -> None:
    archive = tgz(package_files("weather", "1.0.0"))
    right, wrong = integrity(archive, algorithm), integrity(b"other", algorithm)
    registry.publish("weather", "1.0.0", integrity=f"{wrong} {right}?option")
    registry.publish(
        "old",
        "1.0.0",
        integrity=None,
        shasum=hashlib.sha1(tgz(package_files("old", "1.0.0"))).hexdigest(),
    )
    async with installing(tmp_path, registry) as it:
        assert (await it.install("weather")).error is None
        assert (await it.install("old")).error is None


async def test_an_archive_with_another_package_in_it_is_refused(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("weather", "1.0.0", files=package_files("weather", "1.0.1"))
    registry.publish("climate", "1.0.0", files={"package.oo.yaml": "name: climate\n"})
    registry.publish("broken", "1.0.0", files={"package.oo.yaml": "name: [\n"})
    registry.publish("empty", "1.0.0")
    del registry.answers["/empty/-/empty-1.0.0.tgz"]
    async with installing(tmp_path, registry) as it:
        assert (await it.install("weather")).error == (
            "the archive of weather@1.0.0 holds weather@1.0.1"
        )
        missing = await it.install("climate")
        assert missing.error == (
            "the archive of climate@1.0.0: package.oo.yaml, line 1: 'version' is missing"
        )
        assert "package.oo.yaml, line 2: not YAML" in str((await it.install("broken")).error)
        assert "HTTP 404" in str((await it.install("empty")).error)
        assert it.directories == []


async def test_an_archive_that_is_too_large_is_refused_while_it_comes(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("large", "1.0.0", files={"data": "x" * 100})
    sent = threading.Event()

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(100_000))
        except OSError:
            sent.set()

    registry.answers["/large/-/large-1.0.0.tgz"] = endless
    async with installing(tmp_path, registry, limits=Limits(download=1_000_000)) as it:
        task = await it.install("large")
        assert "large-1.0.0.tgz is larger than the limit of 1000000 bytes" in str(task.error)
    assert sent.wait(10)
    assert contents(it.store.root) == {}


async def test_passing_trouble_is_borne(registry: PackageRegistry, tmp_path: Path) -> None:
    registry.publish("weather", "1.0.0")

    def cut_short(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    path = "/weather/-/weather-1.0.0.tgz"
    registry.answers["/weather"] = in_turn(status(503), registry.answers["/weather"])
    registry.answers[path] = in_turn(cut_short, registry.answers[path])
    async with installing(tmp_path, registry) as it:
        assert (await it.install("weather")).error is None
    assert registry.count("/weather") == registry.count(".tgz") == 2


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"[" * 100_000, b"\xff"])
async def test_a_registry_that_answers_nonsense_is_named(
    registry: PackageRegistry, tmp_path: Path, body: bytes
) -> None:
    registry.answers["/weather"] = content(body)
    async with installing(tmp_path, registry) as it:
        task = await it.install("weather")
        assert task.status == "failed"
        assert registry.url in str(task.error)


async def test_the_token_goes_to_the_registry_only(
    registry: PackageRegistry, stranger: WebServer, tmp_path: Path
) -> None:
    moved = registry.publish("moved", "1.0.0")
    elsewhere = registry.publish("elsewhere", "1.0.0", tarball=f"{stranger.url}/elsewhere.tgz")
    stranger.answers["/moved.tgz"] = content(moved)
    stranger.answers["/elsewhere.tgz"] = content(elsewhere)
    registry.answers["/moved/-/moved-1.0.0.tgz"] = status(302, Location=f"{stranger.url}/moved.tgz")
    async with installing(tmp_path, registry, token="secret-token") as it:
        assert (await it.install("moved")).error is None
        assert (await it.install("elsewhere")).error is None
    assert {token for _, token in registry.requests} == {"Bearer secret-token"}
    assert stranger.requests == [("/moved.tgz", None), ("/elsewhere.tgz", None)]
    kept = [path.read_text() for path in (tmp_path / "installs").iterdir()]
    assert len(kept) == 2
    assert not any("secret-token" in text for text in kept)


async def test_a_registry_that_wants_a_token_says_so(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.answers["/weather"] = status(401)
    async with installing(tmp_path, registry) as it:
        task = await it.install("weather")
        assert "refuses to show weather (HTTP 401): does the server know a token" in str(task.error)


async def test_redirects_without_end_or_to_other_schemes_are_refused(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.answers["/loop"] = status(302, Location="/loop")
    registry.answers["/file"] = status(302, Location="file:///etc/passwd")
    async with installing(tmp_path, registry) as it:
        assert "redirects more than 5 times" in str((await it.install("loop")).error)
        assert "is no http or https address" in str((await it.install("file")).error)
    assert registry.count("/loop") == 6


def test_an_address_that_is_not_encrypted_never_follows_one_that_is() -> None:
    with pytest.raises(InstallError, match="not encrypted"):
        checked_address("http://example.org/x", after="https://example.org/x")
    assert checked_address("https://example.org/x", after="http://example.org") is not None


async def test_a_server_that_falls_silent_is_given_up(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    quiet = threading.Event()
    registry.answers["/silent"] = lambda _: quiet.wait(30)
    async with Downloads(silence=0.05) as downloads:
        with pytest.raises(InstallError, match="/silent can't be had: ReadTimeout"):
            await downloads.json(f"{registry.url}/silent")
    quiet.set()
    assert registry.count("/silent") == 4


def test_the_registry_is_that_of_the_environment_or_the_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OOMOL_REGISTRY", "https://registry.example.org")
    monkeypatch.setenv("OOMOL_REGISTRY_TOKEN", "of-the-environment")
    assert InstallOptions().registry_address == "https://registry.example.org"
    assert InstallOptions().token == "of-the-environment"
    assert (
        InstallOptions("https://other.example.org").registry_address == "https://other.example.org"
    )
    options = InstallOptions(registry_token="given")
    assert options.token == "given"
    assert "given" not in repr(options)
    monkeypatch.delenv("OOMOL_REGISTRY")
    monkeypatch.delenv("OOMOL_REGISTRY_TOKEN")
    assert InstallOptions().registry_address == "https://registry.oomol.com"
    assert InstallOptions().token is None
