"""What an experiment promised before anybody was randomised: frozen values, one per idea."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Kind(StrEnum):
    """What a metric is per unit, which decides its variance."""

    MEAN = "mean"
    PROPORTION = "proportion"
    RATIO = "ratio"
    QUANTILE = "quantile"


class Transform(StrEnum):
    """What is done to a unit's value before it is averaged."""

    NONE = "none"
    LOG = "log"
    WINSORISE = "winsorise"
    RANK = "rank"


class Rule(StrEnum):
    """The question a guardrail asks; the two kinds of question are never mixed in one correction.

    ``harm`` vetoes on shown harm beyond the threshold. ``safe`` asks for proof of no harm beyond it.
    ``ceiling`` holds a level of the treated arm under a limit. ``cohort`` stands for the primary metric in
    every registered cohort.
    """

    HARM = "harm"
    SAFE = "safe"
    CEILING = "ceiling"
    COHORT = "cohort"


class Correction(StrEnum):
    """How the harm family is corrected. Intersection-union leaves alpha alone: any breach at alpha vetoes."""

    INTERSECTION_UNION = "intersection-union"
    HOLM = "holm"
    BONFERRONI = "bonferroni"


Better = Literal["higher", "lower"]
Method = Literal["fixed", "group-sequential", "always-valid"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per arm.

    Attributes:
        name: how verdicts call it.
        kind: what it is per unit.
        column: column of the unit table; the numerator of a ratio.
        denominator: column of a ratio's denominator, empty otherwise.
        quantile: level of a quantile metric, 0 otherwise.
        better: which direction is good.
        transform: applied to ``column`` per unit before averaging.
        cap: registered upper limit of a winsorised metric, in its own unit; None takes the pooled quantile
            ``cap_quantile``, which costs a second pass over one column.
        cap_quantile: see ``cap``.
        covariates: columns measured before assignment that CUPED may use; "a/b" is the ratio of two.
    """

    name: str
    kind: Kind
    column: str
    denominator: str = ""
    quantile: float = 0.0
    better: Better = "higher"
    transform: Transform = Transform.NONE
    cap: float | None = None
    cap_quantile: float = 0.99
    covariates: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Everything it reads from the unit table, its own columns first."""
        own = (self.column, self.denominator) if self.denominator else (self.column,)
        return own + self.covariate_columns

    @property
    def covariate_columns(self) -> tuple[str, ...]:
        """Columns of the covariates, a ratio's two after each other."""
        return tuple(part.strip() for one in self.covariates for part in one.split("/"))


@dataclass(frozen=True, slots=True)
class Target:
    """The primary metric and the effect worth finding.

    Attributes:
        metric: what is measured.
        baseline: its level without treatment, in its own unit; 0 where unknown (analysis only).
        sigma: standard deviation per unit, same unit; 0 where unknown.
        mde: smallest effect worth finding, absolute, same unit, above 0; 0 where unknown.
        relative: whether the file stated it relative to the baseline.
        horizon_days: days a unit must be observed before its value is final.
        cluster_size: rows per randomised unit when rows are finer; 1 otherwise.
        intraclass: share of the row variance that lies between randomised units.
        claimed_per_arm: a sample size somebody wrote down, to be checked; 0 for none.
    """

    metric: Metric
    baseline: float = 0.0
    sigma: float = 0.0
    mde: float = 0.0
    relative: bool = True
    horizon_days: int = 0
    cluster_size: float = 1.0
    intraclass: float = 0.0
    claimed_per_arm: int = 0


@dataclass(frozen=True, slots=True)
class Covariate:
    """Something known about a unit before assignment.

    Attributes:
        column: where the unit table holds it.
        variance_reduction: share of the primary's variance it is expected to explain, 0 to 1.
    """

    column: str
    variance_reduction: float = 0.0


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A promise not to break something else.

    Attributes:
        name: how verdicts call it.
        rule: the question it asks.
        metric: what is measured; None for the cohort rule, which measures the primary.
        threshold: the change that is too much, signed towards harm (-0.01 is 1% lower, 0.05 is 5% higher).
        relative: whether ``threshold`` is relative to control.
        ceiling: the limit of a ceiling guardrail, in the metric's unit.
        alpha: one-sided level of its test.
    """

    name: str
    rule: Rule
    metric: Metric | None
    threshold: float = 0.0
    relative: bool = True
    ceiling: float | None = None
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class CohortDimension:
    """A way of cutting the users that a launch guards.

    Attributes:
        dimension: name in the cohort catalog and column of the unit table.
        shares: share of traffic per value, adding up to 1 at most.
        threshold: the relative change of the primary that is too much in any of them, below 0.
        mde: relative effect the cohort claim should be powered for.
    """

    dimension: str
    shares: Mapping[str, float]
    threshold: float = -0.03
    mde: float = 0.03


@dataclass(frozen=True, slots=True)
class Looks:
    """When the data may be looked at, and what each look may spend.

    Attributes:
        method: ``fixed`` has one look, ``group-sequential`` the registered ones, ``always-valid`` any number.
        fractions: planned information fraction of each look, rising to 1.
        days: day of each look counted from the start, or empty when given as fractions.
        spending: "obf", "pocock" or "power:R".
        convention: convention A ("one-sided": alpha/2 spent in each side) or B ("two-sided").
        information: what boundaries are computed from: the ``planned`` fractions, or the users that had
            ``arrived`` at each look, with alpha spent at the planned fractions either way.
    """

    method: Method = "fixed"
    fractions: tuple[float, ...] = (1.0,)
    days: tuple[int, ...] = ()
    spending: str = "obf"
    convention: Literal["one-sided", "two-sided"] = "one-sided"
    information: Literal["planned", "arrived"] = "planned"


@dataclass(frozen=True, slots=True)
class Condition:
    """One eligibility rule on a user attribute.

    Attributes:
        attribute: its name.
        operator: what is asked.
        operand: one number for the comparisons, texts for the memberships.
    """

    attribute: str
    operator: Literal["in", "not_in", "at_least", "at_most"]
    operand: float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Population:
    """Who may enter.

    Attributes:
        description: for people.
        eligibility: every rule must hold; a missing attribute is not eligible.
        exclusivity: classes of which no user is in two experiments at once.
        never_with: experiments whose users this one leaves alone; "*" means all that started before it.
        share: share of each exclusivity class (or of all users) it reserves for good.
        per_day: eligible users a day, 0 where unknown.
    """

    description: str = ""
    eligibility: tuple[Condition, ...] = ()
    exclusivity: tuple[str, ...] = ()
    never_with: tuple[str, ...] = ()
    share: float = 1.0
    per_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the bookkeeping columns of the unit table.

    Attributes:
        unit: identity of the unit of analysis.
        arm: the arm it was assigned to.
        day: date it entered; empty when the table has none.
        cluster: identity of the randomised unit when it is coarser than ``unit``; empty otherwise.
    """

    unit: str = "user_id"
    arm: str = "arm"
    day: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Why anybody believes this.

    Attributes:
        statement: what would be true.
        intervention: the do-operator wording, "do(reranker = minilm-l12)".
        prior: probability given to it before the data.
        evidence: what the prior rests on.
        disconfirming: findings that would count against it.
    """

    statement: str
    intervention: str
    prior: float
    evidence: str
    disconfirming: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offline:
    """What the offline harness promised before anybody was randomised.

    Attributes:
        metric: of the harness ("ndcg@3").
        change: relative change of the candidate, above 0 where it is better.
        error: standard error of ``change``, 0 where unknown.
        mde: smallest relative change worth finding offline.
    """

    metric: str
    change: float
    error: float
    mde: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole experiment as registered.

    Attributes:
        name: of the experiment, also its ledger subject.
        primary: the metric that decides and the effect worth finding.
        arms: share of the randomised users per arm, control first, adding up to 1.
        alpha: two-sided level (one-sided when ``alternative`` is not "two-sided").
        power: probability of finding the MDE.
        alternative: "two-sided", "greater" or "less".
        looks: when and how often.
        covariates: for the primary and its cohorts.
        secondary: metrics that are reported and decide nothing.
        guardrails: metrics that may veto.
        correction: of the harm family.
        cohorts: dimensions whose values are guarded.
        ramp: exposure steps, rising; arms never change with them.
        early_win: whether a crossed boundary may end it early.
        hypothesis: None where the file is for sizing or exploring only.
        budgets: hedging, latency and other limits the launch is held to, for the launch review.
        sign_off: roles that must sign before anybody is randomised.
        floor: lowest cohort level over the aggregate level, from the cohort catalog.
        offline: what the harness promised; None where the change was not evaluated offline.
    """

    name: str
    primary: Target
    arms: Mapping[str, float]
    alpha: float = 0.05
    power: float = 0.8
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    looks: Looks = field(default_factory=Looks)
    population: Population = field(default_factory=Population)
    columns: Columns = field(default_factory=Columns)
    covariates: tuple[Covariate, ...] = ()
    secondary: tuple[Metric, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    correction: Correction = Correction.INTERSECTION_UNION
    cohorts: tuple[CohortDimension, ...] = ()
    ramp: tuple[float, ...] = (1.0,)
    early_win: bool = True
    hypothesis: Hypothesis | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    owner: str = ""
    surface: str = ""
    sign_off: tuple[str, ...] = ()
    floor: float = 0.95
    offline: Offline | None = None

    @property
    def control(self) -> str:
        """The arm everything is compared with: the first one."""
        return next(iter(self.arms))

    @property
    def treatments(self) -> tuple[str, ...]:
        return tuple(self.arms)[1:]

    @property
    def explained(self) -> float:
        """Share of the primary's variance its covariates are expected to remove."""
        return max((one.variance_reduction for one in self.covariates), default=0.0)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric once: primary, guardrails, secondary."""
        guarded = [one.metric for one in self.guardrails if one.metric is not None]
        named = {metric.name: metric for metric in (self.primary.metric, *guarded, *self.secondary)}
        return tuple(named.values())
