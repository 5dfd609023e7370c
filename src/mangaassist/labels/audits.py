"""The weekly audit of rule sets and prompts: draw, wait for the vendor, judge, go back if need be (LAB-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest
from mangaassist.core.story import LabelPolicy, Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.changes import roll_back_source
from mangaassist.labels.consensus import SETTLED, consensus
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.labellers import ROLLED_BACK, in_force
from mangaassist.labels.quality import AUDITOR, calibration_sample, precision_verdict, precision_verdicts
from mangaassist.labels.records import family
from mangaassist.labels.votes import current_votes
from mangaassist.storage.ledger import Entry

AUDITED = ("programmatic", "llm")
"""Families of sources that a rule set or a prompt speaks for."""
SAMPLE = 500
MINIMUM = 100
"""Checked labels below which a precision under the floor fails nobody whose floor is within reach."""

_DRAWN = "labels.audit_drawn"
_WEEK = timedelta(days=7)
_LOOKS_BACK = 4


@dataclass(frozen=True, slots=True)
class Audit:
    """One source's standing.

    Attributes:
        source: which; labeller: the rule set or prompt in force, None where it is unnamed.
        week: ISO week of the newest sample; drawn: its size.
        to_label: example ids of it that the vendor has not settled yet.
        judged_week: week of the sample behind the verdict: the newest that decides, else the newest.
        verdict: precision of the labeller's labels in that sample.
        rolled_back: whether the labeller was taken back now; reason: why, empty where it was not.
        now_in_force: who speaks for the source from here on; None where nobody does or it is unnamed.
    """

    source: str
    labeller: str | None
    week: str
    drawn: int
    to_label: tuple[str, ...]
    judged_week: str
    verdict: Verdict
    rolled_back: bool
    reason: str
    now_in_force: str | None

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            **{name: getattr(self, name) for name in ("source", "labeller", "week", "drawn", "judged_week")},
            "to_label": list(self.to_label),
            "verdict": self.verdict.as_dict(),
            "rolled_back": self.rolled_back,
            "reason": self.reason,
            "now_in_force": self.now_in_force,
        }


def audit(
    store: LabelStore, story: Story, *, source: str | None = None, apply: bool = False, actor: str = "audit"
) -> list[Audit]:
    """Audit every source of a rule set or a prompt, or only ``source``.

    The first audit of a week draws that week's 500 examples at random from what the labeller says and writes
    them down; later ones judge them, as far as the vendor has labelled them.

    Args:
        apply: roll a failing labeller back to the one before it. It cannot come back under the same version.

    Raises:
        InputError: for a source without labels.
    """
    examples, labels = store.examples(story), store.labels(story)
    standing = {
        name: labeller
        for name, labeller in in_force(labels).items()
        if _family(name, story.labels) in AUDITED
    }
    if source is not None and source not in standing:
        raise InputError(
            "--source",
            expected="a source of a rule set or a prompt with labels",
            got=repr(source),
            next_step=nearest(source, standing),
        )
    chosen = [source] if source is not None else sorted(standing)
    cases = (_Case(store, story, examples, labels, name, standing[name], actor) for name in chosen)
    return [_audit(case, apply=apply) for case in cases]


def _family(source: str, policy: LabelPolicy) -> str | None:
    try:
        return family(source, policy)
    except InputError:  # a source the policy no longer accepts
        return None


@dataclass(frozen=True, slots=True)
class _Case:
    """One source and who speaks for it; examples and labels are the rows of the two tables."""

    store: LabelStore
    story: Story
    examples: pl.DataFrame
    labels: pl.DataFrame
    source: str
    labeller: str | None
    actor: str

    @property
    def own(self) -> pl.Expr:
        """The labels of the labeller."""
        by = pl.col("annotator_id").eq_missing(pl.lit(self.labeller, pl.String()))
        return (pl.col("label_source") == self.source) & by

    def entries(self, kind: str) -> list[Entry]:
        """What the ledger says about the labeller, oldest first."""
        return [
            entry
            for entry in self.store.ledger.entries(subject=subject(self.story), kind=kind)
            if (entry.body["source"], entry.body["labeller"]) == (self.source, self.labeller)
        ]

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write something about the labeller down."""
        self.store.ledger.append(
            kind=kind,
            subject=subject(self.story),
            body={"source": self.source, "labeller": self.labeller, **body},
            actor=self.actor,
            at=self.store.clock.now(),
        )


def _audit(case: _Case, *, apply: bool) -> Audit:
    samples = _samples(case)
    # The newest that decides; older samples than these say little about today's labels.
    recent = ((week, _check(case, sample)) for week, sample in samples[: -_LOOKS_BACK - 1 : -1])
    newest = next(recent)
    decided = (one for one in chain([newest], recent) if one[1].verdict.status is not Status.INSUFFICIENT)
    judged_week, judged = next(decided, newest)
    # An interrupted roll back is completed even if its evidence has aged meanwhile.
    rolled_back = apply and (judged.verdict.status is Status.FAIL or bool(_announced(case)))
    reason = _roll_back(case, judged.verdict) if rolled_back else ""
    now = in_force(case.store.labels(case.story)).get(case.source) if rolled_back else case.labeller
    week, sample = samples[-1]
    return Audit(
        source=case.source,
        labeller=case.labeller,
        week=week,
        drawn=len(sample),
        to_label=newest[1].waiting,
        judged_week=judged_week,
        verdict=judged.verdict,
        rolled_back=rolled_back,
        reason=reason,
        now_in_force=now,
    )


def _samples(case: _Case) -> list[tuple[str, list[str]]]:
    """Week and sample of every draw of this labeller, oldest first; this week's is drawn if it was not."""
    today = case.store.clock.now().isocalendar()
    week = f"{today.year}-W{today.week:02d}"
    drawn = {entry.body["week"]: list(entry.body["sample"]) for entry in case.entries(_DRAWN)[::-1]}
    if week not in drawn:
        drawn[week] = _draw(case, week)
        case.note(_DRAWN, {"week": week, "sample": drawn[week]})
    return sorted(drawn.items())


def _draw(case: _Case, week: str) -> list[str]:
    """This week's sample: of the labels of the last seven days, or of all where those are too few."""
    standing = current_votes(case.labels).filter(case.own)
    recent = standing.filter(pl.col("labeled_at") > case.store.clock.now() - _WEEK)
    votes = recent if recent["example_id"].n_unique() >= SAMPLE else standing
    key = ["example_id", "label_source"]
    seed = digest([case.story.name, case.source, case.labeller, week])
    return calibration_sample(
        case.examples,
        # Without the vendor's labels, so that every example has the same chance, labelled by it or not.
        case.labels.join(votes.select(key), on=key, how="semi"),
        case.story.labels,
        case.source,
        generator=np.random.default_rng(int(seed[:16], 16)),
        n=SAMPLE,
    )


@dataclass(frozen=True, slots=True)
class _Checked:
    """A sample judged: the precision in it, and the examples of it that the vendor has not settled."""

    verdict: Verdict
    waiting: tuple[str, ...]


def _check(case: _Case, sample: Sequence[str]) -> _Checked:
    """Precision on the sample; too few checked labels fail nobody whose floor is within reach."""
    policy, inside = case.story.labels, pl.col("example_id").is_in(sample)
    by_vendor = pl.col("label_source").str.starts_with(AUDITOR)
    examples, labels = case.examples.filter(inside), case.labels.filter(inside & (case.own | by_vendor))
    truth = consensus(examples, labels, replace(policy, sources=(AUDITOR,)))
    settled = set(truth.filter(pl.col("resolved_by").is_in(SETTLED))["example_id"])
    waiting = tuple(one for one in sample if one not in settled)
    known = {one.name: one for one in precision_verdicts(examples, labels, policy)}
    # All that was sampled may have been taken back since.
    nothing = precision_verdict(case.source, 0, 0, floor=policy.precision_floor)
    found = known.get(nothing.name, nothing)
    status, sentence = found.status, found.sentence
    if status is Status.FAIL and found.n < MINIMUM and (found.high or 0.0) >= policy.precision_floor:
        status = Status.INSUFFICIENT
    if status is Status.INSUFFICIENT and waiting:
        sentence = (
            f"{len(sample) - len(waiting)} of {len(sample)} sampled {case.source} labels were checked; "
            f"{len(waiting)} are still to be labelled by the {AUDITOR}."
        )
    verdict = replace(
        found,
        name=f"labels.audit.{case.source}",
        status=status,
        sentence=sentence,
        blocking=status is not Status.INSUFFICIENT,
    )
    return _Checked(verdict, waiting)


def _announced(case: _Case) -> list[Entry]:
    """Entries that roll this labeller back; an unnamed one is never known to be the same again."""
    return case.entries(ROLLED_BACK) if case.labeller is not None else []


def _roll_back(case: _Case, verdict: Verdict) -> str:
    """Say so first: what is said to be rolled back is, at the next audit at the latest; the reason said."""
    announced = _announced(case)
    if announced:  # and interrupted, or its labels went on coming
        first = announced[0]
        reason = f"{case.labeller} was rolled back on {first.at:%Y-%m-%d}: {first.body['reason']}"
    else:
        reason, policy = verdict.sentence, case.story.digest
        case.note(ROLLED_BACK, {"reason": reason, "verdict": verdict.as_dict(), "policy": policy})
    roll_back_source(
        case.store, case.story, case.source, labeller=case.labeller, actor=case.actor, reason=reason
    )
    return reason
