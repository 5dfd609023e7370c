"""What the guardrail page shows, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.verdict import Verdict
from mangaassist.web.look_view import Span
from mangaassist.web.view import Link


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A guardrail of the catalog as it is in force.

    Attributes:
        name, why: from the catalog.
        rule: harm, safe, ceiling or cohort.
        measured: what is measured, in words ("quantile of latency_ms").
        limit: in force; shipped: of this release.
        relative: whether the limit is a share of control.
        better: "higher" or "lower".
        mandatory: surfaces that may not leave it out.
        used: open experiments that registered it.
    """

    name: str
    why: str
    rule: str
    measured: str
    limit: float
    shipped: float
    relative: bool
    better: str
    mandatory: tuple[str, ...] = ()
    used: int = 0


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """One governed change of the catalog."""

    at: datetime
    guardrail: str
    before: float
    after: float
    relative: bool
    loosened: bool
    reason: str
    actor: str
    role: str


@dataclass(frozen=True, slots=True)
class OverrideRate:
    """Overrides of one team: ``overrides`` of ``launches``, with the interval of the rate."""

    team: str
    overrides: int
    launches: int
    rate: Span
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class TrackedOverride:
    """An override and its days of tracking; ``state`` is tracked, overdue or ended."""

    experiment: str
    until: datetime
    follow_ups: int
    state: str


@dataclass(frozen=True, slots=True)
class GuardrailsView:
    """The catalog, its changes, and how often it is set aside.

    Attributes:
        at: when the view was taken.
        rows: the catalog in force.
        changes: newest first.
        rates: per team.
        allowed: the override rate above which a team is flagged, 0 to 1.
        tracked: overrides, those still open first.
        links: other pages of this server.
        problem: set when they could not be read, as one sentence.
    """

    at: datetime
    rows: tuple[CatalogRow, ...] = ()
    changes: tuple[ThresholdChange, ...] = ()
    rates: tuple[OverrideRate, ...] = ()
    allowed: float = 0.1
    tracked: tuple[TrackedOverride, ...] = ()
    links: tuple[Link, ...] = ()
    problem: str = ""


def guardrails_headline(view: GuardrailsView) -> tuple[bool, str]:
    """(calm, one sentence) for the guardrails."""
    if view.problem:
        return False, view.problem
    flagged = [f"{one.team} overrides too often" for one in view.rates if not one.verdict.passed]
    flagged += [f"{one.experiment} was not followed up" for one in view.tracked if one.state == "overdue"]
    if flagged:
        return False, "; ".join(flagged) + "."
    return True, "No team overrides too often, and no follow-up is overdue."
