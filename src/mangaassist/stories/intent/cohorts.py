"""Shopper cohorts, derived from features as they stood when the shopper wrote."""

from __future__ import annotations

import polars as pl

NEW_BELOW_DAYS = 30
POWER_FROM_ORDERS = 6


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
