"""The story of a quarter's choice as the ledger has it: outcome, method, picks, risks, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mangaassist.portfolio.candidates import Portfolio
from mangaassist.portfolio.graph import waves
from mangaassist.portfolio.ledger_facts import Decided
from mangaassist.portfolio.rendering import Block, Bullets, Document, Paragraph, Section, Table, number
from mangaassist.portfolio.schema import read_portfolio
from mangaassist.portfolio.scoring import SWING_BET

Row = Mapping[str, Any]


def narrative(quarter: Decided) -> Document:
    """Render a decided portfolio."""
    portfolio = read_portfolio(quarter.body["text"], source=quarter.name)
    ranking = quarter.body["ranking"]
    rows = ranking["candidates"]
    picks = [row for row in rows if row["outcome"] == "pick"]
    others = [row for row in rows if row["outcome"] != "pick"]
    sections = (
        Section("Outcome", _outcome(portfolio, ranking, picks, quarter)),
        Section("Method", _method(portfolio, ranking)),
        Section("What we run", _picked(picks)),
        Section("What we learn", _learning(portfolio, picks)),
        Section("What could go wrong", _risks(portfolio, ranking, picks)),
        Section("What we do not run", (_reasons(others), *_sequence(portfolio))),
        Section("Every candidate", (_table(rows),)),
    )
    status = f"Decided {quarter.at:%Y-%m-%d} by {quarter.actor} from the file {quarter.body['digest'][:12]}."
    return Document(f"Portfolio {quarter.name}", status, sections)


def _outcome(portfolio: Portfolio, ranking: Row, picks: list[Row], quarter: Decided) -> tuple[Block, ...]:
    worth = sum(row["value"] for row in picks)
    said = (
        f"We run {len(picks)} of {len(portfolio.candidates)} candidates. Together they are expected to bring "
        f"{number(worth)} {portfolio.unit}; what they teach adds {number(ranking['value'] - worth)}."
    )
    found: list[Block] = [Paragraph(said)]
    promised = (
        f"{row['metric']}: {number(row['impact'], percent=True, signed=True)} on {number(row['reach'])} a "
        f"quarter, with a probability of {row['confidence_calibrated']:.2f} ({row['title']})"
        for row in picks
    )
    found.append(Bullets(tuple(promised)))
    done = [
        f"{name}: {outcome['result']} after {outcome['weeks']:g} weeks"
        + (
            ""
            if outcome["learned"] is None
            else f", learning target {'met' if outcome['learned'] else 'missed'}"
        )
        for name, outcome in quarter.finished.items()
    ]
    if done:
        found.append(Paragraph(f"Since then: {'; '.join(done)}."))
    return tuple(found)


def _method(portfolio: Portfolio, ranking: Row) -> tuple[Block, ...]:
    confidence, effort = ranking["calibration"]["confidence"], ranking["calibration"]["effort"]
    weeks = ", ".join(
        f"{team} {ranking['weeks'][team]:.0f} of {limit:g} engineer-weeks"
        for team, limit in ranking["capacity"].items()
    )
    found = [
        f"Worth is reach x impact x confidence in {portfolio.unit}; confidence is prior evidence x "
        "detectability. What a swing bet teaches is the value of its result to the decision that follows.",
        f"Stated confidence is multiplied by {confidence['value']:.2f} ({confidence['low']:.2f} to "
        f"{confidence['high']:.2f}, n = {confidence['n']}), stated effort by {effort['value']:.2f} "
        f"({effort['low']:.2f} to {effort['high']:.2f}, n = {effort['n']}) or by its class.",
        f"{ranking['slots']} slots, {ranking['swing_slots']} of them for swing bets; {weeks}. The choice is "
        "the best of all that keep these limits and the dependencies, not the top of a list.",
        *ranking["notes"],
    ]
    if ranking["gut_feel_value"] is not None:
        found.append(
            f"For the record, people would have picked {', '.join(ranking['gut_feel'])}, worth "
            f"{number(ranking['gut_feel_value'])} by the same numbers against {number(ranking['value'])}."
        )
    return (Bullets(tuple(found)),)


def _picked(picks: list[Row]) -> tuple[Block, ...]:
    rows = tuple(
        (
            row["title"],
            row["slot"],
            number(row["value"]),
            number(row["evoi"]),
            f"{row['weeks']:g} stated, {row['weeks_calibrated']:.0f} expected",
            number(row["stability"], percent=True),
        )
        for row in picks
    )
    table = Table(("Pick", "Slot", "Worth", "Teaches", "Engineer-weeks", "Stays when numbers move"), rows)
    return table, Bullets(tuple(f"{row['title']}: {row['reason']}" for row in picks))


def _learning(portfolio: Portfolio, picks: list[Row]) -> tuple[Block, ...]:
    found: list[Block] = []
    for row in picks:
        target = portfolio.candidate(row["name"]).learning
        if target is None:
            continue
        found.append(Paragraph(f"{row['title']}: {target.question}"))
        found.append(Bullets((f"If it wins: {target.if_it_wins}", f"If it loses: {target.if_it_loses}")))
    bets = [row["title"] for row in picks if row["slot"] == SWING_BET]
    closing = (
        f"{', '.join(bets)}: may lose and still have been right, as long as its question is answered."
        if bets
        else "No pick of this quarter is judged by what it teaches."
    )
    return (*found, Paragraph(closing))


def _risks(portfolio: Portfolio, ranking: Row, picks: list[Row]) -> tuple[Block, ...]:
    fits = f"With weeks drawn as far off as past estimates were, the picks fit in {ranking['fits']:.0%}."
    found: list[Block] = [Paragraph(fits)]
    for row in picks:
        mortem = portfolio.candidate(row["name"]).premortem
        if mortem is None:
            continue
        risks = (f"{name.replace('_', ' ')}: {text}" for name, text in mortem.risks.items())
        found.append(Paragraph(f"{row['title']}, watched by {mortem.owner}:"))
        found.append(Bullets((*risks, f"contingency: {mortem.contingency}")))
    return tuple(found)


def _reasons(others: list[Row]) -> Block:
    return Bullets(tuple(f"{row['title']} ({row['outcome']}): {row['reason']}" for row in others))


def _sequence(portfolio: Portfolio) -> tuple[Block, ...]:
    waits = {one.name: (*one.after, *one.needs) for one in portfolio.candidates if one.after or one.needs}
    named = {name for needed in waits.values() for name in needed if name not in portfolio.done}
    if not named:
        return ()
    order = waves({name: waits.get(name, ()) for name in (*named, *waits)})
    steps = ", then ".join(", ".join(sorted(one)) for one in order)
    return (Paragraph(f"What depends on each other goes in this order: {steps}."),)


def _table(rows: list[Row]) -> Block:
    columns = (
        "#",
        "Candidate",
        "RICE stated",
        "RICE calibrated",
        "Teaches",
        "Confidence",
        "Weeks",
        "Outcome",
    )
    return Table(
        columns,
        tuple(
            (
                str(row["rank"] or "–"),
                row["title"],
                number(row["rice_stated"]) if row["metric"] else "–",
                number(row["rice"]) if row["rank"] else "–",
                number(row["evoi"]),
                f"{row['confidence']:.2f} → {row['confidence_calibrated']:.2f}" if row["metric"] else "–",
                f"{row['weeks']:g} → {row['weeks_calibrated']:.0f}",
                row["outcome"],
            )
            for row in rows
        ),
    )
