"""Small registered versions and decisions for the tests of promotion and serving."""

from __future__ import annotations

from datetime import UTC, datetime

from mangaassist.core.home import Home
from mangaassist.core.story import CanaryStage, RolloutPolicy
from mangaassist.core.verdict import Action, Decision, Status, Verdict
from mangaassist.governance.signing import KeyRing
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import Version
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
STAGES = RolloutPolicy().stages
HOLDOUT = 0.75
TAGS = {
    "model_target": "intent",
    "code_revision": "abc123",
    "data_snapshot_id": 7,
    "label_version": 3,
    "feature_schema_version": "f1",
    "seed": 11,
}


def registry(home: Home) -> Registry:
    """A registry of its own connections, as another process would have."""
    ledger = Ledger.open(home)
    keys = KeyRing(ledger, home.folder("keys"), "us")
    return Registry(ledger, ArtifactStore(home.folder("artifacts")), keys)


def passing(subject: str, *, at: datetime = AT, actor: str = "policy") -> Decision:
    verdict = Verdict("golden.accuracy", Status.PASS, "Accuracy is .95.", value=0.95, threshold=0.9, n=100)
    return Decision(Action.PROMOTE, subject, "All 1 verdicts pass.", actor, at, (verdict,), "policy-1")


def failing(subject: str, *, at: datetime = AT, actor: str = "policy") -> Decision:
    verdict = Verdict("canary.error_rate", Status.FAIL, "Errors doubled.", value=0.2, threshold=0.1, n=100)
    return Decision(Action.ROLL_BACK, subject, "Errors doubled.", actor, at, (verdict,), "policy-1")


def add(
    target: Registry,
    story: str = "intent",
    *,
    run: str,
    capped: str | None = None,
    gate: Decision | None = None,
    files: dict[str, bytes] | None = None,
) -> Version:
    """Register one more version whose artifact differs by ``run``."""
    content = files if files is not None else {"manifest.json": run.encode()}
    return target.register(
        story,
        artifact=target.artifacts.put_files(content),
        tags=TAGS,
        metrics={"accuracy": 0.95},
        gate=gate or passing(story),
        run_id=run,
        actor="retrain",
        at=AT,
        capped=capped,
        waivers=[{"name": "single-source", "actor": "mei", "reason": "demo"}] if capped else [],
    )


def to_canary(
    target: Registry, story: str, number: int, stage: CanaryStage = STAGES[0], *, at: datetime = AT
) -> None:
    target.start_shadow(story, number, actor="policy", at=at)
    decision = passing(f"{story}/{number}", at=at)
    target.advance(story, number, stage=stage, holdout=HOLDOUT, decision=decision)


def to_champion(target: Registry, story: str = "intent", *, run: str) -> Version:
    """Register one more version and take it all the way."""
    version = add(target, story, run=run)
    to_canary(target, story, version.number)
    target.promote(story, version.number, decision=passing(version.name))
    return target.get(story, version.number)
