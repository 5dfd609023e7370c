"""A framing's decision document: recommendation, tenets and risks, letter, comparison, plan, questions."""

from __future__ import annotations

from mangaassist.core.verdict import Decision, Verdict
from mangaassist.experiments import registry
from mangaassist.experiments.registry import Experiment
from mangaassist.experiments.sizing import size_plan
from mangaassist.portfolio.break_even import BreakEven, break_even, second_stage
from mangaassist.portfolio.framing import Framing, Option
from mangaassist.portfolio.framing_schema import read_framing
from mangaassist.portfolio.rendering import (
    Block,
    Bullets,
    Document,
    Paragraph,
    Quote,
    Section,
    Table,
    number,
)
from mangaassist.storage.ledger import Entry, Ledger


def six_sections(ledger: Ledger, entry: Entry) -> Document:
    """Render a decided framing, with the registration of its first stage where there is one."""
    framing = read_framing(entry.body["text"], source=entry.subject)
    decision = Decision.from_dict(entry.body["decision"])
    compared = break_even(framing)
    experiment = registry.find(ledger, framing.experiment) if framing.experiment else None
    sections = (
        Section("Recommendation", _recommendation(framing, compared, decision, entry.body["recommendation"])),
        Section("Tenets and risks", _tenets(framing)),
        Section("The customer's letter", _letter(framing)),
        Section("Heuristic or model", _comparison(framing, compared)),
        Section("Plan", _plan(framing, experiment)),
        Section("Questions", _questions(framing)),
    )
    status = f"Decided {entry.at:%Y-%m-%d} by {entry.actor} from the file {entry.body['digest'][:12]}."
    return Document(framing.title, status, sections)


def _recommendation(
    framing: Framing, compared: BreakEven, decision: Decision, recommendation: str
) -> tuple[Block, ...]:
    found: list[Block] = [Paragraph(f"{recommendation.capitalize()}. {compared.reason}")]
    if framing.heuristic is not None:
        found.append(Paragraph(f"Heuristic: {framing.heuristic.what}"))
    found.append(Paragraph(f"Model: {compared.model.what}"))
    found.append(verdict_table(decision.verdicts))
    return tuple(found)


def verdict_table(verdicts: tuple[Verdict, ...]) -> Table:
    """Findings as a table."""
    rows = tuple(
        (
            one.name,
            str(one.status),
            number(one.value),
            number(one.threshold),
            f"{one.n:,}" if one.n else "–",
            one.sentence,
        )
        for one in verdicts
    )
    return Table(("Finding", "Status", "Value", "Threshold", "n", ""), rows)


def _tenets(framing: Framing) -> tuple[Block, ...]:
    found: list[Block] = (
        [Bullets(framing.tenets)] if framing.tenets else [Paragraph("No tenets were written.")]
    )
    risks = tuple((name, answer) for name, answer in framing.risks.items())
    found.append(
        Table(("Risk", "What is done about it"), risks) if risks else Paragraph("No risks were named.")
    )
    return tuple(found)


def _letter(framing: Framing) -> tuple[Block, ...]:
    letter = framing.letter
    if letter is None:
        return (Paragraph("No letter was written."),)
    readers = tuple(
        (one.role, one.name, "believes it" if one.believes else "does not believe it", one.remark)
        for one in letter.reviews
    )
    return (
        Paragraph(letter.persona),
        Quote(letter.pain),
        Quote(letter.wish),
        Paragraph(f"Why now: {letter.why_now}"),
        Paragraph(f"What we measure: {letter.measure}"),
        Table(("Reader", "Name", "", "Remark"), readers),
    )


def _comparison(framing: Framing, compared: BreakEven) -> tuple[Block, ...]:
    heuristic, model = _column(compared.heuristic), _column(compared.model)
    rows = tuple(zip(_ROWS, heuristic, model, strict=True))
    return Table(("", "Heuristic", "Model"), rows), Bullets(tuple(_break_even_points(framing, compared)))


_ROWS = (
    "Engineer-weeks",
    "Lift if it works",
    "Probability",
    "Expected lift",
    "Expected lift per engineer-week",
    "Weeks until shipped",
)


def _column(one: Option | None) -> tuple[str, ...]:
    if one is None:
        return ("none",) * len(_ROWS)
    return (
        f"{one.weeks:g}",
        f"{_points(one.lift[0])} to {_points(one.lift[1])}",
        f"{one.probability:.2f}",
        _points(one.delivered),
        _points(one.per_week),
        f"{one.calendar_weeks:g}",
    )


def _points(lift: float) -> str:
    return f"{100 * lift:.3g} points"


def _break_even_points(framing: Framing, compared: BreakEven) -> list[str]:
    found = []
    if compared.heuristic is not None:
        needed = compared.probability_needed
        certain = f"a probability of {needed:.2f}" if needed is not None else "not even certainty"
        found.append(
            f"The model reaches the bar with a lift of {_points(compared.lift_needed)} if it works, or with "
            f"{certain}; {compared.clears:.0%} of the stated ranges reach it."
        )
    if compared.weeks_needed is not None:
        found.append(
            f"It earns as much a week as the heuristic if it costs {compared.weeks_needed:.1f} weeks."
        )
    if compared.overtakes is not None and compared.heuristic is not None:
        found.append(f"Started today, its cumulated lift is ahead after {compared.overtakes:.0f} weeks.")
    worth = ", ".join(f"{plan} {100 * value:.0f}" for plan, value in compared.worth.items())
    found.append(f"Point-weeks over {framing.horizon_weeks:g} weeks: {worth}.")
    later = second_stage(framing)
    if later is not None:
        found.append(later.sentence)
    elif framing.staging is not None:
        found.append(
            f"The model is looked at again when the heuristic has run {framing.staging.settle_weeks:g} weeks "
            "and has been read by cohort."
        )
    return found


def _plan(framing: Framing, experiment: Experiment | None) -> tuple[Block, ...]:
    if experiment is None:
        named = f"'{framing.experiment}' is not registered yet" if framing.experiment else "none is named"
        said = f"The experiment of the first stage: {named}. Nothing is randomised before it is signed."
        return (Paragraph(said),)
    return plan_blocks(experiment)


def plan_blocks(experiment: Experiment) -> tuple[Block, ...]:
    """What an experiment promised, as a table."""
    plan, said = experiment.plan, experiment.plan.hypothesis
    primary = plan.primary
    sized = size_plan(plan) if primary.sigma > 0 and primary.mde > 0 else None
    days = f"{sized.days:.0f} days" if sized is not None and sized.days is not None else "unknown"
    rows = [
        ("Hypothesis", said.statement if said else "–"),
        ("Intervention", said.intervention if said else "–"),
        ("Prior", f"{said.prior:.2f}: {said.evidence}" if said else "–"),
        ("Would disprove it", "; ".join(said.disconfirming) if said else "–"),
        ("Population", plan.population.description or "–"),
        ("Primary", f"{primary.metric.name}, baseline {number(primary.baseline)}, MDE {number(primary.mde)}"),
        ("Users per arm", f"{sized.per_arm:,}" if sized else "not sized"),
        ("Runtime", days),
        ("Looks", f"{plan.looks.method}, {len(plan.looks.fractions)} registered"),
        ("Guardrails", ", ".join(f"{one.name} {number(one.threshold)}" for one in plan.guardrails) or "none"),
        ("Cohorts", ", ".join(f"{one.dimension} {one.threshold:+.0%}" for one in plan.cohorts) or "none"),
        ("Registration", experiment.digest[:12]),
        ("Signed by", ", ".join(f"{role}: {who}" for role, who in experiment.signatures.items()) or "nobody"),
    ]
    return (Table(("", ""), tuple(rows)),)


def _questions(framing: Framing) -> tuple[Block, ...]:
    found: list[Block] = []
    for question, answer in framing.questions.items():
        found += [Paragraph(question), Quote(answer)]
    return tuple(found) or (Paragraph("Nobody asked anything."),)
