"""Does a feature learn the label at the moment the label happens? (FEA-3)

A feature may predict the label. It may not change, between the moment before the label and the value that
would have been logged, in a way that depends on which label it was: then something downstream of the label
writes it. Entities are compared with others of the same value before, because a value that predicts the label
and is then reset, or drawn anew, also changes differently for different labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from mangaassist.core.identity import digest_bytes
from mangaassist.core.verdict import Status, Verdict
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.store import FeatureStore
from mangaassist.stats.multiple import holm

ALPHA = 0.001
"""Family-wise: one false alarm in a thousand runs, because an alarm stops a retrain."""
SHARE = 0.01
MINIMUM_SAMPLE = 500
MINIMUM_ROWS = 30

_TICK = timedelta(microseconds=1)
_AGELESS = timedelta(days=365_000)
_COMMON_VALUES = 20
_CELLS = 4_000_000
_STRATUM = 20

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One feature: rows looked at, distinct labels, share of values that changed, raw p-value."""

    feature: Feature
    rows: int
    labels: int
    changed: float
    p: float


def leak_verdicts(
    store: FeatureStore,
    catalog: Catalog,
    examples: pl.DataFrame,
    names: Sequence[str],
    *,
    generator: np.random.Generator,
    label: str = "label",
    captured_at: str = "captured_at",
    snapshots: Mapping[str, int | None] | None = None,
    alpha: float = ALPHA,
    minimum: int = MINIMUM_SAMPLE,
) -> list[Verdict]:
    """One verdict "features.leak.<name>" per feature.

    A sample of entities (1%, at least ``minimum``; one example each, so that rows are independent) is read
    one microsecond, the tables' resolution, before the label and once more a serving lag after it. Whether
    the change depends on the label is a permutation test: Kruskal-Wallis on the difference of numbers,
    chi-square on the new value of text, labels shuffled among entities with the same value before (numbers:
    the nearest 20). Where the value before leaves nothing to shuffle, because it tells the label, labels are
    shuffled among all. Holm's correction holds false alarms over all features together.

    Values are read without their time to live: an old value that is refreshed is no change from the default.
    What a batch feature takes in during its lag before the label counts as change too, so a feature that
    reacts within that hour to what led to the label is flagged. It could not have been served either.

    Args:
        examples: entity columns (text), the label, and the moment of capture.
        snapshots: what the features are trained at; None for the newest.

    Returns:
        Verdicts in the order of ``names``. ``value`` is the adjusted p-value: fail at ``alpha`` or below;
        insufficient, without blocking, with fewer than 30 entities or one label only.

    Raises:
        InputError: for unknown features, absent columns or times without a zone.
    """
    features = catalog.chosen(names)
    if not features:
        return []
    ageless = replace(
        catalog, features={one.name: replace(one, ttl=_AGELESS) for one in catalog.features.values()}
    )
    permutations = math.ceil(2 * len(features) / alpha)
    found: dict[str, _Finding] = {}
    for entity in sorted({feature.entity for feature in features}):
        sample = sample_of(examples, entity, generator, minimum=minimum)
        for lag in sorted({feature.serving_lag for feature in features}):
            group = [one for one in features if (one.entity, one.serving_lag) == (entity, lag)]
            if group:
                window = _window(store, ageless, sample, group, captured_at, snapshots=snapshots)
                for one in group:
                    found[one.name] = _examine(one, window, label, generator, permutations)
    adjusted = holm([found[one.name].p for one in features])
    return [_verdict(found[one.name], float(p), alpha) for one, p in zip(features, adjusted, strict=True)]


def sample_of(
    examples: pl.DataFrame, entity: str, generator: np.random.Generator, *, minimum: int
) -> pl.DataFrame:
    """One example of each sampled entity; which ones depends on the keys alone, not on row order."""
    salt = generator.bytes(8)
    known = examples.drop_nulls(entity)
    keys = sorted(known[entity].unique(), key=lambda key: digest_bytes(salt + str(key).encode()))
    chosen = keys[: max(minimum, math.ceil(SHARE * len(keys)))]
    own = known.filter(pl.col(entity).is_in(chosen))
    order = generator.permutation(own.height)
    shuffled = own.sort(own.columns)[order]
    return shuffled.unique(entity, keep="first", maintain_order=True)


def _window(
    store: FeatureStore,
    catalog: Catalog,
    sample: pl.DataFrame,
    features: Sequence[Feature],
    captured_at: str,
    *,
    snapshots: Mapping[str, int | None] | None,
) -> pl.DataFrame:
    """``sample`` with ``before.<feature>`` and ``after.<feature>``."""
    names = [feature.name for feature in features]
    entity, lag = features[0].entity, features[0].serving_lag
    moments = sample.select(entity, before=pl.col(captured_at) - _TICK, after=pl.col(captured_at) + lag)
    values = [
        store.read(catalog, moments, names, as_of=side, snapshots=snapshots).select(
            pl.col(name).alias(f"{side}.{name}") for name in names
        )
        for side in ("before", "after")
    ]
    return pl.concat([sample, *values], how="horizontal")


def _examine(
    feature: Feature, window: pl.DataFrame, label: str, generator: np.random.Generator, permutations: int
) -> _Finding:
    before, after = window[f"before.{feature.name}"], window[f"after.{feature.name}"]
    labels = np.unique(window[label].to_numpy(), return_inverse=True)[1]
    kinds = int(labels.max()) + 1 if len(labels) else 0
    changed = float((before != after).mean() or 0.0)  # type: ignore[arg-type]  # the mean of booleans is one
    p = 1.0
    if len(labels) >= MINIMUM_ROWS and kinds >= 2 and changed > 0:
        scores, weights = _scores(feature, before, after)
        strata = _strata(feature, before)
        if np.sum(_mixed(strata, labels)) < MINIMUM_ROWS:
            strata = np.zeros_like(strata)
        kept = _mixed(strata, labels)
        p = permutation_p(
            scores[kept],
            weights,
            labels[kept],
            strata=strata[kept],
            generator=generator,
            permutations=permutations,
        )
    return _Finding(feature, len(labels), kinds, changed, p)


def _strata(feature: Feature, before: pl.Series) -> NDArray[np.int64]:
    """Codes of entities with the same value before; numbers also with some twenty that are nearest."""
    if feature.dtype == "string":
        return np.unique(before.to_numpy(), return_inverse=True)[1].astype(np.int64)
    place = stats.rankdata(before.cast(pl.Float64).to_numpy(), method="min").astype(np.int64) - 1
    return place // _STRATUM


def _mixed(strata: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows of strata with more than one label: the others say nothing about it, however they are shuffled."""
    first = {int(code): int(label) for code, label in zip(strata[::-1], labels[::-1], strict=True)}
    mixed = {int(code) for code, label in zip(strata, labels, strict=True) if first[int(code)] != label}
    return np.isin(strata, list(mixed))


def _scores(feature: Feature, before: pl.Series, after: pl.Series) -> tuple[Reals, Reals]:
    """Columns whose sums per label make the statistic, and the weight of each column.

    Numbers: the ranks of the difference, centred. Text: one indicator per new value (the 20 most common, and
    the rest together), beside "unchanged".
    """
    if feature.dtype != "string":
        difference = after.cast(pl.Float64).to_numpy() - before.cast(pl.Float64).to_numpy()
        ranks = stats.rankdata(difference)
        return (ranks - ranks.mean()).reshape(-1, 1), np.ones(1)
    moved = pl.DataFrame({"before": before, "after": after}).select(
        pl.when(pl.col("before") != pl.col("after")).then("after")
    )["after"]
    common = moved.drop_nulls().value_counts(sort=True)["after"].head(_COMMON_VALUES).to_list()
    codes = moved.replace_strict(
        {value: n for n, value in enumerate(common, start=2)}, default=1, return_dtype=pl.Int64
    ).to_numpy()
    codes = np.where(moved.is_null().to_numpy(), 0, codes)
    indicator = np.eye(len(common) + 2)[codes]
    size = indicator.sum(axis=0)
    return indicator[:, size > 0], len(codes) / size[size > 0]


def permutation_p(
    scores: Reals,
    weights: Reals,
    labels: NDArray[np.int64],
    *,
    generator: np.random.Generator,
    permutations: int,
    strata: NDArray[np.int64] | None = None,
    enough: int = 100,
) -> float:
    """How often shuffled labels are associated with ``scores`` at least as strongly as the real ones.

    Sources: Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, article 39: the observed arrangement
    counts as one of them, so the p-value is never 0. Besag and Clifford (1991), Biometrika 78, 301-304:
    shuffling may stop at the ``enough``-th arrangement that is as strong, because nothing is left to show.

    Args:
        scores: shape (n, columns); weights: shape (columns,).
        labels: codes 0.., shape (n,).
        strata: codes 0.., shape (n,): labels are shuffled within each; None is one for all.

    Returns:
        The p-value of the statistic: the weighted sum over columns of the between-label sum of squares, of
        scores less their mean in the stratum.
    """
    n, columns = scores.shape
    groups = np.unique(strata, return_inverse=True)[1] if strata is not None else np.zeros(n, dtype=np.int64)
    means = np.array([np.bincount(groups, column) / np.bincount(groups) for column in scores.T]).T
    scores = scores - means[groups]
    share = np.eye(int(labels.max()) + 1)[labels]
    share = share[:, share.any(axis=0)]
    share /= np.sqrt(share.sum(axis=0))
    by_group = np.argsort(groups, kind="stable")

    def statistic(rows: NDArray[np.int64]) -> Reals:
        sums = np.einsum("bnc,nk->bck", scores[rows], share, optimize=True)
        return np.asarray((sums**2).sum(axis=2) @ weights, dtype=np.float64)

    observed = float(statistic(np.arange(n).reshape(1, n))[0])
    # Rounding must not make an arrangement that is just as strong look weaker.
    threshold = observed * (1 - 1e-9)
    batch = max(1, min(1000, _CELLS // (n * columns)))
    hits = 0
    for start in range(0, permutations, batch):
        size = min(batch, permutations - start)
        # Random keys sort each group within itself; scores move, labels stay.
        rows = np.empty((size, n), dtype=np.int64)
        rows[:, by_group] = np.argsort(groups + generator.random((size, n)), axis=1)
        strong = np.flatnonzero(statistic(rows) >= threshold)
        if hits + len(strong) >= enough:
            return float(enough / (start + strong[enough - hits - 1] + 1))
        hits += len(strong)
    return (hits + 1) / (permutations + 1)


def _verdict(found: _Finding, p: float, alpha: float) -> Verdict:
    name = found.feature.name
    if found.rows < MINIMUM_ROWS or found.labels < 2:
        status = Status.INSUFFICIENT
        sentence = (
            f"{name} could not be checked for leaks: {found.rows} entities with {found.labels} labels, "
            f"{MINIMUM_ROWS} with two needed."
        )
    elif p <= alpha:
        status = Status.FAIL
        sentence = (
            f"{name} changes when the label happens ({found.changed:.0%} of {found.rows} entities) and how "
            f"depends on the label (p = {p:.2g}): what writes it has seen the label. "
            "Drop it, or correct the time its rows are written with."
        )
    elif found.changed == 0:
        status, sentence = (
            Status.PASS,
            f"{name} never changes when the label happens ({found.rows} entities).",
        )
    else:
        status = Status.PASS
        sentence = f"{name} changes for {found.changed:.0%} of entities, whatever the label (p = {p:.2g})."
    return Verdict(
        f"features.leak.{name}",
        status,
        sentence,
        value=p,
        threshold=alpha,
        n=found.rows,
        blocking=status is not Status.INSUFFICIENT,
    )
