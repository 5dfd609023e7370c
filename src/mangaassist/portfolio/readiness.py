"""The launch-readiness review of an experiment: every step from the letter to the watch after launch."""

from __future__ import annotations

from datetime import datetime, timedelta

from mangaassist.core.clock import parse_instant
from mangaassist.core.verdict import Decision, Status, Verdict, worst
from mangaassist.experiments import registry
from mangaassist.experiments.correlation import LEAST, correlate, pairs
from mangaassist.experiments.looks import guardrail_vetoes
from mangaassist.experiments.registry import Experiment
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.outcomes import SUSTAINED_AFTER, vetoed
from mangaassist.portfolio.rendering import Block, Bullets, Document, Paragraph, Section, Table, number
from mangaassist.portfolio.six_sections import plan_blocks, verdict_table
from mangaassist.storage.ledger import Ledger

_INVESTIGATION = (
    (0, 0, "The rollout is paused where it stands."),
    (1, 1, "This review records the veto with all its data."),
    (1, 3, "Which sessions, cohorts and parts of the catalogue carry the harm."),
    (4, 7, "A cause is named, and an offline test that would show it."),
    (8, 14, "The test is run; the model is trained again with what it shows, or dropped."),
)


def launch_readiness(ledger: Ledger, experiment: Experiment) -> Document:
    """Render the review of an experiment as the ledger stands."""
    checks = checklist(ledger, experiment)
    sections = (
        Section("Readiness", (Paragraph(_summary(experiment, checks)), verdict_table(checks))),
        Section("What was promised", plan_blocks(experiment)),
        Section("What was found", _found(experiment)),
        Section("Guardrails", _guardrails(experiment)),
        Section("Cohorts", _cohorts(experiment)),
        Section("What follows", _follows(ledger, experiment)),
    )
    frozen = f"frozen {experiment.frozen_at:%Y-%m-%d}" if experiment.frozen_at else "not frozen"
    status = f"{experiment.status.capitalize()}; registration {experiment.digest[:12]}, {frozen}."
    return Document(f"Launch readiness: {experiment.name}", status, sections)


def _summary(experiment: Experiment, checks: tuple[Verdict, ...]) -> str:
    status = worst(checks)
    if experiment.override is not None:
        by = experiment.override["actor"]
        return f"Shipped against a veto under the name of {by}; the veto stands in this review."
    said = {
        Status.PASS: "Ready: every binding step is done and passes.",
        Status.FAIL: "Not ready: a binding step says no.",
        Status.INSUFFICIENT: "Not ready yet: a binding step is open.",
        Status.STALE: "Not ready: a binding step rests on old data.",
    }[status]
    decided = experiment.decision
    return f"{said} Decided: {decided['action']}. {decided['reason']}" if decided else said


def checklist(ledger: Ledger, experiment: Experiment) -> tuple[Verdict, ...]:
    """One finding per step; steps that bind nobody inform."""
    return (
        _framing_check(ledger, experiment),
        _portfolio_check(ledger, experiment),
        _registration_check(experiment),
        _correlation_check(ledger, experiment),
        *_look_checks(experiment),
        *_budget_checks(experiment),
    )


def _framing_check(ledger: Ledger, experiment: Experiment) -> Verdict:
    for name, entry in known.framings(ledger).items():
        if entry.body["experiment"] == experiment.name:
            said = f"Framed as '{name}': {entry.body['recommendation']}."
            return Verdict("readiness.framing", Status.PASS, said, blocking=False)
    said = "No decided framing names this experiment."
    return Verdict("readiness.framing", Status.INSUFFICIENT, said, blocking=False)


def _portfolio_check(ledger: Ledger, experiment: Experiment) -> Verdict:
    for quarter in known.quarters(ledger):
        for name, row in quarter.picks.items():
            outcome = quarter.finished.get(name)
            if experiment.name in (row["experiment"], outcome["experiment"] if outcome else None):
                said = f"Picked as '{name}' in {quarter.name}, {row['slot']}, at {row['confidence']:.2f}."
                return Verdict("readiness.portfolio", Status.PASS, said, blocking=False)
    said = "No decided portfolio picked this experiment."
    return Verdict("readiness.portfolio", Status.INSUFFICIENT, said, blocking=False)


def _registration_check(experiment: Experiment) -> Verdict:
    roles = len(experiment.plan.sign_off)
    if experiment.frozen_at is None:
        missing = ", ".join(experiment.missing)
        return Verdict("readiness.registration", Status.FAIL, f"Not signed by {missing}.", n=roles)
    said = f"Signed by all {roles} roles and frozen on {experiment.frozen_at:%Y-%m-%d}."
    return Verdict("readiness.registration", Status.PASS, said, n=roles)


def _correlation_check(ledger: Ledger, experiment: Experiment) -> Verdict:
    surface = experiment.plan.surface
    found = pairs(ledger, surface)
    if len(found) < LEAST:
        said = (
            f"{len(found)} finished experiments on {surface}: too few to trust or distrust offline evidence."
        )
        return Verdict(
            f"readiness.correlation.{surface}", Status.INSUFFICIENT, said, n=len(found), blocking=False
        )
    return correlate(surface, found).verdict()


def _look_checks(experiment: Experiment) -> tuple[Verdict, ...]:
    """The last look, one finding each for primary, guardrails and cohorts; open before the first."""
    if not experiment.looks:
        return (Verdict("readiness.look", Status.INSUFFICIENT, "Nobody has looked at the data yet."),)
    decision = Decision.from_dict(experiment.looks[-1]["decision"])
    return tuple(one for one in decision.verdicts if one.blocking)


def _budget_checks(experiment: Experiment) -> tuple[Verdict, ...]:
    """Registered budgets; a guardrail of the same name has measured one."""
    guarded = {one.name for one in experiment.plan.guardrails}
    return tuple(
        Verdict(
            f"readiness.budget.{name}",
            Status.INSUFFICIENT,
            f"At most {limit:g} is registered; the ledger holds no measurement of it.",
            threshold=limit,
            blocking=False,
        )
        for name, limit in experiment.plan.budgets.items()
        if name not in guarded
    )


def _found(experiment: Experiment) -> tuple[Block, ...]:
    if not experiment.looks:
        return (Paragraph("No look has been taken."),)
    last = experiment.looks[-1]
    rows = tuple(
        (
            one["metric"],
            one["cohort"],
            number((one["relative"] or one["absolute"])["value"], percent=bool(one["relative"]), signed=True),
            number((one["relative"] or one["absolute"])["low"], percent=bool(one["relative"]), signed=True),
            number((one["relative"] or one["absolute"])["high"], percent=bool(one["relative"]), signed=True),
            number(one["adjusted_p"]),
        )
        for one in last["readings"]
    )
    units = ", ".join(f"{arm} {count:,}" for arm, count in last["units"].items())
    said = f"Look {last['look']} of {len(experiment.plan.looks.fractions)}; users: {units}."
    table = Table(("Metric", "Cohort", "Change", "Low", "High", "Adjusted p"), rows)
    return Paragraph(said), table


def _guardrails(experiment: Experiment) -> tuple[Block, ...]:
    if not experiment.looks:
        return (Paragraph("Not measured yet."),)
    decision = Decision.from_dict(experiment.looks[-1]["decision"])
    found = tuple(one for one in decision.verdicts if one.name.startswith("guardrail."))
    vetoes = guardrail_vetoes(decision)
    said = (
        f"Veto by {', '.join(one.name.removeprefix('guardrail.') for one in vetoes)}: the thresholds were "
        "signed before the data and are not discussed after it."
        if vetoes
        else "No guardrail vetoes."
    )
    return Paragraph(said), verdict_table(found)


def _cohorts(experiment: Experiment) -> tuple[Block, ...]:
    if not experiment.looks:
        return (Paragraph("Not measured yet."),)
    rows = tuple(
        (
            str(one["cohort"]),
            number((one["relative"] or one["absolute"])["value"], percent=bool(one["relative"]), signed=True),
            number((one["relative"] or one["absolute"])["low"], percent=bool(one["relative"]), signed=True),
            number((one["relative"] or one["absolute"])["high"], percent=bool(one["relative"]), signed=True),
        )
        for one in experiment.looks[-1]["cohorts"]
    )
    return (Table(("Cohort", "Change of the primary", "Low", "High"), rows) if rows else Paragraph("None."),)


def _follows(ledger: Ledger, experiment: Experiment) -> tuple[Block, ...]:
    looked = ledger.entries(subject=experiment.subject, kind=registry.LOOKED)
    if experiment.override is not None:
        until = parse_instant(experiment.override["track_until"], field="track_until")
        said = f"Tracked until {until:%Y-%m-%d}: {experiment.override['reason']}"
        return (Paragraph(said), *_launched(ledger, experiment))
    if looked and vetoed(experiment):
        return (_investigation(looked[-1].at), *_looked_again(ledger, experiment))
    if experiment.status == "shipped":
        return _launched(ledger, experiment)
    if experiment.status == "stopped":
        return (Paragraph("Stopped without a veto: the control stays."),)
    return (Paragraph("The next registered look, then 'experiment decide'."),)


def _investigation(start: datetime) -> Block:
    rows = tuple(
        (f"{start + timedelta(days=first):%Y-%m-%d} to {start + timedelta(days=last):%Y-%m-%d}", what)
        for first, last, what in _INVESTIGATION
    )
    return Table(("When", "Investigation"), rows)


def _looked_again(ledger: Ledger, experiment: Experiment) -> tuple[Block, ...]:
    found = ledger.entries(subject=known.FOLLOW_UP + experiment.name)
    if not found:
        return (Paragraph("Nobody has recorded yet whether the veto was right."),)
    right = "would have done harm" if found[-1].body["held"] else "would have done no harm"
    return (Paragraph(f"Looked at again on {found[-1].at:%Y-%m-%d}: shipping it {right}."),)


def _launched(ledger: Ledger, experiment: Experiment) -> tuple[Block, ...]:
    decided = ledger.entries(subject=experiment.subject, kind=registry.DECIDED)
    if not decided:
        return (Paragraph("Not launched yet."),)
    due = decided[-1].at + SUSTAINED_AFTER
    found = ledger.entries(subject=known.FOLLOW_UP + experiment.name)
    if not found:
        return (Paragraph(f"The lift is read again on {due:%Y-%m-%d}, 28 days after the decision."),)
    body = found[-1].body
    said = "still there" if body["held"] else "gone"
    return (
        Bullets(
            (
                f"Read again on {found[-1].at:%Y-%m-%d}: the lift is {said}.",
                f"{body['cohort_regressions']} cohorts turned out worse.",
            )
        ),
    )
