"""Tasks that a flow puts into another package or beside another node."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_runs import Run, open_session, task_files
from packages import write_package

from oomol_connect_sdk.server.engine.catalog import Catalog
from oomol_connect_sdk.server.engine.references import BlockNotFound

INLINE = "task: {executor: {name: python, options: {entry: n.py}}}"
OWN_PROCESS = "task: {executor: {name: python, options: {entry: n.py, spawn: true}}}"


def run(directory: Path, flow: str) -> Run:
    """Start this flow of ``pkg``, which has a task ``x``, as has the package ``other``."""
    packages = [
        write_package(directory / "other-1.0.0", "other", "1.0.0", task_files(x="->")),
        write_package(
            directory / "pkg", "pkg", files={**task_files(x="->"), "flows/main/flow.oo.yaml": flow}
        ),
    ]
    return Run(open_session(Catalog(packages), "main"))


@pytest.mark.parametrize(
    ("task", "package"),
    [
        (INLINE, "other-1.0.0"),
        ("task: self::x", "other-1.0.0"),
        ("task: ../../tasks/x", "other-1.0.0"),
        ("task: pkg::x", "pkg"),
        (OWN_PROCESS, "pkg"),
    ],
)
def test_a_task_that_names_its_package_or_has_its_own_process_is_not_injected(
    tmp_path: Path, task: str, package: str
) -> None:
    flow = f"nodes: [{{node_id: n, inject: {{package: other, script: s}}, {task}}}]"
    (job,) = run(tmp_path, flow).started
    assert job.package_dir == tmp_path / package
    assert job.scripts == (("s",) if package != "pkg" else ())


@pytest.mark.parametrize(
    ("inject", "beside", "package"),
    [
        ("{node_id: home}", "home", "pkg"),
        ("{node_id: home, package: other}", None, "other-1.0.0"),
        ("{}", None, "pkg"),
    ],
)
def test_a_task_runs_beside_the_node_it_is_injected_into_unless_a_package_is_named(
    tmp_path: Path, inject: str, beside: str | None, package: str
) -> None:
    flow = f"""
nodes:
  - {{node_id: home, {OWN_PROCESS}}}
  - {{node_id: n, task: self::x, inject: {inject}}}
"""
    home, job = run(tmp_path, flow).started
    assert (home.beside, home.options["spawn"]) == (None, True)
    assert (job.beside, job.package_dir) == (beside, tmp_path / package)


def test_a_task_that_names_its_package_runs_beside_a_node_too(tmp_path: Path) -> None:
    flow = f"""
nodes:
  - {{node_id: home, {OWN_PROCESS}}}
  - {{node_id: n, task: other::x, inject: {{node_id: home}}}}
"""
    job = run(tmp_path, flow).job("n")
    assert (job.beside, job.package_dir) == ("home", tmp_path / "other-1.0.0")


def test_what_is_injected_into_a_package_gets_the_scripts_of_the_flow_and_of_all_its_nodes(
    tmp_path: Path,
) -> None:
    flow = f"""
injection: {{other: first, pkg: unused}}
nodes:
  - {{node_id: a, {INLINE}, inject: {{package: other, script: second}}}}
  - {{node_id: b, {INLINE}, inject: {{package: other}}}}
  - {{node_id: c, {INLINE}, inject: {{package: other, script: third}}}}
  - {{node_id: gone, ignore: true, {INLINE}, inject: {{package: other, script: never}}}}
  - {{node_id: own, task: self::x}}
  - {{node_id: theirs, task: other::x}}
"""
    scripts = {job.node_id: job.scripts for job in run(tmp_path, flow).started}
    injected = dict.fromkeys("abc", ("first", "second", "third"))
    assert scripts == {**injected, "own": (), "theirs": ()}


def test_an_injection_for_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlockNotFound, match=r"main/flow\.oo\.yaml has an injection .* 'gone'"):
        run(tmp_path, "nodes: []\ninjection: {gone: make}")
