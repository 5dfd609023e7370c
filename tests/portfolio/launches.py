"""Experiments taken through the ledger to their end, for what the portfolio reads afterwards."""

from __future__ import annotations

from datetime import datetime

from tests.experiments.examples import frozen, replaced
from tests.experiments.tables import table

from mangaassist.experiments import overrides, registry
from mangaassist.experiments.looks import settle, take_look
from mangaassist.storage.ledger import Ledger

REVIEW = "We ship against the CSAT veto because the survey changed in week two. " * 6


def plan_of(name: str) -> str:
    """A registration of 1% of the reranker's users, so that many can run at once."""
    text = replaced("experiment: reranker-l12", f"experiment: {name}")
    return replaced("  per_day: 200000", "  per_day: 200000\n  share: 1%", text)


def shipped(ledger: Ledger, name: str, *, at: datetime) -> None:
    """Won at its last look."""
    frozen(ledger, plan_of(name), at=at)
    take_look(ledger, name, table(12_000, lift=0.08, csat=0.01).lazy(), at=at, actor="t", day=14)
    settle(ledger, name, actor="pm", at=at)
    assert registry.get(ledger, name).status == "shipped"


def vetoed(ledger: Ledger, name: str, *, at: datetime, override: bool = False) -> None:
    """Stopped by the CSAT guardrail, or shipped against it."""
    frozen(ledger, plan_of(name), at=at)
    take_look(ledger, name, table(12_000, lift=0.08, csat=-0.05).lazy(), at=at, actor="t", day=14)
    if override:
        overrides.override(ledger, name, REVIEW, role="director", actor="director", at=at)
    settle(ledger, name, actor="pm", at=at)
    assert registry.get(ledger, name).status == ("shipped" if override else "stopped")
