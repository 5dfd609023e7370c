"""How far annotators agree, and what the truth probably is given that they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from mangaassist.core.errors import InputError
from mangaassist.stats.domain import FloatArray, IntArray, at_least, codes, finite, open_unit, same_length
from mangaassist.stats.intervals import Estimate, two_sided_z, wilson

Scale = Literal["nominal", "ordinal", "interval"]

_NO_VARIANCE = 1e-12


def cohen_kappa(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Chance-corrected agreement of two annotators on the same items.

    Sources: Cohen (1960); large-sample variance by Fleiss, Cohen and Everitt (1969), Psychological Bulletin
    72, 323-327. On perfect agreement, or when one annotator used one class only, that variance is 0 and would
    claim certainty from any number of items; the interval then comes from the Wilson bounds of the observed
    agreement.

    Args:
        a, b: one class per item, shape (n,) each; any type that sorts, without missing values.

    Raises:
        InputError: for unequal lengths, no items, or one class only (agreement by chance is then certain).
    """
    left, right = np.asarray(a), np.asarray(b)
    same_length("kappa", left, right)
    n = at_least("kappa.items", len(left), 1)
    classes, encoded = np.unique(np.concatenate([left, right]), return_inverse=True)
    if len(classes) < 2:
        raise _one_class("kappa", classes)
    k = len(classes)
    p = np.bincount(encoded[:n] * k + encoded[n:], minlength=k * k).reshape(k, k) / n
    row, column = p.sum(axis=1), p.sum(axis=0)
    observed, chance = float(np.trace(p)), float(row @ column)
    kappa = (observed - chance) / (1 - chance)
    variance = _kappa_variance(p, kappa, chance)
    if variance < _NO_VARIANCE:
        raw = wilson(round(observed * n), n, level=level)
        low, high = ((end - chance) / (1 - chance) for end in (raw.low, raw.high))
        return Estimate(kappa, max(-1.0, low), high, n, level)
    half = two_sided_z(level) * np.sqrt(variance / n)
    return Estimate(kappa, max(-1.0, float(kappa - half)), min(1.0, float(kappa + half)), n, level)


def _kappa_variance(p: FloatArray, kappa: float, chance: float) -> float:
    """n times the variance of kappa, equation 13 of Fleiss, Cohen and Everitt (1969)."""
    row, column = p.sum(axis=1), p.sum(axis=0)
    diagonal = np.diagonal(p)
    on = float(diagonal @ (1 - (row + column) * (1 - kappa)) ** 2)
    pairs = p * (column[:, None] + row[None, :]) ** 2
    off = (1 - kappa) ** 2 * float(pairs.sum() - np.trace(pairs))
    return (on + off - (kappa - chance * (1 - kappa)) ** 2) / (1 - chance) ** 2


def krippendorff_alpha(
    ratings: ArrayLike,
    *,
    generator: np.random.Generator,
    scale: Scale = "nominal",
    replicates: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Agreement of any number of annotators with gaps, with a bootstrap interval over items.

    Sources: Krippendorff (2011), "Computing Krippendorff's alpha-reliability"; items are resampled whole, as
    Hayes and Krippendorff (2007) motivate. Unlike kappa it does not reward skewed classes.

    Args:
        ratings: values, shape (items, annotators); NaN (numbers) or None (text) where nobody answered.
        scale: "nominal" for classes; "ordinal" and "interval" need numbers.

    Returns:
        The estimate; ``n`` counts the items with two ratings or more, the only ones that say anything.

    Raises:
        InputError: for fewer than 2 such items, or one value only.
    """
    values, table = _value_counts(ratings, scale)
    return _alpha(table, values, scale, generator=generator, replicates=replicates, level=level)


def alpha_of_votes(
    items: ArrayLike,
    labels: ArrayLike,
    *,
    n_items: int,
    n_classes: int,
    generator: np.random.Generator,
    replicates: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Nominal :func:`krippendorff_alpha` of votes in long form, whoever gave them.

    Args:
        items, labels: integer codes of each vote, shape (votes,) each.

    Raises:
        InputError: as :func:`krippendorff_alpha`, and for codes outside their range.
    """
    item, label = codes("alpha.items", items, n_items), codes("alpha.labels", labels, n_classes)
    same_length("alpha", item, label)
    flat = np.bincount(item * n_classes + label, minlength=n_items * n_classes)
    table = flat.reshape(n_items, n_classes).astype(np.float64)
    return _alpha(
        table, np.arange(n_classes), "nominal", generator=generator, replicates=replicates, level=level
    )


def _alpha(
    table: FloatArray,
    values: NDArray[np.generic],
    scale: Scale,
    *,
    generator: np.random.Generator,
    replicates: int,
    level: float,
) -> Estimate:
    """Alpha of how often each item got each value, shape (items, values)."""
    table = table[table.sum(axis=1) >= 2]
    n = at_least("alpha.items", len(table), 2)
    if np.count_nonzero(table.sum(axis=0)) < 2:
        raise _one_class("alpha", values[table.sum(axis=0) > 0])
    # Items that got the same values are one row with a count: drawing n of the rows in proportion to their
    # counts is drawing n of the items, at a cost that does not grow with them.
    rows, counts = _distinct(table)
    alpha = _alphas(rows, values, scale, counts[None, :].astype(np.float64))[0]
    weights = generator.multinomial(n, counts / n, size=replicates).astype(np.float64)
    tails = [0.5 * (1 - level), 0.5 * (1 + open_unit("level", level))]
    low, high = np.nanquantile(_alphas(rows, values, scale, weights), tails)
    return Estimate(float(alpha), float(low), float(high), n, level)


def _distinct(table: FloatArray) -> tuple[FloatArray, IntArray]:
    """The different rows of ``table`` and how often each occurs."""
    base, width = int(table.max()) + 1, table.shape[1]
    if width * np.log2(base) < 62:  # a row is a number in that base, and numbers sort faster than rows
        key = table.astype(np.int64) @ np.array([base**place for place in range(width)], dtype=np.int64)
        _, first, counts = np.unique(key, return_index=True, return_counts=True)
        return table[first], counts
    rows, counts = np.unique(table, axis=0, return_counts=True)
    return rows, counts


def _value_counts(ratings: ArrayLike, scale: Scale) -> tuple[NDArray[np.generic], FloatArray]:
    """Distinct values, shape (v,), and how often each item got each of them, shape (items, v)."""
    array = np.asarray(ratings)
    if array.ndim != 2:
        raise InputError(
            "alpha.ratings",
            expected="shape (items, annotators)",
            got=f"shape {array.shape}",
            next_step="Put one item in each row and one annotator in each column.",
        )
    if array.dtype == object:
        known = np.array([[not _missing(item) for item in row] for row in array])
    else:
        known = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(array.shape, dtype=bool)
    if scale != "nominal":
        array = np.where(known, array, np.nan).astype(np.float64)
    values, encoded = np.unique(array[known], return_inverse=True)
    if values.dtype == object:
        values = values.astype(str)
    items = np.nonzero(known)[0]
    flat = np.bincount(items * len(values) + encoded, minlength=len(array) * len(values))
    return values, flat.reshape(len(array), len(values)).astype(np.float64)


def _missing(item: object) -> bool:
    return item is None or (isinstance(item, float) and np.isnan(item))


def _alphas(table: FloatArray, values: NDArray[np.generic], scale: Scale, weights: FloatArray) -> FloatArray:
    """Alpha for each row of item weights, shape (replicates, items); NaN where one value is left."""
    rated = table.sum(axis=1)
    totals = weights @ table
    n = totals.sum(axis=1)
    if scale == "nominal":
        within = weights @ ((rated**2 - (table**2).sum(axis=1)) / (rated - 1))
        between = n**2 - (totals**2).sum(axis=1)
    else:
        # Distances live on the value axis (interval) or on mid-ranks (ordinal), which move with the totals.
        points = (
            np.broadcast_to(values.astype(np.float64), totals.shape)
            if scale == "interval"
            else np.cumsum(totals, axis=1) - totals / 2
        )
        pairs = np.einsum("ia,ib->iab", table, table) / (rated - 1)[:, None, None]
        within = _squared(np.tensordot(weights, pairs, axes=1), points)
        between = _squared(totals[:, :, None] * totals[:, None, :], points)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha = 1 - (n - 1) * within / between
    return np.where(between > 0, alpha, np.nan)


def _squared(pairs: FloatArray, points: FloatArray) -> FloatArray:
    """Sum over value pairs of weight times squared distance, per replicate."""
    distance = (points[:, :, None] - points[:, None, :]) ** 2
    return np.asarray((pairs * distance).sum(axis=(1, 2)), dtype=np.float64)


def _one_class(field: str, classes: NDArray[np.generic]) -> InputError:
    return InputError(
        field,
        expected="at least two classes in use",
        got=f"only {classes.tolist()}",
        next_step="Agreement beyond chance cannot be measured here: sample items of other classes too.",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Majority:
    """What most annotators said.

    Attributes:
        winner: the class with most votes per item, shape (items,); the lowest on a tie, -1 without votes.
        tied: whether another class got as many, shape (items,).
        share: share of votes for the winner, shape (items,); 0 without votes.
        votes: votes per class, shape (items, classes).
    """

    winner: IntArray
    tied: NDArray[np.bool_]
    share: FloatArray
    votes: FloatArray


def majority(
    items: ArrayLike,
    labels: ArrayLike,
    *,
    n_items: int,
    n_classes: int,
    weights: ArrayLike | None = None,
) -> Majority:
    """Plurality vote per item.

    Args:
        items, labels: integer codes of each answer, shape (answers,) each.
        weights: one weight per answer (source confidence), or None for one vote each.

    Raises:
        InputError: for codes outside their range or unequal lengths.
    """
    item, label = codes("majority.items", items, n_items), codes("majority.labels", labels, n_classes)
    same_length("majority", item, label)
    weight = None if weights is None else finite("majority.weights", weights, ndim=1)
    if weight is not None:
        same_length("majority", item, weight)
    flat = np.bincount(item * n_classes + label, weights=weight, minlength=n_items * n_classes)
    votes = flat.reshape(n_items, n_classes).astype(np.float64)
    top, total = votes.max(axis=1), votes.sum(axis=1)
    winner = np.where(total > 0, votes.argmax(axis=1), -1)
    tied = (total > 0) & ((votes == top[:, None]).sum(axis=1) > 1)
    share = np.divide(top, total, out=np.zeros(n_items), where=total > 0)
    return Majority(winner.astype(np.int64), tied, share, votes)


@dataclass(frozen=True, slots=True, eq=False)
class DawidSkene:
    """Truth and annotator error, estimated together.

    Attributes:
        posterior: probability of each class per item, shape (items, classes).
        confusion: P(answer | truth) per annotator, shape (annotators, true class, answered class).
        prior: class shares, shape (classes,).
        log_likelihood: of the answers, in nats, at the last step.
        objective: what EM climbs, before each step, shape (iterations,): the log-likelihood plus the log of
            the Dirichlet prior that ``smoothing`` amounts to, without its constant. It never falls.
        iterations: EM steps taken.
        converged: whether the posteriors stopped moving before the limit.
    """

    posterior: FloatArray
    confusion: FloatArray
    prior: FloatArray
    log_likelihood: float
    objective: FloatArray
    iterations: int
    converged: bool


def dawid_skene(
    items: ArrayLike,
    workers: ArrayLike,
    labels: ArrayLike,
    *,
    n_items: int,
    n_workers: int,
    n_classes: int,
    smoothing: float = 0.01,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
) -> DawidSkene:
    """Maximum-likelihood truth from many fallible annotators.

    Source: Dawid and Skene (1979), Applied Statistics 28, 20-28. Both steps are one product with a sparse
    (items, annotators x answers) matrix, so time is linear in the number of answers.

    Args:
        items, workers, labels: integer codes of each answer, shape (answers,) each.
        smoothing: pseudo-count added to every cell of every confusion matrix; keeps one answer from proving
            an annotator infallible.
        tolerance: mean total-variation change of the posteriors at which to stop; a maximum over items would
            wait hundreds of steps for a single undecided one.

    Raises:
        InputError: for codes outside their range, unequal lengths, no answers, or an item without any.
    """
    item, worker = (
        codes("dawid_skene.items", items, n_items),
        codes("dawid_skene.workers", workers, n_workers),
    )
    label = codes("dawid_skene.labels", labels, n_classes)
    same_length("dawid_skene", item, worker)
    start = majority(item, label, n_items=n_items, n_classes=n_classes)
    at_least("dawid_skene.answers_per_item", int(start.votes.sum(axis=1).min()), 1)
    answers = sparse.csr_array(
        (np.ones(len(item)), (item, worker * n_classes + label)), shape=(n_items, n_workers * n_classes)
    )
    by_answer = answers.T.tocsr()
    posterior = start.votes / start.votes.sum(axis=1, keepdims=True)
    confusion, prior = _maximise(by_answer @ posterior, posterior, n_classes, smoothing)
    log_likelihood, converged = -np.inf, False
    objective: list[float] = []
    while not converged and len(objective) < max_iterations:
        confusion, prior = _maximise(by_answer @ posterior, posterior, n_classes, smoothing)
        updated, log_likelihood = _expect(answers, confusion, prior)
        objective.append(log_likelihood + smoothing * float(np.log(confusion).sum()))
        converged = 0.5 * float(np.abs(updated - posterior).sum(axis=1).mean()) < tolerance
        posterior = updated
    return DawidSkene(
        posterior, confusion, prior, log_likelihood, np.array(objective), len(objective), converged
    )


def _maximise(
    expected: FloatArray, posterior: FloatArray, n_classes: int, smoothing: float
) -> tuple[FloatArray, FloatArray]:
    """Confusion matrices and prior from expected counts of shape (annotators x answers, true class)."""
    tally = expected.reshape(-1, n_classes, n_classes).transpose(0, 2, 1) + smoothing
    return tally / tally.sum(axis=2, keepdims=True), posterior.mean(axis=0)


def _expect(answers: sparse.csr_array, confusion: FloatArray, prior: FloatArray) -> tuple[FloatArray, float]:
    """Posterior of every item and the log-likelihood of all answers."""
    n_classes = len(prior)
    by_answer = np.log(confusion).transpose(0, 2, 1).reshape(-1, n_classes)
    with np.errstate(divide="ignore"):
        joint = answers @ by_answer + np.log(prior)
    top = joint.max(axis=1, keepdims=True)
    scaled = np.exp(joint - top)
    total = scaled.sum(axis=1, keepdims=True)
    return scaled / total, float((top + np.log(total)).sum())
