"""The OpenFeature provider answers with switches as they take effect, and with safe values in an outage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import Unavailable
from mangaassist.core.home import Home
from mangaassist.governance.openfeature import SwitchProvider
from mangaassist.governance.switches import Switches
from mangaassist.storage.ledger import Ledger

FREEZE, PROMOTION, FLIP = "global_ml_freeze", "intent.promotion_enabled", "intent.technique.blue_green"


@pytest.fixture
def switches(home: Home) -> Switches:
    return Switches(Ledger.open(home))


@pytest.fixture
def client(switches: Switches) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(SwitchProvider(switches), "switches")
    yield api.get_client("switches")
    api.clear_providers()


def values(client: OpenFeatureClient, *, default: bool) -> tuple[bool, ...]:
    return tuple(client.get_boolean_value(name, default) for name in (FREEZE, PROMOTION, FLIP))


def test_the_lattice_is_applied(client: OpenFeatureClient, switches: Switches, clock: SimulatedClock) -> None:
    """PRO-8: what a switch says does not matter where a higher one denies."""
    assert values(client, default=False) == (False, True, True)
    switches.set(FLIP, False, actor="mei", reason="Drill", at=clock.now())
    assert values(client, default=True) == (False, True, False)
    switches.set(FLIP, True, actor="mei", reason="Over", at=clock.now())
    switches.set(PROMOTION, False, actor="mei", reason="Drill", at=clock.now())
    assert values(client, default=True) == (False, False, False)
    switches.set(PROMOTION, True, actor="mei", reason="Over", at=clock.now())
    switches.freeze(True, actor="ic", reason="SEV-1", at=clock.now())
    assert values(client, default=True) == (True, False, False)
    details = client.get_boolean_details(PROMOTION, True)
    assert details.flag_metadata["epoch"] == switches.refresh()
    assert "SEV-1" in details.flag_metadata["sentence"]


@pytest.mark.parametrize("default", [True, False])
def test_in_an_outage_the_callers_default_does_not_count(
    client: OpenFeatureClient, switches: Switches, monkeypatch: pytest.MonkeyPatch, default: bool
) -> None:
    """PRO-8: freeze false, promotion false, whatever was passed."""

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    monkeypatch.setattr(switches._ledger, "version", down)
    assert values(client, default=default) == (False, False, False)
    assert client.get_boolean_details(FREEZE, default).reason == Reason.DEFAULT


def test_what_is_no_switch_gets_the_default_and_a_code(client: OpenFeatureClient) -> None:
    unknown = client.get_boolean_details("intent.enabled", True)
    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    text = client.get_string_details(FREEZE, "x")
    assert (text.value, text.error_code) == ("x", ErrorCode.TYPE_MISMATCH)
    assert client.get_integer_details(FREEZE, 3).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_float_details(FREEZE, 0.5).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_object_details(FREEZE, {}).error_code == ErrorCode.TYPE_MISMATCH
