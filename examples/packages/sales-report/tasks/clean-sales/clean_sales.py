"""Turn raw sales rows into typed ones, and say what was wrong with the rest."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

import pandas as pd
from oocana import Context

PRODUCT_COLUMNS = ["sku", "name", "category", "unit_cost"]
RAW_COLUMNS = ["order_id", "date", "region", "sku", "quantity", "unit_price"]
CLEAN_COLUMNS = [
    *["order_id", "date", "month", "region", "sku", "name", "category"],
    *["quantity", "unit_price", "revenue", "cost"],
]
PLAIN_NUMBER = r"[+-]?\d+(\.\d+)?"
GROUPED_NUMBER = r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"
DAY_FIRST_DATE = r"\d{1,2}\.\d{1,2}\.\d{4}"
LISTED_ROWS = 20


class Inputs(TypedDict):
    sales: str
    products: str | None
    folder: str


class Quality(TypedDict):
    """How many rows were read, and what became of them."""

    read: int
    kept: int
    rejected: int
    duplicates: int
    refunds: int
    day_first_dates: int
    thousands_separators: int


class Outputs(TypedDict):
    sales: str
    rejected: str
    quality: Quality


class Cleaned(NamedTuple):
    sales: pd.DataFrame
    rejected: pd.DataFrame
    quality: Quality


def main(inputs: Inputs, context: Context) -> Outputs:
    """Clean the rows of read-sales, and write two CSV files into the session's directory."""
    products = read_products(products_path(inputs["products"], Path(inputs["folder"])))
    raw = pd.read_csv(inputs["sales"], dtype=str, keep_default_na=False)
    cleaned = clean(raw, products)
    report(cleaned, context)
    if cleaned.sales.empty:
        raise ValueError(f"No usable row is left of {len(raw):,}; the log lists the problems.")
    directory = Path(context.session_dir) / context.job_id
    directory.mkdir(parents=True, exist_ok=True)
    cleaned.sales.to_csv(directory / "clean.csv", index=False)
    cleaned.rejected.to_csv(directory / "rejected.csv", index=False)
    return {
        "sales": str(directory / "clean.csv"),
        "rejected": str(directory / "rejected.csv"),
        "quality": cleaned.quality,
    }


def products_path(given: str | None, folder: Path) -> Path:
    """The product table as an absolute path; without one, products.csv beside the folder."""
    path = Path(given).expanduser().resolve() if given else folder.parent / "products.csv"
    if not path.is_file():
        raise FileNotFoundError(f"The product table does not exist: {path}")
    return path


def read_products(path: Path) -> pd.DataFrame:
    """The product table; raises with file and line when it can't be used."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    missing = [column for column in PRODUCT_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path}, line 1: no column {', '.join(missing)}")
    table = table[PRODUCT_COLUMNS].assign(unit_cost=parse_numbers(table["unit_cost"]))
    refuse_rows(path, table["sku"].duplicated(), "the sku appears twice")
    refuse_rows(path, table["unit_cost"].isna(), "unit_cost is not a number")
    return table


def refuse_rows(path: Path, wrong: pd.Series, problem: str) -> None:
    if wrong.any():
        raise ValueError(f"{path}, line {int(wrong.idxmax()) + 2}: {problem}")


def clean(raw: pd.DataFrame, products: pd.DataFrame) -> Cleaned:
    """Split raw rows into usable and rejected ones, and join the products to the usable ones."""
    problems = find_problems(raw, products)
    usable = problems == ""
    typed = with_types(raw[usable])
    duplicates = typed.duplicated(RAW_COLUMNS)
    sales = join_products(typed[~duplicates], products)
    rejected = raw[~usable].assign(problem=problems[~usable])
    return Cleaned(
        sales=sales,
        rejected=rejected[["file", "line", "problem", *RAW_COLUMNS]],
        quality={
            "read": len(raw),
            "kept": len(sales),
            "rejected": len(rejected),
            "duplicates": int(duplicates.sum()),
            "refunds": int((sales["quantity"] < 0).sum()),
            "day_first_dates": int(raw["date"].str.fullmatch(DAY_FIRST_DATE).sum()),
            "thousands_separators": int(raw["unit_price"].str.fullmatch(GROUPED_NUMBER).sum()),
        },
    )


def find_problems(raw: pd.DataFrame, products: pd.DataFrame) -> pd.Series:
    """What is wrong with each row: the first problem found, an empty text when there is none."""
    quantity = parse_numbers(raw["quantity"])
    price = parse_numbers(raw["unit_price"])
    checks = {
        "more fields than columns": raw["extra"] != "",
        "no order_id": raw["order_id"].str.strip() == "",
        "no region": raw["region"].str.strip() == "",
        "no such date": parse_dates(raw["date"]).isna(),
        "quantity is not a whole number": quantity.isna() | (quantity % 1 != 0) | (quantity == 0),
        "no unit_price": raw["unit_price"].str.strip() == "",
        "unit_price is not a number": price.isna() | (price < 0),
        "unknown sku": ~raw["sku"].str.strip().isin(products["sku"]),
    }
    problems = pd.Series("", index=raw.index)
    for problem, found in checks.items():
        problems[found & (problems == "")] = problem
    return problems


def parse_dates(text: pd.Series) -> pd.Series:
    """Dates written as 2025-08-31 or 31.08.2025; anything else becomes NaT."""
    year_first = pd.to_datetime(text.str.strip(), format="%Y-%m-%d", errors="coerce")
    day_first = pd.to_datetime(text.str.strip(), format="%d.%m.%Y", errors="coerce")
    return year_first.fillna(day_first)


def parse_numbers(text: pd.Series) -> pd.Series:
    """Numbers written as 1250.00 or 1,250.00; anything else, also 12,5, becomes NaN."""
    text = text.str.strip()
    grouped = text.str.fullmatch(GROUPED_NUMBER)
    text = text.where(~grouped, text.str.replace(",", "", regex=False))
    return pd.to_numeric(text.where(text.str.fullmatch(PLAIN_NUMBER)), errors="coerce")


def with_types(rows: pd.DataFrame) -> pd.DataFrame:
    """The usable rows with dates and numbers instead of text."""
    return rows.assign(
        order_id=rows["order_id"].str.strip(),
        date=parse_dates(rows["date"]),
        region=rows["region"].str.strip(),
        sku=rows["sku"].str.strip(),
        quantity=parse_numbers(rows["quantity"]).astype(int),
        unit_price=parse_numbers(rows["unit_price"]).astype(float),
    )


def join_products(rows: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Add name and category of each product, and month, revenue and cost of each row."""
    joined = rows.merge(products, on="sku", how="left", validate="many_to_one")
    return joined.assign(
        month=joined["date"].dt.strftime("%Y-%m"),
        revenue=(joined["quantity"] * joined["unit_price"]).round(2),
        cost=(joined["quantity"] * joined["unit_cost"]).round(2),
    )[CLEAN_COLUMNS]


def report(cleaned: Cleaned, context: Context) -> None:
    """Log the counts, and list the rejected rows by file and line."""
    for name, count in cleaned.quality.items():
        context.report_log(f"{name.replace('_', ' ')}: {count:,}")
    rejected = cleaned.rejected
    if rejected.empty:
        return
    context.send_warning(f"{len(rejected):,} rows can't be used and are left out")
    for row in rejected.head(LISTED_ROWS).itertuples():
        context.report_log(f"left out: {row.file}, line {row.line}: {row.problem}")
    if len(rejected) > LISTED_ROWS:
        context.report_log(f"left out: {len(rejected) - LISTED_ROWS:,} more")
