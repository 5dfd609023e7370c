"""What is decided about a framing or a quarter, and the ledger entries that keep it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import digest_bytes
from mangaassist.core.verdict import Action, Decision, Status, Verdict, worst
from mangaassist.experiments import registry
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.break_even import Recommendation, break_even, letter_verdict, second_stage
from mangaassist.portfolio.framing import Framing
from mangaassist.portfolio.framing_schema import COMPARING, read_framing
from mangaassist.portfolio.ranking import Ranking, rank
from mangaassist.portfolio.schema import read_portfolio
from mangaassist.storage.ledger import Ledger

POLICY = "portfolio-policy/1"
LEAST_HISTORY = 8
_BETTER_THAN_GUT = 1.3


def decide_framing(ledger: Ledger, text: str, *, source: str, actor: str, at: datetime) -> Decision:
    """Decide on a framing and record it: a believed letter, then the break-even.

    A model is promoted or refused; an unread letter holds. The same text twice changes nothing.

    Raises:
        InputError: for a file the schema refuses.
    """
    text = registry.canonical(text)
    framing = read_framing(text, source=source, needs=("letter", *COMPARING))
    subject = known.FRAMING + framing.name
    last = known.framings(ledger).get(framing.name)
    if last is not None and last.body["digest"] == digest_bytes(text.encode()):
        return Decision.from_dict(last.body["decision"])
    decision, recommendation = framing_decision(framing, actor=actor, at=at)
    body = {
        "text": text,
        "digest": digest_bytes(text.encode()),
        "recommendation": str(recommendation),
        "experiment": framing.experiment,
        "decision": decision.as_dict(),
    }
    ledger.append(
        kind=known.FRAMED, subject=subject, body=body, actor=actor, at=at, expected=ledger.head(subject)
    )
    return decision


def framing_decision(framing: Framing, *, actor: str, at: datetime) -> tuple[Decision, Recommendation]:
    """What a complete framing comes to."""
    compared = break_even(framing)
    letter = [letter_verdict(framing.letter)] if framing.letter else []
    later = second_stage(framing)
    verdicts = (*letter, *compared.verdicts, *([later] if later else ()))
    subject = known.FRAMING + framing.name
    recommendation, read = compared.recommendation, worst(letter)
    if read is Status.FAIL:
        action, reason = Action.REFUSE, letter[0].sentence
        recommendation = Recommendation.NOT_AT_ALL
    elif read is not Status.PASS:
        action, reason = Action.HOLD, letter[0].sentence
    else:
        model = recommendation in (Recommendation.MODEL, Recommendation.MODEL_BY_OVERRIDE)
        action, reason = Action.PROMOTE if model else Action.REFUSE, f"{recommendation}: {compared.reason}"
    return Decision(action, subject, reason, actor, at, verdicts, POLICY), recommendation


def decide_portfolio(
    ledger: Ledger, text: str, *, source: str, actor: str, at: datetime
) -> tuple[Mapping[str, Any], Decision]:
    """Rank a quarter with what the ledger knows, and freeze the choice; the same text twice changes nothing.

    Returns:
        The ranking as a JSON object, as it stands in the ledger, and the decision.

    Raises:
        InputError: for a file the schema refuses.
        GateRefused: when that quarter was decided from another text.
    """
    text = registry.canonical(text)
    portfolio = read_portfolio(text, source=source)
    before = known.decided(ledger, portfolio.name)
    if before is not None and before.body["digest"] != digest_bytes(text.encode()):
        lines = registry.differing_lines(before.body["text"], text)
        raise GateRefused(
            f"portfolio '{portfolio.name}'",
            expected=f"the portfolio decided as {before.body['digest'][:12]}",
            got=f"{source} with other lines: {'; '.join(lines[:6])}",
            next_step="A quarter is decided once; put a change of plan under a new name.",
        )
    if before is not None:
        return before.body["ranking"], Decision.from_dict(before.body["decision"])
    ranking = rank(portfolio, known.facts(ledger))
    decision = portfolio_decision(ranking, actor=actor, at=at)
    _append(ledger, text, ranking, decision)
    return ranking.as_dict(), decision


def _append(ledger: Ledger, text: str, ranking: Ranking, decision: Decision) -> None:
    body = {
        "text": text,
        "digest": digest_bytes(text.encode()),
        "ranking": ranking.as_dict(),
        "decision": decision.as_dict(),
    }
    kind = known.DECIDED if decision.action is Action.PROMOTE else known.REFUSED
    head = ledger.head(decision.subject)
    ledger.append(
        kind=kind, subject=decision.subject, body=body, actor=decision.actor, at=decision.at, expected=head
    )


def portfolio_decision(ranking: Ranking, *, actor: str, at: datetime) -> Decision:
    """Whether a ranking may be run as it is."""
    verdicts = tuple(_verdicts(ranking))
    subject = known.PORTFOLIO + ranking.portfolio.name
    if worst(verdicts) is Status.PASS:
        picks = ", ".join(one.name for one in ranking.picks)
        return Decision(Action.PROMOTE, subject, f"Run {picks}.", actor, at, verdicts, POLICY)
    reason = " ".join(one.sentence for one in verdicts if one.blocking and not one.passed)
    return Decision(Action.REFUSE, subject, reason, actor, at, verdicts, POLICY)


def _verdicts(ranking: Ranking) -> list[Verdict]:
    picks, portfolio = ranking.picks, ranking.portfolio
    found = [
        Verdict(
            "portfolio.choice",
            Status.PASS if picks else Status.FAIL,
            f"{len(picks)} of {len(ranking.rows)} candidates, worth {ranking.value:,.0f}: no other choice "
            "under the same limits is worth more."
            if picks
            else "No candidate can run.",
            ranking.value,
            n=len(ranking.rows),
        ),
        Verdict(
            "portfolio.capacity",
            Status.PASS if ranking.fits >= 0.5 else Status.INSUFFICIENT,
            f"Drawn as wide as past estimates were off, the picks fit the weeks in {ranking.fits:.0%}.",
            ranking.fits,
            threshold=0.5,
            blocking=False,
        ),
        *(_factor(ranking, name) for name in ("confidence", "effort")),
        *(
            Verdict("portfolio.harness", Status.FAIL, note)
            for note in ranking.notes
            if note.startswith("Launches on")
        ),
    ]
    if portfolio.swing_slots:
        bets = [one.name for one in picks if one.score.swing]
        short = len(bets) < portfolio.swing_slots
        said = f"{len(bets)} of {portfolio.swing_slots} swing slots taken: {', '.join(bets) or 'none'}."
        status = Status.INSUFFICIENT if short else Status.PASS
        found.append(Verdict("portfolio.swing_bets", status, said, float(len(bets)), blocking=False))
    if ranking.gut_value is not None:
        found.append(_gut(ranking, ranking.gut_value))
    return found


def _factor(ranking: Ranking, name: str) -> Verdict:
    factor = ranking.calibration.confidence if name == "confidence" else ranking.calibration.effort
    enough = factor.n >= LEAST_HISTORY
    said = (
        f"Stated {name} is multiplied by {factor.value:.2f} ({factor.low:.2f} to {factor.high:.2f}) after "
        f"{factor.n} finished candidates."
    )
    status = Status.PASS if enough else Status.INSUFFICIENT
    return Verdict(
        f"portfolio.calibration.{name}", status, said, factor.value, factor.low, factor.high, 1.0, factor.n,
        blocking=False,
    )  # fmt: skip


def _gut(ranking: Ranking, gut: float) -> Verdict:
    ratio = ranking.value / gut if gut else float("inf")
    said = f"Worth {ranking.value:,.0f} against {gut:,.0f} for what people would have picked."
    status = Status.PASS if ratio >= _BETTER_THAN_GUT else Status.INSUFFICIENT
    value = ratio if gut else None
    return Verdict("portfolio.gut_feel", status, said, value, threshold=_BETTER_THAN_GUT, blocking=False)
