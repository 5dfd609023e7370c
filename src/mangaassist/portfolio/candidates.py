"""What a team could do next quarter, as stated on the intake form: frozen values, one per idea."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a candidate is, which decides whether it competes for a slot."""

    EXPERIMENT = "experiment"
    MAINTENANCE = "maintenance"
    TOOLING = "tooling"


COST_RISKS = ("data_availability", "infrastructure", "training_pipeline", "integration")
"""The risks every pre-mortem names, because each of them has doubled an estimate before."""


@dataclass(frozen=True, slots=True)
class Premortem:
    """Why this will have cost too much, written before it starts.

    Attributes:
        risks: one sentence per name in :data:`COST_RISKS`.
        contingency: what is cut or done instead when one of them comes true.
        owner: who watches it.
    """

    risks: Mapping[str, str]
    contingency: str
    owner: str


@dataclass(frozen=True, slots=True)
class Learning:
    """What an experiment teaches in either direction, registered before it runs.

    Attributes:
        question: what is not known today.
        if_it_wins, if_it_loses: what is done afterwards; the same text in both would be no learning.
        gain: worth of following the direction when it is right, beyond this quarter, in the portfolio's unit.
        weeks_at_stake: engineer-weeks lost by following it when it is wrong.
        false_alarm: probability that a wrong direction looks right, the level of the test.
    """

    question: str
    if_it_wins: str
    if_it_loses: str
    gain: float
    weeks_at_stake: float
    false_alarm: float = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """One line of the backlog.

    Attributes:
        name: unique, lower-case.
        title: for people.
        kind: what it is.
        team: whose engineers build it.
        metric: what it moves; a name in the portfolio's ``metrics``.
        reach: units (sessions, users) a quarter that it touches.
        impact: absolute change of the metric if it works, as a share (0.005 is half a point).
        evidence: probability that the effect exists, from prior evidence.
        detectability: probability that the quarter's test shows it when it does.
        weeks: engineer-weeks as estimated by those who build it.
        cost_class: scope class its estimate is calibrated with; empty for none.
        after: candidates whose result it waits for.
        needs: candidates that must run with it, or be done.
        excludes: candidates that must not run in the same quarter (one moves the other's baseline).
        traffic: share of each exclusivity class of users its test occupies.
        learning: its registered learning target, or None.
        premortem: its pre-mortem, or None.
        framing: name of the framing that says this is worth ML, or empty.
        experiment: name of the experiment that tests it, once registered.
        required: why it must be done whatever it is worth; empty when it competes.
        restores: surface whose offline harness it rebuilds; empty for none.
        hold: why people keep it out this quarter; empty when they do not.
        note: a remark for the narrative.
        line: where it stands in the file.
    """

    name: str
    title: str
    kind: Kind
    team: str
    weeks: float
    metric: str = ""
    reach: float = 0.0
    impact: float = 0.0
    evidence: float = 1.0
    detectability: float = 1.0
    cost_class: str = ""
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    traffic: Mapping[str, float] = field(default_factory=dict)
    learning: Learning | None = None
    premortem: Premortem | None = None
    framing: str = ""
    experiment: str = ""
    required: str = ""
    restores: str = ""
    hold: str = ""
    note: str = ""
    line: int = 0

    @property
    def confidence(self) -> float:
        """Probability of a visible win as stated: prior evidence times detectability."""
        return self.evidence * self.detectability


@dataclass(frozen=True, slots=True)
class Past:
    """One finished candidate, for calibration.

    Attributes:
        name: of the candidate.
        confidence: probability of a win stated before it started.
        won: whether it won; None while open or where nobody knows.
        weeks: engineer-weeks estimated before it started.
        actual_weeks: what it took; None where unknown.
        cost_class: scope class of the estimate; empty for none.
    """

    name: str
    confidence: float
    won: bool | None
    weeks: float
    actual_weeks: float | None
    cost_class: str = ""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """One quarter's question.

    Attributes:
        name: of the quarter, also its ledger subject.
        unit: what one unit of worth is, in words.
        metrics: worth of one point of each metric on one unit of reach; None where nobody has priced it.
        week_worth: what an engineer-week earns elsewhere: below it nothing is picked, wasted weeks cost it.
        slots: how many can run beside each other without losing quality.
        swing_slots: how many of them are kept for bets whose main worth is what they teach.
        teams: engineer-weeks a quarter per team that takes part.
        team_slots: most picks per team, for the teams that have such a limit.
        other_teams: teams candidates may belong to that do not take part.
        traffic: share of users per exclusivity class that tests may occupy.
        candidates: in the order of the file.
        done: names of earlier work that dependencies may name.
        history: finished candidates the file brings along.
        gut_feel: what people would have picked without any of this; recorded, never run.
    """

    name: str
    unit: str
    metrics: Mapping[str, float | None]
    week_worth: float
    slots: int
    swing_slots: int
    teams: Mapping[str, float]
    candidates: tuple[Candidate, ...]
    team_slots: Mapping[str, int] = field(default_factory=dict)
    other_teams: tuple[str, ...] = ()
    traffic: Mapping[str, float] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    history: tuple[Past, ...] = ()
    gut_feel: tuple[str, ...] = ()

    def candidate(self, name: str) -> Candidate:
        """The candidate called ``name``, which must be there."""
        return next(one for one in self.candidates if one.name == name)
