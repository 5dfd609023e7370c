"""The four abort rules of PRO-3, bucket by bucket, and the anytime-valid differences beside them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.promotion.samples import AT

from mangaassist.core.story import RolloutPolicy, Rules
from mangaassist.core.verdict import Status, Verdict
from mangaassist.promotion.differences import TESTS, harm_verdicts, non_inferiority, rate_difference
from mangaassist.promotion.evidence import (
    ALL,
    RESOLVED,
    WINDOW_BUCKETS,
    ArmEvidence,
    Bucket,
    Rate,
    StageEvidence,
)
from mangaassist.promotion.latency import Latency, latency_bin
from mangaassist.promotion.rules import abort_verdicts

RULES = Rules()
POLICY = RolloutPolicy()


def slow(milliseconds: float, n: int) -> Latency:
    return Latency.of({latency_bin(milliseconds): n})


def arm(last: list[Bucket], usual: Bucket, **more: object) -> ArmEvidence:
    """An arm whose newest buckets are ``last`` and whose earlier ones are all ``usual``."""
    buckets = (usual,) * (WINDOW_BUCKETS - len(last)) + tuple(last)
    return ArmEvidence(n=sum(one.n for one in buckets), buckets=buckets, **more)  # type: ignore[arg-type]  # named fields


def evidence(canary: ArmEvidence, holdout: ArmEvidence) -> StageEvidence:
    return StageEvidence(
        "intent", 1, 2, "canary_25", AT, 0.25, 0.75, AT, {"canary": canary, "holdout": holdout}, {}, 0
    )


def verdict(name: str, found: StageEvidence, rules: Rules = RULES) -> Verdict:
    return next(one for one in abort_verdicts(found, rules) if one.name == name)


FINE = Bucket(n=100, errors=1, outcomes=100, resolved=80, safety=10, latency=slow(2.0, 100))


@pytest.mark.parametrize(
    ("name", "broken", "minutes"),
    [
        ("canary.rule.errors", replace(FINE, errors=15), 5),
        ("canary.rule.latency", replace(FINE, latency=slow(6.0, 100)), 15),
    ],
)
def test_a_rule_fires_after_its_time_and_not_before(name: str, broken: Bucket, minutes: int) -> None:
    """PRO-3: errors over 2x for more than 5 min, p99 over 1.5x for more than 15 min."""
    looks = minutes // 5
    holdout = arm([], FINE)
    for held in range(looks + 1):
        assert verdict(name, evidence(arm([broken] * held, FINE), holdout)).status is Status.PASS
    # The window must lie inside the bad time at every look: its width and the time it has to hold.
    firing = evidence(arm([broken] * (2 * looks), FINE), holdout)
    assert verdict(name, firing).status is Status.FAIL
    recovered = evidence(arm([*[broken] * 6, *[FINE] * looks], FINE), holdout)
    assert verdict(name, recovered).status is Status.PASS


def test_the_safety_rule_needs_more_than_an_hour() -> None:
    """PRO-3: more than 2 sigma below hold-out for more than 1 h, evaluated on trailing hours."""
    bad, holdout = replace(FINE, resolved=40), arm([], FINE)
    hour = 12
    statuses = [
        verdict("canary.rule.resolved", evidence(arm([bad] * held, FINE), holdout)).status
        for held in range(WINDOW_BUCKETS + 1)
    ]
    first = statuses.index(Status.FAIL)
    assert hour < first <= 2 * hour
    assert set(statuses[first:]) == {Status.FAIL}
    assert verdict("canary.rule.safety", evidence(arm([bad] * 26, FINE), holdout)).status is Status.PASS


def test_fewer_safety_critical_answers_count_as_worse() -> None:
    """PRO-6: a canary that stops recognising escalations answers fewer of them."""
    blind = arm([replace(FINE, safety=2)] * 26, FINE)
    assert verdict("canary.rule.safety", evidence(blind, arm([], FINE))).status is Status.FAIL


def test_too_little_data_fires_nothing_and_says_so() -> None:
    """PRO-3: no data is its own verdict; it neither aborts nor blocks."""
    thin = arm([], Bucket(n=1, errors=1, outcomes=1, latency=slow(900.0, 1)))
    for name in ("canary.rule.latency", "canary.rule.errors"):
        found = verdict(name, evidence(thin, arm([], FINE)))
        assert (found.status, found.blocking) == (Status.INSUFFICIENT, False)


def test_no_errors_in_the_holdout() -> None:
    """PRO-3: any multiple of nothing; stray errors are no outage, a tenth of all requests is."""
    clean = arm([], replace(FINE, errors=0))
    for errors, expected in ((1, Status.PASS), (3, Status.PASS), (12, Status.FAIL)):
        canary = arm([], replace(FINE, errors=errors))
        assert verdict("canary.rule.errors", evidence(canary, clean)).status is expected


def test_slower_by_nothing_anybody_feels() -> None:
    """PRO-3: twice 0.3 ms is still nothing; twice 3 ms is."""
    for base, expected in ((0.3, Status.PASS), (3.0, Status.FAIL)):
        canary = arm([], replace(FINE, latency=slow(2 * base, 100)))
        holdout = arm([], replace(FINE, latency=slow(base, 100)))
        assert verdict("canary.rule.latency", evidence(canary, holdout)).status is expected


@pytest.mark.parametrize(
    ("mine", "theirs", "n", "expected"),
    [
        ({"KeyError": 5}, {}, 4900, Status.FAIL),
        ({"KeyError": 5}, {}, 5001, Status.PASS),
        ({"KeyError": 4}, {}, 100, Status.PASS),
        ({"KeyError": 1}, {}, 100, Status.PASS),
        ({"KeyError": 50}, {"KeyError": 1}, 100, Status.PASS),
        ({"KeyError": 50, "MemoryError": 9}, {"KeyError": 1}, 1000, Status.FAIL),
        ({}, {"KeyError": 9}, 1000, Status.PASS),
    ],
)
def test_new_exceptions(mine: dict[str, int], theirs: dict[str, int], n: int, expected: Status) -> None:
    """PRO-3: any exception type seen only in the canary above 0.1%, once chance (1/4 each) is ruled out."""
    canary, holdout = ArmEvidence(n=n, exceptions=mine), ArmEvidence(n=3 * n, exceptions=theirs)
    assert verdict("canary.new_exception", evidence(canary, holdout)).status is expected


def rate(n: int, s: int) -> Rate:
    return Rate(n=n, s=s, units=n, nn=n, ss=s, ns=s)


def compared(canary: Rate, holdout: Rate, metric: str = RESOLVED, cohort: str = ALL) -> StageEvidence:
    return evidence(
        ArmEvidence(n=canary.n, rates={(metric, cohort): canary}),
        ArmEvidence(n=holdout.n, rates={(metric, cohort): holdout}),
    )


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (rate(2000, 1600), Status.PASS),
        (rate(2000, 1700), Status.PASS),
        (rate(2000, 1300), Status.FAIL),
        (rate(29, 1), Status.INSUFFICIENT),
    ],
)
def test_harm_needs_the_whole_interval(canary: Rate, expected: Status) -> None:
    """PRO-3, EXP-5: being better never fails, being worse fails once chance is ruled out."""
    found = harm_verdicts(compared(canary, rate(8000, 6400)), POLICY, RULES)[0]
    assert (found.name, found.status) == ("canary.resolved", expected)
    if expected is not Status.INSUFFICIENT:
        assert f"alpha {RULES.harm_alpha / TESTS:.2g}" in found.sentence


def test_errors_harm_upwards() -> None:
    found = harm_verdicts(compared(rate(2000, 200), rate(8000, 80), "error"), POLICY, RULES)
    worse = next(one for one in found if one.name == "canary.error")
    assert worse.status is Status.FAIL
    found = harm_verdicts(compared(rate(2000, 20), rate(8000, 800), "error"), POLICY, RULES)
    assert next(one for one in found if one.name == "canary.error").status is Status.PASS


def test_a_language_regression_is_not_hidden_by_the_rest() -> None:
    """EVA-2: Japanese alone gets worse; the language verdict fails and carries its name."""
    found = evidence(
        ArmEvidence(n=2000, rates={(RESOLVED, ALL): rate(2000, 1540), (RESOLVED, "ja"): rate(400, 200)}),
        ArmEvidence(n=8000, rates={(RESOLVED, ALL): rate(8000, 6400), (RESOLVED, "ja"): rate(2000, 1600)}),
    )
    by_name = {one.name: one for one in harm_verdicts(found, POLICY, RULES)}
    assert by_name["canary.resolved.ja"].status is Status.FAIL
    assert by_name["canary.resolved"].status is Status.PASS
    assert by_name["canary.resolved.mixed"].blocking is False


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (rate(4000, 3200), Status.PASS),
        (rate(4000, 3120), Status.PASS),
        (rate(300, 240), Status.INSUFFICIENT),
        (rate(4000, 2600), Status.FAIL),
        (rate(10, 10), Status.INSUFFICIENT),
    ],
)
def test_non_inferiority(canary: Rate, expected: Status) -> None:
    """PRO-2: the final stage must show that the loss is within the margin, not merely see none."""
    found = non_inferiority(compared(canary, rate(12_000, 9600)), POLICY, RULES)
    assert found.status is expected
    assert found.threshold == -POLICY.margin
    if expected is Status.PASS:
        assert found.low is not None
        assert found.low > -POLICY.margin


def test_clusters_widen_the_interval() -> None:
    """The requests of one user are not independent, and the interval knows."""
    clustered = Rate(n=2000, s=1600, units=100, nn=40_000, ss=27_200, ns=32_000)
    plain = rate_difference(rate(2000, 1600), rate(8000, 6400), tuning_n=500, level=0.95)
    wide = rate_difference(clustered, rate(8000, 6400), tuning_n=500, level=0.95)
    assert wide.high - wide.low > 1.5 * (plain.high - plain.low)


def _false_alarms(rollouts: int, ticks: int, seed: int) -> float:
    """How often an equal canary is called harmful at any of ``ticks`` looks, one test at alpha 5%."""
    generator = np.random.default_rng(seed)
    share = np.repeat([0.01, 0.05, 0.25], ticks // 3)
    alarms = 0
    for _ in range(rollouts):
        n, m = generator.poisson(200 * share).cumsum(), generator.poisson(150, share.size).cumsum()
        s = generator.binomial(np.diff(n, prepend=0), 0.8).cumsum()
        t = generator.binomial(np.diff(m, prepend=0), 0.8).cumsum()
        for look in range(share.size):
            if n[look] < RULES.minimum_cohort:
                continue
            found = rate_difference(
                rate(int(n[look]), int(s[look])), rate(int(m[look]), int(t[look])), tuning_n=500, level=0.95
            )
            if found.low > 0 or found.high < 0:
                alarms += 1
                break
    return alarms / rollouts


def test_an_equal_canary_is_rarely_called_different() -> None:
    """EXP-5: at all looks of a ramping canary together, at most alpha (and 3 standard errors of 150 runs)."""
    assert _false_alarms(150, 90, seed=5) <= 0.05 + 3 * (0.05 * 0.95 / 150) ** 0.5


@pytest.mark.soak
def test_an_equal_canary_is_rarely_called_different_long_form() -> None:
    """EXP-5: the same with 1,000 rollouts of 900 looks each, to 2 standard errors."""
    assert _false_alarms(1000, 900, seed=6) <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5


def _aborts(days: int, per_bucket: int, seed: int, harm: dict[str, float]) -> list[int]:
    """Look at which a canary is aborted, one per day (288 for never); ``harm`` changes its rates.

    Errors 1%, resolved 80%, safety-critical 10%, latencies log-normal with a heavy tail (sigma 0.8); the
    hold-out has three times the canary's traffic. Each day starts afresh.
    """
    generator = np.random.default_rng(seed)
    rates = {"errors": 0.01, "resolved": 0.8, "safety": 0.1, "slower": 1.0}

    def day(mean: int, given: dict[str, float]) -> list[Bucket]:
        buckets = []
        for n in generator.poisson(mean, 288):
            drawn = given["slower"] * 3.0 * generator.lognormal(0.0, 0.8, n)
            counts: dict[int, int] = {}
            for one in drawn:
                counts[latency_bin(one)] = counts.get(latency_bin(one), 0) + 1
            errors, safety, resolved = (
                int(generator.binomial(n, given[what])) for what in ("errors", "safety", "resolved")
            )
            buckets.append(Bucket(int(n), errors, safety, int(n), resolved, Latency.of(counts)))
        return buckets

    found = []
    for _ in range(days):
        mine, theirs = day(per_bucket, {**rates, **harm}), day(3 * per_bucket, rates)
        looks = (
            look
            for look in range(1, 289)
            if any(
                one.status is Status.FAIL
                for one in abort_verdicts(
                    evidence(
                        ArmEvidence(n=1, buckets=tuple(mine[max(0, look - 26) : look])),
                        ArmEvidence(n=1, buckets=tuple(theirs[max(0, look - 26) : look])),
                    ),
                    RULES,
                )
            )
        )
        found.append(next(looks, 288))
    return found


@pytest.mark.parametrize(
    ("harm", "within"),
    [({"errors": 0.3}, 3), ({"resolved": 0.3}, 24), ({"safety": 0.0}, 24), ({"slower": 6.0}, 12)],
)
def test_an_outage_is_aborted_soon(harm: dict[str, float], within: int) -> None:
    """PRO-3: the delay of each rule at 40 canary requests in five minutes, in looks."""
    assert max(_aborts(2, 40, seed=8, harm=harm)) <= within


@pytest.mark.soak
@pytest.mark.parametrize("per_bucket", [10, 40])
def test_the_rules_abort_hardly_any_healthy_day(per_bucket: int) -> None:
    """PRO-3: at most 1% of the days of an equal canary are aborted by any of the rules (400 days)."""
    days = _aborts(400, per_bucket, seed=3, harm={})
    aborted = sum(look < 288 for look in days) / len(days)
    print(f"rules abort {aborted:.2%} of healthy days at {per_bucket} canary requests in five minutes")
    assert aborted <= 0.01


def test_rule_times_are_whole_looks() -> None:
    """A rule whose time is no multiple of five minutes would be rounded in silence."""
    for duration in (RULES.safety_for, RULES.error_for, RULES.latency_for):
        assert duration % timedelta(minutes=5) == timedelta(0)
