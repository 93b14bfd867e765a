from __future__ import annotations

from pathlib import Path

import pytest
from engine_runs import Run, open_catalog, open_session, task_files
from packages import write_package

from oomol_connect_sdk.server.engine.catalog import Catalog
from oomol_connect_sdk.server.engine.references import BlockNotFound

SERVICE = """
executor: {name: python, entry: ./main.py, function: main, stop_at: app_end}
blocks:
  - {name: a, outputs_def: [{handle: two}]}
  - {name: b, inputs_def: [{handle: one}], outputs_def: [{handle: two}]}
"""
FLOW = """
nodes:
  - {node_id: first, service: %s::app::a, timeout: 3}
  - node_id: second
    service: %s::app::b
    inputs_from: [{handle: one, from_node: [{node_id: first, output_handle: two}]}]
"""


@pytest.mark.parametrize("folder", ["services", "blocks"])
def test_a_block_of_a_service_is_a_job_that_names_the_service(tmp_path: Path, folder: str) -> None:
    files = {
        f"{folder}/app/service.oo.yaml": SERVICE,
        "flows/main/flow.oo.yaml": FLOW % ("self", "self"),
    }
    session = Run(open_session(open_catalog(tmp_path, files), "main"))
    first = session.job("first")
    path = tmp_path / f"pkg/{folder}/app/service.oo.yaml"
    assert (first.block_path, first.directory) == (path, path.parent)
    assert (first.executor, first.options) == (
        "python",
        {"entry": "./main.py", "function": "main"},
    )
    assert first.timeout == 3
    service = first.service
    assert service is not None
    assert (service.path, service.block_name) == (path, "a")
    assert (service.start_at, service.stop_at) == ("block_start", "app_end")
    session.finish_job(first, two=2)
    second = session.job("second")
    assert second.inputs == {"one": 2}
    assert second.service is not None
    assert second.service.block_name == "b"
    session.finish_job(second, two=3)
    assert session.finish.result == {"two": 3}


def test_a_service_of_another_package_runs_there(tmp_path: Path) -> None:
    other = write_package(
        tmp_path / "other-1.0.0", "other", "1.0.0", {"services/app/service.oo.yaml": SERVICE}
    )
    files = {"flows/main/flow.oo.yaml": FLOW % ("other", "other")}
    package = write_package(tmp_path / "pkg", "pkg", files=files)
    session = Run(open_session(Catalog([package, other]), "main"))
    assert session.job("first").package_dir == other


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("self::app::c", r"has no block 'c' \(there are 'a', 'b'\)"),
        ("self::gone::a", "service 'self::gone' of node 'n'"),
    ],
)
def test_a_block_of_a_service_that_is_missing_is_named(
    tmp_path: Path, reference: str, fault: str
) -> None:
    files = {
        "services/app/service.oo.yaml": SERVICE,
        "flows/main/flow.oo.yaml": f"nodes: [{{node_id: n, service: '{reference}'}}]\n",
    }
    with pytest.raises(BlockNotFound, match=fault):
        open_session(open_catalog(tmp_path, files), "main")


def test_an_injected_task_runs_in_the_environment_of_that_package(tmp_path: Path) -> None:
    other = write_package(tmp_path / "other-1.0.0", "other", "1.0.0", task_files(x="->"))
    flow = """
nodes:
  - node_id: n
    inject: {package: other, script: npm install}
    task: {executor: {name: python, options: {entry: n.py}}}
  - {node_id: m, inject: {package: gone}, task: {executor: {name: python}}}
"""
    package = write_package(tmp_path / "pkg", "pkg", files={"flows/main/flow.oo.yaml": flow})
    session = Run(open_session(Catalog([package, other]), "main"))
    injected, own = session.started
    assert (injected.package_dir, injected.package_name) == (other, "other")
    assert injected.directory == package / "flows/main"
    assert own.package_dir == package
    (warning,) = session.events_of("BlockWarning")
    assert "'gone'" in warning["warning"]
