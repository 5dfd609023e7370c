"""Four detectors, one per kind of drift (DRF-1), each from counts to verdicts and blind to the others.

They fail differently, so they are never pooled: inputs may move while answers do not (benign), answers may
move and still be right, and only the last kind says that the model has become wrong.

Every detector asks two questions: is the difference large enough to matter (the policy's threshold), and too
large for chance at these sample sizes? Yes to both is ``fail``. ``pass`` needs a sample that would have shown
a difference of the threshold's size; anything else is ``insufficient``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mangaassist.core.story import DriftPolicy
from mangaassist.core.verdict import Status, Verdict
from mangaassist.drift.measures import MINIMUM_ROWS, POWER, TOP_K, Measure, measures, most_moved, rows
from mangaassist.drift.profile import Profile
from mangaassist.drift.sketch import NumericSketch
from mangaassist.stats.divergence import chi_square, ks_binned

# The question asked of confidence raises a false alarm at most this often.
FALSE_ALARM = 0.01
# Cohen (1988), Statistical Power Analysis, ch. 7: w = 0.1 is a small effect. With a million rows p < 0.01
# alone would fire on differences nobody could notice.
LABEL_EFFECT = 0.1


def input_measures(reference: Profile, now: Profile, policy: DriftPolicy) -> dict[str, Measure]:
    """How far every input column has moved; those with too few rows are left out."""
    return measures(reference.inputs, now.inputs, threshold=policy.input_psi)


def detect_input(reference: Profile, now: Profile, policy: DriftPolicy) -> list[Verdict]:
    """``drift.input.<column>``: PSI per column on frozen bins, missing values as a bin of their own.

    Embeddings are judged by their norms (PSI) and by the way of their centroid. The columns are judged
    together under false-discovery control.
    """
    found = input_measures(reference, now, policy)
    return [
        _measured(f"drift.input.{name}", found[name])
        if name in found
        else _too_few(f"drift.input.{name}", rows(now.inputs[name]), policy.input_psi)
        for name in reference.inputs
    ]


def detect_prediction(reference: Profile, now: Profile, policy: DriftPolicy) -> list[Verdict]:
    """``drift.prediction``: binned Kolmogorov-Smirnov on confidence; ``.label``: PSI on predicted labels.

    Labels have no order, so a distribution-function gap means nothing for them; they share the PSI rule and
    threshold of the inputs.
    """
    found = measures({"label": reference.label}, {"label": now.label}, threshold=policy.input_psi)
    name = "drift.prediction.label"
    labels = _measured(name, found["label"]) if found else _too_few(name, rows(now.label), policy.input_psi)
    return [_ks_verdict(reference.confidence, now.confidence, policy.prediction_ks), labels]


def detect_label(reference: Profile, now: Profile, policy: DriftPolicy) -> list[Verdict]:
    """``drift.label``: chi-square on true labels, with Cohen's w as the value and p in the sentence.

    Labels with fewer than five expected rows are pooled, because the chi-square tail is not to be trusted
    below that.
    """
    n = now.labelled
    then, current = reference.truth.cells[:-1], now.truth.cells[:-1]
    if n < MINIMUM_ROWS or then.sum() < MINIMUM_ROWS:
        return [_too_few("drift.label", n, LABEL_EFFECT)]
    then, current = _pool_rare(then, current)
    if len(then) < 2:
        return [_too_few("drift.label", n, LABEL_EFFECT)]
    test = chi_square(then, current)
    effect = _cohen_w(then, current)
    fires = test.p_value < policy.label_p and effect >= LABEL_EFFECT
    able = _chi_square_power(then.sum(), current.sum(), test.df, policy.label_p) >= POWER
    sentence = (
        f"Chi-square p = {test.p_value:.2g} (limit {policy.label_p:g}) with effect size w = {effect:.3f} "
        f"(limit {LABEL_EFFECT:g}); {most_moved(reference.truth, now.truth)}."
    )
    status = _status(fires=fires, able=able)
    return [Verdict("drift.label", status, sentence, effect, threshold=LABEL_EFFECT, n=n)]


def detect_concept(
    reference: Profile, now: Profile, policy: DriftPolicy, *, seed: int = 0, replicates: int = 400
) -> list[Verdict]:
    """``drift.concept``: fall of macro-F1 on late labels against the reference, with a bootstrap interval.

    Both sides are weighted to the reference's class shares, so that more of a hard class (label drift) does
    not look like a model gone wrong. Labels with fewer than five rows on either side are left out of both.
    ``fail`` needs a fall beyond the threshold whose 95% interval lies above zero.
    """
    n, threshold = now.labelled, policy.concept_f1
    then, current = reference.confusion.matrix(), now.confusion.matrix()
    # The last row is "a label the reference never saw": label drift, not this model's mistake.
    shared = np.flatnonzero((then[:-1].sum(axis=1) >= 5) & (current[:-1].sum(axis=1) >= 5))
    if n < MINIMUM_ROWS or reference.labelled < MINIMUM_ROWS or shared.size == 0:
        return [_too_few("drift.concept", n, threshold)]
    then, current = then[shared], current[shared]
    shares = then.sum(axis=1) / then.sum()
    generator = np.random.default_rng(seed)
    before, after = _scores(then[None], shares, shared)[0], _scores(current[None], shares, shared)[0]
    falls = _scores(_resample(then, replicates, generator), shares, shared) - _scores(
        _resample(current, replicates, generator), shares, shared
    )
    low, high = np.quantile(falls[:, 0], [0.025, 0.975]).tolist()
    fall = float(before[0] - after[0])
    sentence = (
        f"Macro-F1 over {shared.size} labels went from {before[0]:.3f} to {after[0]:.3f} and accuracy from "
        f"{before[1]:.3f} to {after[1]:.3f}, at the reference's class shares."
    )
    # "No drift" is said only when even the pessimistic end stays within twice the limit.
    status = _status(fires=fall > threshold and low > 0, able=fall <= threshold and high <= 2 * threshold)
    return [Verdict("drift.concept", status, sentence, fall, low, high, threshold, n)]


def _measured(name: str, one: Measure) -> Verdict:
    parts = [
        f"{one.value:.3f} (limit {one.threshold:g})",
        f"p = {one.adjusted:.2g} after false-discovery control",
    ]
    if one.jensen_shannon is not None:
        parts.append(f"Jensen-Shannon {one.jensen_shannon:.3f}")
    if one.kl is not None:
        parts.append(f"KL on the top {TOP_K} values {one.kl:.3f}")
    size = "PSI" if one.jensen_shannon is not None else "Centroid shift"
    sentence = f"{size} {', '.join(parts)}; {one.moved}."
    status = _status(fires=one.fires, able=one.sufficient and one.value < one.threshold)
    return Verdict(name, status, sentence, one.value, threshold=one.threshold, n=one.n)


def _ks_verdict(reference: NumericSketch, now: NumericSketch, threshold: float) -> Verdict:
    then, current = reference.cells[:-1], now.cells[:-1]
    n = int(current.sum())
    if n < MINIMUM_ROWS or then.sum() < MINIMUM_ROWS:
        return _too_few("drift.prediction", n, threshold)
    test = ks_binned(then, current)
    chance = float(special.kolmogi(FALSE_ALARM)) * (1 / then.sum() + 1 / n) ** 0.5
    fires = test.statistic > max(threshold, chance)
    sentence = (
        f"Confidence: KS distance {test.statistic:.3f} (limit {threshold:g}, chance alone stays under "
        f"{chance:.3f}); {most_moved(reference, now)}."
    )
    status = _status(fires=fires, able=chance <= threshold)
    return Verdict("drift.prediction", status, sentence, test.statistic, threshold=threshold, n=n)


def _status(*, fires: bool, able: bool) -> Status:
    if fires:
        return Status.FAIL
    return Status.PASS if able else Status.INSUFFICIENT


def _too_few(name: str, n: int, threshold: float) -> Verdict:
    sentence = f"{n} rows are too few to tell drift from chance."
    return Verdict(name, Status.INSUFFICIENT, sentence, threshold=threshold, n=n)


def _pool_rare(
    then: NDArray[np.int64], current: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    smaller = min(then.sum(), current.sum())
    expected = (then + current) / (then.sum() + current.sum()) * smaller
    rare = expected < 5
    pooled = [np.append(side[~rare], side[rare].sum()) for side in (then, current)]
    kept = (pooled[0] + pooled[1]) > 0
    return pooled[0][kept], pooled[1][kept]


def _cohen_w(then: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """Cohen's w against the reference shares; unlike Cramér's V it does not shrink with the larger sample."""
    p = (then + 0.5) / (then + 0.5).sum()
    q = (current + 0.5) / (current + 0.5).sum()
    return float(np.sqrt(((q - p) ** 2 / p).sum()))


def _chi_square_power(n: int, m: int, df: int, p: float) -> float:
    """Probability of p < ``p`` if the true effect were :data:`LABEL_EFFECT` (non-central chi-square)."""
    noncentrality = LABEL_EFFECT**2 / (1 / n + 1 / m)
    return 1 - float(special.chndtr(special.chdtri(df, p), df, noncentrality))


def _resample(
    matrix: NDArray[np.float64], replicates: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(replicates, k, labels) multinomial bootstrap of each true label's row, its size kept."""
    rows = matrix.sum(axis=1).astype(np.int64)
    drawn = generator.multinomial(rows, matrix / rows[:, None], size=(replicates, len(rows)))
    return drawn.astype(np.float64)


def _scores(
    matrices: NDArray[np.float64], shares: NDArray[np.float64], shared: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(r, 2) macro-F1 and accuracy of (r, k, labels) confusions with true labels weighted to ``shares``."""
    joint = matrices / matrices.sum(axis=2, keepdims=True) * shares[None, :, None]
    hits = joint[:, np.arange(len(shared)), shared]
    answered = joint.sum(axis=1)[:, shared]
    f1 = 2 * hits / (shares[None, :] + answered)
    return np.stack([f1.mean(axis=1), hits.sum(axis=1)], axis=1)
