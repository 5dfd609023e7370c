"""The offline gate: is a candidate good enough, and no worse than the champion where it matters? (PRO-6)

Every rule is one verdict. Rules that compare say so when there is no champion yet; rules that lack rows are
insufficient and hold. Numbers a story sets in its thresholds replace the defaults below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from mangaassist.core.story import Story, Threshold
from mangaassist.core.verdict import Action, Decision, Status, Verdict, decide, enforce
from mangaassist.evaluation.bias import bias_verdicts
from mangaassist.evaluation.regressions import (
    escalation_verdicts,
    harm_verdicts,
    safety_verdicts,
    slice_verdicts,
)
from mangaassist.evaluation.report import EvaluationReport, Metric
from mangaassist.evaluation.wording import measured, points, share

ACCURACY_REGRESSION = 0.002
ADVERSARIAL_REGRESSION = 0.02
LATENCY_P95_MS = 15.0
MINIMUM = 30
_LOWER_IS_BETTER = frozenset({"calibration_error", "log_loss", "p50_ms", "p95_ms", "p99_ms"})
_DEFAULTS = (
    Threshold("golden.accuracy", regression=ACCURACY_REGRESSION),
    Threshold("adversarial.accuracy", regression=ADVERSARIAL_REGRESSION),
    Threshold("latency.p95_ms", minimum=LATENCY_P95_MS),
)


def offline_gate(
    story: Story,
    candidate: EvaluationReport,
    champion: EvaluationReport | None,
    *,
    costs: Mapping[str, float] | None = None,
) -> list[Verdict]:
    """Every rule's verdict on ``candidate``; :func:`mangaassist.core.verdict.decide` makes the decision.

    Args:
        champion: the champion's report, best on the same rows, which makes the comparisons paired; None
            for the first version.
        costs: what missing one row of a label costs the business; adds the harm rule.
    """
    set_by_story = {threshold.metric for threshold in story.thresholds}
    thresholds = [*story.thresholds, *(one for one in _DEFAULTS if one.metric not in set_by_story)]
    return [
        *(_threshold(one, candidate, champion) for one in _completed(thresholds)),
        *_floor(candidate),
        *safety_verdicts(story, candidate, champion),
        *escalation_verdicts(story, candidate, champion),
        *harm_verdicts(candidate, champion, costs or {}),
        *slice_verdicts(story, candidate, champion),
        *(bias_verdicts(candidate.bias) if candidate.bias else ()),
    ]


def gate_decision(
    story: Story,
    candidate: EvaluationReport,
    champion: EvaluationReport | None,
    findings: Sequence[Verdict],
    *,
    actor: str,
    at: datetime,
) -> Decision:
    """The offline decision; there is nothing to wait for offline, so a hold is a refusal.

    Args:
        findings: verdicts of what the reports do not show (data, cost, age of the golden set).
    """
    verdicts = enforce([*findings, *offline_gate(story, candidate, champion)], story.enforced)
    gate = decide(f"{story.name}/candidate", verdicts, actor=actor, at=at, policy=story.digest)
    return gate if gate.action is Action.PROMOTE else replace(gate, action=Action.REFUSE)


def metric(report: EvaluationReport, name: str) -> Metric | None:
    """The metric a dotted name stands for, None when the report lacks it.

    ``golden.<metric>``, ``golden.recall.<label>``, ``golden.language.<language>``, ``slice.<slice name>``,
    ``adversarial.accuracy``, ``adversarial.curated``, ``adversarial.<attack>``, ``latency.p95_ms`` (or p50,
    p99). "golden" means the set the report is on.
    """
    room, _, rest = name.partition(".")
    if room == "golden":
        kind, _, key = rest.partition(".")
        tables = {"recall": report.recalls, "language": report.languages}
        return tables[kind].get(key) if kind in tables else report.metrics.get(rest)
    if room == "slice" and report.slices:
        found = report.slices.get(rest)
        return Metric(found.value, found.low, found.high, found.n) if found else None
    if room == "latency" and report.latency:
        timed = report.latency
        known = {
            "p50_ms": Metric(timed.p50_ms, None, None, timed.n),
            "p95_ms": Metric(timed.p95_ms, timed.p95_low, timed.p95_high, timed.n),
            "p99_ms": Metric(timed.p99_ms, None, None, timed.n),
        }
        return known.get(rest)
    return _adversarial_metric(report, rest) if room == "adversarial" else None


def _adversarial_metric(report: EvaluationReport, name: str) -> Metric | None:
    if report.adversarial is None:
        return None
    if name in {"accuracy", "curated"}:
        found: Metric | None = getattr(report.adversarial, name)
        return found
    for one in report.adversarial.attacks:
        if one.name == name:
            return Metric(one.value, one.low, one.high, one.n)
    return None


def _completed(thresholds: list[Threshold]) -> Iterator[Threshold]:
    """A story that sets only a minimum for a metric with a default regression keeps that default."""
    defaults = {one.metric: one for one in _DEFAULTS}
    for one in thresholds:
        default = defaults.get(one.metric)
        if default is None:
            yield one
            continue
        yield Threshold(
            one.metric,
            one.minimum if one.minimum is not None else default.minimum,
            one.regression if one.regression is not None else default.regression,
            one.blocking,
        )


def _threshold(rule: Threshold, candidate: EvaluationReport, champion: EvaluationReport | None) -> Verdict:
    name = rule.metric.rpartition(".")[2]
    title = _title(rule.metric, candidate)
    found = metric(candidate, rule.metric)
    if found is None or found.n < MINIMUM:
        n = found.n if found else 0
        sentence = f"{title} rests on {n} rows; {MINIMUM} are needed to judge it."
        return _verdict(rule, Status.INSUFFICIENT, sentence, found, rule.minimum)
    lower = name in _LOWER_IS_BETTER
    text = f"{found.value:.2f} ms" if name.endswith("_ms") else measured(found, percent=not lower)
    if rule.minimum is not None and (found.value > rule.minimum if lower else found.value < rule.minimum):
        sentence = f"{title} is {text}; {_bound(name, rule.minimum)} is required."
        return _verdict(rule, Status.FAIL, sentence, found, rule.minimum)
    before = metric(champion, rule.metric) if champion else None
    if rule.regression is not None and before is not None:
        loss = found.value - before.value if lower else before.value - found.value
        moved = _moved(loss, percent=not lower)
        limit = points(rule.regression) if not lower else f"{rule.regression:g}"
        # A float's last bit must not decide a gate: 0.931 - 0.929 is not quite 0.002.
        failed = loss > rule.regression + 1e-12
        sentence = f"{title} is {text}, {moved} than the champion's; a loss of {limit} is allowed."
        bound = before.value + rule.regression if lower else before.value - rule.regression
        return _verdict(rule, Status.FAIL if failed else Status.PASS, sentence, found, bound)
    tail = f", {_bound(name, rule.minimum)} required" if rule.minimum is not None else ""
    alone = ", no champion to compare with" if rule.regression is not None and rule.minimum is None else ""
    return _verdict(rule, Status.PASS, f"{title} is {text}{tail}{alone}.", found, rule.minimum)


def _verdict(
    rule: Threshold, status: Status, sentence: str, found: Metric | None, threshold: float | None
) -> Verdict:
    return Verdict(
        rule.metric,
        status,
        sentence,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        threshold=threshold,
        n=found.n if found else 0,
        blocking=rule.blocking,
    )


_TITLES = {
    "golden.accuracy": "Accuracy on the {on} set",
    "golden.macro_f1": "Macro-F1 on the {on} set",
    "golden.coverage": "The share answered on the {on} set",
    "golden.accuracy_when_answering": "Accuracy of the answers given on the {on} set",
    "golden.out_of_scope_recall": "The share of out-of-scope rows turned away",
    "golden.calibration_error": "The calibration error on the {on} set",
    "golden.log_loss": "The log loss on the {on} set",
    "adversarial.accuracy": "Accuracy under attack",
    "adversarial.curated": "Accuracy on the curated adversarial set",
    "latency.p95_ms": "The 95th percentile of one prediction",
}


def _title(name: str, report: EvaluationReport) -> str:
    if name in _TITLES:
        return _TITLES[name].format(on=report.on)
    room, _, rest = name.partition(".")
    kind, _, key = rest.partition(".")
    if room == "golden" and kind == "recall":
        return f"Recall of '{key}' on the {report.on} set"
    if room == "golden" and kind == "language":
        return f"Accuracy in '{key}' on the {report.on} set"
    if room == "slice":
        return f"Accuracy where {rest}"
    return f"Accuracy under attack by {rest}" if room == "adversarial" else name


def _bound(name: str, minimum: float) -> str:
    if name.endswith("_ms"):
        return f"at most {minimum:g} ms"
    return f"at most {minimum:g}" if name in _LOWER_IS_BETTER else f"at least {share(minimum)}"


def _moved(loss: float, *, percent: bool) -> str:
    size = points(abs(loss)) if percent else f"{abs(loss):.3g}"
    worse, better = ("lower", "higher") if percent else ("worse", "better")
    return f"{size} {worse if loss > 0 else better}" if loss else f"{size} {better}"


def _floor(candidate: EvaluationReport) -> Iterator[Verdict]:
    """A model that is surely below a trivial one is broken, whatever its threshold."""
    accuracy = candidate.metrics["accuracy"]
    if accuracy.floor is None or accuracy.high is None or accuracy.low is None:
        return
    best = max(accuracy.floors, key=lambda name: accuracy.floors[name]).replace("_", " ")
    below = accuracy.high < accuracy.floor
    relation = "below" if accuracy.value < accuracy.floor else "at or above"
    floor = f"the {share(accuracy.floor)} of the {best} on the same rows"
    sentence = f"Accuracy is {measured(accuracy)}, {relation} {floor}."
    yield Verdict(
        "golden.floor",
        Status.FAIL if below else Status.PASS,
        sentence,
        accuracy.value,
        accuracy.low,
        accuracy.high,
        accuracy.floor,
        accuracy.n,
    )
