"""Is this a problem for a model at all? The customer's letter and the two options, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

REVIEWERS = ("pm", "engineering_manager", "customer_insights")
"""Who must believe the letter: any one of them ends the proposal."""


class Bend(StrEnum):
    """Why the bar for a model may bend: rules that adversaries learn, or a choice that is each user's own."""

    NONE = "none"
    ADVERSARIAL = "adversarial"
    PERSONALISATION = "personalisation"


@dataclass(frozen=True, slots=True)
class Review:
    """What one reader of the letter said.

    Attributes:
        role: one of :data:`REVIEWERS`, or any other.
        name: who.
        believes: whether this customer would feel it.
        remark: why, in a sentence; empty when nothing was said.
    """

    role: str
    name: str
    believes: bool
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """One page in the customer's voice.

    Attributes:
        persona: name, age, place and reading habits.
        pain: what broke, in the customer's own words.
        wish: what would have made the customer come back.
        why_now: what changed.
        measure: what will be measured, and what counts as success.
        reviews: what its readers said.
    """

    persona: str
    pain: str
    wish: str
    why_now: str
    measure: str
    reviews: tuple[Review, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One way of helping the customer.

    Attributes:
        what: in a sentence.
        lift: absolute change of the metric if it works, (low, high), as shares.
        probability: that it clearly works.
        weeks: engineer-weeks to build it.
        engineers: who build it side by side.
        test_weeks: weeks the test takes after that.
    """

    what: str
    lift: tuple[float, float]
    probability: float
    weeks: float
    engineers: int
    test_weeks: float

    @property
    def middle(self) -> float:
        return (self.lift[0] + self.lift[1]) / 2

    @property
    def delivered(self) -> float:
        """Expected lift: probability times the middle of the range."""
        return self.probability * self.middle

    @property
    def per_week(self) -> float:
        """Expected lift per engineer-week."""
        return self.delivered / self.weeks

    @property
    def calendar_weeks(self) -> float:
        """Until it is shipped: build and test."""
        return self.weeks / self.engineers + self.test_weeks


@dataclass(frozen=True, slots=True)
class Labels:
    """What a model could learn from.

    Attributes:
        count: labelled examples there are.
        per_month: new ones a month.
        dimensions: inputs that matter to the decision.
    """

    count: int
    per_month: int
    dimensions: int


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody outside the team who decides against the break-even."""

    role: str
    name: str
    justification: str


@dataclass(frozen=True, slots=True)
class Observed:
    """How the first stage has done since it shipped.

    Attributes:
        weeks: since the launch.
        lift: measured, (value, low, high), absolute, as shares.
        by_cohort: the same value per cohort; empty where nobody has looked.
    """

    weeks: float
    lift: tuple[float, float, float]
    by_cohort: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Staging:
    """When the second stage may be asked for.

    Attributes:
        settle_weeks: weeks the first stage must have run.
        achievable: lift that seems reachable at all, as a share.
        per_week: expected lift per engineer-week that the next quarter's other candidates bring.
        observed: what the first stage did, None before it shipped.
    """

    settle_weeks: float
    achievable: float
    per_week: float
    observed: Observed | None = None


@dataclass(frozen=True, slots=True)
class Framing:
    """A proposal as framed.

    Attributes:
        name: also its ledger subject.
        title: for people.
        metric: what both options move.
        letter: None in a file that only compares.
        heuristic: the rule-based option; None where nobody can write one, with ``no_heuristic`` saying why.
        model: the model option; None in a file that is only a letter.
        labels: what a model could learn from.
        bend: why the bar bends, with its justification.
        staging: when the model may come after the heuristic.
        override: a decision against the break-even, or None.
        horizon_weeks: how far ahead the options are compared.
        experiment: name of the experiment of the first stage, or empty.
        tenets, risks, questions: for the decision document; risks and questions with their answers.
        since: when the letter was written.
    """

    name: str
    title: str
    metric: str = ""
    letter: Letter | None = None
    heuristic: Option | None = None
    no_heuristic: str = ""
    model: Option | None = None
    labels: Labels = Labels(0, 0, 0)
    bend: Bend = Bend.NONE
    bend_because: str = ""
    staging: Staging | None = None
    override: Override | None = None
    horizon_weeks: float = 52.0
    experiment: str = ""
    tenets: tuple[str, ...] = ()
    risks: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    since: date | None = None
