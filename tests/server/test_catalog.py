from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from packages import task_text, write_package

from oomol_connect_sdk.server.engine.catalog import Catalog, NotAPackage, UnknownTarget
from oomol_connect_sdk.server.engine.manifests import ManifestError

ADD = """
description: "%add%"
executor: {name: python}
inputs_def:
  - {handle: a, json_schema: {type: number, ui:label: "%a%"}, description: "%gone%"}
  - {handle: b, json_schema: {type: number}, nullable: true, value: "%add%"}
outputs_def: [{handle: sum, json_schema: {type: number}}]
"""
FLOW = """
description: a flow
inputs_def: [{handle: start, json_schema: {type: number}}]
nodes:
  - node_id: one
    task: self::add
    inputs_from:
      - {handle: a, from_flow: [{input_handle: start}]}
  - node_id: two
    task: self::add
    inputs_from:
      - {handle: a, value: 1}
      - {handle: b, from_node: [{node_id: constants, output_handle: c}]}
  - {node_id: constants, values: [{handle: c, value: 1}, {handle: d, json_schema: {type: string}}]}
"""
FILES = {
    "tasks/add/task.oo.yaml": ADD,
    "blocks/old/block.oo.yaml": task_text(),
    "subflows/sub/subflow.oo.yaml": "nodes: []\n",
    "flows/main/flow.oo.yaml": FLOW,
    "oo-locales/en.json": '{"add": "Adds numbers", "a": "First"}',
}


def pkg(directory: Path, version: str = "0.1.0", files: Mapping[str, str] | None = None) -> Path:
    return write_package(directory, "pkg", version, FILES if files is None else files)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog([pkg(tmp_path / "pkg")])


def test_a_block_row_has_the_shape_of_the_wire_and_our_additions(
    catalog: Catalog, tmp_path: Path
) -> None:
    rows = {row["name"]: row for row in catalog.blocks()}
    assert list(rows) == ["old", "add", "sub"]
    assert rows["add"] == {
        "package": "pkg",
        "name": "add",
        "path": f"{tmp_path}/pkg/tasks/add/task.oo.yaml",
        "version": "0.1.0",
        "description": "Adds numbers",
        "blockId": "pkg::add",
        "inputs": [
            {
                "handle": "a",
                "json_schema": {"type": "number", "ui:label": "First"},
                "description": "%gone%",
            },
            {"handle": "b", "json_schema": {"type": "number"}, "nullable": True, "value": "%add%"},
        ],
        "outputs": [{"handle": "sum", "json_schema": {"type": "number"}}],
    }


def test_a_flow_row_lists_what_a_caller_may_fill(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.flows() == [
        {
            "package": "pkg",
            "name": "main",
            "path": f"{tmp_path}/pkg/flows/main/flow.oo.yaml",
            "version": "0.1.0",
            "description": "a flow",
            "inputs": [
                {"nodeId": "_", "inputs": [{"handle": "start", "json_schema": {"type": "number"}}]},
                {"nodeId": "one", "inputs": [{"handle": "b", "json_schema": {"type": "number"}}]},
                {
                    "nodeId": "constants",
                    "inputs": [{"handle": "d", "json_schema": {"type": "string"}}],
                },
            ],
        }
    ]


def test_a_flow_that_cannot_run_is_listed_with_the_reason(tmp_path: Path) -> None:
    flow = "nodes: [{node_id: n, task: self::gone}]\n"
    (row,) = Catalog([pkg(tmp_path, files={"flows/f/flow.oo.yaml": flow})]).flows()
    assert row["inputs"] == []
    assert "task 'self::gone' of node 'n'" in row["error"]


@pytest.mark.parametrize(
    ("target", "path", "kind"),
    [
        ("pkg::add", "tasks/add/task.oo.yaml", "block"),
        ("pkg@0.1.0::add", "tasks/add/task.oo.yaml", "block"),
        ("pkg::sub", "subflows/sub/subflow.oo.yaml", "flow"),
        ("pkg::main", "flows/main/flow.oo.yaml", "flow"),
        ("main", "flows/main/flow.oo.yaml", "flow"),
        ("old", "blocks/old/block.oo.yaml", "block"),
        ("flows/main", "flows/main/flow.oo.yaml", "flow"),
        ("./flows/main/flow.oo.yaml", "flows/main/flow.oo.yaml", "flow"),
    ],
)
def test_a_target_is_found(
    catalog: Catalog, tmp_path: Path, target: str, path: str, kind: str
) -> None:
    found = catalog.resolve(target)
    assert found.path == tmp_path / "pkg" / path
    assert (found.kind, found.package.name) == (kind, "pkg")
    assert found.manifest.path == found.path


def test_an_absolute_path_is_found_also_through_a_link(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "pkg")
    for path in ("pkg/flows/main", "link/flows/main", "pkg/flows/main/flow.oo.yaml"):
        assert catalog.resolve(f"{tmp_path}/{path}").name == "main"


@pytest.mark.parametrize(
    "target",
    ["", "::", "pkg::", "/etc/passwd", "/\0", "pkg@9.9.9::add", "flows/main/../../..", "tasks"],
)
def test_what_is_not_in_the_catalogue_is_unknown(catalog: Catalog, target: str) -> None:
    with pytest.raises(UnknownTarget, match="there is no block or flow"):
        catalog.resolve(target)


def test_a_manifest_outside_the_packages_is_unknown(catalog: Catalog, tmp_path: Path) -> None:
    other = pkg(tmp_path / "other")
    with pytest.raises(UnknownTarget):
        catalog.resolve(f"{other}/flows/main/flow.oo.yaml")


def test_an_unknown_target_names_the_closest(catalog: Catalog) -> None:
    with pytest.raises(UnknownTarget, match=r"'pkg::ad'; did you mean 'pkg::add'") as caught:
        catalog.resolve("pkg::ad")
    assert caught.value.candidates[0] == "pkg::add"


def test_a_very_long_name_is_not_repeated_in_full(catalog: Catalog) -> None:
    with pytest.raises(UnknownTarget) as caught:
        catalog.resolve("x" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_a_name_in_two_packages_names_both(tmp_path: Path) -> None:
    write_package(tmp_path / "a", "a", files={"flows/main/flow.oo.yaml": "nodes: []\n"})
    pkg(tmp_path / "b")
    with pytest.raises(UnknownTarget, match=r"'main' may mean a@0\.1\.0::main, pkg@0\.1\.0::main"):
        Catalog([tmp_path]).resolve("main")


def test_a_flow_is_meant_by_a_bare_name_and_a_block_by_an_id(tmp_path: Path) -> None:
    files = {"flows/x/flow.oo.yaml": "nodes: []\n", "tasks/x/task.oo.yaml": task_text()}
    catalog = Catalog([pkg(tmp_path, files=files)])
    assert catalog.resolve("x").kind == "flow"
    assert catalog.resolve("pkg::x").kind == "block"


def test_the_highest_version_is_meant_and_every_version_is_listed(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0"):
        pkg(tmp_path / f"pkg-{version}", version)
    catalog = Catalog([tmp_path])
    assert catalog.resolve("pkg::add").package.version == "0.10.0"
    assert catalog.resolve("main").package.version == "0.10.0"
    assert catalog.resolve("pkg@0.9.0::add").package.version == "0.9.0"
    assert catalog.resolve(f"{tmp_path}/pkg-0.9.0/flows/main").package.version == "0.9.0"
    assert [row["version"] for row in catalog.flows()] == ["0.10.0", "0.9.0"]


def test_packages_are_found_below_a_directory_and_below_a_scope(tmp_path: Path) -> None:
    pkg(tmp_path / "pkg")
    write_package(tmp_path / "@me/tool", "@me/tool", files={"tasks/t/task.oo.yaml": task_text()})
    (tmp_path / "no-package").mkdir()
    catalog = Catalog([tmp_path])
    assert [package.name for package in catalog.packages] == ["@me/tool", "pkg"]
    assert catalog.resolve("@me/tool::t").path.name == "task.oo.yaml"
    assert catalog.resolve("@me/tool@0.1.0::t").path.name == "task.oo.yaml"


def test_a_package_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    pkg(tmp_path / "pkg")
    assert len(Catalog([tmp_path, tmp_path / "pkg"]).flows()) == 1


def test_a_path_without_packages_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAPackage, match=rf"^{tmp_path}: neither it nor a directory in it"):
        Catalog([tmp_path])
    with pytest.raises(NotAPackage, match=rf"^{tmp_path}/gone: is not a directory"):
        Catalog([tmp_path / "gone"])


def test_a_broken_manifest_stops_only_itself(tmp_path: Path) -> None:
    broken = {"tasks/bad/task.oo.yaml": "title: x\n", "flows/worse/flow.oo.yaml": "nodes: 1\n"}
    catalog = Catalog([pkg(tmp_path, files={**FILES, **broken})])
    assert [error.path.parent.name for error in catalog.broken] == ["bad", "worse"]
    assert [row["name"] for row in catalog.blocks()] == ["old", "add", "sub"]
    assert [row["name"] for row in catalog.flows()] == ["main"]
    with pytest.raises(ManifestError, match="'executor' is missing"):
        catalog.resolve("pkg::bad")
    with pytest.raises(ManifestError, match="expected a list"):
        catalog.resolve("worse")


def test_a_broken_package_among_others_stops_only_itself(tmp_path: Path) -> None:
    pkg(tmp_path / "pkg")
    files = {**FILES, "package.oo.yaml": "name: [unclosed\n"}
    write_package(tmp_path / "bad-1.0.0", "bad", files=files)
    catalog = Catalog([tmp_path])
    assert [error.path.name for error in catalog.broken] == ["package.oo.yaml"]
    assert [package.name for package in catalog.packages] == ["pkg"]
    assert catalog.resolve("pkg::add").name == "add"
    with pytest.raises(ManifestError, match=r"bad-1\.0\.0/package\.oo\.yaml:2: not YAML"):
        catalog.resolve("bad::add")


def test_a_broken_package_that_is_named_itself_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "package.oo.yaml").write_text("- a list\n")
    with pytest.raises(ManifestError, match=r"package\.oo\.yaml:1: expected a mapping"):
        Catalog([tmp_path])


def test_a_broken_locale_file_is_reported_and_the_keys_stay(tmp_path: Path) -> None:
    catalog = Catalog([pkg(tmp_path, files={**FILES, "oo-locales/en.json": "{\n\n!"})])
    assert [(error.path.name, error.line) for error in catalog.broken] == [("en.json", 3)]
    assert [row.get("description") for row in catalog.blocks()] == [None, "%add%", None]


def test_a_catalogue_that_follows_another_reads_only_what_changed(tmp_path: Path) -> None:
    package = pkg(tmp_path / "pkg")
    first = Catalog([tmp_path])
    add, main = first.resolve("pkg::add"), first.resolve("pkg::main")
    (package / "flows/main/flow.oo.yaml").write_text("description: changed\n")
    (package / "tasks/new").mkdir()
    (package / "tasks/new/task.oo.yaml").write_text(task_text())
    write_package(tmp_path / "other", "other", files=FILES)
    second = Catalog([tmp_path], first)
    assert second.resolve("pkg::add").manifest is add.manifest
    assert second.resolve("pkg::new").name == "new"
    assert second.resolve("other::add").name == "add"
    assert second.resolve("pkg::main").manifest.description == "changed"
    assert first.resolve("pkg::main").manifest is main.manifest
    assert [package.name for package in first.packages] == ["pkg"]


def test_a_manifest_that_was_broken_is_read_again_once_it_is_mended(tmp_path: Path) -> None:
    package = pkg(tmp_path, files={**FILES, "tasks/bad/task.oo.yaml": "title: x\n"})
    first = Catalog([package])
    assert len(first.broken) == len(Catalog([package], first).broken) == 1
    (package / "tasks/bad/task.oo.yaml").write_text(task_text())
    second = Catalog([package], first)
    assert second.broken == ()
    assert second.resolve("bad").name == "bad"
