"""Who wrote and when: cohorts from features as they stood at the time, and whether the shop was busy."""

from __future__ import annotations

import polars as pl

NEW_BELOW_DAYS = 30
POWER_FROM_ORDERS = 6
PEAK_HOURS = (*range(22, 24), *range(4), *range(10, 16))
"""UTC hours: the evenings of the Americas and those of Japan."""


def cohort() -> pl.Expr:
    """``power`` from six orders in 90 days, else ``new`` below 30 days of account age, else ``returning``.

    ``unknown`` where neither feature has a value: a slice of its own is honest, a guess is not.
    """
    orders, age = pl.col("orders_90d"), pl.col("account_age_days")
    return (
        pl.when(orders.is_null() & age.is_null())
        .then(pl.lit("unknown"))
        .when(orders >= POWER_FROM_ORDERS)
        .then(pl.lit("power"))
        .when(age < NEW_BELOW_DAYS)
        .then(pl.lit("new"))
        .otherwise(pl.lit("returning"))
        .alias("cohort")
    )


def time_of_day() -> pl.Expr:
    """``peak`` or ``off_peak`` by the UTC hour in which the shopper wrote."""
    peak = pl.col("captured_at").dt.hour().is_in(PEAK_HOURS)
    return pl.when(peak).then(pl.lit("peak")).otherwise(pl.lit("off_peak")).alias("time_of_day")
