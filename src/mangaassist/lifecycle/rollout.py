"""Looks at running rollouts: evidence from the prediction log to the controller, and a person's way back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.core.verdict import Decision
from mangaassist.incidents.clock import ON_CALL
from mangaassist.incidents.notices import Notice
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.accumulator import EvidenceAccumulator, rebuild
from mangaassist.promotion.controller import Controller
from mangaassist.promotion.evidence import StageEvidence
from mangaassist.promotion.requirements import subject
from mangaassist.promotion.versions import FAILED, ROLLED_BACK
from mangaassist.serving.feature_reads import READS_SCHEMA, reads_spool, reads_table
from mangaassist.serving.live import Readers
from mangaassist.serving.prediction_log import (
    OUTCOME_SCHEMA,
    PREDICTION_SCHEMA,
    PredictionLog,
    outcomes_table,
    predictions_table,
)

_PAGED_FOR = timedelta(days=1)


def read_predictions(platform: Platform, name: str) -> pl.DataFrame:
    """Every row of a story's prediction log; empty before the first request."""
    return _read(platform, predictions_table(name), PREDICTION_SCHEMA)


def read_outcomes(platform: Platform, name: str) -> pl.DataFrame:
    """Every outcome known for a story; empty before the first."""
    return _read(platform, outcomes_table(name), OUTCOME_SCHEMA)


def read_feature_reads(platform: Platform, name: str) -> pl.DataFrame:
    """Every sampled online read of a story's features, cell by cell; empty before the first."""
    return _read(platform, reads_table(name), READS_SCHEMA)


def drain(platform: Platform, name: str) -> int:
    """Move what any process has logged for a story into its tables; returns the rows moved."""
    log, reads = PredictionLog.open(platform.home, name), reads_spool(platform.home, name)
    try:
        return log.drain(platform.tables) + reads.drain(platform.tables, reads_table(name), READS_SCHEMA)
    finally:
        log.close()
        reads.close()


def collect(platform: Platform, name: str) -> EvidenceAccumulator:
    """The evidence of the running rollout, counted afresh from the durable log.

    Raises:
        GateRefused: no challenger is in shadow or canary.
    """
    story = platform.story(name)
    deployment = platform.registry.deployment(name)
    if deployment.challenger is None:
        raise GateRefused(
            f"rollout of '{name}'",
            expected="a version in shadow or canary",
            got="none",
            next_step=f"Run 'mangaassist retrain {name}' to make a candidate.",
        )
    drain(platform, name)
    return rebuild(
        deployment,
        read_predictions(platform, name),
        read_outcomes(platform, name),
        now=platform.clock.now(),
        safety_labels=story.safety_critical,
    )


def controller(platform: Platform) -> Controller:
    """A controller that waits for every reader of this home before a rollback counts as done."""
    return Controller(platform.registry, readers=(Readers(platform.home),))


def judge_now(platform: Platform, name: str) -> Decision:
    """One look at the running stage on everything logged so far; what follows is applied, an abort is paged.

    Raises:
        GateRefused: nothing is running, or a kill switch denies it. Conflict: somebody else moved it first.
    """
    now, before = platform.clock.now(), platform.registry.deployment(name)
    evidence: StageEvidence = collect(platform, name).evidence(now)
    try:
        decision = controller(platform).step(platform.story(name), evidence, now)
    except InputError as error:
        after = platform.registry.deployment(name)
        if after.epoch == before.epoch:
            raise
        # The evidence was right when it was collected: nobody's input is wrong, somebody was faster.
        raise Conflict(
            f"rollout of '{name}'",
            expected=f"version {before.challenger} still in {before.stage}",
            got=f"version {after.challenger} in {after.stage}" if after.challenger else "it is over",
            next_step="Somebody else moved it first: look at what it says now.",
        ) from error
    page(platform, name)
    return decision


def page(platform: Platform, name: str) -> None:
    """Put every automatic abort of the last day into the outbox, each once (PRO-3).

    Read from the ledger, so that an abort whose judge was killed is paged by the next look.
    """
    now = platform.clock.now()
    entries = [
        entry
        for kind in (FAILED, ROLLED_BACK)
        for entry in platform.ledger.entries(subject=subject(name), kind=kind)
        if entry.body.get("severity") and now - entry.at <= _PAGED_FOR
    ]
    for entry in entries:
        version, decision = entry.body["version"], entry.body["decision"]
        what = "was taken back after its promotion" if entry.kind == ROLLED_BACK else "was taken back"
        notice = Notice(
            f"{entry.subject}/{entry.sequence}",
            entry.body["severity"],
            f"{name}: version {version} {what}",
            f"{decision['reason']}\nEverything about it: mangaassist explain {name} {version}",
            (ON_CALL,),
            runbook="canary_abort",
        )
        platform.outbox.put(notice, at=now)


def roll_back(platform: Platform, name: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Withdraw the challenger if one is running, else restore the previous champion, and time it (PRO-4)."""
    done = controller(platform).rollback(
        platform.story(name), actor=actor, reason=reason, at=platform.clock.now()
    )
    champion = done.deployment.champion
    now = f"version {champion} answers" if champion else "no version answers"
    return {
        "story": name,
        "version": done.version,
        "champion": champion,
        "seconds": done.seconds,
        "readers": done.readers,
        "expired": list(done.expired),
        "verdict": done.verdict.as_dict(),
        "sentence": f"Version {done.version} was taken back in {done.seconds:.3f} s; now {now}.",
    }


def _read(platform: Platform, table: str, schema: Any) -> pl.DataFrame:
    if platform.tables.exists(table):
        return platform.tables.read(table)
    empty: pl.DataFrame = pl.from_arrow(schema.empty_table())  # type: ignore[assignment]  # a table gives a frame
    return empty
