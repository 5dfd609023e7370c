"""Simulated shoppers: locale, device, way of speaking, orders and returns, and the features these give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

LOCALES = ("en-US", "ja-JP", "bilingual")
DEVICES = ("web", "ios", "android")
COHORTS = ("new", "returning", "power")

DAY = 86_400.0
WINDOW_DAYS = 90
NEW_BELOW_DAYS = 30
POWER_FROM_ORDERS = 6

_LOCALE_SHARES = (0.50, 0.38, 0.12)
_DEVICE_SHARES = ((0.45, 0.33, 0.22), (0.22, 0.46, 0.32), (0.35, 0.40, 0.25))
_REGISTER_SHARES = ((0.15, 0.50, 0.35), (0.30, 0.45, 0.25), (0.20, 0.50, 0.30))
# Weight of each UTC hour; evenings are at 00-04 UTC in the Americas and at 10-15 UTC in Japan.
_WEST = (9, 9, 8, 7, 5, 4, 3, 2, 2, 2, 2, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6, 7, 8, 9)
_EAST = (4, 4, 4, 6, 5, 4, 4, 4, 5, 6, 8, 9, 10, 10, 9, 7, 4, 2, 1, 1, 1, 2, 3, 4)
_HOURS = np.array((_WEST, _EAST, np.add(_WEST, _EAST)), dtype=np.float64)
HOUR_SHARES: NDArray[np.float64] = _HOURS / _HOURS.sum(axis=1, keepdims=True)
"""(3, 24) share of a locale's conversations that start in each UTC hour."""

_MEAN_INGESTION_HOURS = 2.0
_LATE_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Shoppers:
    """A population, one row per shopper; times are seconds since the epoch.

    Attributes:
        user_ids: (n,) names.
        locale: (n,) index into :data:`LOCALES`; device: (n,) into :data:`DEVICES`.
        register: (n,) 0 formal, 1 polite, 2 casual.
        created: (n,) when the account was opened.
        activity: (n,) relative number of conversations.
        order_keys: (m,) sorted shopper * 1e11 + time of each order.
        return_keys: (r,) the same for each return.
    """

    user_ids: tuple[str, ...]
    locale: NDArray[np.int64]
    device: NDArray[np.int64]
    register: NDArray[np.int64]
    created: NDArray[np.float64]
    activity: NDArray[np.float64]
    order_keys: NDArray[np.float64]
    return_keys: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.user_ids)


def populate(generator: np.random.Generator, *, count: int, since: datetime, until: datetime) -> Shoppers:
    """``count`` shoppers with their orders between 90 days before ``since`` and ``until``.

    A tenth of the accounts open inside the period, so that there are always new shoppers.
    """
    start, end = since.timestamp(), until.timestamp()
    locale = generator.choice(len(LOCALES), size=count, p=_LOCALE_SHARES)
    device = _by_locale(generator, locale, _DEVICE_SHARES)
    register = _by_locale(generator, locale, _REGISTER_SHARES)
    age_days = generator.exponential(420.0, size=count)
    recent = generator.random(count) < 0.25
    opened = start + generator.random(count) * (end - start)
    created = np.where(recent, opened, start - age_days * DAY)
    rate = generator.gamma(0.7, 4.5, size=count)
    orders, returned = _orders(generator, created, rate, start - WINDOW_DAYS * DAY, end)
    return Shoppers(
        user_ids=tuple(f"u{number:06d}" for number in range(count)),
        locale=locale,
        device=device,
        register=register,
        created=created,
        activity=generator.gamma(1.5, 1.0, size=count) * (1.0 + 0.25 * rate),
        order_keys=orders,
        return_keys=returned,
    )


def _by_locale(
    generator: np.random.Generator, locale: NDArray[np.int64], shares: tuple[tuple[float, ...], ...]
) -> NDArray[np.int64]:
    cumulative = np.cumsum(np.array(shares), axis=1)[locale]
    chosen: NDArray[np.int64] = (generator.random((len(locale), 1)) >= cumulative[:, :-1]).sum(axis=1)
    return chosen


_STRIDE = 1e11  # further apart than any two instants, so that one sorted array holds everyone's


def _orders(
    generator: np.random.Generator,
    created: NDArray[np.float64],
    rate: NDArray[np.float64],
    start: float,
    end: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orders as Poisson arrivals at ``rate`` per 90 days since the account exists; 8% come back."""
    begins = np.maximum(created, start)
    counts = generator.poisson(rate * np.maximum(0.0, end - begins) / (WINDOW_DAYS * DAY))
    shopper = np.repeat(np.arange(len(created)), counts)
    at = begins[shopper] + generator.random(len(shopper)) * (end - begins[shopper])
    back = generator.random(len(shopper)) < 0.08
    returned = at[back] + generator.exponential(6 * DAY, size=int(back.sum()))
    return np.sort(shopper * _STRIDE + at), np.sort(shopper[back] * _STRIDE + returned)


def _count(
    keys: NDArray[np.float64], shopper: NDArray[np.int64], at: NDArray[np.float64]
) -> NDArray[np.int64]:
    upper = np.searchsorted(keys, shopper * _STRIDE + at, side="right")
    lower = np.searchsorted(keys, shopper * _STRIDE + at - WINDOW_DAYS * DAY, side="right")
    counted: NDArray[np.int64] = upper - lower
    return counted


def orders_90d(shoppers: Shoppers, shopper: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    """(k,) orders of each ``shopper`` (k,) in the 90 days up to ``at`` (k,), seconds since the epoch."""
    return _count(shoppers.order_keys, shopper, at)


def returns_90d(shoppers: Shoppers, shopper: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.int64]:
    """(k,) returns of each ``shopper`` (k,) in the 90 days up to ``at`` (k,), seconds since the epoch."""
    return _count(shoppers.return_keys, shopper, at)


def cohorts(shoppers: Shoppers, shopper: NDArray[np.int64], at: NDArray[np.float64]) -> list[str]:
    """Cohort of each ``shopper`` (k,) at ``at`` (k,): power by orders, else new by age, else returning."""
    power = orders_90d(shoppers, shopper, at) >= POWER_FROM_ORDERS
    new = at - shoppers.created[shopper] < NEW_BELOW_DAYS * DAY
    named: list[str] = np.select([power, new], ["power", "new"], "returning").tolist()
    return named


def feature_rows(
    shoppers: Shoppers,
    generator: np.random.Generator,
    *,
    since: datetime,
    until: datetime,
    every: timedelta = timedelta(days=1),
) -> pl.DataFrame:
    """What a nightly job would have written about every existing account, with the delay it had.

    Returns:
        user_id, event_ts and ingested_at (UTC, microseconds), orders_90d, account_age_days, returns_90d;
        one row per account and ``every`` from ``since`` on; ingestion takes about two hours, 2% of rows up
        to three days.
    """
    import polars as pl

    nights = np.arange(since.timestamp(), until.timestamp(), every.total_seconds())
    shopper = np.repeat(np.arange(len(shoppers)), len(nights))
    at = np.tile(nights, len(shoppers))
    exists = at >= shoppers.created[shopper]
    shopper, at = shopper[exists], at[exists]
    delay = generator.gamma(4.0, _MEAN_INGESTION_HOURS / 4.0, size=len(at)) * 3600.0
    late = generator.random(len(at)) < _LATE_SHARE
    delay = np.where(late, generator.uniform(1.0, 3.0, size=len(at)) * DAY, delay)
    frame = pl.DataFrame(
        {
            "user_id": np.array(shoppers.user_ids)[shopper],
            "event_ts": (at * 1e6).astype(np.int64),
            "ingested_at": ((at + delay) * 1e6).astype(np.int64),
            "orders_90d": orders_90d(shoppers, shopper, at),
            "account_age_days": ((at - shoppers.created[shopper]) / DAY).astype(np.int64),
            "returns_90d": returns_90d(shoppers, shopper, at),
        }
    )
    instants = pl.col("event_ts", "ingested_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return frame.with_columns(instants)
