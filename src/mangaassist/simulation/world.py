"""The one entry to the simulation: a shop with a past, a present and, if planted, a season.

Everything follows from (seed, start, size, season). Windows compose: the requests of two adjacent windows
are the requests of their union.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError
from mangaassist.labels.records import Label
from mangaassist.simulation import annotators, labeller
from mangaassist.simulation.annotators import Misreading, Vendor
from mangaassist.simulation.catalog import popularity, read_catalog
from mangaassist.simulation.conversations import LABELS, Season, Stage, Turn, converse, midnight
from mangaassist.simulation.draws import draws, pick
from mangaassist.simulation.labeller import PROMPTS, LabellingRules, SimulatedLlm
from mangaassist.simulation.phrasings import LANGUAGES, read_families, speak
from mangaassist.simulation.samples import Sample, samples_of
from mangaassist.simulation.shoppers import LOCALES, Shoppers, feature_rows, populate
from mangaassist.simulation.traffic import Outcome, Request, outcome, requests_of

if TYPE_CHECKING:
    import polars as pl

_ONE_DAY = timedelta(days=1)
_STREAMS = (
    "popularity",
    "shoppers",
    "history",
    "golden",
    "traffic",
    "ids",
    "vendor",
    "votes",
    "llm",
    "features",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How large the simulated shop is.

    Attributes:
        labelled: utterances of history, at most (repeated texts are one example).
        golden: golden examples, at most.
        requests_per_day: utterances of live traffic a day.
        shoppers: accounts.
        history_days: how far back the history goes.
        future_days: how long after the start shoppers keep ordering and traffic can be played.
    """

    labelled: int = 6_000
    golden: int = 1_500
    requests_per_day: int = 2_000
    shoppers: int = 1_500
    history_days: int = 84
    future_days: int = 90


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A simulated shop; build one with :func:`build_world`. Two worlds are the same only if they are one.

    Attributes:
        seed: everything random follows from it.
        start: the present: history ends and live traffic begins here.
        size: how much of everything.
        stage: who talks about what, in which words, under which season.
        vendor: the annotators.
    """

    seed: int
    start: datetime
    size: Size
    stage: Stage
    vendor: Vendor

    @property
    def shoppers(self) -> Shoppers:
        return self.stage.shoppers

    @property
    def history_start(self) -> datetime:
        return self.start - timedelta(days=self.size.history_days)

    def history(self) -> list[Sample]:
        """Utterances of the weeks before the start that were drawn for labelling, role train."""
        return list(_history(self))

    def golden(self) -> list[Sample]:
        """A frozen set over all labels and languages in phrasings that neither history nor traffic uses.

        Labels and their families weigh the same here, whatever their share of traffic.
        """
        return list(_golden(self))

    def requests(self, since: datetime, until: datetime) -> list[Request]:
        """Live requests with ``since <= at < until``, in order of time.

        Raises:
            InputError: before the start or after the end of the simulated future.
        """
        self._check_window(since, until)
        found: list[Request] = []
        # A conversation may run past midnight, so the day before a window can reach into it.
        day = max(self.start, midnight(since) - _ONE_DAY)
        while day < until:
            found.extend(one for one in _day(self, day) if since <= one.at < until)
            day += _ONE_DAY
        return sorted(found, key=lambda one: (one.at, one.request_id))

    def live(self, requests: Iterable[Request], *, limit: int) -> list[Sample]:
        """Conversations out of ``requests`` drawn for labelling, about ``limit`` utterances.

        A text counts at its first occurrence only, and never when it is in the golden set.
        """
        held_out = {one.example_id for one in self.golden()}
        found = samples_of((request.turn for request in requests), self.shoppers, role="train")
        return _thin([one for one in found if one.example_id not in held_out], limit)

    def outcome(self, request: Request, label: str, *, abstains: bool) -> Outcome:
        """What becomes of answering ``request`` with ``label``; see :mod:`~.traffic`."""
        return outcome(request, label, abstains=abstains)

    def vendor_labels(
        self,
        samples: Sequence[Sample],
        *,
        known_by: datetime | None = None,
        misreading: Misreading | None = None,
    ) -> list[Label]:
        """Vendor votes on ``samples`` that have arrived by ``known_by`` (None: all, however late).

        The same samples under a ``misreading`` reach the same annotators, so that a later delivery of
        their labels replaces the earlier one.
        """
        found = annotators.annotate(samples, self.vendor, keyed=self._keyed("votes"), misreading=misreading)
        return _arrived(found, known_by)

    def golden_labels(self, samples: Sequence[Sample]) -> list[Label]:
        """The seniors' labels on a golden set."""
        return annotators.curate(samples, self.vendor, keyed=self._keyed("votes"))

    def llm_labels(
        self,
        samples: Sequence[Sample],
        *,
        known_by: datetime | None = None,
        model: SimulatedLlm = PROMPTS["intent-v3"],
    ) -> list[Label]:
        """Labels of the simulated language model."""
        return _arrived(labeller.llm_labels(samples, model, keyed=self._keyed("llm")), known_by)

    def programmatic_labels(
        self,
        samples: Sequence[Sample],
        rules: LabellingRules,
        *,
        version: str,
        known_by: datetime | None = None,
    ) -> list[Label]:
        """Labels by ``rules``: real functions of text, passed in by whoever owns them."""
        return _arrived(labeller.programmatic_labels(samples, rules, version=version), known_by)

    def feature_rows(self, since: datetime, until: datetime, *, every: timedelta = _ONE_DAY) -> pl.DataFrame:
        """Nightly feature rows per account; see :func:`~.shoppers.feature_rows`."""
        generator = self.generator("features", self.number(since))
        return feature_rows(self.shoppers, generator, since=since, until=until, every=every)

    def _check_window(self, since: datetime, until: datetime) -> None:
        end = self.start + timedelta(days=self.size.future_days)
        if not self.start <= since <= until <= end:
            raise InputError(
                "traffic window",
                expected=f"times between {self.start:%Y-%m-%d} and {end:%Y-%m-%d}, in order",
                got=f"{since.isoformat()} to {until.isoformat()}",
                next_step="Move the window, or build the world with another start or future_days.",
            )

    def number(self, day: datetime) -> int:
        """Days since the history began, so that a world moved by whole weeks draws the same."""
        return (day - self.history_start).days

    def generator(self, stream: str, number: int) -> np.random.Generator:
        """The generator of one part of the world; parts never share one."""
        return np.random.default_rng([self.seed, _STREAMS.index(stream), number])

    def _keyed(self, stream: str) -> Callable[[str], np.random.Generator]:
        prefix = [self.seed, _STREAMS.index(stream)]
        return lambda identity: np.random.default_rng([*prefix, int(identity[:12], 16)])


def build_world(
    seed: int,
    start: datetime,
    size: Size | None = None,
    *,
    season: Season | None = None,
    japanese_lapse: datetime | None = None,
) -> World:
    """A simulated shop whose present is midnight of ``start``.

    Args:
        season: the planted event; None for a month in which nothing happens.
        japanese_lapse: from when on one Japanese annotator is mostly wrong; None for never.

    Raises:
        InputError: for a naive ``start``, or sizes that are not positive.
    """
    size = size or Size()
    start = midnight(utc(start, field="start"))
    smallest = min(size.labelled, size.golden, size.requests_per_day, size.shoppers, size.history_days)
    if smallest < 1 or size.future_days < 0:
        raise InputError(
            "world size",
            expected="positive numbers",
            got=str(size),
            next_step="Leave out the field to get its default.",
        )
    streams = {name: np.random.default_rng([seed, number, 0]) for number, name in enumerate(_STREAMS)}
    catalog = read_catalog()
    shoppers = populate(
        streams["shoppers"],
        count=size.shoppers,
        since=start - timedelta(days=size.history_days),
        until=start + timedelta(days=size.future_days),
    )
    vendor = annotators.hire(
        streams["vendor"], since=start - timedelta(days=size.history_days), japanese_lapse=japanese_lapse
    )
    stage = Stage(shoppers, read_families(), catalog, popularity(catalog, streams["popularity"]), season)
    return World(seed, start, size, stage, vendor)


# Small windows are asked for one after the other, and again when the nights' labels are drawn, so the last
# days stay in memory.
@lru_cache(maxsize=8)
def _day(world: World, day: datetime) -> tuple[Request, ...]:
    generator = world.generator("traffic", world.number(day))
    turns = converse(world.stage, generator, day=day, turns=world.size.requests_per_day)
    return tuple(requests_of(turns, world.shoppers, world.generator("ids", world.number(day))))


@lru_cache(maxsize=2)
def _history(world: World) -> tuple[Sample, ...]:
    per_day = world.size.labelled / world.size.history_days
    turns: list[Turn] = []
    day = world.history_start
    while day < world.start:
        generator = world.generator("history", world.number(day))
        # A little more than needed, because texts repeat.
        turns.extend(converse(world.stage, generator, day=day, turns=round(per_day * 1.2)))
        day += _ONE_DAY
    kept = (turn for turn in turns if turn.at < world.start)
    return tuple(_thin(samples_of(kept, world.shoppers, role="train"), world.size.labelled))


@lru_cache(maxsize=2)
def _golden(world: World) -> tuple[Sample, ...]:
    draw = draws(world.generator("golden", 0))
    turns = [turn for number in range(world.size.golden * 2) if (turn := _golden_turn(world, draw, number))]
    # Two families can meet in one short sentence; a frozen set gives way to what was really said.
    said_before = {one.example_id for one in _history(world)}
    found = samples_of(turns, world.shoppers, role="golden")
    return tuple([one for one in found if one.example_id not in said_before][: world.size.golden])


def _golden_turn(world: World, draw: Iterator[float], number: int) -> Turn | None:
    """One curated utterance by a random shopper; None when they had no account before the start."""
    stage, shoppers = world.stage, world.shoppers
    shopper = int(next(draw) * len(shoppers))
    language = _golden_language(int(shoppers.locale[shopper]), next(draw))
    family = pick(stage.families[(pick(LABELS, next(draw)), language, "golden")], next(draw))
    register = int(shoppers.register[shopper])
    said = speak(family, draw, catalog=stage.catalog, asked=stage.asked, register=register)
    opened = datetime.fromtimestamp(shoppers.created[shopper], tz=UTC)
    earliest = max(world.history_start, opened)
    at = earliest + next(draw) * (world.start - earliest)
    return Turn(at, shopper, f"g{number:06d}", 1, said) if opened < world.start else None


def _arrived(labels: list[Label], known_by: datetime | None) -> list[Label]:
    return labels if known_by is None else [one for one in labels if one.labeled_at <= known_by]


def _thin(samples: list[Sample], limit: int) -> list[Sample]:
    """At most about ``limit`` samples, whole conversations, spread evenly over time."""
    if len(samples) <= limit:
        return samples
    names = list(dict.fromkeys(one.example.group_id for one in samples))
    keep = max(1, round(len(names) * limit / len(samples)))
    chosen = {names[int(index)] for index in np.linspace(0, len(names) - 1, keep)}
    return [one for one in samples if one.example.group_id in chosen]


def _golden_language(locale: int, draw: float) -> str:
    """English shoppers in English, Japanese ones a quarter mixed, bilingual ones in anything."""
    if LOCALES[locale] == "en-US":
        return "en"
    if LOCALES[locale] == "ja-JP":
        return "ja" if draw < 0.75 else "mixed"
    return pick(LANGUAGES, draw)
