"""Read every CSV file of a folder into one table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TypedDict

import pandas as pd
from oocana import Context

COLUMNS = ["order_id", "date", "region", "sku", "quantity", "unit_price"]


class Inputs(TypedDict):
    folder: str


class Outputs(TypedDict):
    sales: str
    folder: str


def main(inputs: Inputs, context: Context) -> Outputs:
    """Read the folder, and write one CSV file into the session's directory."""
    folder = Path(inputs["folder"]).expanduser().resolve()
    files = sales_files(folder)
    tables = []
    for number, file in enumerate(files, start=1):
        table = read_file(file)
        tables.append(table)
        context.report_log(f"{file.name}: {len(table):,} rows")
        context.report_progress(100 * number / len(files))
    sales = Path(context.session_dir) / context.job_id / "sales.csv"
    sales.parent.mkdir(parents=True, exist_ok=True)
    rows = pd.concat(tables, ignore_index=True)
    rows.to_csv(sales, index=False)
    context.report_log(f"{len(files)} files, {len(rows):,} rows in all")
    return {"sales": str(sales), "folder": str(folder)}


def sales_files(folder: Path) -> list[Path]:
    """The CSV files of a folder by name; raises when the folder is missing or has none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"The sales folder does not exist: {folder}")
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise FileNotFoundError(f"The sales folder has no .csv file: {folder}")
    return files


def read_file(file: Path) -> pd.DataFrame:
    """One sales file as text, with the columns `file`, `line` and `extra` added.

    `extra` holds fields beyond the last column; it is empty in a well-formed row.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey="extra", restval="")
            check_header(file, list(reader.fieldnames or []))
            rows = [
                {**row, "extra": ",".join(row.get("extra", [])), "line": reader.line_num}
                for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8: {error}") from error
    table = pd.DataFrame(rows, columns=[*COLUMNS, "extra", "line"])
    return table.assign(file=file.name)


def check_header(file: Path, header: list[str]) -> None:
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise ValueError(
            f"{file}, line 1: no column {', '.join(missing)}; the file has {', '.join(header)}"
        )
