"""The change log, and the webhook that writes into it (issue 5, incidents 1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.governance.access import Access, Role
from mangaassist.incidents.changes import changes, record
from mangaassist.incidents.records import Change
from mangaassist.lifecycle.platform import Platform
from mangaassist.web.server import create

HOUR = timedelta(hours=1)


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(home, clock)


def test_one_log_for_what_is_recorded_and_what_we_did(platform: Platform, clock: SimulatedClock) -> None:
    """Issue 5: switches come from the ledger, the rest is recorded, once; nothing known later is told."""
    start = clock.now()
    platform.switches.freeze(True, actor="ana", reason="An incident.", at=start)
    clock.advance(HOUR)
    late = Change("managed_service", "search-api", start, clock.now(), "provider", "Upgraded overnight.")
    assert [record(platform.ledger, late, actor="hook") for _ in range(2)] == [True, False]

    def found(known_by: timedelta) -> list[str]:
        every = changes(platform.ledger, start, start + HOUR, known_by=start + known_by)
        return [one.kind for one in every]

    assert found(timedelta(0)) == ["switch"]
    assert sorted(found(HOUR)) == ["managed_service", "switch"]
    assert changes(platform.ledger, start + HOUR, start + 2 * HOUR, known_by=start + 2 * HOUR) == []
    with pytest.raises(InputError, match="has come"):
        record(platform.ledger, replace(late, at=clock.now() + HOUR), actor="hook")


def test_the_webhook(platform: Platform, clock: SimulatedClock) -> None:
    """Issue 5: a token with the right role, the caller's name in the log, and refusals that say why."""
    access = Access(platform.ledger)
    _, text = access.issue("ci", Role.ENGINEER, lasts=24 * HOUR, actor="root", at=clock.now())
    http = TestClient(create(platform))
    body = {"kind": "deploy", "subject": "gateway", "summary": "4f2a91c Timeouts", "touches": ["gateway"]}
    assert http.post("/v1/changes", json=body).status_code == 401
    bearer = {"Authorization": f"Bearer {text}"}
    first = http.post("/v1/changes", json=body, headers=bearer)
    assert first.status_code == 202, first.text
    assert first.json()["new"]
    assert not http.post("/v1/changes", json=body, headers=bearer).json()["new"]
    (change,) = changes(platform.ledger, clock.now() - HOUR, clock.now(), known_by=clock.now())
    assert (change.actor, change.touches, change.id) == ("ci", ("gateway",), first.json()["id"])
    future = {**body, "at": (clock.now() + HOUR).isoformat()}
    assert http.post("/v1/changes", json=future, headers=bearer).status_code == 400
    assert http.post("/v1/changes", json={**body, "kind": "De ploy"}, headers=bearer).status_code == 422
