"""An evaluation set of the last week: labelled rows nobody learnt from, in the traffic's mix (EVA-4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mangaassist.core.identity import digest_bytes

WINDOW = timedelta(days=7)
LARGEST = 2_000
LEAST = 30
"""Rows below which a stratum gives all it has and is called short, so that it does not shrink the whole."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """One part of the set.

    Attributes:
        traffic: its share of the week's requests; available, drawn: labelled rows.
        short: whether it has fewer rows than its share asks for.
    """

    name: str
    traffic: float
    available: int
    drawn: int
    short: bool

    def as_dict(self) -> dict[str, Any]:
        """The stratum as a JSON object."""
        return asdict(self)


def unseen(rows: pl.DataFrame, train: pl.DataFrame, *, now: datetime) -> pl.DataFrame:
    """The rows of the last week that came after everything ``train`` holds and share no conversation with it.

    Args:
        rows, train: columns group_id and captured_at.
    """
    since = now - WINDOW
    newest = train["captured_at"].max()
    fresh = rows.filter(pl.col("captured_at").is_between(since, now))
    if isinstance(newest, datetime):
        fresh = fresh.filter(pl.col("captured_at") > newest)
    return fresh.filter(~pl.col("group_id").is_in(train["group_id"].implode()))


def stratified(
    strata: Sequence[str], keys: Sequence[str], traffic: Mapping[str, int], *, week: str
) -> tuple[list[int], list[Stratum]]:
    """Rows drawn so that each stratum has its share of the traffic, and what was drawn from each.

    Rows are drawn by a hash of week and key: the same set all week, another one in the next, and a row that
    comes in later moves none of the others.

    Args:
        strata, keys: of each row, one each; keys are unique.
        traffic: requests by stratum; empty takes the rows' own mix.
        week: names the draw.
    """
    order = sorted(range(len(keys)), key=lambda row: digest_bytes(f"{week}/{keys[row]}".encode()))
    available = Counter(strata)
    mix = traffic or available
    shares = {name: mix.get(name, 0) / sum(mix.values()) for name in sorted({*available, *mix})}
    room = [available[name] / share for name, share in shares.items() if share and available[name] >= LEAST]
    whole = min([LARGEST, *room])
    wanted = {name: round(whole * share) for name, share in shares.items()}
    taken: Counter[str] = Counter()
    rows = []
    for row in order:
        if taken[strata[row]] < wanted[strata[row]]:
            taken[strata[row]] += 1
            rows.append(row)
    found = [
        Stratum(name, share, available[name], taken[name], taken[name] < wanted[name])
        for name, share in shares.items()
    ]
    return sorted(rows), found
