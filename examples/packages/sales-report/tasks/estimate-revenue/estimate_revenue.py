"""Estimate how certain the revenue of each month and region is.

A month's revenue depends on who happened to come in. The Poisson bootstrap replays the month many
times: in each resample every order counts 0, 1, 2 or more times, once on average, so that both the
number of orders and their sizes vary. The middle of the resampled totals is the interval.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from oocana import Context

MINIMUM_RESAMPLES = 100
RESAMPLES_AT_ONCE = 1000

Values = NDArray[np.float64]


class Inputs(TypedDict):
    sales: str
    resamples: int
    seed: int
    confidence: float


class Estimate(TypedDict):
    """Revenue of one region in one month, with the ends of its interval."""

    month: str
    region: str
    orders: int
    revenue: float
    low: float
    high: float


class Total(TypedDict):
    """Revenue of the whole period, with the ends of its interval."""

    orders: int
    revenue: float
    low: float
    high: float
    confidence: float


class Outputs(TypedDict):
    estimates: list[Estimate]
    total: Total


def main(inputs: Inputs, context: Context) -> Outputs:
    """Bootstrap every month and region, and report each one's result when it is there."""
    resamples, confidence = inputs["resamples"], inputs["confidence"]
    check_settings(resamples, confidence)
    generator = np.random.default_rng(inputs["seed"])
    orders = order_revenues(pd.read_csv(inputs["sales"]))
    groups = orders.groupby(["month", "region"])["revenue"]
    context.report_log(f"{resamples:,} resamples of each of {len(groups)} months and regions")
    period = np.zeros(resamples)
    estimates: list[Estimate] = []
    for (month, region), revenues in groups:
        totals = resampled_totals(revenues.to_numpy(dtype=float), resamples, generator)
        period += totals
        estimates.append(estimate(month, region, revenues, interval(totals, confidence)))
        context.report_log(log_line(estimates[-1]))
        context.report_progress(100 * len(estimates) / len(groups))
    return {"estimates": estimates, "total": total(orders, period, confidence)}


def check_settings(resamples: int, confidence: float) -> None:
    if resamples < MINIMUM_RESAMPLES:
        raise ValueError(f"resamples must be at least {MINIMUM_RESAMPLES}, not {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")


def order_revenues(sales: pd.DataFrame) -> pd.DataFrame:
    """Revenue of each order, with month and region; a refund lowers its order's revenue.

    Orders are what is resampled, because the lines of one order come or stay away together.
    """
    groups = sales.groupby(["month", "region", "order_id"], as_index=False)
    return groups["revenue"].sum()


def resampled_totals(revenues: Values, resamples: int, generator: np.random.Generator) -> Values:
    """The sum of each resample; works in slices, so that memory stays small."""
    totals = np.empty(resamples)
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - start)
        counts = generator.poisson(1.0, size=(size, len(revenues)))
        totals[start : start + size] = counts @ revenues
    return totals


def interval(totals: Values, confidence: float) -> tuple[float, float]:
    """The ends of the middle share of the totals, in cents' precision."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(totals, [tail, 1 - tail])
    return round(float(low), 2), round(float(high), 2)


def estimate(month: str, region: str, revenues: pd.Series, ends: tuple[float, float]) -> Estimate:
    return {
        "month": month,
        "region": region,
        "orders": len(revenues),
        "revenue": round(float(revenues.sum()), 2),
        "low": ends[0],
        "high": ends[1],
    }


def total(orders: pd.DataFrame, totals: Values, confidence: float) -> Total:
    """The whole period; `totals` are the sums of all groups' resamples."""
    low, high = interval(totals, confidence)
    return {
        "orders": int(orders["order_id"].nunique()),
        "revenue": round(float(orders["revenue"].sum()), 2),
        "low": low,
        "high": high,
        "confidence": confidence,
    }


def log_line(estimate: Estimate) -> str:
    return (
        f"{estimate['month']} {estimate['region']}: {estimate['revenue']:,.0f}"
        f" ({estimate['low']:,.0f} to {estimate['high']:,.0f})"
    )
