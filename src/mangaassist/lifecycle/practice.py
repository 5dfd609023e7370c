"""SIMULATED files to try the gates of labels and features on: good ones, and some to be refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.language import Language
from mangaassist.simulation.samples import Sample
from mangaassist.simulation.world import Size, World, build_world

SIZE = Size(labelled=700, golden=1, requests_per_day=1, shoppers=250, history_days=14, future_days=7)
LOTS, QUARREL, FEATURES, LEAK = "lots.csv", "quarrel.csv", "features.parquet", "leak.parquet"
_OWN = ("shipping_info", "payment_issue", "account_help", "series_info")
"""What the annotators of a quarrel say, each one of these, whatever they read."""


def write_practice(folder: Path, *, seed: int, now: datetime) -> dict[str, Any]:
    """Two weeks of the intent story's shop that ended a week before ``now``, as four files.

    Returns:
        lots.csv: one vendor lot per language pool. quarrel.csv: the same, but annotators of Japanese texts
        agree on nothing. features.parquet: nightly rows of view "shopper". leak.parquet: rows in which
        orders_90d is written at the moment of the label, by the label.

    Raises:
        InputError: for a folder that holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "FOLDER", expected="a new or empty folder", got=str(folder), next_step="Choose another name."
        )
    world = build_world(seed, now - timedelta(days=7), SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    lots, features = _lots(world, now), world.feature_rows(world.history_start, world.start)
    lots.write_csv(folder / LOTS)
    _quarrel(lots).write_csv(folder / QUARREL)
    features.write_parquet(folder / FEATURES)
    _leak(world, features).write_parquet(folder / LEAK)
    return {
        "folder": str(folder),
        "simulated": True,
        "votes": lots.height,
        "texts": lots["text"].n_unique(),
        "feature_rows": features.height,
        "files": [LOTS, QUARREL, FEATURES, LEAK],
    }


def _lots(world: World, now: datetime) -> pl.DataFrame:
    known = {one.example_id: one for one in world.history()}
    votes = world.vendor_labels(list(known.values()), known_by=now)
    return pl.DataFrame(
        [
            {
                "text": known[vote.example_id].example.text,
                "label": vote.label,
                "conversation": known[vote.example_id].example.group_id,
                "at": isoformat(vote.captured_at),
                "user_id": _user(known[vote.example_id]),
                "annotator": vote.annotator_id,
                "labeled": isoformat(vote.labeled_at),
                "senior": vote.escalation,
                "lot": "en-1" if known[vote.example_id].language is Language.EN else "ja-1",
            }
            for vote in votes
        ]
    )


def _quarrel(lots: pl.DataFrame) -> pl.DataFrame:
    people = lots.filter(pl.col("lot") == "ja-1")["annotator"].unique().sort().to_list()
    says = {who: _OWN[place % len(_OWN)] for place, who in enumerate(people)}
    own = pl.col("annotator").replace_strict(says, default=None, return_dtype=pl.String())
    return lots.with_columns(label=pl.when(pl.col("lot") == "ja-1").then(own).otherwise("label"))


def _leak(world: World, features: pl.DataFrame) -> pl.DataFrame:
    classes = sorted({one.intent for one in world.history()})
    rows = [
        {
            "user_id": _user(one),
            "event_ts": one.captured_at,
            "ingested_at": one.captured_at,
            "account_age_days": 100,
            "orders_90d": 100 + classes.index(one.intent),
            "returns_90d": 0,
        }
        for one in world.history()
    ]
    return pl.DataFrame(rows).select(features.columns).cast(features.schema)


def _user(sample: Sample) -> str:
    return str(sample.example.attributes["user_id"])
