from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from package_sources import (
    PackageRegistry,
    WebServer,
    commit,
    content,
    contents,
    git,
    installing,
    package_files,
    repository,
    status,
    tgz,
    write_files,
)

from oomol_connect_sdk.server.packages import InvalidInstall, Limits, SourceNotAllowed

FILES = package_files("app", "1.0.0")


def zipped(prefix: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in FILES.items():
            archive.writestr(prefix + name, text)
    return buffer.getvalue()


async def test_a_directory_is_installed_and_installed_anew_after_a_change(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {**FILES, "node_modules/x.js": "x"})
    (source / "run.sh").write_text("")
    (source / "run.sh").chmod(0o777)
    async with installing(tmp_path / "data") as it:
        task = await it.install(source)
        assert task.error is None
        assert (task.name, task.version, task.source) == ("app", "1.0.0", str(source))
        assert task.dependencies == []
        place = it.store.root / "app-1.0.0"
        assert contents(place) == {**FILES, "run.sh": ""}
        assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o755
        (source / "run.sh").rename(source / "walk.sh")
        assert (await it.install(source)).error is None
        assert contents(place) == {**FILES, "walk.sh": ""}


async def test_a_relative_path_and_a_home_directory_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "source", FILES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with installing(tmp_path / "data") as it:
        for name in ("./source", "~/source", "../" + tmp_path.name + "/source"):
            assert (await it.install(name)).error is None
        monkeypatch.chdir(tmp_path / "source")
        assert (await it.install(".")).error is None


async def test_a_directory_brings_what_it_needs_from_the_registry(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", package_files("app", "1.0.0", {"base": "1.0.0"}))
    registry = PackageRegistry()
    registry.publish("base", "1.0.0")
    async with installing(tmp_path / "data", registry) as it:
        assert (await it.install(source)).error is None
        assert it.directories == ["app-1.0.0", "base-1.0.0"]
    registry.close()


ARCHIVES = {
    "npm's nesting": tgz(FILES),
    "one directory": tgz(FILES, prefix="package/"),
    "a directory of any name": tgz(FILES, prefix="./app-main/"),
    "no directory": tgz(FILES, prefix=""),
    "no directory, with a dot": tgz(FILES, prefix="./"),
    "a zip": zipped(""),
    "a zip with a directory": zipped("app-1.0.0/"),
    "npm's nesting beside a package.json": tgz(
        {"package.json": "{}", **{f"package/{name}": text for name, text in FILES.items()}},
        prefix="package/",
    ),
}


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=ARCHIVES.keys())
async def test_an_archive_is_installed_whatever_its_layout(tmp_path: Path, archive: bytes) -> None:
    file = tmp_path / "app.archive"
    file.write_bytes(archive)
    async with installing(tmp_path / "data") as it:
        assert (await it.install(file)).error is None
        assert contents(it.store.root / "app-1.0.0") == FILES


async def test_an_archive_is_installed_from_an_address(tmp_path: Path) -> None:
    web = WebServer()
    web.answers["/download"] = content(tgz(FILES))
    web.answers["/app.tgz?key=secret"] = status(302, Location="/download")
    async with installing(tmp_path, token="token", allow=True) as it:
        assert (await it.install(f"{web.url}/app.tgz?key=secret")).error is None
        assert it.directories == ["app-1.0.0"]
        refused = await it.install(f"{web.url}/other.zip?key=secret")
        assert f"{web.url}/other.zip answered with HTTP 404" in str(refused.error)
        assert "secret" not in str(refused.error)
    assert {token for _, token in web.requests} == {None}
    web.close()


async def test_an_archive_at_a_file_address_is_installed(tmp_path: Path) -> None:
    (tmp_path / "the app.tgz").write_bytes(tgz(FILES))
    async with installing(tmp_path / "data") as it:
        address = (tmp_path / "the app.tgz").as_uri()
        assert "%20" in address
        assert (await it.install(address)).error is None


async def test_what_is_wrong_with_a_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    nameless = write_files(tmp_path / "nameless", {"package.oo.yaml": "version: 1.0.0\n"})
    odd = write_files(tmp_path / "odd", {"package.oo.yaml": "name: Odd Name\nversion: 1.0.0\n"})
    unversioned = write_files(tmp_path / "unversioned", {"package.oo.yaml": "name: a\n"})
    good = write_files(tmp_path / "good", FILES)
    data = tmp_path / "data"
    around = write_files(tmp_path, FILES)
    async with installing(data, limits=Limits(download=100)) as it:
        expected = {
            tmp_path / "nothing": "there is no such file or directory where the server runs",
            tmp_path / "empty": "it holds no package.oo.yaml",
            tmp_path / "text": "it is neither a .tgz nor a .zip archive",
            nameless: "package.oo.yaml, line 1: 'name' is missing",
            unversioned: "package.oo.yaml, line 1: 'version' is missing",
            odd: "'Odd Name' is no package name",
            around: "it holds the server's own data directory",
        }
        for place, reason in expected.items():
            assert str((await it.install(place)).error).startswith(f"{place}: {reason}")
        (tmp_path / "text").write_bytes(bytes(101))
        assert "larger than the limit of 100" in str((await it.install(tmp_path / "text")).error)
        other = await it.install(good, "2.0.0")
        assert other.error == f"{good} holds app@1.0.0, not version 2.0.0"
        assert it.directories == []
        assert contents(it.store.root) == {}


async def test_places_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    write_files(tmp_path / "source", FILES)
    async with installing(tmp_path / "data", allow=False) as it:
        for name in (
            str(tmp_path / "source"),
            "./source",
            "..",
            "file:///etc",
            "https://example.org/app.tgz",
            "git+https://example.org/app",
            "git@example.org:app",
        ):
            with pytest.raises(SourceNotAllowed, match="from its registry only"):
                await it.installer.install(name)
        assert it.installer.all() == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ext::sh -c evil", "no package name"),
        ("git+ext::sh -c evil", "no package name"),
        ("ext://sh", "by https, ssh and file"),
        ("git://example.org/app", "by https, ssh and file"),
        ("git+http://example.org/app", "by https, ssh and file"),
        ("http://example.org/app.tgz", "not encrypted"),
        ("ftp://example.org/app.tgz", "by https, ssh and file"),
        ("https://me:pw@example.org/app.tgz", "name or password"),
        ("https://token@example.org/app", "name or password"),
        ("ssh://me:pw@example.org/app", "name or password"),
        ("https://example.org/app#--upload-pack=evil", "no branch, tag or commit"),
        ("https://example.org/app#-x", "no branch, tag or commit"),
        ("https://example.org/app#a:b", "no branch, tag or commit"),
        ("https://example.org/app#a b", "no branch, tag or commit"),
        ("--upload-pack=evil", "no package name"),
        ("-oProxyCommand=evil@host:path", "no package name"),
        ("git@-oProxyCommand=evil:path", "no package name"),
        ("https://[::1/app", "Invalid IPv6"),
        ("https://example.org/app\x00", "control characters"),
    ],
)
async def test_an_address_that_is_not_safe_is_refused(
    tmp_path: Path, address: str, reason: str
) -> None:
    async with installing(tmp_path) as it:
        with pytest.raises(InvalidInstall, match=reason) as refused:
            await it.installer.install(address)
        assert "pw" not in str(refused.value)
        assert it.installer.all() == []


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
class TestGit:
    async def test_a_repository_is_installed_at_any_of_its_commits(self, tmp_path: Path) -> None:
        source = repository(tmp_path / "source", FILES)
        first = git(source, "rev-parse", "HEAD")
        git(source, "tag", "v1")
        write_files(source, package_files("app", "2.0.0"))
        commit(source)
        git(source, "checkout", "--quiet", "-b", "feature/three")
        write_files(source, package_files("app", "3.0.0"))
        commit(source)
        git(source, "checkout", "--quiet", "main")
        address = source.as_uri()
        async with installing(tmp_path / "data") as it:
            versions = {
                "": "2.0.0",
                "#main": "2.0.0",
                "#v1": "1.0.0",
                "#feature/three": "3.0.0",
                f"#{first}": "1.0.0",
            }
            for ref, version in versions.items():
                task = await it.install(address + ref)
                assert (task.error, task.version) == (None, version)
                assert task.source == address + ref
            assert contents(it.store.root / "app-1.0.0") == FILES
            assert (await it.install(f"git+{address}")).version == "2.0.0"
            missing = await it.install(f"{address}#nowhere")
            assert f"{address}#nowhere: git failed: fatal: couldn't find remote ref" in str(
                missing.error
            )

    async def test_nothing_of_a_repository_is_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = repository(tmp_path / "source", FILES)
        ran = tmp_path / "ran"
        hooks = tmp_path / "hooks"
        hooks.mkdir()
        template = tmp_path / "template" / "hooks"
        template.mkdir(parents=True)
        for directory in (hooks, template, source / ".git" / "hooks"):
            for hook in ("post-checkout", "reference-transaction", "post-index-change"):
                (directory / hook).write_text(f"#!/bin/sh\necho {hook} >> {ran}\n")
                (directory / hook).chmod(0o755)
        settings = tmp_path / "gitconfig"
        settings.write_text(
            f"[core]\n\thooksPath = {hooks}\n[init]\n\ttemplateDir = {template.parent}\n"
        )
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        async with installing(tmp_path / "data") as it:
            assert (await it.install(source.as_uri())).error is None
        assert not ran.exists()

    async def test_submodules_are_not_fetched_and_links_refused(self, tmp_path: Path) -> None:
        other = repository(tmp_path / "other", {"secret": "x"})
        source = repository(tmp_path / "source", FILES)
        allow = ("-c", "protocol.file.allow=always")
        git(source, *allow, "submodule", "--quiet", "add", other.as_uri(), "inner")
        commit(source)
        async with installing(tmp_path / "data") as it:
            assert (await it.install(source.as_uri())).error is None
            there = contents(it.store.root / "app-1.0.0")
            assert set(there) == {*FILES, ".gitmodules"}
            (source / "link").symlink_to("/etc/passwd")
            commit(source)
            assert "'link' is a link" in str((await it.install(source.as_uri())).error)

    async def test_even_the_users_settings_lead_git_to_nothing_that_is_not_encrypted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        web = WebServer()
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{web.url}/.insteadOf")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://example.org/")
        async with installing(tmp_path) as it:
            task = await it.install("https://example.org/app")
        assert "transport 'http' not allowed" in str(task.error)
        assert web.requests == []
        web.close()

    async def test_a_server_without_git_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        async with installing(tmp_path) as it:
            task = await it.install("ssh://git@localhost/app")
            assert (
                task.error == "ssh://git@localhost/app: git is not installed where the server runs"
            )
