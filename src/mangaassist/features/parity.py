"""Training-serving skew (FEA-6): what serving gave, read again offline at the same moment, cell by cell.

Both reads are exact, so one differing cell is proof and no rate excuses it. The exception is a value that
serving could not have yet, because its row came after the last materialisation, or a fallback: such cells are
counted, and judged by their rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.online import Manifest
from mangaassist.features.pinning import differences
from mangaassist.features.point_in_time import INSTANT, Reason, reason_column
from mangaassist.features.store import FeatureStore
from mangaassist.stats.intervals import Estimate, clopper_pearson

BEHIND = 0.01
"""Share of reads that may be behind the tables, because a row arrived between two materialisations."""
LATE = 0.95
"""Share of rows that must arrive within the declared serving lag."""
MINIMUM = 30
_SHOWN = 5

READ_SCHEMA = pl.Schema(
    {
        "request_id": pl.String(),
        "at": INSTANT,
        "entity": pl.String(),
        "key": pl.String(),
        "feature": pl.String(),
        "value": pl.String(),
        "reason": pl.String(),
        "event_ts": INSTANT,
        "ingested_at": INSTANT,
        "generation": pl.String(),
    }
)
"""One row per served cell: ``value`` is JSON, the times are of the row behind it."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What one feature's served values were against what training would have read.

    Attributes:
        mismatches: share of reads with another value, with its interval; None without reads.
        behind: how many of those are explained by a row that was not materialised yet, or by a fallback.
        causes: what explains the rest, one sentence each; empty when nothing differs.
        examples: differing cells: key, at, served, offline and their reasons.
        lags: seconds from event to arrival of the rows served: p50, p95, max; None where none was.
        verdicts: ``features.parity.<name>`` and ``features.lag.<name>``.
    """

    feature: str
    mismatches: Estimate | None
    behind: int
    causes: tuple[str, ...]
    examples: tuple[Mapping[str, Any], ...]
    lags: Mapping[str, float] | None
    verdicts: tuple[Verdict, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report on one feature as a JSON object."""
        return {
            "feature": self.feature,
            "mismatches": self.mismatches.as_dict() if self.mismatches else None,
            "behind": self.behind,
            "causes": list(self.causes),
            "examples": [dict(one) for one in self.examples],
            "lag_seconds": dict(self.lags) if self.lags else None,
            "verdicts": [one.as_dict() for one in self.verdicts],
        }


def parity(
    features: FeatureStore,
    catalog: Catalog,
    reads: pl.DataFrame,
    manifests: Mapping[str, Manifest],
) -> list[Parity]:
    """One report per feature of ``catalog``.

    Args:
        catalog: what training reads by.
        reads: served cells, as :data:`READ_SCHEMA`.
        manifests: generation to manifest, for telling a wrong value from one that could not be there yet.
    """
    again = _Again(features, catalog, manifests)
    return [
        _report(again, feature, reads.filter(pl.col("feature") == name))
        for name, feature in catalog.features.items()
    ]


@dataclass(frozen=True, slots=True)
class _Again:
    """Offline reads of served cells."""

    features: FeatureStore
    catalog: Catalog
    manifests: Mapping[str, Manifest]

    def read(
        self,
        reads: pl.DataFrame,
        feature: Feature,
        *,
        snapshots: Mapping[str, int | None] | None = None,
    ) -> pl.DataFrame:
        """``reads`` with "offline" (JSON) and "offline_reason" of ``feature``, as it is described here."""
        catalog = replace(self.catalog, features={**self.catalog.features, feature.name: feature})
        asked = reads.select(pl.col("key").alias(feature.entity), "at")
        found = self.features.read(catalog, asked, [feature.name], as_of="at", snapshots=snapshots)
        return reads.with_columns(
            _as_json(found[feature.name]).alias("offline"),
            found[reason_column(feature.name)].alias("offline_reason"),
        )


def as_json(value: Any) -> str:
    """A value as the log of reads keeps it."""
    return orjson.dumps(value).decode()


def _as_json(values: pl.Series) -> pl.Series:
    return pl.Series([as_json(value) for value in values], dtype=pl.String)


def _report(again: _Again, feature: Feature, reads: pl.DataFrame) -> Parity:
    if reads.is_empty():
        sentence = f"{feature.name} has not been served yet."
        nothing = Verdict(f"features.parity.{feature.name}", Status.INSUFFICIENT, sentence, blocking=False)
        return Parity(feature.name, None, 0, (), (), None, (nothing,))
    wrong = again.read(reads, feature).filter(pl.col("value") != pl.col("offline"))
    late = _behind(again, feature, wrong)
    unexplained = wrong.filter(~late)
    causes = tuple(_causes(again, feature, unexplained)) if unexplained.height else ()
    rate = clopper_pearson(wrong.height, reads.height)
    lags = _lags(reads)
    return Parity(
        feature.name,
        rate,
        int(late.sum()),
        causes,
        tuple(_examples(unexplained if unexplained.height else wrong)),
        lags,
        (
            _parity_verdict(feature, reads.height, rate, late, causes=causes, manifests=again.manifests),
            _lag_verdict(feature, reads, lags),
        ),
    )


def _behind(again: _Again, feature: Feature, wrong: pl.DataFrame) -> pl.Series:
    """Which of ``wrong`` serving could not know better: the tables of its generation say what it said."""
    explained = pl.Series("behind", [False] * wrong.height, dtype=pl.Boolean)
    if wrong.is_empty():
        return explained
    parts = []
    numbered = wrong.with_row_index("row")
    for (generation,), group in numbered.group_by("generation"):
        manifest = again.manifests.get(str(generation))
        if manifest is None or manifest.catalog["features"].get(feature.name) is None:
            continue
        if Feature.from_dict(feature.name, manifest.catalog["features"][feature.name]) != feature:
            continue
        then = again.read(group, feature, snapshots=manifest.snapshots)
        parts.append(then.filter(pl.col("value") == pl.col("offline"))["row"])
    rows = pl.concat(parts) if parts else pl.Series("row", [], dtype=pl.UInt32)
    fell_back = (numbered["reason"] == Reason.FALLBACK.value) | numbered["generation"].is_null()
    return numbered["row"].is_in(rows.implode()) | fell_back


def _causes(again: _Again, feature: Feature, wrong: pl.DataFrame) -> Iterator[str]:
    """What explains ``wrong``, the surest explanation first; always something."""
    served_by = {
        manifest.fingerprint: Catalog.from_dict(manifest.catalog, source=manifest.name)
        for generation in wrong["generation"].drop_nulls().unique()
        if (manifest := again.manifests.get(str(generation))) is not None
    }
    said = [
        change
        for one in served_by.values()
        for change in differences(again.catalog, one)
        if change.startswith((f"{feature.name}.", f"{feature.name} "))
    ]
    yield from (f"The schemas differ: {change}." for change in dict.fromkeys(said))
    if said:
        return
    for explain in (_default, _unit, _lag_of(again)):
        found = explain(feature, wrong)
        if found:
            yield found
            return
    yield f"No known cause explains {wrong.height} differing values of {feature.name}; see the examples."


def _default(feature: Feature, wrong: pl.DataFrame) -> str:
    """Another default than the catalog's."""
    constants = wrong.filter(pl.col("reason").is_in(["default", "missing", "stale"]))["value"].unique()
    own = as_json(feature.default)
    if (
        len(constants) != 1
        or constants[0] == own
        or not _all(wrong, "reason", ("default", "missing", "stale"))
    ):
        return ""
    return f"{feature.name} serves the default {constants[0]} where the catalog says {own}."


def _unit(feature: Feature, wrong: pl.DataFrame) -> str:
    """The same number in another unit: one factor relates all differing pairs."""
    if feature.dtype not in ("int", "float"):
        return ""
    pairs = wrong.select(pl.col("value", "offline").cast(pl.Float64, strict=False)).drop_nulls()
    served, offline = pairs["value"].to_numpy(), pairs["offline"].to_numpy()
    usable = (served != 0) & (offline != 0)
    if usable.sum() < wrong.height or len(np.unique(offline[usable])) < 3:
        return ""
    factors = served / offline
    factor = float(np.median(factors))
    # Whole numbers are rounded after the change of unit.
    slack = 0.5 if feature.dtype == "int" else 1e-9 * np.abs(served)
    if not np.all(np.abs(served - factor * offline) <= np.maximum(slack, 1e-9 * np.abs(served))):
        return ""
    return f"{feature.name} is served {factor:.6g} times as large as it is stored: another unit."


def _lag_of(again: _Again) -> Callable[[Feature, pl.DataFrame], str]:
    """Whether another serving lag explains what was served."""

    def explain(feature: Feature, wrong: pl.DataFrame) -> str:
        known = {one.serving_lag for one in again.catalog.features.values()} | {timedelta(0), *_LAGS}
        for lag in sorted(known - {feature.serving_lag}):
            then = again.read(wrong, replace(feature, serving_lag=lag))
            if _all(then.with_columns(same=pl.col("value") == pl.col("offline")), "same", (True,)):
                own = feature.serving_lag
                return f"{feature.name} is served as if its lag were {lag}; the catalog says {own}."
        return ""

    return explain


_LAGS = tuple(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12, 24))


def _all(rows: pl.DataFrame, column: str, allowed: Sequence[Any]) -> bool:
    return rows.height > 0 and bool(rows[column].is_in(list(allowed)).all())


def _examples(wrong: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in wrong.head(_SHOWN).iter_rows(named=True):
        yield {
            "key": row["key"],
            "at": isoformat(row["at"]),
            "served": orjson.loads(row["value"]),
            "offline": orjson.loads(row["offline"]),
            "served_reason": row["reason"],
            "offline_reason": row["offline_reason"],
            "event_ts": isoformat(row["event_ts"]) if row["event_ts"] else None,
        }


def _lags(reads: pl.DataFrame) -> dict[str, float] | None:
    """Seconds from event to arrival over the distinct rows that were served."""
    rows = reads.drop_nulls("event_ts").unique(["key", "event_ts", "ingested_at"])
    if rows.is_empty():
        return None
    seconds = (rows["ingested_at"] - rows["event_ts"]).dt.total_microseconds().to_numpy() / 1e6
    return {
        "p50": float(np.quantile(seconds, 0.5)),
        "p95": float(np.quantile(seconds, LATE)),
        "max": float(seconds.max()),
    }


def _parity_verdict(
    feature: Feature,
    n: int,
    rate: Estimate,
    late: pl.Series,
    *,
    causes: Sequence[str],
    manifests: Mapping[str, Manifest],
) -> Verdict:
    count = int(late.sum())
    behind = clopper_pearson(count, n)
    if causes:
        status = Status.FAIL
        sentence = f"{len(late) - count} of {n} served values of {feature.name} are not what training reads. "
        sentence += " ".join(causes)
    elif behind.low > BEHIND:
        status = Status.FAIL
        newest = max((one.watermark for one in manifests.values()), default=None)
        since = f", last materialised at {isoformat(newest)}" if newest else ""
        sentence = f"{count} of {n} served values of {feature.name} were behind the tables{since}."
    elif n < MINIMUM or behind.high > BEHIND:
        status = Status.INSUFFICIENT
        sentence = f"{feature.name}: {count} of {n} served values were behind; too few reads to settle it."
    else:
        status = Status.PASS
        sentence = f"{feature.name}: {n} served values are what training reads" + (
            f", but for {count} that were behind." if count else "."
        )
    return Verdict(
        f"features.parity.{feature.name}",
        status,
        sentence,
        value=rate.value,
        low=rate.low,
        high=rate.high,
        threshold=BEHIND,
        n=n,
        blocking=status is not Status.INSUFFICIENT,
    )


def _lag_verdict(feature: Feature, reads: pl.DataFrame, lags: Mapping[str, float] | None) -> Verdict:
    """Whether rows arrive within the declared lag; what arrives later is still read right, but later.

    An online feature declares none and promises its freshness instead.
    """
    declared = (feature.serving_lag or feature.freshness_sla).total_seconds()
    rows = reads.drop_nulls("event_ts").unique(["key", "event_ts", "ingested_at"]).height
    name = f"features.lag.{feature.name}"
    if lags is None or rows < MINIMUM:
        sentence = f"{feature.name}: {rows} rows served, {MINIMUM} needed to tell how late they come."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=declared, n=rows, blocking=False)
    kept = lags["p95"] <= declared
    told = f"95% of the rows of {feature.name} arrive within {_hours(lags['p95'])} of their event"
    advice = "" if kept else " Declare at least that."
    return Verdict(
        name,
        Status.PASS if kept else Status.FAIL,
        f"{told}; declared: {_hours(declared)}.{advice}",
        value=lags["p95"],
        threshold=declared,
        n=rows,
        blocking=False,
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 360 else f"{seconds:.1f} s"
