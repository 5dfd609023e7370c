"""Replay of a version on the logged requests it answered unseen or in its canary (EVA-1, mode 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest_bytes
from mangaassist.core.verdict import Status, Verdict
from mangaassist.evaluation.replay import Replay, replay_canary, replay_shadow
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import drain, read_outcomes, read_predictions
from mangaassist.promotion.requirements import subject
from mangaassist.promotion.versions import ADVANCED, REENABLED
from mangaassist.stats.intervals import bootstrap

SESSIONS = 10_000
_BANDS = (0.5, 0.8, 0.95)
"""Confidence below, between and above which answers are kinds of their own."""


def replay(platform: Platform, name: str, version: int | None, *, seed: int) -> dict[str, Any]:
    """Quality, latency and cost had ``version`` served: from its shadow, and from its canary if it had one.

    Args:
        version: None for the challenger, else the newest version that was ever in shadow.

    Raises:
        InputError: the version has answered nothing beside another one.
    """
    drain(platform, name)
    story, rows = platform.story(name), read_predictions(platform, name)
    number = version if version is not None else _newest(platform, name, rows)
    platform.registry.get(name, number)
    outcomes = (
        read_outcomes(platform, name).unique("request_id", keep="last").select("request_id", "resolved")
    )
    margin, generator = story.rollout.margin, np.random.default_rng(seed)
    shadow, canary = _shadow_rows(rows, number, seed), _canary_rows(platform, name, rows, number, seed)
    # In their drawn order: by it the estimators split the rows in two halves.
    known = shadow.join(outcomes, on="request_id", maintain_order="left")
    drawn = canary.join(outcomes, on="request_id", maintain_order="left")
    found: list[Replay] = []
    if known.height > 1:
        kind = _kinds(known, ("language", "label_new", "abstains_new", "band"))
        agreed = known["agreed"].to_numpy()
        resolved = known["resolved"].to_numpy()
        found.append(replay_shadow(kind, agreed, resolved, margin=margin, generator=generator))
    if drawn.height > 1:
        found.append(
            replay_canary(
                drawn["share"].to_numpy(),
                drawn["drawn"].to_numpy(),
                _kinds(drawn, ("language", "cohort", "device")),
                drawn["resolved"].to_numpy(),
                margin=margin,
                generator=generator,
            )
        )
    if not found:
        raise _nothing(name, number)
    latency = _latency(shadow, story.rollout.latency_ratio, generator)
    return {
        "story": name,
        "version": number,
        "quality": [one.as_dict() for one in found],
        "latency": latency,
        "cost": _cost(platform, name, number, rows),
        "verdicts": [*(one.verdict.as_dict() for one in found), *([latency["verdict"]] if latency else [])],
    }


def _newest(platform: Platform, name: str, rows: pl.DataFrame) -> int:
    challenger = platform.registry.deployment(name).challenger
    seen = rows.filter(pl.col("arm") == "shadow")["version"].max()
    number = challenger if challenger is not None else seen
    if not isinstance(number, int):
        raise _nothing(name, None)
    return number


def _nothing(name: str, number: int | None) -> InputError:
    return InputError(
        f"replay of '{name}'",
        expected="a version that has answered requests in shadow or canary, with outcomes known",
        got="none" if number is None else f"version {number}, which has not",
        next_step="The log keeps no texts, so only requests a version has answered itself can be replayed.",
    )


def _shadow_rows(rows: pl.DataFrame, number: int, seed: int) -> pl.DataFrame:
    """Requests the version answered beside another one: request_id, both answers, latencies."""
    copies = rows.filter((pl.col("arm") == "shadow") & (pl.col("version") == number)).select(
        request_id="shadow_of",
        label_new="label",
        abstains_new="abstains",
        confidence_new="confidence",
        latency_new="latency_ms",
        error_new="error",
    )
    own = rows.filter((pl.col("arm") != "shadow") & pl.col("version").is_not_null())
    both = own.join(copies, on="request_id")
    band = sum((pl.col("confidence_new").fill_null(0.0) >= one).cast(pl.Int8) for one in _BANDS)
    spoke = ~pl.col("abstains") & ~pl.col("abstains_new")
    same = (pl.col("label") == pl.col("label_new")).fill_null(value=False)
    # Two that abstain send the shopper the same way, whatever label each held back.
    agreed = ((spoke & same) | (pl.col("abstains") & pl.col("abstains_new"))) & pl.col("error_new").is_null()
    return _sessions(both.with_columns(agreed=agreed, band=band), seed)


def _canary_rows(platform: Platform, name: str, rows: pl.DataFrame, number: int, seed: int) -> pl.DataFrame:
    """Every request of the version's canary stages: who was drawn for it, and with what chance."""
    entries = platform.ledger.entries(subject=subject(name))
    shares = {
        entry.sequence: entry.body["share"]
        for entry in entries
        if entry.kind in (ADVANCED, REENABLED) and entry.body["version"] == number
    }
    stages = pl.DataFrame(
        {"epoch": list(shares), "share": list(shares.values())},
        schema={"epoch": pl.Int64, "share": pl.Float64},
    )
    own = rows.filter((pl.col("arm") != "shadow") & pl.col("version").is_not_null())
    # A first version's canary has nobody beside it: the others get no answer and no row of a version.
    compared = own.filter(pl.col("arm") != "canary").select("epoch").unique()
    drawn = own.join(compared, on="epoch", how="semi").with_columns(drawn=pl.col("arm") == "canary")
    return _sessions(drawn.join(stages, on="epoch"), seed)


def _sessions(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One request for each user (an anonymous one is its own), drawn by a hash, at most ``SESSIONS``."""
    order = [digest_bytes(f"{seed}/{one}".encode()) for one in rows["request_id"]]
    user = pl.coalesce("user", "request_id")
    drawn = rows.with_columns(order=pl.Series(order, dtype=pl.String)).sort("order")
    return drawn.unique(user, keep="first", maintain_order=True).head(SESSIONS)


def _kinds(rows: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """One code for each combination of values, shape (n,)."""
    joined = rows.select(
        pl.concat_str([pl.col(one).cast(pl.String).fill_null("") for one in columns], separator="\x1f")
    )
    return joined.to_series().rank("dense").to_numpy().astype(np.int64) - 1


def _latency(rows: pl.DataFrame, limit: float, generator: np.random.Generator) -> dict[str, Any] | None:
    """The p99 of the version over that of the version beside it, on the same requests."""
    if rows.height < 100:
        return None
    pairs = rows.select("latency_ms", "latency_new").to_numpy()

    def ratio(some: NDArray[np.intp]) -> float:
        before, after = np.quantile(pairs[some], 0.99, axis=0)
        return float(after / before)

    found = bootstrap(ratio, rows.height, generator=generator, replicates=400)
    status = Status.FAIL if found.low > limit else Status.PASS if found.high <= limit else Status.INSUFFICIENT
    sentence = (
        f"Its p99 on {rows.height:,} requests would have been {found.value:.2f} times what was served "
        f"({found.low:.2f} to {found.high:.2f}); {limit:g} is allowed."
    )
    verdict = Verdict(
        "replay.latency",
        status,
        sentence,
        found.value,
        found.low,
        found.high,
        limit,
        rows.height,
        blocking=False,
    )
    served, new = (np.quantile(pairs[:, at], (0.5, 0.95, 0.99)).tolist() for at in (0, 1))
    names = ("p50_ms", "p95_ms", "p99_ms")
    return {
        "n": rows.height,
        "served": dict(zip(names, served, strict=True)),
        "candidate": dict(zip(names, new, strict=True)),
        "verdict": verdict.as_dict(),
    }


def _cost(platform: Platform, name: str, number: int, rows: pl.DataFrame) -> dict[str, Any]:
    """Of a thousand predictions, as each version's own gate measured it (GOV-6); None where it did not."""
    beside = rows.filter((pl.col("arm") != "shadow") & (pl.col("version") != number))["version"].drop_nulls()
    served = int(beside[-1]) if len(beside) else None
    return {
        "per_thousand": _per_thousand(platform, name, number),
        "served_by": served,
        "served_per_thousand": _per_thousand(platform, name, served) if served else None,
    }


def _per_thousand(platform: Platform, name: str, number: int) -> float | None:
    gate = platform.registry.get(name, number).gate
    return next((one.value for one in gate.verdicts if one.name == "cost.per_thousand"), None)
