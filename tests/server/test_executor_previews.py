"""What blocks draw: figures and tables become previews, by themselves or when they are shown."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from executor_task import ExecutorTask, running_task

from oomol_connect_sdk.server.executors import Environments, WorkerPool

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUIREMENTS = "matplotlib>=3.8\nplotly>=5.20\npandas>=2.0\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(Environments(tmp_path_factory.mktemp("environments")))
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages")
    (root / "demo").mkdir()
    (root / "demo" / "requirements.txt").write_text(REQUIREMENTS)
    return root


@pytest_asyncio.fixture(loop_scope="module")
async def task(pool: WorkerPool, root: Path) -> AsyncIterator[ExecutorTask]:
    """A task; all tasks of the module run in one package and share its warm worker."""
    async with running_task(pool, root) as task:
        yield task


async def previews(task: ExecutorTask, source: str) -> list[dict[str, Any]]:
    job_id = task.start(task.block("block", source))
    # The first one of the module waits for its environment.
    await task.until(lambda: task.has(job_id, "BlockFinished"), patience=300)
    assert task.of(job_id, "BlockFinished") == [{}]
    return [message["payload"] for message in task.of(job_id, "BlockPreview")]


def is_png(payload: dict[str, Any]) -> bool:
    head, _, data = payload["data"].partition(",")
    assert (payload["type"], head) == ("image", "data:image/png;base64")
    return base64.b64decode(data).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("show", "count"),
    [
        ("plt.show()", 1),
        ("plt.show(block=True); plt.show()", 1),
        ("plt.gcf().show()", 1),
        ("plt.figure(); plt.plot([2]); plt.show()", 2),
        ("context.preview(plt.gcf())", 1),
        ("plt.savefig(context.tmp_dir + '/figure.png')", 0),
        ("import threading; t = threading.Thread(target=plt.show); t.start(); t.join()", 1),
    ],
)
@pytest.mark.parametrize("imports", ["", "import matplotlib; matplotlib.use('Agg')"])
async def test_a_figure_of_matplotlib_that_is_shown_is_a_preview(
    task: ExecutorTask, imports: str, show: str, count: int
) -> None:
    shown = await previews(
        task,
        f"""
        {imports}
        import matplotlib.pyplot as plt
        def main(inputs, context):
            plt.plot([1, 2])
            {show}
        """,
    )
    assert [is_png(payload) for payload in shown] == [True] * count


async def test_the_figures_of_a_task_are_not_shown_by_the_next(
    task: ExecutorTask, pool: WorkerPool, root: Path
) -> None:
    await previews(
        task,
        """
        import matplotlib.pyplot as plt
        def main():
            plt.style.use("dark_background")
            plt.plot([1])
        """,
    )
    await task.executors.close(kill=False)
    source = """
        import matplotlib.pyplot as plt
        def main():
            assert plt.rcParams["figure.facecolor"] == "white"
            plt.plot([1])
            plt.show()
        """
    async with running_task(pool, root, session_id="next") as other:
        assert len(await previews(other, source)) == 1


async def test_a_figure_of_plotly_that_is_shown_is_a_preview(task: ExecutorTask) -> None:
    (payload,) = await previews(
        task,
        """
        import plotly.graph_objects as go
        def main(inputs, context):
            go.Figure(go.Bar(y=[1, 2])).show()
        """,
    )
    assert payload["type"] == "html"
    assert "<html>" in payload["data"]
    assert '"type":"bar"' in payload["data"]
    assert len(payload["data"]) < 100_000


@pytest.mark.parametrize("form", ["frame", "{'type': 'table', 'data': frame}"])
async def test_a_data_frame_is_previewed_as_a_file(task: ExecutorTask, form: str) -> None:
    (payload,) = await previews(
        task,
        f"""
        import pandas
        def main(inputs, context):
            frame = pandas.DataFrame({{"a": [1, 2]}})
            context.preview({form})
        """,
    )
    assert payload["type"] == "table"
    assert Path(payload["data"]).read_text() == ",a\n0,1\n1,2\n"  # noqa: ASYNC240


async def test_nothing_of_this_is_imported_for_blocks_that_draw_nothing(
    pool: WorkerPool, root: Path
) -> None:
    source = """
        import sys
        def main():
            return {"out": sorted({"matplotlib", "plotly", "numpy"} & set(sys.modules))}
        """
    (root / "plain").mkdir()
    async with running_task(pool, root, package="plain") as task:
        assert await task.run(source) == {"result": {"out": []}}
