"""The slice matrix and the bias audit against slow, obvious twins."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from tests.evaluation.scripted import answers_of

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.bias import bias_audit, bias_verdicts
from mangaassist.evaluation.slices import slice_changes, slice_matrix
from mangaassist.stats.multiple import holm

# Hypergeometric and Fisher tails are summed in another order.
CLOSE = 1e-9


@st.composite
def answered(draw: st.DrawFn) -> Answers:
    n = draw(st.integers(1, 40))
    codes = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    words = st.lists(st.sampled_from(["en", "ja", "mixed"]), min_size=n, max_size=n)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    actual = [*draw(codes)[1:], 1]
    return answers_of(
        actual,
        draw(codes),
        abstains=draw(flags),
        language=draw(words),
        cohort=draw(words),
        device=draw(words),
    )


def naive(answers: Answers) -> dict[str, tuple[int, int, int]]:
    """Every cross of one to three dimensions, row by row: name -> (n, correct, answered)."""
    columns = {**answers.dimensions, "label": [answers.labels[code] for code in answers.actual]}
    found: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for i, (truth, said, silent) in enumerate(
        zip(answers.actual, answers.predicted, answers.abstains, strict=True)
    ):
        if truth != answers.out_of_scope:
            parts = [f"{name}={column[i]}" for name, column in columns.items()]
            for depth in (1, 2, 3):
                for cross in combinations(parts, depth):
                    found[" & ".join(cross)].append((truth == said, not silent))
    return {
        name: (len(rows), sum(one[0] for one in rows), sum(one[1] for one in rows))
        for name, rows in found.items()
    }


@given(answers=answered())
@settings(max_examples=80, deadline=None)
def test_every_slice_is_counted_and_none_dropped(answers: Answers) -> None:
    """EVA-2: against a loop over rows; small slices are there, marked insufficient, with an interval."""
    made = slice_matrix(answers, ("language", "cohort", "device"), minimum=10)
    got = {one.name: (one.n, one.correct, round(one.answered * one.n)) for one in made.slices}
    assert got == naive(answers)
    for one in made.slices:
        assert one.insufficient == (one.n < 10)
        assert one.low <= one.value <= one.high
        assert (one.p is None) or not one.insufficient


@given(answers=answered())
@settings(max_examples=40, deadline=None)
def test_p_values_are_fishers_with_holm(answers: Answers) -> None:
    """EVA-2: each tested slice against all other rows, one 2x2 table at a time."""
    made = slice_matrix(answers, ("language",), minimum=3)
    n, right = int(answers.in_scope.sum()), int(answers.correct[answers.in_scope].sum())
    tested = [one for one in made.slices if one.p is not None]
    tables = [
        [[s.correct, s.n - s.correct], [right - s.correct, n - s.n - right + s.correct]] for s in tested
    ]
    if tested:
        expected = holm([min(1.0, fisher_exact(table, alternative="less").pvalue) for table in tables])
        assert [one.p for one in tested] == pytest.approx(expected, abs=CLOSE)
    for one in made.slices:
        rest = n - one.n
        gap = None if rest == 0 else one.value - (right - one.correct) / rest
        assert one.gap == (None if gap is None else pytest.approx(gap))


def test_a_planted_weakness_is_flagged_and_an_equal_slice_is_not() -> None:
    """EVA-2: Japanese at 60% among rows at 95%."""
    language = ["ja"] * 100 + ["en"] * 400
    said = [1 if i % 10 < 6 else 2 for i in range(100)] + [2 if i % 20 == 0 else 1 for i in range(400)]
    answers = answers_of(
        [1] * 500, said, language=language, cohort=["a"] * 20 + (["b"] * 20 + ["a"] * 20) * 12
    )
    made = slice_matrix(answers, ("language", "cohort", "tier"))
    flagged = {one.name for one in made.slices if one.flagged}
    assert "language=ja" in flagged
    assert not {"language=en", "cohort=a", "cohort=b"} & flagged
    assert made.absent_dimensions == ("tier",)
    assert made.get("language=ja").n == 100
    assert made.get("language=fr") is None


def test_changes_need_the_same_rows() -> None:
    answers = answers_of([1, 2], [1, 2], language=["en", "ja"])
    with pytest.raises(InputError, match="same rows"):
        slice_changes(answers, answers_of([1, 2], [1, 2], rows_id="other", language=["en", "ja"]), ())


def test_a_slice_that_got_worse_is_found() -> None:
    """EVA-1: overall better, Japanese worse, which the average hides."""
    language = ["ja"] * 60 + ["en"] * 200
    before = answers_of([1] * 260, [1] * 55 + [2] * 5 + [1] * 150 + [2] * 50, language=language)
    after = answers_of([1] * 260, [1] * 35 + [2] * 25 + [1] * 200, language=language)
    assert after.correct.mean() > before.correct.mean()
    changes = dict(slice_changes(before, after, ("language",)))
    assert changes["language=ja"].p_worse < 0.001
    assert (changes["language=ja"].lost, changes["language=ja"].gained) == (20, 0)
    assert changes["language=en"].p_worse == 1


def audit_of(en: tuple[int, int], ja: tuple[int, int]) -> Answers:
    """(right, n) per language."""
    said = [1] * en[0] + [2] * (en[1] - en[0]) + [1] * ja[0] + [2] * (ja[1] - ja[0])
    return answers_of([1] * len(said), said, language=["en"] * en[1] + ["ja"] * ja[1])


@pytest.mark.parametrize(
    ("en", "ja", "status", "says"),
    [
        ((950, 1000), (930, 1000), Status.PASS, "Ja is 2.0 points less accurate than en"),
        ((900, 1000), (950, 1000), Status.PASS, "En is 5.0 points less accurate than ja"),
        ((950, 1000), (850, 1000), Status.FAIL, "chance does not explain it"),
        ((38, 40), (34, 40), Status.INSUFFICIENT, "with so few rows it could be chance"),
        ((950, 1000), (9, 12), Status.INSUFFICIENT, "Only 12 rows"),
    ],
)
def test_japanese_parity(en: tuple[int, int], ja: tuple[int, int], status: Status, says: str) -> None:
    """EVA-1, GOV-1: parity with its interval; better Japanese is no failure; too few rows decide nothing."""
    [verdict] = bias_verdicts(bias_audit(audit_of(en, ja)))
    assert verdict.name == "bias.jp_parity"
    assert verdict.status is status
    assert says in verdict.sentence
    assert not verdict.blocking
    assert verdict.low <= verdict.value <= verdict.high


def test_gaps_cover_every_pair_and_both_measures() -> None:
    """EVA-2: three languages and two cohorts, accuracy and coverage."""
    n = 120
    answers = answers_of(
        [1] * n,
        [1] * n,
        abstains=[i % 3 == 0 for i in range(n)],
        language=[("en", "ja", "mixed")[i % 3] for i in range(n)],
        cohort=["new" if i % 2 else "power" for i in range(n)],
    )
    gaps = bias_audit(answers).gaps
    assert len(gaps) == 2 * (3 + 1)
    coverage = next(g for g in gaps if g.measure == "coverage" and (g.first, g.second) == ("en", "ja"))
    assert coverage.value == -1
    assert coverage.p < 1e-6
    names = {verdict.name for verdict in bias_verdicts(bias_audit(answers))}
    assert names == {
        "bias.jp_parity",
        "bias.language.en_mixed",
        "bias.language.ja_mixed",
        "bias.cohort.new_power",
    }
    assert bias_audit(answers_of([1], [1])).gaps == ()


def test_equal_groups_are_rarely_told_apart() -> None:
    """The audit's family-wise error: under no difference at most about 5% of audits show one."""
    generator = np.random.default_rng(3)
    false = 0
    for _ in range(200):
        right = generator.random(200) < 0.9
        answers = answers_of(
            [1] * 200, [1 if ok else 2 for ok in right], language=["en"] * 100 + ["ja"] * 60 + ["mixed"] * 40
        )
        false += any(gap.p < 0.05 for gap in bias_audit(answers).gaps)
    assert false <= 16


def test_a_column_that_repeats_the_label_is_not_tested_twice() -> None:
    """EVA-2: twice the slices would cost Holm's correction half its power."""
    actual = [1, 2, 3, 2] * 20
    names = [("none", "escalation", "order", "return")[code] for code in actual]
    found = answers_of(actual, actual, language=["en"] * 80, intent=names)
    made = slice_matrix(found, ("intent",))
    assert made.get("label=order").n == 40
    assert not [one.name for one in made.slices if "intent=" in one.name]
