"""What the experiment pages show, as frozen values: no page code reads a store, and no store knows a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mangaassist.core.verdict import Verdict
from mangaassist.web.look_view import LooksView, Span
from mangaassist.web.view import LedgerView, Link, VerdictGroup


@dataclass(frozen=True, slots=True)
class NextStep:
    """What somebody does next: one sentence and the command that does it (empty when nothing can be run)."""

    sentence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """One experiment of the list.

    Attributes:
        name, owner, surface, statement: as registered.
        state: signing, running, paused, shipped or stopped.
        exposure: share of eligible users in it now, 0 to 1; None before everybody signed and after the end.
        looks: registered looks taken.
        planned: registered looks; None where any number is allowed.
        action: the last finding (promote, hold, roll_back, refuse); empty before any.
        final: whether that is the recorded decision rather than a recommendation.
        steps: what comes next, most pressing first.
        attention: whether somebody is waited for.
    """

    name: str
    owner: str
    surface: str
    statement: str
    state: str
    exposure: float | None = None
    looks: int = 0
    planned: int | None = None
    action: str = ""
    final: bool = False
    steps: tuple[NextStep, ...] = ()
    attention: bool = False


@dataclass(frozen=True, slots=True)
class ExperimentsView:
    """The list.

    Attributes:
        at: when the view was taken.
        rows: those that wait for somebody first, then running, then decided, newest first in each.
        links: other pages of this server.
        problem: set when the experiments could not be read, as one sentence.
    """

    at: datetime
    rows: tuple[ExperimentRow, ...] = ()
    links: tuple[Link, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the registered promise."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class SignatureView:
    """A role the registration names; ``at`` is None while it has not signed."""

    role: str
    actor: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RegistrationView:
    """The registered text and who stands behind it.

    Attributes:
        digest: SHA-256 of the text.
        text: the file.
        at, actor: when this text was registered, by whom.
        signatures: one per role, in the order of the file.
        frozen_at: when the last role signed.
    """

    digest: str
    text: str
    at: datetime
    actor: str
    signatures: tuple[SignatureView, ...]
    frozen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArmView:
    """An arm with its registered share of randomised users (0 to 1) and the users the last look found."""

    name: str
    share: float
    users: int | None = None


@dataclass(frozen=True, slots=True)
class AssignmentView:
    """Who gets in, and whether the split holds.

    Attributes:
        steps: registered exposures, rising, 0 to 1.
        reached: the last step taken; None before everybody signed.
        stopped: why nobody is let in although a step was reached; empty while running.
        arms: control first.
        planned: users the plan was sized for, all arms.
        split: the sample-ratio verdict of the last look, refused ones included.
    """

    steps: tuple[float, ...]
    reached: float | None
    stopped: str
    arms: tuple[ArmView, ...]
    planned: int
    split: Verdict | None = None


@dataclass(frozen=True, slots=True)
class EffectRow:
    """The primary metric in everybody or in one cohort.

    Attributes:
        label: "Everybody", "ja".
        dimension: cohort dimension; empty for everybody.
        n: users in both arms.
        control, treatment: levels, in the metric's unit.
        lift: relative change where the metric has one, else absolute.
        adjusted_p: for looks, arms and claims side by side.
        significant: whether the plan's error budget allows the claim.
        threshold: relative change that is too much; None for everybody.
        pooled: lift drawn towards the other cohorts; None without company.
        harm_probability: P(true lift beyond ``threshold``), pooled; None without company.
        detectable: smallest lift its own data can show; None for everybody.
        guard: its cohort verdict.
    """

    label: str
    dimension: str
    n: int
    control: float
    treatment: float
    lift: Span
    adjusted_p: float
    significant: bool
    threshold: float | None = None
    pooled: float | None = None
    harm_probability: float | None = None
    detectable: float | None = None
    guard: Verdict | None = None


@dataclass(frozen=True, slots=True)
class EffectGroup:
    """One treated arm: everybody first, then its cohorts."""

    arm: str
    rows: tuple[EffectRow, ...]


@dataclass(frozen=True, slots=True)
class EffectsView:
    """The last look's effects.

    Attributes:
        metric: name of the primary.
        better: "higher" or "lower".
        relative: whether lifts are relative to control.
        mde: registered smallest effect worth finding, on the same scale, signed towards better.
        groups: per treated arm.
        findings: verdicts on the cohorts together.
    """

    metric: str
    better: str
    relative: bool
    mde: float
    groups: tuple[EffectGroup, ...]
    findings: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric beside the primary: relative change (absolute where there is none) and adjusted p."""

    name: str
    arm: str
    lift: Span
    relative: bool
    adjusted_p: float
    significant: bool
    n: int


@dataclass(frozen=True, slots=True)
class GuardRow:
    """One guardrail of one treated arm.

    Attributes:
        name: as registered ("csat", "cohort locale=ja").
        arm: the treated arm.
        rule: harm, safe, ceiling or cohort.
        limit: change or level that is too much.
        relative: whether value and limit are shares of control.
        verdict: of the last look; None before any.
    """

    name: str
    arm: str
    rule: str
    limit: float
    relative: bool
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class OverrideView:
    """A veto set aside: by whom, when, why, watched until when."""

    actor: str
    at: datetime
    review: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DecisionView:
    """What the looks amount to.

    Attributes:
        action: promote, hold, roll_back or refuse.
        reason: one sentence.
        actor: the policy, or a person by name.
        at: when.
        final: recorded for good; False for the last look's finding.
        asked_by: who asked for it.
    """

    action: str
    reason: str
    actor: str
    at: datetime
    final: bool
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """One experiment, whole.

    Attributes:
        at: when the view was taken.
        row: its line of the list.
        promise: hypothesis and design, as registered.
        against: findings that would count against the hypothesis.
        registration, assignment, looks: see there.
        effects: None before the first look.
        others: metrics beside the primary.
        guards: guardrails, cohorts among them.
        decision: None before the first look.
        override: None unless a veto was set aside.
        verdicts: everything the last look found; None before.
        ledger: its own entries, newest first.
        links: other pages of this server.
    """

    at: datetime
    row: ExperimentRow
    promise: tuple[Fact, ...]
    against: tuple[str, ...]
    registration: RegistrationView
    assignment: AssignmentView
    looks: LooksView
    effects: EffectsView | None = None
    others: tuple[MetricRow, ...] = ()
    guards: tuple[GuardRow, ...] = ()
    decision: DecisionView | None = None
    override: OverrideView | None = None
    verdicts: VerdictGroup | None = None
    ledger: LedgerView = field(default_factory=LedgerView)
    links: tuple[Link, ...] = ()


def experiments_headline(view: ExperimentsView) -> tuple[bool, str]:
    """(calm, one sentence) for the list."""
    if view.problem:
        return False, view.problem
    waiting = [row for row in view.rows if row.attention]
    if waiting:
        counted = "One waits" if len(waiting) == 1 else f"{len(waiting)} wait"
        return False, f"{counted} for somebody: {', '.join(row.name for row in waiting)}."
    running = sum(row.state == "running" for row in view.rows)
    counted = f"{running} are" if running > 1 else "one is" if running else "none is"
    return True, f"No experiment waits for anyone; {counted} running."
