"""Write the report: one HTML file with key figures, chart, tables and the state of the data."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypedDict

import pandas as pd
from oocana import Context

TEMPLATE = Path(__file__).with_name("report.html")


class Inputs(TypedDict):
    sales: str
    rejected: str
    quality: dict[str, int]
    estimates: list[dict[str, Any]]
    total: dict[str, Any]
    chart: str
    title: str
    currency: str
    output_dir: str


class Summary(TypedDict):
    """The key figures; `margin` is the share of revenue left after the cost of the goods."""

    first_month: str
    last_month: str
    currency: str
    orders: int
    revenue: float
    revenue_low: float
    revenue_high: float
    margin: float | None
    best_month: str
    best_region: str
    best_category: str
    rows_read: int
    rows_rejected: int


class Outputs(TypedDict):
    report: str
    summary: Summary


def main(inputs: Inputs, context: Context) -> Outputs:
    """Write report.html into the output folder, and show the key figures as a preview."""
    directory = Path(inputs["output_dir"]).expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    sales = pd.read_csv(inputs["sales"])
    summary = summarise(sales, inputs["total"], inputs["quality"], inputs["currency"])
    report = directory / "report.html"
    report.write_text(render(inputs, sales, summary), encoding="utf-8")
    context.report_log(f"report: {report}")
    context.preview({"type": "markdown", "data": markdown(inputs["title"], summary)})
    return {"report": str(report), "summary": summary}


def summarise(
    sales: pd.DataFrame, total: dict[str, Any], quality: dict[str, int], currency: str
) -> Summary:
    """The key figures of the whole period."""
    revenue = float(sales["revenue"].sum())
    return {
        "first_month": sales["month"].min(),
        "last_month": sales["month"].max(),
        "currency": currency,
        "orders": total["orders"],
        "revenue": total["revenue"],
        "revenue_low": total["low"],
        "revenue_high": total["high"],
        "margin": round((revenue - float(sales["cost"].sum())) / revenue, 4) if revenue else None,
        "best_month": best(sales, "month"),
        "best_region": best(sales, "region"),
        "best_category": best(sales, "category"),
        "rows_read": quality["read"],
        "rows_rejected": quality["rejected"],
    }


def best(sales: pd.DataFrame, column: str) -> str:
    """The value of a column that earned the most."""
    return str(sales.groupby(column)["revenue"].sum().idxmax())


def render(inputs: Inputs, sales: pd.DataFrame, summary: Summary) -> str:
    """The whole page; the chart is embedded, so that the file can be sent around."""
    rejected = pd.read_csv(inputs["rejected"], dtype=str, keep_default_na=False)
    chart = base64.b64encode(Path(inputs["chart"]).read_bytes()).decode("ascii")
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(inputs["title"]),
        period=escape(f"{summary['first_month']} to {summary['last_month']}"),
        currency=escape(summary["currency"]),
        confidence=f"{inputs['total']['confidence']:.0%}",
        tiles=tiles(summary),
        chart=chart,
        revenue=html_table(revenue_table(inputs["estimates"])),
        categories=html_table(category_table(sales)),
        quality=html_table(quality_table(inputs["quality"])),
        rejected=html_table(rejected) if len(rejected) else "<p>No row was left out.</p>",
    )


def key_figures(summary: Summary) -> list[tuple[str, str, str]]:
    """Name, figure and remark of each key figure."""
    currency = summary["currency"]
    low, high = summary["revenue_low"], summary["revenue_high"]
    margin = summary["margin"]
    return [
        ("Revenue", f"{currency} {summary['revenue']:,.0f}", f"{low:,.0f} to {high:,.0f}"),
        ("Orders", f"{summary['orders']:,}", "after duplicates"),
        ("Margin", "n/a" if margin is None else f"{margin:.1%}", "after cost of goods"),
        ("Best month", summary["best_month"], "by revenue"),
        ("Best region", summary["best_region"], "by revenue"),
        ("Best category", summary["best_category"], "by revenue"),
    ]


def tiles(summary: Summary) -> str:
    return "\n".join(
        f"<li><span>{escape(name)}</span><b>{escape(figure)}</b><small>{escape(remark)}</small></li>"
        for name, figure, remark in key_figures(summary)
    )


def markdown(title: str, summary: Summary) -> str:
    """The key figures as a Markdown table."""
    rows = [f"| {name} | {figure} | {remark} |" for name, figure, remark in key_figures(summary)]
    return "\n".join([f"## {title}", "", "| | | |", "|---|---|---|", *rows])


def revenue_table(estimates: list[dict[str, Any]]) -> pd.DataFrame:
    """Months down, regions across, each with its interval, and the month's sum."""
    table = pd.DataFrame(estimates)
    table["text"] = [
        f"{row.revenue:,.0f} ({row.low:,.0f} to {row.high:,.0f})" for row in table.itertuples()
    ]
    months = table.pivot(index="month", columns="region", values="text").fillna("")
    sums = table.groupby("month")["revenue"].sum()
    months["All regions"] = [f"{revenue:,.0f}" for revenue in sums]
    return months.reset_index().rename(columns={"month": "Month"})


def category_table(sales: pd.DataFrame) -> pd.DataFrame:
    """Revenue, share, pieces and margin of each category, the largest first."""
    sums = sales.groupby("category")[["quantity", "revenue", "cost"]].sum()
    sums = sums.sort_values("revenue", ascending=False)
    share = sums["revenue"] / sums["revenue"].sum()
    margin = 1 - sums["cost"] / sums["revenue"]
    return pd.DataFrame(
        {
            "Category": sums.index,
            "Pieces": [f"{pieces:,}" for pieces in sums["quantity"]],
            "Revenue": [f"{revenue:,.0f}" for revenue in sums["revenue"]],
            "Share": [f"{value:.1%}" for value in share],
            "Margin": [f"{value:.1%}" for value in margin],
        }
    )


def quality_table(quality: dict[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Rows": [name.replace("_", " ") for name in quality],
            "Count": [f"{count:,}" for count in quality.values()],
        }
    )


def html_table(table: pd.DataFrame) -> str:
    """A plain HTML table; every cell is escaped."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in table.columns)
    rows = [
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in table.itertuples(index=False)
    ]
    body = "\n".join(rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
