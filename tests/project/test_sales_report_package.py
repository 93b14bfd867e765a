"""The sample data and the figures of the sales-report example.

The package's own libraries are not part of the development environment, so its functions run in
an environment built from its requirements.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = EXAMPLES / "packages" / "sales-report"
GENERATOR = EXAMPLES / "data" / "generate_sales.py"

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the package needs Python 3.10 or newer"
)

PRODUCTS = "sku,name,category,unit_cost\nTEA,Green tea,Tea,2.50\nDESK,Desk,Home,700\n"
SALES = """\
order_id,date,region,sku,quantity,unit_price
A1,2025-01-05,North,TEA,3,6.00
A1,2025-01-05,North,DESK,1,"1,250.00"
A1,05.01.2025,North,TEA,3,6.00
A2,31.01.2025,South,TEA,2,6.00
A2,2025-02-01,South,TEA,-1,6.00
A3,2025-02-30,South,TEA,1,6.00
A4,2025-02-02,South,TEA,1,
A5,2025-02-02,South,TEA,1,"6,5"
A6,2025-02-02,South,TEA,1.5,6.00
A7,2025-02-02,South,CUP,1,6.00
A8,2025-02-02,South,TEA,1,6.00,late
"""


@pytest.fixture(scope="session")
def package_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the package's requirements and oocana."""
    directory = tmp_path_factory.mktemp("sales-report") / "environment"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(directory)], check=True)
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = ["--requirement", str(PACKAGE / "requirements.txt"), "oocana>=0.18.12"]
    subprocess.run([*uv, "pip", "install", "--python", str(python), *requirements], check=True)
    return python


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the small sales file and product table of this module."""
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales" / "january.csv").write_text(SALES, encoding="utf-8")
    (tmp_path / "products.csv").write_text(PRODUCTS, encoding="utf-8")
    return tmp_path


def answer(python: Path, block: str, code: str, *arguments: object) -> Any:
    """What the code, run in the folder of a block, assigns to `answer`."""
    script = f"import json, sys\n{textwrap.dedent(code)}\nprint(json.dumps(answer))"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    completed = subprocess.run(
        [str(python), "-W", "error", "-c", script, *map(str, arguments)],
        cwd=PACKAGE / "tasks" / block,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def generator_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate_sales", GENERATOR)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_the_sample_data_is_what_its_generator_writes() -> None:
    data = GENERATOR.parent
    on_disk = {
        path.relative_to(data).as_posix(): path.read_text(encoding="utf-8")
        for path in data.rglob("*.csv")
    }
    assert on_disk == generator_module().generate()


def test_reading_keeps_the_line_numbers_and_names_what_is_wrong(
    package_python: Path, shop: Path
) -> None:
    code = """
        from pathlib import Path
        from read_sales import read_file, sales_files

        def message(function, argument):
            try:
                function(argument)
            except (OSError, ValueError) as error:
                return str(error)

        shop = Path(sys.argv[1])
        table = read_file(shop / "sales" / "january.csv")
        answer = {
            "rows": table[["order_id", "line", "extra"]].values.tolist(),
            "no folder": message(sales_files, shop / "nowhere"),
            "no file": message(sales_files, shop / "empty"),
            "no column": message(read_file, shop / "products.csv"),
        }
    """
    (shop / "empty").mkdir()
    found = answer(package_python, "read-sales", code, shop)
    assert len(found["rows"]) == 11
    assert found["rows"][0] == ["A1", 2, ""]
    assert found["rows"][-1] == ["A8", 12, "late"]
    assert found["no folder"] == f"The sales folder does not exist: {shop / 'nowhere'}"
    assert found["no file"] == f"The sales folder has no .csv file: {shop / 'empty'}"
    assert f"{shop / 'products.csv'}, line 1: no column order_id" in found["no column"]


def test_cleaning_counts_every_row_once(package_python: Path, shop: Path) -> None:
    code = """
        from pathlib import Path
        sys.path.append("../read-sales")
        from clean_sales import clean, products_path, read_products
        from read_sales import read_file

        folder = Path(sys.argv[1]) / "sales"
        cleaned = clean(
            read_file(folder / "january.csv"), read_products(products_path(None, folder))
        )
        columns = ["order_id", "month", "category", "quantity", "revenue", "cost"]
        answer = {
            "sales": cleaned.sales[columns].values.tolist(),
            "rejected": dict(cleaned.rejected[["line", "problem"]].values.tolist()),
            "quality": cleaned.quality,
        }
    """
    found = answer(package_python, "clean-sales", code, shop)
    assert found["sales"] == [
        ["A1", "2025-01", "Tea", 3, 18.0, 7.5],
        ["A1", "2025-01", "Home", 1, 1250.0, 700.0],
        ["A2", "2025-01", "Tea", 2, 12.0, 5.0],
        ["A2", "2025-02", "Tea", -1, -6.0, -2.5],
    ]
    assert found["rejected"] == {
        "7": "no such date",
        "8": "no unit_price",
        "9": "unit_price is not a number",
        "10": "quantity is not a whole number",
        "11": "unknown sku",
        "12": "more fields than columns",
    }
    assert found["quality"] == {
        "read": 11,
        "kept": 4,
        "rejected": 6,
        "duplicates": 1,
        "refunds": 1,
        "day_first_dates": 2,
        "thousands_separators": 1,
    }


def test_a_product_table_that_names_a_sku_twice_is_refused_with_its_line(
    package_python: Path, shop: Path
) -> None:
    code = """
        from pathlib import Path
        from clean_sales import read_products

        try:
            read_products(Path(sys.argv[1]))
        except ValueError as error:
            answer = str(error)
    """
    products = shop / "products.csv"
    products.write_text(PRODUCTS + "TEA,Black tea,Tea,2.00\n", encoding="utf-8")
    found = answer(package_python, "clean-sales", code, products)
    assert found == f"{products}, line 4: the sku appears twice"


def test_the_interval_has_the_width_that_theory_gives(package_python: Path) -> None:
    code = """
        import numpy as np
        import pandas as pd
        from estimate_revenue import interval, order_revenues, resampled_totals

        sales = pd.DataFrame(
            [["2025-01", "North", "A1", 8.0], ["2025-01", "North", "A1", -3.0],
             ["2025-01", "North", "A2", 4.0], ["2025-02", "North", "A1", -5.0]],
            columns=["month", "region", "order_id", "revenue"],
        )
        totals = [
            resampled_totals(np.full(100, 10.0), 20_500, np.random.default_rng(seed))
            for seed in (1, 1, 2)
        ]
        answer = {
            "orders": order_revenues(sales).values.tolist(),
            "mean": totals[0].mean(),
            "interval": interval(totals[0], 0.95),
            "same seed": bool((totals[0] == totals[1]).all()),
            "other seed": bool((totals[0] == totals[2]).all()),
        }
    """
    found = answer(package_python, "estimate-revenue", code)
    assert found["orders"] == [
        ["2025-01", "North", "A1", 5.0],
        ["2025-01", "North", "A2", 4.0],
        ["2025-02", "North", "A1", -5.0],
    ]
    # The count of 100 orders is Poisson with mean 100: 1000 plus or minus 1.96 times 100.
    assert found["mean"] == pytest.approx(1000, abs=5)
    assert found["interval"] == pytest.approx([804, 1196], abs=15)
    assert found["same seed"]
    assert not found["other seed"]


def test_the_chart_has_a_panel_for_each_region_with_its_bars(
    package_python: Path, tmp_path: Path
) -> None:
    code = """
        import pandas as pd
        from draw_chart import draw

        rows = [
            ["2025-01", "North", 10.0, 8.0, 13.0], ["2025-02", "North", 20.0, 15.0, 26.0],
            ["2025-02", "South", 5.0, 1.0, 9.0], ["2025-02", "West", 7.0, 6.0, 8.0],
        ]
        table = pd.DataFrame(rows, columns=["month", "region", "revenue", "low", "high"])
        figure = draw(table, title="Sales", currency="EUR", confidence=0.9)
        figure.savefig(sys.argv[1])
        answer = {
            panel.get_title(loc="left"): [
                [round(bar.get_x() + bar.get_width() / 2), bar.get_height()]
                for bar in panel.containers[0]
            ]
            for panel in figure.axes
        }
    """
    chart = tmp_path / "chart.png"
    found = answer(package_python, "draw-chart", code, chart)
    assert found == {"North": [[0, 10.0], [1, 20.0]], "South": [[1, 5.0]], "West": [[1, 7.0]]}
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_the_report_holds_the_key_figures_and_escapes_what_it_shows(
    package_python: Path, tmp_path: Path
) -> None:
    code = """
        import pandas as pd
        from write_report import render, summarise

        columns = ["month", "region", "category", "quantity", "revenue", "cost"]
        rows = [
            ["2025-01", "North", "Tea", 3, 100.0, 40.0],
            ["2025-02", "South", "Tea & more", 2, 300.0, 160.0],
        ]
        sales = pd.DataFrame(rows, columns=columns)
        total = {"orders": 2, "revenue": 400.0, "low": 90.0, "high": 710.0, "confidence": 0.95}
        quality = {"read": 3, "rejected": 1}
        summary = summarise(sales, total, quality, "EUR")
        estimates = [
            {"month": month, "region": region, "revenue": revenue, "low": 1.0, "high": 2000.0}
            for month, region, revenue in sales[["month", "region", "revenue"]].values
        ]
        inputs = {"rejected": sys.argv[1], "chart": sys.argv[2], "total": total,
                  "title": "A <b> title", "quality": quality, "estimates": estimates}
        answer = {"summary": summary, "page": render(inputs, sales, summary)}
    """
    rejected, chart = tmp_path / "rejected.csv", tmp_path / "chart.png"
    rejected.write_text("file,line,problem\nmay.csv,7,<none>\n", encoding="utf-8")
    chart.write_bytes(b"picture")
    found = answer(package_python, "write-report", code, rejected, chart)
    assert found["summary"] == {
        "first_month": "2025-01",
        "last_month": "2025-02",
        "currency": "EUR",
        "orders": 2,
        "revenue": 400.0,
        "revenue_low": 90.0,
        "revenue_high": 710.0,
        "margin": 0.5,
        "best_month": "2025-02",
        "best_region": "South",
        "best_category": "Tea & more",
        "rows_read": 3,
        "rows_rejected": 1,
    }
    assert "A &lt;b&gt; title" in found["page"]
    assert "<td>&lt;none&gt;</td>" in found["page"]
    assert "<td>Tea &amp; more</td><td>2</td><td>300</td><td>75.0%</td>" in found["page"]
    assert "<td>300 (1 to 2,000)</td>" in found["page"]
    assert "data:image/png;base64,cGljdHVyZQ==" in found["page"]
