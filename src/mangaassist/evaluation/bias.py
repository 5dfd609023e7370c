"""The bias audit: is one language or one kind of shopper served worse than another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mangaassist.core.language import Language
from mangaassist.core.verdict import Status, Verdict
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.report import BiasAudit, Gap
from mangaassist.evaluation.wording import points
from mangaassist.stats.intervals import newcombe
from mangaassist.stats.multiple import holm

AUDITED = ("language", "cohort")
# Japanese may be this much less accurate than English before parity is lost, and this many rows on either
# side are needed to say so.
PARITY_MARGIN = 0.05
MINIMUM = 30
_SIGNIFICANT = 0.05


def bias_audit(answers: Answers, dimensions: Sequence[str] = AUDITED) -> BiasAudit:
    """Gaps in accuracy and in coverage between every two values of each audited dimension.

    Intervals are Newcombe's for two proportions; p-values are Fisher's exact ones, Holm-adjusted over the
    whole audit.
    """
    measures = {"accuracy": answers.correct, "coverage": answers.answered}
    gaps = []
    for name in dimensions:
        if name not in answers.dimensions:
            continue
        column = np.array(answers.dimensions[name], dtype=object)
        values = sorted(set(column[answers.in_scope]))
        rows = {value: answers.in_scope & (column == value) for value in values}
        for first, second in combinations(values, 2):
            for measure, hits in measures.items():
                gaps.append(_gap(name, measure, (first, hits[rows[first]]), (second, hits[rows[second]])))
    if not gaps:
        return BiasAudit(())
    adjusted = holm([gap.p for gap in gaps])
    return BiasAudit(tuple(replace(gap, p=float(p)) for gap, p in zip(gaps, adjusted, strict=True)))


def _gap(
    dimension: str, measure: str, first: tuple[str, NDArray[np.bool_]], second: tuple[str, NDArray[np.bool_]]
) -> Gap:
    (a, hits_a), (b, hits_b) = first, second
    x, y = int(hits_a.sum()), int(hits_b.sum())
    difference = newcombe(x, len(hits_a), y, len(hits_b))
    p = stats.fisher_exact(np.array([[x, len(hits_a) - x], [y, len(hits_b) - y]])).pvalue
    return Gap(
        dimension=dimension,
        measure=measure,
        first=a,
        second=b,
        value=difference.value,
        low=difference.low,
        high=difference.high,
        n_first=len(hits_a),
        n_second=len(hits_b),
        p=float(p),
    )


def bias_verdicts(audit: BiasAudit) -> list[Verdict]:
    """One verdict per gap in accuracy; Japanese parity by its own name, the others as flags.

    Parity fails when Japanese is worse than English by more than the margin and chance is ruled out at 5%.
    None blocks by itself (EVA-1: a slice that is not safety-critical flags).
    """
    return [_verdict(gap) for gap in audit.gaps if gap.measure == "accuracy"]


def _verdict(gap: Gap) -> Verdict:
    parity = (gap.first, gap.second) == (Language.EN, Language.JA)
    name = "bias.jp_parity" if parity else f"bias.{gap.dimension}.{gap.first}_{gap.second}"
    n = min(gap.n_first, gap.n_second)
    worse, better = (gap.second, gap.first) if gap.value >= 0 else (gap.first, gap.second)
    measured = (
        f"{worse} is {points(abs(gap.value))} less accurate than {better} "
        f"({gap.first} minus {gap.second}: {points(gap.low)} to {points(gap.high)})"
    )
    size = gap.value if parity else abs(gap.value)
    over = f"{measured}, more than the {points(PARITY_MARGIN)} allowed"
    if n < MINIMUM:
        status = Status.INSUFFICIENT
        sentence = f"Only {n} rows in the smaller of {gap.first} and {gap.second}; {MINIMUM} are needed."
    elif size <= PARITY_MARGIN:
        status, sentence = Status.PASS, f"{measured}; up to {points(PARITY_MARGIN)} are allowed."
    elif gap.p < _SIGNIFICANT:
        status, sentence = Status.FAIL, f"{over}, and chance does not explain it."
    else:
        status, sentence = Status.INSUFFICIENT, f"{over}, but with so few rows it could be chance."
    sentence = sentence[0].upper() + sentence[1:]
    return Verdict(name, status, sentence, gap.value, gap.low, gap.high, PARITY_MARGIN, n, blocking=False)
