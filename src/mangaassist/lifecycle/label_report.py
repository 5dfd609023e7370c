"""What a person should know about a story's labels, in one value: for the command and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Verdict
from mangaassist.labels import versions as label_versions
from mangaassist.labels.agreement import alpha, multiply_annotated
from mangaassist.labels.annotators import Standing, judged_votes, running_kappa, series_rows, standings
from mangaassist.labels.escalations import Disagreement, queue
from mangaassist.labels.intake import subject
from mangaassist.labels.lots import LotReview, lot_reviews, lot_votes
from mangaassist.labels.overlap import planned_lots
from mangaassist.labels.pauses import Pause, pauses
from mangaassist.labels.quality import agreement_verdicts, precision_verdicts
from mangaassist.labels.reporting import Confusion, Volume, confusions, volume
from mangaassist.lifecycle.label_errors import Suspects, suspects
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.intervals import Estimate

POOL_NAMES = {"en": "label_iaa_en", "ja": "label_iaa_jp"}
"""Agreement pool to the name its agreement goes by (LAB-7)."""
_LISTED = 50


@dataclass(frozen=True, slots=True)
class PoolAgreement:
    """The accepted lots of one language pool: the verdict on kappa, and alpha on the same votes."""

    pool: str
    verdict: Verdict
    alpha: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """The agreement as a JSON object."""
        return {
            "pool": self.pool,
            "kappa": self.verdict.value,
            "low": self.verdict.low,
            "high": self.verdict.high,
            "n": self.verdict.n,
            "alpha": asdict(self.alpha) if self.alpha else None,
            "verdict": self.verdict.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class LabelReport:
    """A story's labels now.

    Attributes:
        story, at: which, when. examples, versions: examples on record, finalised label versions.
        volume: standing votes per week and source.
        pools, lots: agreement per language pool and per lot.
        planned: names of planned lots that have not come back at all.
        precision: each other source against the vendor.
        annotators, running, pauses: where people stand, their kappa by week, every pause on record.
        disagreements, waiting: the first of those that wait for a senior, and how many there are.
        confusions: source against source.
        suspects: labels that are probably wrong.
    """

    story: str
    at: datetime
    examples: int
    versions: int
    volume: tuple[Volume, ...]
    pools: tuple[PoolAgreement, ...]
    lots: tuple[LotReview, ...]
    planned: tuple[str, ...]
    precision: tuple[Verdict, ...]
    annotators: tuple[Standing, ...]
    running: Mapping[str, tuple[tuple[datetime, Estimate | None], ...]]
    pauses: tuple[Pause, ...]
    disagreements: tuple[Disagreement, ...]
    waiting: int
    confusions: tuple[Confusion, ...]
    suspects: Suspects

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "story": self.story,
            "at": isoformat(self.at),
            "examples": self.examples,
            "label_versions": self.versions,
            "volume": [one.as_dict() for one in self.volume],
            "pools": {POOL_NAMES[one.pool]: one.as_dict() for one in self.pools},
            "lots": [one.as_dict() for one in self.lots],
            "planned_not_delivered": list(self.planned),
            "precision": [one.as_dict() for one in self.precision],
            "annotators": [one.as_dict() for one in self.annotators],
            "running_kappa": list(series_rows(self.running)),
            "pauses": [one.as_dict() for one in self.pauses],
            "disagreements": {
                "waiting": self.waiting,
                "first": [one.as_dict() for one in self.disagreements],
            },
            "source_confusion": [one.as_dict() for one in self.confusions],
            "probable_errors": self.suspects.as_dict(),
        }


def label_report(platform: Platform, name: str, *, compute: bool = True) -> LabelReport:
    """Everything there is to know about the labels of ``name`` as they are now; nothing is restated.

    Args:
        compute: whether probable errors may be computed anew, which trains a model.
    """
    story, store, at = platform.story(name), platform.labels, platform.clock.now()
    examples, labels = store.examples(story), store.labels(story)
    lots = lot_reviews(store, story)
    judged = judged_votes(examples, labels, story.labels)
    paused = pauses(store.ledger, subject(story))
    waiting = queue(examples, labels, story.labels)
    returned = {one.lot for one in lots}
    return LabelReport(
        story=name,
        at=at,
        examples=examples.n_unique("example_id"),
        versions=len(label_versions.versions(store, story)),
        volume=tuple(volume(examples, labels, story.labels)),
        pools=pool_agreements(platform, name),
        lots=tuple(lots),
        planned=tuple(one.lot for one in planned_lots(store, story) if one.lot not in returned),
        precision=tuple(precision_verdicts(examples, labels, story.labels)),
        annotators=tuple(standings(judged, paused, at=at)),
        running=running_kappa(judged, at=at),
        pauses=tuple(paused),
        disagreements=tuple(waiting[:_LISTED]),
        waiting=len(waiting),
        confusions=tuple(confusions(examples, labels, story.labels)),
        suspects=suspects(platform, name, compute=compute),
    )


def pool_agreements(platform: Platform, name: str) -> tuple[PoolAgreement, ...]:
    """label_iaa_en and label_iaa_jp: kappa of the accepted lots against the floor, alpha beside it."""
    story, store = platform.story(name), platform.labels
    examples, labels = store.examples(story), store.labels(story)
    votes = lot_votes(examples, labels, story.labels)
    found = []
    for verdict in agreement_verdicts(examples, labels, story.labels):
        pool = verdict.name.rpartition(".")[2]
        used = votes.filter(
            (votes["pool"] == pool) & ~votes["escalation"] & (votes["review_status"] == "qa_passed")
        )
        found.append(PoolAgreement(pool, verdict, alpha(multiply_annotated(used)) if verdict.value else None))
    return tuple(found)
