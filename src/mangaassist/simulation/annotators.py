"""Simulated vendor annotators: people with their own error, two language pools, lots, seniors, late answers.

Everything about one example is drawn from a generator keyed by that example, so that labelling a part,
the whole, or the same again under another guideline always reaches the same people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mangaassist.core.language import Language
from mangaassist.labels.records import Label
from mangaassist.simulation.conversations import LABELS
from mangaassist.simulation.draws import pick
from mangaassist.simulation.samples import Sample

POOLS = ("en", "ja")
TRIPLE_SHARE = 0.10
TEAM = 3

# What each label is taken for when somebody is wrong about it.
RELATED = {
    "search_title": ("stock_availability", "product_detail", "series_info"),
    "recommendation": ("review_opinion", "search_title"),
    "product_detail": ("series_info", "search_title", "price_promotion"),
    "series_info": ("product_detail", "search_title", "stock_availability"),
    "stock_availability": ("search_title", "order_status", "series_info"),
    "price_promotion": ("product_detail", "payment_issue", "shipping_info"),
    "order_status": ("shipping_info", "return_request", "escalation"),
    "shipping_info": ("order_status", "price_promotion"),
    "return_request": ("order_status", "escalation", "payment_issue"),
    "payment_issue": ("order_status", "account_help", "price_promotion"),
    "account_help": ("payment_issue", "escalation"),
    "review_opinion": ("recommendation", "product_detail"),
    "escalation": ("order_status", "return_request", "account_help"),
    "greeting_chitchat": ("out_of_scope", "recommendation"),
    "out_of_scope": ("greeting_chitchat", "search_title"),
}
_RELATED_SHARE = 0.85
HARD_SHARE, HARD_ERROR, HARD_SENIOR_ERROR = 0.05, 0.25, 0.15
"""Some utterances are hard for everybody: this share, with at least these chances of a wrong label."""
_MEDIAN_HOURS, _LATE_SHARE, _LATE_DAYS = 30.0, 0.05, 12.0


@dataclass(frozen=True, slots=True)
class Annotator:
    """One simulated person.

    Attributes:
        identity: name in the label table; pool: the language pool they work in.
        error: probability of a wrong label.
        lapses_from: from when on their error is ``lapsed_error``; None for never.
    """

    identity: str
    pool: str
    error: float
    lapses_from: datetime | None = None
    lapsed_error: float = 0.65

    def error_at(self, at: datetime) -> float:
        lapsed = self.lapses_from is not None and at >= self.lapses_from
        return self.lapsed_error if lapsed else self.error


@dataclass(frozen=True, slots=True)
class Vendor:
    """A labelling vendor.

    Attributes:
        annotators: all who label, both pools; seniors: one per pool, who settle disagreements.
        since: when they began; teams take turns from that week on.
    """

    annotators: tuple[Annotator, ...]
    seniors: tuple[Annotator, ...]
    since: datetime

    def team(self, pool: str, at: datetime) -> tuple[Annotator, ...]:
        """The three annotators of a pool that share the lot of the week of ``at``, in turn."""
        first_monday = self.since.toordinal() - self.since.weekday()
        week = (at.toordinal() - first_monday) // 7
        members = [one for one in self.annotators if one.pool == pool]
        return tuple(members[(week + offset) % len(members)] for offset in range(TEAM))

    def senior(self, pool: str) -> Annotator:
        return next(one for one in self.seniors if one.pool == pool)


@dataclass(frozen=True, slots=True)
class Misreading:
    """A guideline everybody at the vendor reads the same wrong way: a planted, silent fault.

    Because all agree, no agreement statistic can see it.

    Attributes:
        families: substring of the phrasing families it is about ("ja-recall").
        label: what they are labelled as.
        guideline: version written into the label's metadata, as for any other label.
    """

    families: str = "ja-recall"
    label: str = "order_status"
    guideline: str = "2"


def hire(
    generator: np.random.Generator,
    *,
    since: datetime,
    per_pool: int = 5,
    japanese_lapse: datetime | None = None,
) -> Vendor:
    """A vendor whose annotators err between 1.5% and 5.5% of the time, each at a rate of their own.

    Args:
        japanese_lapse: from when on the first annotator of the Japanese pool is mostly wrong.
    """
    people = []
    for pool in POOLS:
        for number, error in enumerate(generator.uniform(0.015, 0.055, size=per_pool).tolist(), start=1):
            lapse = japanese_lapse if (pool, number) == ("ja", 1) else None
            people.append(Annotator(f"vendor-{pool}-{number:02d}", pool, error, lapse))
    seniors = tuple(Annotator(f"vendor-{pool}-senior", pool, 0.005) for pool in POOLS)
    return Vendor(tuple(people), seniors, since)


def pool_of(language: Language) -> str:
    """Mixed utterances go to the Japanese pool, whose annotators read both languages."""
    return "en" if language is Language.EN else "ja"


def mistake(intent: str, generator: np.random.Generator) -> str:
    """A wrong label for ``intent``: usually a related one, otherwise any other."""
    kind, which = generator.random(2).tolist()
    if kind < _RELATED_SHARE:
        return pick(RELATED[intent], which)
    return pick([label for label in LABELS if label != intent], which)


def annotate(
    samples: Iterable[Sample],
    vendor: Vendor,
    *,
    keyed: Callable[[str], np.random.Generator],
    misreading: Misreading | None = None,
) -> list[Label]:
    """Vendor labels for ``samples``: 90% by two people, 10% by three, disagreements settled by a senior.

    Args:
        keyed: the generator belonging to an example id.
        misreading: a guideline error in force for all of these labels.

    Returns:
        One label per vote; lots are named by pool and the ISO week of capture.
    """
    found: list[Label] = []
    for sample in samples:
        found.extend(_votes(sample, vendor, keyed(sample.example_id), misreading))
    return found


def _votes(
    sample: Sample, vendor: Vendor, generator: np.random.Generator, misreading: Misreading | None
) -> list[Label]:
    pool = pool_of(sample.language)
    year, week, _ = sample.captured_at.isocalendar()
    lot = f"{pool}-{year}-W{week:02d}"
    voters = TEAM if generator.random() < TRIPLE_SHARE else TEAM - 1
    team = vendor.team(pool, sample.captured_at)
    hard = generator.random() < HARD_SHARE
    order = generator.permutation(TEAM)[:voters].tolist()
    votes = [
        _vote(sample, team[index], generator, hard=hard, misreading=misreading, lot=lot) for index in order
    ]
    if len({vote.label for vote in votes}) > 1:
        last = max(vote.labeled_at for vote in votes)
        senior = vendor.senior(pool)
        votes.append(_vote(sample, senior, generator, hard=hard, misreading=misreading, lot=lot, after=last))
    return votes


def _vote(
    sample: Sample,
    annotator: Annotator,
    generator: np.random.Generator,
    *,
    hard: bool,
    misreading: Misreading | None,
    lot: str,
    after: datetime | None = None,
) -> Label:
    at = (after or sample.captured_at) + _delay(generator)
    floor = 0.0 if not hard else HARD_ERROR if after is None else HARD_SENIOR_ERROR
    wrong = generator.random() < max(floor, annotator.error_at(at))
    label = mistake(sample.intent, generator) if wrong else sample.intent
    guideline = "1"
    if misreading is not None and misreading.families in sample.family:
        label, guideline = misreading.label, misreading.guideline
    return Label(
        example_id=sample.example_id,
        label=label,
        source="vendor",
        captured_at=sample.captured_at,
        labeled_at=at,
        annotator_id=annotator.identity,
        lot=lot,
        escalation=after is not None,
        metadata={"guideline": guideline},
    )


def _delay(generator: np.random.Generator) -> timedelta:
    late, spread = generator.random(), generator.lognormal(0.0, 0.5)
    hours = _MEDIAN_HOURS * spread
    return timedelta(hours=hours, days=_LATE_DAYS * generator.random() if late < _LATE_SHARE else 0.0)


def curate(
    samples: Sequence[Sample], vendor: Vendor, *, keyed: Callable[[str], np.random.Generator]
) -> list[Label]:
    """Labels for a golden set: the senior of each example's pool, outside any lot."""
    found = []
    for sample in samples:
        generator = keyed(sample.example_id)
        senior = vendor.senior(pool_of(sample.language))
        floor = HARD_SENIOR_ERROR if generator.random() < HARD_SHARE else 0.0
        wrong = generator.random() < max(floor, senior.error)
        found.append(
            Label(
                example_id=sample.example_id,
                label=mistake(sample.intent, generator) if wrong else sample.intent,
                source="vendor_curated",
                captured_at=sample.captured_at,
                labeled_at=sample.captured_at + timedelta(hours=24.0 * generator.random()),
                annotator_id=senior.identity,
                role="golden",
            )
        )
    return found
