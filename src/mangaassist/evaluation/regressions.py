"""What a candidate loses against the champion, label by label and slice by slice (PRO-6, EVA-1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.evaluation.paired import Change, paired_change, unpaired_change
from mangaassist.evaluation.report import EvaluationReport
from mangaassist.evaluation.slices import slice_changes
from mangaassist.evaluation.wording import points, share
from mangaassist.stats.multiple import holm

# A safety-critical label whose misses may not rise at all (PRO-6).
ESCALATION = "escalation"
MINIMUM_PER_LABEL = 10
_SIGNIFICANT = 0.05
_Item = TypeVar("_Item")


def safety_verdicts(
    story: Story, candidate: EvaluationReport, champion: EvaluationReport | None
) -> Iterator[Verdict]:
    """No safety-critical label, in no language, may lose recall beyond chance (Holm over all of them)."""
    cuts = [cut for label in story.safety_critical for cut in _safety_cuts(candidate, label)]
    changes: dict[str, Change] = {}
    for name, rows in cuts:
        if champion is not None and int(rows.sum()) >= MINIMUM_PER_LABEL:
            change = _change(candidate, champion, name, rows)
            if change is not None:
                changes[name] = change
    adjusted = dict(
        zip(changes, holm([one.p_worse for one in changes.values()]) if changes else (), strict=True)
    )
    for name, rows in cuts:
        overall = " & " not in name
        n = int(rows.sum())
        if n < MINIMUM_PER_LABEL:
            if overall or n:
                sentence = (
                    f"Recall where {name} rests on {n} rows; {MINIMUM_PER_LABEL} are needed to judge it."
                )
                yield Verdict(f"safety.{name}", Status.INSUFFICIENT, sentence, n=n, blocking=overall)
        elif name in changes:
            yield _safety_verdict(name, changes[name], float(adjusted[name]))
        else:
            value = float(candidate.answers.correct[rows].mean())
            sentence = f"Recall where {name} is {share(value)} (n = {n:,}), no champion to compare with."
            yield Verdict(f"safety.{name}", Status.PASS, sentence, value=value, n=n)


def _safety_cuts(report: EvaluationReport, label: str) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    mine = report.answers.with_label(label)
    yield f"label={label}", mine
    language = np.array(report.answers.dimensions.get("language", ()), dtype=object)
    for value in sorted(set(language[mine])) if len(language) else ():
        yield f"language={value} & label={label}", mine & (language == value)


def _change(
    candidate: EvaluationReport, champion: EvaluationReport, name: str, rows: NDArray[np.bool_]
) -> Change | None:
    if candidate.answers.rows == champion.answers.rows:
        return paired_change(champion.answers.correct[rows], candidate.answers.correct[rows])
    old = dict(cut for label in champion.answers.labels for cut in _safety_cuts(champion, label)).get(name)
    if old is None or not old.any():
        return None
    now = candidate.answers.correct[rows]
    before = champion.answers.correct[old]
    return unpaired_change((int(before.sum()), len(before)), (int(now.sum()), len(now)))


def _safety_verdict(name: str, change: Change, p: float) -> Verdict:
    worse = change.difference < 0 and p < _SIGNIFICANT
    if change.lost is not None:
        how = f"{change.lost} rows lost, {change.gained} gained"
    else:
        how = "measured on different rows"
    direction = "down" if change.difference < 0 else "up" if change.difference > 0 else "unchanged"
    moved = direction if direction == "unchanged" else f"{direction} {points(abs(change.difference))}"
    end = (
        "more than chance explains"
        if worse
        else "within chance"
        if change.difference < 0
        else "no regression"
    )
    sentence = (
        f"Recall where {name} is {share(change.after)}, {moved} from the champion's {share(change.before)} "
        f"({how}, n = {change.n:,}): {end}."
    )
    return Verdict(
        f"safety.{name}",
        Status.FAIL if worse else Status.PASS,
        sentence,
        value=change.difference,
        low=change.low,
        high=change.high,
        threshold=0.0,
        n=change.n,
    )


def escalation_verdicts(
    story: Story, candidate: EvaluationReport, champion: EvaluationReport | None
) -> Iterator[Verdict]:
    """A shopper who needs a person and is not recognised as such: the rate may not rise (PRO-6).

    A row counts as missed when its top label is another or the model abstains.
    """
    if ESCALATION not in story.safety_critical:
        return
    missed, n = _missed(candidate)
    if n == 0:
        sentence = f"The {candidate.on} set holds no '{ESCALATION}' rows."
        yield Verdict("golden.escalation_misses", Status.INSUFFICIENT, sentence)
        return
    before, old_n = _missed(champion) if champion else (0, 0)
    now = f"{missed} of {n} escalations are missed ({share(missed / n)})"
    if old_n == 0:
        sentence = f"{now}, no champion to compare with."
        yield Verdict("golden.escalation_misses", Status.PASS, sentence, value=missed / n, n=n)
        return
    failed = missed / n > before / old_n
    sentence = f"{now}; the champion misses {before} of {old_n}, and the rate may not rise."
    status = Status.FAIL if failed else Status.PASS
    yield Verdict(
        "golden.escalation_misses", status, sentence, value=missed / n, threshold=before / old_n, n=n
    )


def _missed(report: EvaluationReport) -> tuple[int, int]:
    rows = report.answers.with_label(ESCALATION)
    caught = report.answers.correct[rows] & report.answers.answered[rows]
    return int((~caught).sum()), int(rows.sum())


def slice_verdicts(
    story: Story, candidate: EvaluationReport, champion: EvaluationReport | None
) -> Iterator[Verdict]:
    """Slices clearly worse than the rest, and slices clearly worse than under the champion.

    They inform and do not block: what must block is a safety-critical label or a threshold of the story.
    Of nested slices the widest one speaks for those inside it.
    """
    flagged = [one for one in (candidate.slices.slices if candidate.slices else ()) if one.flagged]
    for one in _widest(flagged, [one.name for one in flagged]):
        sentence = (
            f"Where {one.name}, accuracy is {share(one.value)} ({share(one.low)} to {share(one.high)}, "
            f"n = {one.n:,}), {points(abs(one.gap or 0.0))} below the rest."
        )
        yield Verdict(
            f"slice.{one.name}", Status.FAIL, sentence, one.value, one.low, one.high, n=one.n, blocking=False
        )
    if champion is None or candidate.answers.rows != champion.answers.rows:
        return
    changes = slice_changes(champion.answers, candidate.answers, story.slices)
    worse = [(name, change) for name, change in changes if change.p_worse < _SIGNIFICANT]
    for name, change in _widest(worse, [name for name, _ in worse]):
        sentence = (
            f"Where {name}, accuracy is down {points(-change.difference)} from the champion's "
            f"{share(change.before)} ({change.lost} rows lost, {change.gained} gained, n = {change.n:,})."
        )
        yield Verdict(
            f"regression.{name}",
            Status.FAIL,
            sentence,
            change.difference,
            change.low,
            change.high,
            threshold=0.0,
            n=change.n,
            blocking=False,
        )


def _widest(items: Sequence[_Item], names: Sequence[str]) -> Iterator[_Item]:
    """The items whose slice lies inside no other slice of the list."""
    parts = [set(name.split(" & ")) for name in names]
    for item, mine in zip(items, parts, strict=True):
        if not any(other < mine for other in parts):
            yield item


def harm_verdicts(
    candidate: EvaluationReport, champion: EvaluationReport | None, costs: Mapping[str, float]
) -> Iterator[Verdict]:
    """Mean cost of a row, weighted by what a miss of its label costs; it may not rise (PRO-6)."""
    if not costs:
        return
    now = _mean_cost(candidate, costs)
    if champion is None:
        sentence = f"Business-weighted harm is {now:.4g} a row, no champion to compare with."
        yield Verdict("golden.harm", Status.PASS, sentence, value=now, n=candidate.n)
        return
    before = _mean_cost(champion, costs)
    failed = now > before * (1 + 1e-12)
    sentence = (
        f"Business-weighted harm is {now:.4g} a row, the champion's is {before:.4g}, and it may not rise."
    )
    status = Status.FAIL if failed else Status.PASS
    yield Verdict("golden.harm", status, sentence, value=now, threshold=before, n=candidate.n)


def _mean_cost(report: EvaluationReport, costs: Mapping[str, float]) -> float:
    answers = report.answers
    price = np.array([costs.get(answers.labels[code], 0.0) for code in answers.actual])
    return float((price * ~answers.correct)[answers.in_scope].mean())
