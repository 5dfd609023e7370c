"""Control over HTTP: 401 without a token, 403 without the role, 429 in a loop, an entry with the name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from tests.promotion.samples import registry, to_champion

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.governance.access import Access
from mangaassist.lifecycle.platform import Platform
from mangaassist.web.control import PER_MINUTE
from mangaassist.web.server import create

ROLLBACK = "/v1/control/stories/intent/rollback"
WHY = {"reason": "checkout is down"}


@pytest.fixture
def platform(home: Home, clock: SimulatedClock) -> Platform:
    for run in ("r1", "r2"):
        to_champion(registry(home), run=run)
    return Platform.open(home, clock)


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with TestClient(create(platform)) as found:
        yield found


def headers(platform: Platform, role: str) -> dict[str, str]:
    _, text = Access(platform.ledger).issue(
        "emi", role, lasts=timedelta(days=1), actor="dai", at=platform.clock.now()
    )
    return {"Authorization": f"Bearer {text}"}


def test_nobody_and_viewers_are_refused(client: TestClient, platform: Platform) -> None:
    before = platform.registry.deployment("intent")
    assert client.post(ROLLBACK, json=WHY).status_code == 401
    assert client.post(ROLLBACK, json=WHY, headers={"Authorization": "Basic x"}).status_code == 401
    answer = client.post(ROLLBACK, json=WHY, headers=headers(platform, "viewer"))
    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    assert platform.registry.deployment("intent") == before


def test_an_engineer_rolls_back_under_their_own_name(client: TestClient, platform: Platform) -> None:
    answer = client.post(ROLLBACK, json=WHY, headers=headers(platform, "engineer"))
    assert answer.status_code == 200
    assert answer.json()["champion"] == 1
    entry = platform.ledger.entries(kind="registry.rolled_back")[-1]
    assert entry.actor == "emi"
    assert "checkout is down" in entry.body["decision"]["reason"]


def test_freezing_is_for_everybody_on_duty_and_releasing_is_not(
    client: TestClient, platform: Platform
) -> None:
    engineer, director = headers(platform, "engineer"), headers(platform, "director")
    assert client.post("/v1/control/freeze", json=WHY, headers=engineer).json()["global_ml_freeze"] is True
    assert client.post("/v1/control/release", json=WHY, headers=engineer).status_code == 403
    assert client.post("/v1/control/release", json=WHY, headers=director).json()["global_ml_freeze"] is False


def test_a_loop_is_stopped_and_let_in_again(
    client: TestClient, platform: Platform, clock: SimulatedClock
) -> None:
    caller = headers(platform, "viewer")
    answers = [client.post(ROLLBACK, json=WHY, headers=caller).status_code for _ in range(PER_MINUTE + 1)]
    assert answers == [403] * PER_MINUTE + [429]
    clock.advance(timedelta(seconds=60 / PER_MINUTE))
    assert client.post(ROLLBACK, json=WHY, headers=caller).status_code == 403
    assert client.post(ROLLBACK, json=WHY, headers=headers(platform, "viewer")).status_code == 403


def test_a_reason_and_a_known_story_are_needed(client: TestClient, platform: Platform) -> None:
    caller = headers(platform, "engineer")
    assert client.post(ROLLBACK, json={}, headers=caller).status_code == 422
    missing = client.post("/v1/control/stories/intnet/rollback", json=WHY, headers=caller)
    assert missing.status_code == 404
    assert "Did you mean 'intent'?" in missing.json()["next_step"]
