"""Draw monthly revenue with its intervals, one panel for each region."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from oocana import Context

COLOURS = ["#6a9c9f", "#cc8f5f", "#8290bd", "#ad7d98", "#98a368", "#a89a8a"]
INK = "#26323a"
PANELS_IN_A_ROW = 2
LABELS_ON_AN_AXIS = 12


class Inputs(TypedDict):
    estimates: list[dict[str, object]]
    confidence: float
    title: str
    currency: str
    output_dir: str


class Outputs(TypedDict):
    chart: str


def main(inputs: Inputs, context: Context) -> Outputs:
    """Draw the chart into the output folder, and show it as a preview."""
    directory = Path(inputs["output_dir"]).expanduser().resolve()
    directory.mkdir(parents=True, exist_ok=True)
    chart = directory / "revenue.png"
    figure = draw(
        pd.DataFrame(inputs["estimates"]),
        title=inputs["title"],
        currency=inputs["currency"],
        confidence=inputs["confidence"],
    )
    figure.savefig(chart, dpi=150)
    context.report_log(f"chart: {chart}")
    context.preview({"type": "image", "data": str(chart)})
    return {"chart": str(chart)}


def draw(estimates: pd.DataFrame, *, title: str, currency: str, confidence: float) -> Figure:
    """The figure; panels share their axes, so that regions can be compared.

    A Figure of its own instead of pyplot: blocks of one process run in threads.
    """
    regions = sorted(estimates["region"].unique())
    months = sorted(estimates["month"].unique())
    rows = math.ceil(len(regions) / PANELS_IN_A_ROW)
    figure = Figure(
        figsize=(11, 1.4 + 2.9 * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    )
    grid = figure.subplots(
        rows, min(PANELS_IN_A_ROW, len(regions)), sharex=True, sharey=True, squeeze=False
    )
    panels = list(grid.flat)
    for number, (panel, region) in enumerate(zip(panels, regions, strict=False)):
        rows_of_region = estimates[estimates["region"] == region].set_index("month")
        draw_region(panel, rows_of_region, months, COLOURS[number % len(COLOURS)])
        panel.set_title(region, loc="left", color=INK, fontweight="bold")
    for panel in panels[len(regions) :]:
        panel.remove()
    figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold", color=INK)
    figure.supylabel(f"Revenue, {currency}", fontsize=10, color=INK)
    figure.supxlabel(
        f"Bars: revenue. Lines: {confidence:.0%} confidence interval (Poisson bootstrap).",
        fontsize=9,
        color=INK,
    )
    return figure


def draw_region(panel: Axes, estimates: pd.DataFrame, months: list[str], colour: str) -> None:
    """Bars at the months that the region has, with the ends of their intervals."""
    positions = [months.index(month) for month in estimates.index]
    below = (estimates["revenue"] - estimates["low"]).clip(lower=0)
    above = (estimates["high"] - estimates["revenue"]).clip(lower=0)
    panel.bar(positions, estimates["revenue"], width=0.72, color=colour)
    panel.errorbar(
        positions,
        estimates["revenue"],
        yerr=[below, above],
        fmt="none",
        ecolor=INK,
        elinewidth=1.2,
        capsize=3,
    )
    label_months(panel, months)
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.grid(axis="y", color="#d9dee1", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=INK, labelsize=9, length=0, labelbottom=True, labelleft=True)
    panel.spines[["top", "right", "left"]].set_visible(False)


def label_months(panel: Axes, months: list[str]) -> None:
    """Name at most a dozen months; the first one and each January carry their year."""
    step = math.ceil(len(months) / LABELS_ON_AN_AXIS)
    positions = list(range(0, len(months), step))
    panel.set_xticks(positions, [month_label(months[p], first=p == 0) for p in positions])


def month_label(month: str, *, first: bool) -> str:
    date = datetime.strptime(month, "%Y-%m")
    # The empty second line keeps all names on one height.
    return date.strftime("%b\n%Y" if first or date.month == 1 else "%b\n")
