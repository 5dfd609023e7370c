"""What a run and its predictions cost (GOV-6): measured processor seconds times the price in the settings.

Only processor time is priced. Storage, network and people are not, and neither is the time a machine waits.
"""

from __future__ import annotations

from mangaassist.core.story import Budget
from mangaassist.core.verdict import Status, Verdict

THOUSAND = 1000


def cost_verdicts(
    budget: Budget | None, *, run_seconds: float, call_seconds: float | None, cpu_second: float
) -> list[Verdict]:
    """Two verdicts that block when over budget; without a budget they only inform.

    Args:
        run_seconds: processor seconds of the run's steps.
        call_seconds: mean processor seconds of one prediction; None when it was not measured.
        cpu_second: price of one processor second.
    """
    run = run_seconds * cpu_second
    calls = None if call_seconds is None else call_seconds * THOUSAND * cpu_second
    return [
        _verdict(
            "cost.run", "The run", run, budget.run if budget else None, f"{run_seconds:.1f} processor s"
        ),
        _verdict(
            "cost.per_thousand",
            "A thousand predictions",
            calls,
            budget.per_thousand if budget else None,
            "" if call_seconds is None else f"{call_seconds * THOUSAND:.2f} processor s",
        ),
    ]


def _verdict(name: str, what: str, cost: float | None, limit: float | None, work: str) -> Verdict:
    if cost is None:
        sentence = f"{what}: the cost was not measured."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=limit, blocking=limit is not None)
    over = limit is not None and cost > limit
    against = (
        "no budget is set" if limit is None else f"{'over' if over else 'within'} the budget of {limit:g}"
    )
    return Verdict(
        name,
        Status.FAIL if over else Status.PASS,
        f"{what} cost {cost:.2g} ({work}): {against}.",
        value=cost,
        threshold=limit,
        n=1,
        blocking=limit is not None,
    )
