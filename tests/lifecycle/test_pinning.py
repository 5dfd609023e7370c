"""FEA-4 end to end: what a version was trained with is what serving must declare."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.features.catalogs import INTENT
from tests.promotion.samples import TAGS, failing, passing

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog
from mangaassist.features.materialise import materialise
from mangaassist.features.pinning import differences
from mangaassist.lifecycle import features
from mangaassist.lifecycle.platform import Platform

DEFAULT_1 = replace(
    INTENT,
    features={
        name: replace(one, default=1) if name == "orders_90d" else one
        for name, one in INTENT.features.items()
    },
)


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(home, clock)


def register(platform: Platform, catalog: Catalog, *, run: str = "r1") -> int:
    """A version of the intent story trained with ``catalog``."""
    now = platform.clock.now()
    features.publish(platform.ledger, catalog, actor="retrain", at=now)
    version = platform.registry.register(
        "intent",
        artifact=platform.artifacts.put_files({"manifest.json": run.encode()}),
        tags={**TAGS, "feature_schema_version": catalog.fingerprint},
        metrics={},
        gate=passing("intent"),
        run_id=run,
        actor="retrain",
        at=now,
    )
    return version.number


def serve(platform: Platform, catalog: Catalog) -> None:
    """Make ``catalog`` the one schema that is online."""
    materialise(platform.features, catalog, platform.online, at=platform.clock.now())


def test_what_differs_is_named() -> None:
    slow = replace(INTENT.features["orders_90d"], serving_lag=timedelta(hours=6), default=1)
    serving = replace(INTENT, features={"orders_90d": slow, "returns_90d": INTENT.features["returns_90d"]})
    assert differences(INTENT, serving) == (
        "account_age_days only at training",
        "orders_90d.default 0 at training, 1 at serving",
        "orders_90d.serving_lag 5h at training, 6h at serving",
    )
    renamed = replace(INTENT.features["orders_90d"], owner="somebody else")
    assert differences(INTENT, replace(INTENT, features={**INTENT.features, "orders_90d": renamed})) == ()


def test_a_version_of_the_served_schema_is_deployed(platform: Platform) -> None:
    """Before anything is online, the installed catalog is what serving declares."""
    number = register(platform, INTENT)
    assert platform.registry.start_shadow("intent", number, actor="t", at=platform.clock.now())
    serve(platform, INTENT)
    stage = platform.story("intent").rollout.stages[0]
    decision = passing(f"intent/{number}")
    assert platform.registry.advance("intent", number, stage=stage, holdout=0.75, decision=decision)


def test_every_deployment_of_another_schema_is_refused(platform: Platform) -> None:
    """To shadow, to a canary and to everybody; the field is named each time."""
    number, now = register(platform, DEFAULT_1), platform.clock.now()
    sentence = r"features of intent: .*intent/1 pins, got orders_90d.default 1 at training, 0 at serving"
    with pytest.raises(GateRefused, match=sentence):
        platform.registry.start_shadow("intent", number, actor="t", at=now)
    serve(platform, DEFAULT_1)
    platform.registry.start_shadow("intent", number, actor="t", at=now)
    platform.online.drop(DEFAULT_1.version)
    serve(platform, INTENT)
    first, second = platform.story("intent").rollout.stages[:2]
    decision = passing(f"intent/{number}")
    with pytest.raises(GateRefused, match=sentence):
        platform.registry.advance("intent", number, stage=first, holdout=0.75, decision=decision)
    serve(platform, DEFAULT_1)
    platform.registry.advance("intent", number, stage=first, holdout=0.75, decision=decision)
    platform.online.drop(DEFAULT_1.version)
    with pytest.raises(GateRefused, match=sentence):
        platform.registry.advance("intent", number, stage=second, holdout=0.75, decision=decision)
    with pytest.raises(GateRefused, match=sentence):
        platform.registry.promote("intent", number, decision=decision)
    deployment = platform.registry.deployment("intent")
    assert (deployment.challenger, deployment.stage) == (number, first.name)


def test_what_is_deployed_stays_online_beside_a_newer_schema(
    platform: Platform, clock: SimulatedClock
) -> None:
    """A champion goes on with its own defaults and lags; what nothing pins leaves after a day."""
    number = register(platform, DEFAULT_1)
    serve(platform, DEFAULT_1)
    platform.registry.start_shadow("intent", number, actor="t", at=clock.now())
    clock.advance(timedelta(days=2))
    features.materialise_story(platform, "intent")
    assert {one.version for one in features.declared(platform, "intent")} == {
        INTENT.version,
        DEFAULT_1.version,
    }
    withdrawn = failing(f"intent/{number}")
    platform.registry.fail("intent", number, decision=withdrawn)
    clock.advance(timedelta(days=2))
    features.materialise_story(platform, "intent")
    assert [one.version for one in features.declared(platform, "intent")] == [INTENT.version]
