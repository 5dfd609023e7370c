"""A home with experiments in every state, reached through the ledger as people would reach it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from tests.experiments.examples import frozen, replaced
from tests.experiments.tables import table

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.experiments import governance, overrides, registry
from mangaassist.experiments.looks import settle, take_look
from mangaassist.lifecycle.platform import Platform

SEQUENTIAL = "sequential: {method: group-sequential, spending: obf, days: [4, 7, 11, 14]}"
EVIL = "<script>alert('1')</script>"
REVIEW = "We ship against the CSAT veto because the survey changed in week two. " * 6


def plan(name: str, *changes: tuple[str, str]) -> str:
    """The example experiment under another name and exclusivity class, with some passages changed."""
    text = replaced("experiment: reranker-l12", f"experiment: {name}")
    text = replaced("exclusivity: [reranker]", f"exclusivity: [{name}]", text)
    for old, new in changes:
        text = replaced(old, new, text)
    return text


def look(platform: Platform, name: str, frame: pl.DataFrame) -> None:
    """The next registered look."""
    at = platform.clock.now()
    take_look(platform.ledger, name, frame.lazy(), at=at, actor="dashboard")


def three_arms() -> pl.DataFrame:
    """40% control, 30% each in two treatments."""
    frame = table(12_000, lift=0.03, seed=31, control_share=0.4)
    second = np.random.default_rng(3).random(len(frame)) < 0.5
    arms = np.where(frame["arm"].to_numpy() == "control", "control", np.where(second, "large", "animated"))
    return frame.with_columns(arm=pl.Series(arms))


def filled(home: Home, clock: SimulatedClock) -> Platform:
    """Running, won, vetoed and overridden, signing, refused, any-time and three-armed experiments."""
    platform = Platform.open(home, clock)
    ledger = platform.ledger
    frozen(ledger, plan("running"), at=clock.now())
    registry.register(ledger, plan("signing"), source="s", actor="rin", at=clock.now())
    registry.sign(ledger, "signing", "pm", actor="mika", at=clock.now())
    frozen(ledger, plan("refused"), at=clock.now())
    frozen(ledger, plan("vetoed", ("owner: search", "owner: discovery")), at=clock.now())
    frozen(ledger, plan("anytime", (SEQUENTIAL, "sequential: {method: always-valid}")), at=clock.now())
    arms = ("arms: {control: 50%, treatment: 50%}", "arms: {control: 40%, large: 30%, animated: 30%}")
    frozen(ledger, plan("arms", arms, (SEQUENTIAL, "sequential: {method: fixed}")), at=clock.now())
    frozen(ledger, plan("evil", ("MiniLM-L12 lifts", f"{EVIL} lifts")), at=clock.now())
    frozen(ledger, plan("won"), at=clock.now())
    registry.set_exposure(ledger, "running", 0.1, actor="rin", at=clock.now())
    clock.advance(timedelta(days=4))
    look(platform, "running", table(3_000, lift=0.03, seed=4))
    look(platform, "refused", table(24_000, control_share=0.55))
    look(platform, "vetoed", table(20_000, lift=0.06, csat=-0.034, seed=5))
    look(platform, "arms", three_arms())
    look(platform, "won", table(24_000, lift=0.08))
    for n in (1_500, 3_000):
        look(platform, "anytime", table(n, lift=0.015, seed=21))
    overrides.override(ledger, "vetoed", REVIEW, role="director", actor="d. tanaka", at=clock.now())
    for name in ("vetoed", "won"):
        settle(ledger, name, actor="mika", at=clock.now())
    reason = "Twelve months of launches show that one percent is never recovered."
    governance.change_threshold(
        ledger, "csat", -0.008, reason=reason, role="team", actor="rin", at=clock.now()
    )
    return platform
