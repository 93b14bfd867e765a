from __future__ import annotations

from pathlib import Path

import pytest
from packages import task_text, write_package

from oomol_connect_sdk.server.engine.manifests import Package, read_package
from oomol_connect_sdk.server.engine.references import BlockNotFound, Caller, References
from oomol_connect_sdk.server.engine.versions import version_key

TASK = task_text()
FLOW = "nodes: []\n"


def caller(package: Path) -> Caller:
    return Caller(package / "flows/f/flow.oo.yaml", read_package(package), "n")


def package_with(directory: Path, *files: str, name: str = "own", version: str = "0.1.0") -> Path:
    texts = {file: FLOW if file.endswith("flow.oo.yaml") else TASK for file in files}
    return write_package(directory, name, version, files={"flows/f/flow.oo.yaml": FLOW, **texts})


def found(package: Path, reference: str, *others: Package, search: tuple[Path, ...] = ()) -> str:
    """Give the directory of the task a reference means, relative to the test's directory."""
    references = References([read_package(package), *others], search)
    path = references.task(reference, caller(package)).manifest.path
    assert path is not None
    return str(path.relative_to(package.parent))


def test_self_means_the_package_of_the_flow(tmp_path: Path) -> None:
    package = package_with(tmp_path / "own", "tasks/x/task.oo.yaml")
    assert found(package, "self::x") == "own/tasks/x/task.oo.yaml"


def test_the_old_layout_is_looked_for_first(tmp_path: Path) -> None:
    package = package_with(tmp_path / "own", "tasks/x/task.oo.yaml", "blocks/x/block.oo.yml")
    assert found(package, "self::x") == "own/blocks/x/block.oo.yml"


@pytest.mark.parametrize("reference", ["../../tasks/x", "../../tasks/x/task", "./../../tasks/x"])
def test_a_relative_path_starts_at_the_flow(tmp_path: Path, reference: str) -> None:
    package = package_with(tmp_path / "own", "tasks/x/task.oo.yaml")
    assert found(package, reference) == "own/tasks/x/task.oo.yaml"


@pytest.mark.parametrize("end", ["", "/task.oo.yaml", "/task"])
def test_an_absolute_path_is_a_directory_a_file_or_a_file_without_suffix(
    tmp_path: Path, end: str
) -> None:
    package = package_with(tmp_path / "own", "tasks/x/task.oo.yaml")
    assert found(package, f"{package}/tasks/x{end}") == "own/tasks/x/task.oo.yaml"


def test_a_name_alone_is_looked_for_in_the_search_paths_then_beside_the_flow(
    tmp_path: Path,
) -> None:
    package = package_with(tmp_path / "own", "flows/f/x/task.oo.yaml")
    assert found(package, "x") == "own/flows/f/x/task.oo.yaml"
    write_package(tmp_path / "library", "library", files={"x/task.oo.yaml": TASK})
    assert found(package, "x", search=(tmp_path / "library",)) == "library/x/task.oo.yaml"


def test_another_package_is_found_in_its_highest_version(tmp_path: Path) -> None:
    versions = ["1.9.0", "1.10.0", "1.10.0-rc.1"]
    others = [
        read_package(package_with(tmp_path / v, "tasks/x/task.oo.yaml", name="other", version=v))
        for v in versions
    ]
    package = package_with(tmp_path / "own")
    assert found(package, "other::x", *others) == "1.10.0/tasks/x/task.oo.yaml"


def test_the_pin_of_the_owning_package_decides(tmp_path: Path) -> None:
    others = [
        read_package(package_with(tmp_path / v, "tasks/x/task.oo.yaml", name="other", version=v))
        for v in ("1.0.0", "2.0.0")
    ]
    package = package_with(tmp_path / "own")
    (package / "package.oo.yaml").write_text("name: own\ndependencies: {other: 1.0.0}\n")
    assert found(package, "other::x", *others) == "1.0.0/tasks/x/task.oo.yaml"


def test_a_pin_that_is_not_there_says_which_versions_are(tmp_path: Path) -> None:
    other = read_package(package_with(tmp_path / "o", name="other", version="2.0.0"))
    package = package_with(tmp_path / "own")
    (package / "package.oo.yaml").write_text("name: own\ndependencies: {other: 1.0.0}\n")
    with pytest.raises(BlockNotFound, match=r"needs the package other@1\.0\.0; there is other@2"):
        found(package, "other::x", other)


def test_a_package_finds_itself_by_name_whatever_versions_there_are(tmp_path: Path) -> None:
    newer = package_with(tmp_path / "newer", "tasks/x/task.oo.yaml", version="9.0.0")
    package = package_with(tmp_path / "own", "tasks/x/task.oo.yaml")
    assert found(package, "own::x", read_package(newer)) == "own/tasks/x/task.oo.yaml"


@pytest.mark.parametrize("folder", ["other-1.0.0", "other"])
@pytest.mark.parametrize("manifest", [True, False])
def test_a_package_that_is_nowhere_else_may_lie_beside_the_flow(
    tmp_path: Path, folder: str, manifest: bool
) -> None:
    package = package_with(tmp_path / "own", f"flows/f/{folder}/tasks/x/task.oo.yaml")
    beside = package / "flows/f" / folder
    (package / "package.oo.yaml").write_text("name: own\ndependencies: {other: 1.0.0}\n")
    if manifest:
        (beside / "package.oo.yaml").write_text("name: other\nversion: 1.0.0\n")
    references = References([read_package(package)])
    found = references.task("other::x", caller(package))
    assert found.manifest.path == beside / "tasks/x/task.oo.yaml"
    assert (found.package.directory, found.package.name) == (beside, "other")
    elsewhere = read_package(package_with(tmp_path / "o", "tasks/x/task.oo.yaml", name="other"))
    assert elsewhere.version != "1.0.0"
    references = References([read_package(package), elsewhere])
    assert references.task("other::x", caller(package)).package.directory == beside


def test_a_package_in_its_usual_place_is_taken_before_one_beside_the_flow(tmp_path: Path) -> None:
    package = package_with(tmp_path / "own", "flows/f/other/tasks/x/task.oo.yaml")
    other = package_with(tmp_path / "o", "tasks/x/task.oo.yaml", name="other")
    assert found(package, "other::x", read_package(other)) == "o/tasks/x/task.oo.yaml"


def test_a_scoped_package_is_found(tmp_path: Path) -> None:
    scoped = package_with(tmp_path / "@me/o-1.0.0", "tasks/x/task.oo.yaml", name="@me/o")
    package = package_with(tmp_path / "own")
    reference = found(package, "@me/o::x", read_package(scoped))
    assert reference == "@me/o-1.0.0/tasks/x/task.oo.yaml"


def test_a_block_belongs_to_the_package_it_lies_in(tmp_path: Path) -> None:
    other = package_with(tmp_path / "o", "tasks/x/task.oo.yaml", name="other")
    package = package_with(tmp_path / "own")
    references = References([read_package(package)])
    assert references.task(f"{other}/tasks/x", caller(package)).package.name == "other"


def test_a_block_outside_all_packages_belongs_to_that_of_the_flow(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/task.oo.yaml").write_text(TASK)
    package = package_with(tmp_path / "own")
    references = References([read_package(package)])
    assert references.task(f"{tmp_path}/alone", caller(package)).package.name == "own"


def test_a_subflow_is_not_looked_for_among_flows(tmp_path: Path) -> None:
    package = package_with(tmp_path / "own", "subflows/s/subflow.oo.yaml")
    references = References([read_package(package)])
    assert references.subflow("self::s", caller(package)).manifest.name == "s"
    with pytest.raises(BlockNotFound, match="subflow 'self::f' of node 'n'"):
        references.subflow("self::f", caller(package))


def test_a_block_that_is_missing_is_named_with_flow_node_and_places(tmp_path: Path) -> None:
    package = package_with(tmp_path / "own")
    with pytest.raises(BlockNotFound) as caught:
        found(package, "self::gone")
    assert str(caught.value) == (
        f"task 'self::gone' of node 'n' in {package}/flows/f/flow.oo.yaml was not found; "
        f"looked in {package}/blocks/gone, {package}/tasks/gone"
    )


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlockNotFound, match="needs the package gone; there is no version of it"):
        found(package_with(tmp_path / "own"), "gone::x")


def test_versions_sort_as_semantic_versioning_says() -> None:
    ordered = [
        None,
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.9.0",
        "1.10.0",
    ]
    shuffled = [*ordered[5:], *ordered[:5]]
    assert sorted(shuffled, key=version_key) == ordered
