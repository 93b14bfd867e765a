from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from package_sources import (
    PackageRegistry,
    contents,
    in_turn,
    installing,
    package_files,
    write_files,
)

from oomol_connect_sdk.server.engine.manifests import Package
from oomol_connect_sdk.server.packages import (
    InstallTask,
    InstallTasks,
    NotInstalled,
    PackageInUse,
    PackageStore,
    UnknownInstall,
)
from oomol_connect_sdk.server.packages.names import package_id


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    registry = PackageRegistry()
    yield registry
    registry.close()


def needs(task: InstallTask) -> list[str]:
    assert task.error is None
    return sorted(f"{item.name}@{item.version}" for item in task.dependencies or ())


async def test_what_a_package_needs_is_installed_with_it(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"left": "1.0.0", "@acme/right": "2.0.0"})
    registry.publish("left", "1.0.0", {"base": "1.0.0"})
    registry.publish("@acme/right", "2.0.0", {"base": "1.0.0"})
    registry.publish("base", "1.0.0")
    registry.publish("base", "3.0.0")
    async with installing(tmp_path, registry) as it:
        task = await it.install("app")
        assert needs(task) == ["@acme/right@2.0.0", "base@1.0.0", "left@1.0.0"]
        places = {item.name: item.package_path for item in task.dependencies or ()}
        assert places["@acme/right"] == str(it.store.root / "@acme" / "right-2.0.0")
        assert it.directories == ["@acme/right-2.0.0", "app-1.0.0", "base-1.0.0", "left-1.0.0"]
    assert registry.count("base-1.0.0.tgz") == 1


async def test_packages_that_need_each_other_are_installed_once(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("hen", "1.0.0", {"egg": "1.0.0"})
    registry.publish("egg", "1.0.0", {"hen": "1.0.0"})
    async with installing(tmp_path, registry) as it:
        assert needs(await it.install("hen")) == ["egg@1.0.0"]
        assert it.directories == ["egg-1.0.0", "hen-1.0.0"]
    assert registry.count("hen-1.0.0.tgz") == registry.count("egg-1.0.0.tgz") == 1


async def test_versions_that_are_needed_side_by_side_are_installed_side_by_side(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"base": "1.0.0", "other": "1.0.0"})
    registry.publish("other", "1.0.0", {"base": "2.0.0"})
    registry.publish("base", "1.0.0")
    registry.publish("base", "2.0.0")
    async with installing(tmp_path, registry) as it:
        assert needs(await it.install("app")) == ["base@1.0.0", "base@2.0.0", "other@1.0.0"]


async def test_a_need_that_can_not_be_met_names_who_has_it_and_nothing_is_installed(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"fine": "1.0.0", "middle": "1.0.0"})
    registry.publish("fine", "1.0.0")
    registry.publish("middle", "1.0.0", {"gone": "1.0.0", "base": "9.0.0"})
    registry.publish("base", "1.0.0")
    async with installing(tmp_path, registry) as it:
        task = await it.install("app")
        assert task.status == "failed"
        assert task.error == (
            f"middle@1.0.0 needs gone@1.0.0: there is no package gone in {registry.url}"
        )
        registry.publish("gone", "1.0.0")
        assert "middle@1.0.0 needs base@9.0.0: there is no version 9.0.0 of base" in str(
            (await it.install("app")).error
        )
        assert contents(it.store.root) == {}
        assert it.catalog.current.packages == ()


@pytest.mark.parametrize(
    ("dependencies", "reason"),
    [
        ({"base": "^1.0.0"}, "app@1.0.0 needs base at ^1.0.0: '^1.0.0' is no exact version"),
        ({"../base": "1.0.0"}, "app@1.0.0 needs ../base at 1.0.0: '../base' is no package name"),
        ({"app": "0.9.0"}, "app@1.0.0 needs itself, which no package may"),
    ],
)
async def test_a_need_that_makes_no_sense_is_refused(
    registry: PackageRegistry, tmp_path: Path, dependencies: dict[str, str], reason: str
) -> None:
    registry.publish("app", "1.0.0", dependencies)
    async with installing(tmp_path, registry) as it:
        assert reason in str((await it.install("app")).error)
        assert it.directories == []


async def test_a_version_that_is_there_is_not_fetched_again_but_its_missing_needs_are(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"base": "1.0.0"})
    registry.publish("base", "1.0.0")
    async with installing(tmp_path, registry) as it:
        await it.install("app")
        marker = it.store.root / "app-1.0.0" / "untouched"
        marker.touch()
        await it.installer.uninstall("base", "1.0.0")
        registry.requests.clear()
        assert needs(await it.install("app", "1.0.0")) == ["base@1.0.0"]
        assert marker.exists()
        assert registry.count("base-1.0.0.tgz") == 1
        assert registry.count("app") == 0
        assert (await it.install("app")).status == "success"
        assert registry.count("app-1.0.0.tgz") == 0


async def test_packages_the_server_was_started_with_are_used(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    base = write_files(tmp_path / "given", package_files("base", "1.0.0"))
    registry.publish("app", "1.0.0", {"base": "1.0.0"})
    async with installing(tmp_path / "data", registry, given=[base]) as it:
        task = await it.install("app")
        assert [item.package_path for item in task.dependencies or ()] == [str(base)]
        assert (await it.install("base", "1.0.0")).package_path == str(base)
        assert it.directories == ["app-1.0.0"]
        refused = await it.install(base)
        assert refused.error == f"the server was started with base@1.0.0 from {base}"
        with pytest.raises(NotInstalled, match="was not installed: the server was started with it"):
            await it.installer.uninstall("base", "1.0.0")


async def test_installs_of_one_version_at_once_do_the_work_once(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0", {"base": "1.0.0"})
    registry.publish("base", "1.0.0", {"app": "1.0.0"})
    async with installing(tmp_path, registry) as it:
        names = ["app", "base", "app", "base", "app"]
        tasks = await asyncio.gather(*(it.install(name, "1.0.0") for name in names))
        assert [task.status for task in tasks] == ["success"] * 5
        assert len({task.id for task in tasks}) == 5
    assert registry.count("app-1.0.0.tgz") == registry.count("base-1.0.0.tgz") == 1


async def test_a_failed_install_is_no_obstacle_to_the_next(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0")
    good = registry.answers["/app/-/app-1.0.0.tgz"]
    bad = registry.answers["/app"]
    registry.answers["/app/-/app-1.0.0.tgz"] = in_turn(bad, good)
    async with installing(tmp_path, registry) as it:
        assert (await it.install("app")).status == "failed"
        assert (await it.install("app")).status == "success"
        assert [task.status for task in it.installer.all()] == ["success", "failed"]


async def test_a_version_is_uninstalled_and_the_others_stay(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("app", "1.0.0")
    registry.publish("app", "2.0.0")
    async with installing(tmp_path, registry) as it:
        await it.install("app", "1.0.0")
        await it.install("app", "2.0.0")
        await it.installer.uninstall("app", "2.0.0")
        assert it.directories == ["app-1.0.0"]
        assert [package.version for package in it.catalog.current.packages] == ["1.0.0"]
        with pytest.raises(NotInstalled, match=r"app@2\.0\.0 is not installed"):
            await it.installer.uninstall("app", "2.0.0")
        await it.installer.uninstall("app", "1.0.0")
        assert it.catalog.current.packages == ()


async def test_a_package_in_use_is_neither_uninstalled_nor_replaced(tmp_path: Path) -> None:
    asked = []

    async def in_use(package: Package) -> bool:
        asked.append(package.label)
        return True

    source = write_files(tmp_path / "source", package_files("app", "1.0.0"))
    async with installing(tmp_path / "data", in_use=in_use) as it:
        assert (await it.install(source)).status == "success"
        with pytest.raises(PackageInUse, match=r"works with app@1\.0\.0"):
            await it.installer.uninstall("app", "1.0.0")
        (source / "new").touch()
        assert "can't be replaced while a task" in str((await it.install(source)).error)
        assert not (it.store.root / "app-1.0.0" / "new").exists()
    assert asked == ["app@1.0.0", "app@1.0.0"]


async def test_two_ids_that_share_a_directory_name_are_kept_apart(tmp_path: Path) -> None:
    one = write_files(tmp_path / "one", package_files("a", "1.0.0-1.0.0"))
    other = write_files(tmp_path / "other", package_files("a-1.0.0", "1.0.0"))
    async with installing(tmp_path / "data") as it:
        assert (await it.install(one)).error is None
        assert "already holds a@1.0.0-1.0.0" in str((await it.install(other)).error)
        with pytest.raises(Exception, match="already holds"):
            await it.installer.uninstall("a-1.0.0", "1.0.0")
        assert it.directories == ["a-1.0.0-1.0.0"]


async def test_a_broken_installed_package_stops_neither_the_server_nor_its_removal(
    tmp_path: Path,
) -> None:
    sources = [write_files(tmp_path / n, package_files(n, "1.0.0")) for n in ("fine", "broken")]
    async with installing(tmp_path / "data") as it:
        for source in sources:
            await it.install(source)
        (it.store.root / "broken-1.0.0" / "package.oo.yaml").write_text("name: [")
    async with installing(tmp_path / "data") as it:
        assert [package.name for package in it.catalog.current.packages] == ["fine"]
        await it.installer.uninstall("broken", "1.0.0")
        assert it.directories == ["fine-1.0.0"]


async def test_a_given_package_that_broke_meanwhile_is_named_and_mending_it_is_enough(
    tmp_path: Path,
) -> None:
    given, source = (
        write_files(tmp_path / name, package_files(name, "1.0.0")) for name in ("given", "app")
    )
    manifest = given / "package.oo.yaml"
    async with installing(tmp_path / "data", given=[given]) as it:
        good = manifest.read_text()
        manifest.write_text("name: [")
        task = await it.install(source)
        assert "the server's packages can't be read again" in str(task.error)
        assert str(manifest) in str(task.error)
        assert [package.name for package in it.catalog.current.packages] == ["given"]
        manifest.write_text(good)
        assert (await it.install(source)).error is None
        assert [package.name for package in it.catalog.current.packages] == ["given", "app"]


async def test_accepted_at_once_they_keep_their_order(tmp_path: Path) -> None:
    async with installing(tmp_path) as it:
        asked = await asyncio.gather(*(it.installer.install("app") for _ in range(20)))
        ids = [task.id for task in sorted(asked, key=lambda task: -task.created_at)]
    assert len({task.created_at for task in asked}) == 20
    assert [task.id for task in InstallTasks(tmp_path / "installs").all()] == ids


async def test_a_task_has_the_shape_of_the_wire(registry: PackageRegistry, tmp_path: Path) -> None:
    registry.publish("app", "1.0.0", {"base": "1.0.0"})
    registry.publish("base", "1.0.0")
    async with installing(tmp_path, registry) as it:
        accepted = await it.installer.install("app")
        assert list(accepted.row) == ["id", "name", "status", "createdAt", "updatedAt"]
        assert accepted.status == "pending"
        row = (await it.ended(accepted.id)).row
        root = it.store.root
        times = row.pop("createdAt"), row.pop("updatedAt")
        assert row == {
            "id": accepted.id,
            "name": "app",
            "version": "1.0.0",
            "status": "success",
            "packagePath": str(root / "app-1.0.0"),
            "dependencies": [
                {"name": "base", "version": "1.0.0", "packagePath": str(root / "base-1.0.0")}
            ],
        }
        assert 1_600_000_000_000 < times[0] <= times[1]
        with pytest.raises(UnknownInstall, match="no install task 'other'"):
            it.installer.get("other")


async def test_tasks_are_kept_and_unfinished_ones_are_carried_out_at_the_next_start(
    registry: PackageRegistry, tmp_path: Path
) -> None:
    registry.publish("done", "1.0.0")
    registry.publish("slow", "1.0.0")
    registry.publish("next", "1.0.0")
    asked, go_on = threading.Event(), threading.Event()
    good = registry.answers["/slow"]

    def slow(handler: Any) -> None:
        asked.set()
        go_on.wait(30)
        good(handler)

    registry.answers["/slow"] = slow
    async with installing(tmp_path, registry) as it:
        done = await it.install("done")
        running = await it.installer.install("slow")
        waiting = await it.installer.install("next")
        assert await asyncio.to_thread(asked.wait, 30)
        assert it.installer.get(running.id).status == "running"
        assert it.installer.get(waiting.id).status == "pending"
    go_on.set()
    async with installing(tmp_path, registry) as it:
        assert it.installer.get(done.id) == done
        assert [task.id for task in it.installer.all()] == [waiting.id, running.id, done.id]
        for task in (running, waiting):
            assert (await it.ended(task.id)).error is None
        assert it.directories == ["done-1.0.0", "next-1.0.0", "slow-1.0.0"]


async def test_old_tasks_are_forgotten_and_broken_files_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("oomol_connect_sdk.server.packages.install_tasks._KEPT", 3)
    tasks = InstallTasks(tmp_path)
    await tasks.save(InstallTask("waits", "a", None, created_at=0, updated_at=0))
    for number in range(1, 6):
        made = InstallTask(str(number), "a", None, number, number, status="failed", error="x")
        await tasks.save(made)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text(json.dumps({"id": "x"}))
    with caplog.at_level(logging.WARNING):
        kept = InstallTasks(tmp_path).all()
    assert [task.id for task in kept] == ["5", "4", "waits"]
    assert kept == tasks.all()
    assert len(caplog.records) == 2


def test_rubbish_of_a_killed_server_is_removed(tmp_path: Path) -> None:
    store = PackageStore(tmp_path)
    write_files(store.new_work() / "0" / "unpacked", package_files("half", "1.0.0"))
    assert store.is_empty
    PackageStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["app", "@acme/app"])
def test_a_server_killed_while_it_replaced_a_package_leaves_the_old_or_the_new(
    tmp_path: Path, name: str
) -> None:
    app = package_id(name, "1.0.0")
    store = PackageStore(tmp_path / "store")

    def staged(text: str) -> Path:
        return write_files(store.new_work() / "x", {**package_files(name, "1.0.0"), "new": text})

    place = store.put(staged("old"), app)
    replaced = store.root / ".replaced" / app.path
    # As if it was killed between the two renames of a replacement.
    replaced.parent.mkdir(parents=True)
    place.rename(replaced)
    PackageStore(store.root)
    assert contents(place)["new"] == "old"
    # As if it was killed after them.
    write_files(replaced, contents(place))
    write_files(place, {"new": "new"})
    PackageStore(store.root)
    assert contents(place)["new"] == "new"
    assert not replaced.exists()
    store.put(staged("newer"), app)
    assert contents(place)["new"] == "newer"


REPLACE = """
import sys
from pathlib import Path
from oomol_connect_sdk.server.packages import PackageStore
from oomol_connect_sdk.server.packages.names import package_id

store = PackageStore(Path(sys.argv[1]))
for number in range(1_000_000):
    staged = store.new_work()
    (staged / "package.oo.yaml").write_text("name: app\\nversion: 1.0.0\\n")
    for name in "abc":
        (staged / name).write_text(str(number))
    store.put(staged, package_id("app", "1.0.0"))
    print(number, flush=True)
"""


def test_a_process_killed_while_it_replaces_a_package_again_and_again_leaves_a_whole_one(
    tmp_path: Path,
) -> None:
    place = tmp_path / "app-1.0.0"
    for last in (3, 40, 100):
        command = [sys.executable, "-c", REPLACE, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert f"{last}\n" in process.stdout, "the process ended by itself"
            process.kill()
        PackageStore(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["app-1.0.0"]
        files = contents(place)
        assert set(files) == {"package.oo.yaml", "a", "b", "c"}
        assert files["a"] == files["b"] == files["c"]
        assert int(files["a"]) >= last


async def test_an_unfinished_install_from_a_path_is_refused_where_paths_no_longer_are_allowed(
    tmp_path: Path,
) -> None:
    source = write_files(tmp_path / "source", package_files("app", "1.0.0"))
    tasks = InstallTasks(tmp_path / "data" / "installs")
    task = tasks.new(str(source), None)
    await tasks.save(task)
    async with installing(tmp_path / "data", allow=False) as it:
        assert "from its registry only" in str((await it.ended(task.id)).error)
        assert it.directories == []
