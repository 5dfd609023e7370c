"""The simulated click log: seeded, marked as simulated, and true to what it says about itself."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import orjson
import polars as pl

from mangaassist.labels.event_checks import judge
from mangaassist.labels.event_intake import LIMITS
from mangaassist.labels.exposures import shown_rows
from mangaassist.simulation.clicks import EXAMINATION, POSITIONS, SURFACE, simulate_clicks

UNTIL = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)


def test_a_seed_is_a_log_and_says_that_it_is_simulated() -> None:
    one, two = (simulate_clicks(np.random.default_rng(1), requests=50, until=UNTIL) for _ in range(2))
    assert one.events.equals(two.events)
    other = simulate_clicks(np.random.default_rng(2), requests=50, until=UNTIL)
    assert not set(one.events["event_id"]) & set(other.events["event_id"])
    assert one.events["event_id"].str.starts_with("sim-").all()
    assert set(one.events["surface"].drop_nulls()) == {SURFACE}


def test_every_event_is_acceptable_and_finds_its_list() -> None:
    log = simulate_clicks(np.random.default_rng(3), requests=2_000, until=UNTIL)
    found = judge(log.events, now=UNTIL, limits=LIMITS)
    assert found.refusals == ()
    assert found.duplicates == 0
    assert log.events["known_at"].max() <= UNTIL  # type: ignore[operator]
    typed = log.events.with_columns(
        pl.Series("items", [None if x is None else _json(x) for x in log.events["items"].to_list()]),
        pl.Series(
            "randomised", [None if x is None else _json(x) for x in log.events["randomised"].to_list()]
        ),
        pl.col("position").cast(pl.Int32),
    )
    shown = shown_rows(typed, as_of=UNTIL)
    # A click may have arrived a little before its late list; nothing else is left out.
    assert {name for name, n in shown.left_out.items() if n} <= {"no_list"}


def test_clicks_follow_the_examination_it_states() -> None:
    """On shuffled lists click rates are proportional to examination; four standard errors."""
    log = simulate_clicks(np.random.default_rng(4), requests=30_000, until=UNTIL, shuffled=1.0)
    lists = log.events.filter(pl.col("kind") == "impression")
    clicks = log.events.filter(pl.col("kind") == "click").join(
        lists.select("request_id", on="device"), on="request_id"
    )
    for device, truth in EXAMINATION.items():
        n = lists.filter(pl.col("device") == device).height
        counts = np.bincount(clicks.filter(pl.col("on") == device)["position"], minlength=POSITIONS + 1)[1:]
        ratio = counts / counts[0]
        error = ratio * np.sqrt(1 / counts + 1 / counts[0])
        assert n > 5_000
        assert (np.abs(ratio - truth)[1:] < 4 * error[1:]).all()


def _json(values: list[object]) -> str:
    return orjson.dumps(values).decode()
