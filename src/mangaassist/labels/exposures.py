"""From events to shown rows: every position of every list, with what was done there as far as was known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

SKEW = timedelta(minutes=5)
_REASONS = {
    "shown_twice": "{n} lists carry the request id of another list; the first one counts.",
    "no_list": "{n} acts belong to a request whose list is not known (yet).",
    "no_such_position": "{n} acts are at a position their list does not have.",
    "another_item": "{n} acts name another item than their list shows at that position.",
    "before_the_list": "{n} acts happened before their list was shown.",
}
"""Acts that fit no list. They stay in the table: a list that arrives later gives them their place."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown until some moment, and what could not be placed.

    Attributes:
        rows: one per request and position: request_id, surface, device, language, query, at, position, item,
            randomised (the shuffled positions it was among, JSON; null for none), clicked, dwell_ms (longest;
            null for none), cart, purchased, returned.
        left_out: reason -> how many.
        excluded: lists of excluded users.
    """

    rows: pl.DataFrame
    left_out: dict[str, int]
    excluded: int

    def sentences(self) -> list[str]:
        """One per reason something was left out for."""
        return [_REASONS[name].format(n=f"{count:,}") for name, count in self.left_out.items() if count]


def shown_rows(events: pl.DataFrame, *, as_of: datetime, excluded: Collection[str] = ()) -> Shown:
    """Every shown position with its acts, as known at ``as_of``; a key that occurs twice counts once.

    Args:
        events: the columns of EVENT_SCHEMA, in any order.
        excluded: user digests whose lists are left out with everything done on them.
    """
    known = (
        events.filter(pl.col("known_at") <= as_of)
        .sort("known_at", "event_id")
        .unique("event_id", keep="first")
    )
    impressions = known.filter(pl.col("kind") == "impression").sort("at", "event_id")
    lists = impressions.unique("request_id", keep="first", maintain_order=True)
    acts = known.filter(pl.col("kind") != "impression")
    withdrawn = lists.filter(pl.col("user").is_in(list(excluded)))
    places = _places(lists)
    placed, left_out = _place(acts, lists, places)
    left_out = {"shown_twice": impressions.height - lists.height, **left_out}
    done = placed.group_by("request_id", "position").agg(
        clicked=pl.lit(True),
        dwell_ms=pl.col("dwell_ms").max(),
        cart=(pl.col("kind") == "cart").any(),
        purchased=(pl.col("kind") == "purchase").any(),
        returned=(pl.col("kind") == "return").any(),
    )
    rows = (
        places.join(withdrawn, on="request_id", how="anti")
        .join(done, on=["request_id", "position"], how="left")
        .with_columns(pl.col("clicked", "cart", "purchased", "returned").fill_null(False))
        .sort("request_id", "position")
    )
    return Shown(rows, left_out, withdrawn.height)


def _places(lists: pl.DataFrame) -> pl.DataFrame:
    """One row per position of every list."""
    among = pl.col("shuffled").list.contains(pl.col("position"))
    return (
        lists.select(
            "request_id",
            "surface",
            "device",
            "language",
            "query",
            "at",
            "randomised",
            item=pl.col("items").str.json_decode(pl.List(pl.String())),
            shuffled=pl.col("randomised").str.json_decode(pl.List(pl.Int64())),
        )
        .with_columns(position=pl.int_ranges(1, pl.col("item").list.len() + 1, dtype=pl.Int32()))
        .explode("item", "position")
        .with_columns(randomised=pl.when(among).then("randomised"))
        .drop("shuffled")
    )


def _place(
    acts: pl.DataFrame, lists: pl.DataFrame, places: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The acts that fit their list, and how many of the others there are and why."""
    listed = acts.join(lists.select("request_id", shown_at="at"), on="request_id", how="left")
    matched = listed.join(
        places.select("request_id", "position", shown_item="item"), on=["request_id", "position"], how="left"
    )
    why = (
        pl.when(pl.col("shown_at").is_null())
        .then(pl.lit("no_list"))
        .when(pl.col("shown_item").is_null())
        .then(pl.lit("no_such_position"))
        .when(pl.col("shown_item") != pl.col("item"))
        .then(pl.lit("another_item"))
        .when(pl.col("at") < pl.col("shown_at") - SKEW)
        .then(pl.lit("before_the_list"))
    )
    judged = matched.with_columns(why=why)
    counts = dict(judged.drop_nulls("why").group_by("why").len().rows())
    names = [name for name in _REASONS if name != "shown_twice"]
    return judged.filter(pl.col("why").is_null()), {name: counts.get(name, 0) for name in names}
