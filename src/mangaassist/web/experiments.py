"""From a home to what its experiment pages show. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mangaassist.core.clock import parse_instant
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.verdict import Decision, Verdict
from mangaassist.experiments import correlation, registry
from mangaassist.experiments.looks import REFUSED, guardrail_vetoes
from mangaassist.experiments.plan import Plan, Target
from mangaassist.experiments.registry import Experiment
from mangaassist.experiments.sizing import size_plan
from mangaassist.lifecycle.auditing import summarise
from mangaassist.lifecycle.platform import Platform
from mangaassist.storage.ledger import Entry, Ledger
from mangaassist.web import experiment_evidence as evidence
from mangaassist.web.experiment_view import (
    ArmView,
    AssignmentView,
    DecisionView,
    ExperimentRow,
    ExperimentsView,
    ExperimentView,
    Fact,
    NextStep,
    OverrideView,
    RegistrationView,
    SignatureView,
)
from mangaassist.web.view import SERVICE, LedgerRow, LedgerView, VerdictGroup

_ORDER = {"paused": 0, "signing": 1, "running": 2, "shipped": 3, "stopped": 3}
_SPLIT = "experiment.sample_ratio"
_RUN = "mangaassist experiment"


def experiments_view(platform: Platform) -> ExperimentsView:
    """Every registered experiment, those that wait for somebody first."""
    now, ledger = platform.clock.now(), platform.ledger
    try:
        found = registry.everything(ledger)
        rows = [_row(ledger, one, ledger.entries(subject=one.subject)) for one in reversed(found)]
    except MangaAssistError as error:
        return ExperimentsView(now, links=SERVICE, problem=str(error))
    rows.sort(key=lambda row: (not row.attention, _ORDER[row.state]))
    return ExperimentsView(now, tuple(rows), SERVICE)


def experiment_view(platform: Platform, name: str) -> ExperimentView:
    """One experiment.

    Raises:
        InputError: when nobody registered it.
    """
    ledger = platform.ledger
    known = registry.get(ledger, name)
    entries = ledger.entries(subject=known.subject)
    refused = [one for one in entries if one.kind == REFUSED]
    last = known.looks[-1] if known.looks else None
    verdicts = Decision.from_dict(last["decision"]).verdicts if last else ()
    return ExperimentView(
        at=platform.clock.now(),
        row=_row(ledger, known, entries),
        promise=tuple(_promise(known.plan)),
        against=known.plan.hypothesis.disconfirming if known.plan.hypothesis else (),
        registration=_registration(known, entries),
        assignment=_assignment(known, entries, verdicts),
        looks=evidence.looks(known, evidence.refused_looks(refused), verdicts),
        effects=evidence.effects(known.plan, last, verdicts) if last else None,
        others=tuple(evidence.others(known.plan, last)) if last else (),
        guards=tuple(evidence.guards(known.plan, verdicts)),
        decision=_decision(known, entries),
        override=_override(known),
        verdicts=_group(known),
        ledger=_ledger(entries),
        links=SERVICE,
    )


def _row(ledger: Ledger, known: Experiment, entries: Sequence[Entry]) -> ExperimentRow:
    plan = known.plan
    steps = tuple(_steps(ledger, known, entries))
    decision = _decision(known, entries)
    return ExperimentRow(
        known.name,
        plan.owner,
        plan.surface,
        plan.hypothesis.statement if plan.hypothesis else "",
        known.status,
        known.running().exposure if known.frozen_at and not known.over else None,
        len(known.looks),
        None if plan.looks.method == "always-valid" else len(plan.looks.fractions),
        decision.action if decision else "",
        decision.final if decision else False,
        steps,
        attention=_waits(known, entries),
    )


def _waits(known: Experiment, entries: Sequence[Entry]) -> bool:
    """Whether somebody has to do something before anything else can happen."""
    if known.over:
        return False
    ended = bool(known.looks) and bool(known.looks[-1]["final"])
    return bool(known.paused) or known.frozen_at is None or ended or _broken(entries) is not None


def _broken(entries: Sequence[Entry]) -> Entry | None:
    """The newest look, when it was refused because its data was no experiment."""
    found = [one for one in entries if one.kind in (REFUSED, registry.LOOKED)]
    return found[-1] if found and found[-1].kind == REFUSED else None


def _steps(ledger: Ledger, known: Experiment, entries: Sequence[Entry]) -> Iterable[NextStep]:
    """What comes next, most pressing first."""
    if known.frozen_at is None:
        yield from _signing(known)
    elif known.over:
        yield from _afterwards(ledger, known)
    elif known.paused or (known.looks and known.looks[-1]["final"]):
        yield from _ending(known)
    else:
        yield from _going_on(known, entries)


def _signing(known: Experiment) -> Iterable[NextStep]:
    for role in known.missing:
        yield NextStep(f"The {role.replace('_', ' ')} signs.", f"{_RUN} sign {known.name} --role {role}")
    if not known.missing:
        command = f"{_RUN} sign {known.name} --role {known.plan.sign_off[-1]}"
        yield NextStep("All have signed; it freezes once its users are free.", command)


def _afterwards(ledger: Ledger, known: Experiment) -> Iterable[NextStep]:
    surface = known.plan.surface
    recorded = {one.experiment for one in correlation.pairs(ledger, surface)}
    if surface and known.name not in recorded:
        command = f"{_RUN} correlation {surface} --record {known.name} --offline X --online Y"
        yield NextStep("Record what the offline harness had predicted.", command)


def _ending(known: Experiment) -> Iterable[NextStep]:
    last = Decision.from_dict(known.looks[-1]["decision"])
    if known.override is not None:
        yield NextStep("Ship under the override.", f"{_RUN} decide {known.name}")
        return
    said = {"promote": "Ship it.", "roll_back": "Take it back."}.get(str(last.action), "Decide it.")
    yield NextStep(said, f"{_RUN} decide {known.name}")
    if guardrail_vetoes(last):
        command = f"{_RUN} override {known.name} --review REVIEW.md --role director"
        yield NextStep("Or set the veto aside, with a written review and a director.", command)


def _going_on(known: Experiment, entries: Sequence[Entry]) -> Iterable[NextStep]:
    plan = known.plan
    day = ""
    number = known.looks[-1]["number"] + 1 if known.looks else 0
    if plan.looks.days:
        day = f" --day {plan.looks.days[number]}"
    command = f"{_RUN} look {known.name} DATA.parquet{day}"
    if _broken(entries):
        yield NextStep("Repair the data and look again; the refused look cost nothing.", command)
        return
    yield NextStep(f"Take the next look ({evidence.title_of(plan, number).lower()}).", command)
    higher = [step for step in plan.ramp if step > known.exposure]
    if higher:
        share = f"{higher[0] * 100:g}%"
        yield NextStep(f"Ramp to {share} when it is calm.", f"{_RUN} ramp {known.name} {share}")


def _decision(known: Experiment, entries: Sequence[Entry]) -> DecisionView | None:
    """The recorded decision, else what the newest look found, refused ones included."""
    if known.decision is not None:
        body, asked = known.decision, known.decision["asked_by"]
    else:
        broken = _broken(entries)
        look = broken.body if broken else known.looks[-1] if known.looks else None
        if look is None:
            return None
        body, asked = look["decision"], look["asked_by"]
    at = parse_instant(body["at"], field="decision.at")
    final = known.decision is not None
    return DecisionView(body["action"], body["reason"], body["actor"], at, final, asked)


def _override(known: Experiment) -> OverrideView | None:
    body = known.override
    if body is None:
        return None
    until = parse_instant(body["track_until"], field="track_until")
    return OverrideView(body["actor"], body["at"], body["review"], until)


def _group(known: Experiment) -> VerdictGroup | None:
    if not known.looks:
        return None
    found = Decision.from_dict(known.looks[-1]["decision"])
    title = evidence.title_of(known.plan, known.looks[-1]["number"])
    return VerdictGroup("experiments", f"{known.name}, {title.lower()}", found.at, found.verdicts)


def _registration(known: Experiment, entries: Sequence[Entry]) -> RegistrationView:
    registered = next(
        one
        for one in reversed(entries)
        if one.kind == registry.REGISTERED and one.body["digest"] == known.digest
    )
    signed = {
        one.body["role"]: one
        for one in entries
        if one.kind == registry.SIGNED and one.sequence > registered.sequence
    }
    signatures = tuple(
        SignatureView(role, signed[role].actor, signed[role].at) if role in signed else SignatureView(role)
        for role in known.plan.sign_off
    )
    return RegistrationView(
        known.digest, known.text, registered.at, registered.actor, signatures, known.frozen_at
    )


def _assignment(known: Experiment, entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> AssignmentView:
    plan = known.plan
    seen = [one for one in entries if one.kind in (registry.LOOKED, REFUSED)]
    units = seen[-1].body["units"] if seen else {}
    if seen:
        verdicts = Decision.from_dict(seen[-1].body["decision"]).verdicts
    return AssignmentView(
        plan.ramp,
        known.exposure if known.frozen_at else None,
        "It is decided." if known.over else "It is paused until it is decided." if known.paused else "",
        tuple(ArmView(name, share, units.get(name)) for name, share in plan.arms.items()),
        size_plan(plan).total,
        next((one for one in verdicts if one.name == _SPLIT), None),
    )


def _promise(plan: Plan) -> Iterable[Fact]:
    hypothesis, target = plan.hypothesis, plan.primary
    if hypothesis:
        yield Fact("Intervention", hypothesis.intervention)
        yield Fact("Believed at", f"{hypothesis.prior:.0%} before the data. {hypothesis.evidence}")
    yield Fact("Who", plan.population.description or "Everybody.")
    metric = f"{target.metric.name} ({target.metric.kind}), {target.metric.better} is better"
    yield Fact("Primary", f"{metric}; {target.baseline:g} today, sigma {target.sigma:g}")
    yield Fact("Worth finding", _smallest(target))
    yield Fact("Errors", f"alpha {plan.alpha:g}, power {plan.power:.0%}, harm by {plan.correction}")
    if plan.covariates:
        named = ", ".join(one.column for one in plan.covariates)
        yield Fact("Adjusted for", f"{named}, expected to remove {plan.explained:.0%} of the variance")
    if plan.budgets:
        yield Fact("Budgets", ", ".join(f"{name} {limit:g}" for name, limit in plan.budgets.items()))


def _smallest(target: Target) -> str:
    if target.relative and target.baseline:
        return f"{target.mde / target.baseline:.1%} of the baseline ({target.mde:.3g})"
    return f"{target.mde:.3g}"


def _ledger(entries: Sequence[Entry]) -> LedgerView:
    rows = tuple(
        LedgerRow(one.sequence, one.at, one.actor, one.kind, one.subject, _said(one), one.digest)
        for one in reversed(entries)
    )
    return LedgerView(rows, len(rows))


def _said(entry: Entry) -> str:
    body = entry.body
    if entry.kind == registry.REGISTERED:
        return f"as {body['digest'][:12]}"
    if entry.kind == registry.SIGNED:
        return f"as {body['role'].replace('_', ' ')}"
    if entry.kind in (registry.FROZEN, registry.RAMPED):
        return f"exposure {body['exposure'] * 100:g}%"
    return summarise(entry)
