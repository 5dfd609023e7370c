"""Reading a table without a registration behind it: numbers yes, a decision no."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments import registry
from mangaassist.experiments.analysis import Analysis, Look, analyse
from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.storage.ledger import Ledger


def explore(ledger: Ledger | None, text: str, frame: pl.LazyFrame, *, source: str) -> tuple[bool, Analysis]:
    """Analyse a table by a file as if this were its last look; nothing is recorded.

    Whether the file is a frozen registration is said first. When it is not, the analysis carries a blocking
    verdict, so that no decision can follow from it.

    Raises:
        GateRefused: when a frozen registration of that name says something else, with the differing lines.
        InputError: for a file or a table that cannot be read.
    """
    plan = read_plan(text, source=source, purpose=Purpose.EXPLORE)
    known = registry.find(ledger, plan.name) if ledger is not None else None
    frozen = known is not None and known.frozen_at is not None
    if known is not None and known.frozen_at is not None:
        registry.require_unedited(known, text, source=source)
        plan = known.plan
    analysis = analyse(plan, frame, Look(len(plan.looks.fractions) - 1, final=True))
    if frozen:
        return True, analysis
    verdict = Verdict(
        "experiment.registered",
        Status.INSUFFICIENT,
        f"'{plan.name}' is not a signed registration: these numbers may raise a hypothesis, not settle one.",
    )
    return False, replace(analysis, shared=(verdict, *analysis.shared))
