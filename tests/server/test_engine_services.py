from __future__ import annotations

from pathlib import Path

import pytest
from engine_runs import Run, open_catalog, open_session, task_files
from packages import write_package

from oomol_connect_sdk.server.engine.catalog import Catalog, UnknownTarget
from oomol_connect_sdk.server.engine.manifests import ManifestError
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


OTHER_FORMS = ("pkg@0.1.0::app::b", "{path}::b", "{directory}::b", "services/app::b")


@pytest.mark.parametrize("target", ["pkg::app::b", *OTHER_FORMS])
def test_a_block_of_a_service_runs_by_itself_like_a_task(tmp_path: Path, target: str) -> None:
    catalog = open_catalog(tmp_path, {"services/app/service.oo.yaml": SERVICE})
    path = tmp_path / "pkg/services/app/service.oo.yaml"
    target = target.format(path=path, directory=path.parent)
    assert catalog.resolve(target).address == f"{path}::b"
    session = Run(open_session(catalog, target, {"one": 1}))
    (job,) = session.started
    assert job.service is not None
    assert (job.service.block_name, job.inputs, job.stacks) == ("b", {"one": 1}, ())
    session.finish_job(job, two=2)
    assert session.finish.result == {"two": 2}
    kinds = ["SessionStarted", "BlockStarted", "BlockFinished", "SessionFinished"]
    assert session.event_types == kinds
    assert {event.get("block_path", str(path)) for event in session.events} == {str(path)}


def test_a_service_without_a_block_says_which_it_has(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path, {"services/app/service.oo.yaml": SERVICE})
    with pytest.raises(UnknownTarget, match="did you mean 'pkg::app::a' or 'pkg::app::b'"):
        catalog.resolve("pkg::app")
    with pytest.raises(UnknownTarget, match="there is no block or flow 'pkg::app::c'"):
        catalog.resolve("pkg::app::c")


def test_a_broken_service_is_named_and_stops_nothing_else(tmp_path: Path) -> None:
    files = {"services/app/service.oo.yaml": "blocks: 1", **task_files(x="->")}
    catalog = open_catalog(tmp_path, files)
    (broken,) = catalog.broken
    path = tmp_path / "pkg/services/app/service.oo.yaml"
    assert broken.path == path
    for target in ("pkg::app", "pkg::app::a", f"{path}::a"):
        with pytest.raises(ManifestError, match="executor"):
            catalog.resolve(target)
    assert catalog.resolve("pkg::x").name == "x"


def test_the_older_folder_serves_when_the_newer_has_no_such_service(tmp_path: Path) -> None:
    later = SERVICE.replace("name: b", "name: c")
    files = {"services/app/service.oo.yaml": SERVICE, "blocks/app/service.oo.yaml": later}
    catalog = open_catalog(tmp_path, files)
    assert catalog.resolve("pkg::app::b").path.parent.parent.name == "services"
    with pytest.raises(UnknownTarget):
        catalog.resolve("pkg::app::c")


STARTING = "executor: {name: python, start_at: session_start}\nblocks: [{name: a}]"
NESTED = {
    "services/one/service.oo.yaml": STARTING,
    "services/two/service.oo.yaml": STARTING,
    "services/ignored/service.oo.yaml": STARTING,
    "services/later/service.oo.yaml": STARTING.replace("session_start", "block_start"),
    "services/app/service.oo.yaml": STARTING.replace("session_start", "app_start"),
    "subflows/inner/subflow.oo.yaml": "nodes: [{node_id: n, service: 'self::two::a'}]",
    "flows/main/flow.oo.yaml": """
nodes:
  - {node_id: first, service: 'self::one::a'}
  - {node_id: again, service: 'self::one::a'}
  - {node_id: never, service: 'self::ignored::a', ignore: true}
  - {node_id: later, service: 'self::later::a'}
  - {node_id: app, service: 'self::app::a'}
  - {node_id: inner, subflow: self::inner}
""",
}


@pytest.mark.parametrize(
    ("nodes", "names"),
    [([], ["one", "two"]), (["first"], ["one"]), (["inner"], ["two"]), (["later"], [])],
)
def test_the_services_that_start_with_a_session_are_those_of_its_nodes(
    tmp_path: Path, nodes: list[str], names: list[str]
) -> None:
    catalog = open_catalog(tmp_path, NESTED)
    session = open_session(catalog, "main", nodes=nodes)
    assert [start.service.path.parent.name for start in session.services] == names
    assert {start.package_dir for start in session.services} <= {tmp_path / "pkg"}
    assert open_session(catalog, "pkg::one::a").services == ()


def test_the_services_that_start_with_the_server_are_those_of_the_highest_version(
    tmp_path: Path,
) -> None:
    packages = [
        write_package(tmp_path / f"pkg-{version}", "pkg", version, NESTED)
        for version in ("1.9.0", "1.10.0")
    ]
    (start,) = Catalog(packages).app_services()
    assert start.service.path == tmp_path / "pkg-1.10.0/services/app/service.oo.yaml"
    assert start.package_dir == tmp_path / "pkg-1.10.0"
