"""Switches in AWS's parameter store: a denial in either place wins, an outage promotes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from tests.governance.parameters import parameter_store

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.governance.ssm import SsmSwitches
from mangaassist.governance.switches import GLOBAL_FREEZE, Switches
from mangaassist.lifecycle.platform import Platform
from mangaassist.storage.ledger import Ledger


@pytest.fixture
def client() -> Iterator[Any]:
    with parameter_store() as found:
        yield found


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger.open(home)


@pytest.fixture
def switches(ledger: Ledger, client: Any) -> SsmSwitches:
    return SsmSwitches(ledger, client, "mangaassist", now=count().__next__)


def put(client: Any, name: str, value: str) -> None:
    client.put_parameter(Name=f"/mangaassist/{name}", Value=value, Type="String", Overwrite=True)


def down(*_: Any, **__: Any) -> Any:
    raise EndpointConnectionError(endpoint_url="https://ssm.us-east-1.amazonaws.com")


def test_what_is_set_here_is_there(switches: SsmSwitches, client: Any, clock: SimulatedClock) -> None:
    switches.freeze(True, actor="ic", reason="SEV-1", at=clock.now())
    switches.set("intent.technique.blue_green", False, actor="ic", reason="Drill", at=clock.now())
    found = client.get_parameters_by_path(Path="/mangaassist", Recursive=True)["Parameters"]
    assert {one["Name"]: one["Value"] for one in found} == {
        "/mangaassist/global_ml_freeze": "true",
        "/mangaassist/intent/technique/blue_green": "false",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (GLOBAL_FREEZE, "true"),
        ("intent/promotion_enabled", "False"),
        ("intent/promotion_enabled", "maybe"),
        (GLOBAL_FREEZE, """ yes """),
    ],
)
def test_a_denial_from_the_console_takes_effect(
    switches: SsmSwitches, client: Any, name: str, value: str
) -> None:
    """PRO-8: deny wins across stores; a value nobody can read denies; the ledger alone permits nothing."""
    put(client, name, value)
    put(client, "unrelated/thing", "true")
    found = switches.permissions("intent")
    assert not found.may_promote
    assert found.frozen == (name == GLOBAL_FREEZE)
    assert f"/mangaassist/{name} (version 1)" in found.sentence
    with pytest.raises(GateRefused, match="parameter store"):
        found.require_promotion()
    assert [one.actor for one in switches.settings()] == ["ssm"]
    put(client, name, "false" if name == GLOBAL_FREEZE else "true")
    assert switches.permissions("intent").may_promote


def test_lifting_in_one_place_lifts_nothing(
    switches: SsmSwitches, ledger: Ledger, client: Any, clock: SimulatedClock
) -> None:
    switches.freeze(True, actor="ic", reason="SEV-1", at=clock.now())
    put(client, GLOBAL_FREEZE, "false")
    assert switches.permissions("intent").frozen
    put(client, GLOBAL_FREEZE, "true")
    Switches(ledger).freeze(False, actor="ic", reason="Over", at=clock.now())
    assert switches.permissions("intent").frozen
    switches.freeze(False, actor="ic", reason="Over", at=clock.now())
    assert switches.permissions("intent").may_promote


def test_an_outage_promotes_nothing_and_freezes_nothing(
    switches: SsmSwitches, ledger: Ledger, client: Any, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRO-8: freeze false, promotion_enabled false; a freeze that was read stays; a freeze is still taken."""
    with monkeypatch.context() as patch:
        patch.setattr(client, "get_paginator", down)
        found = switches.permissions("intent")
        assert (found.frozen, found.promotion_enabled, found.source) == (False, False, "defaults")
        assert "cannot be read" in found.sentence
        assert not found.allows("blue_green")
    put(client, GLOBAL_FREEZE, "true")
    assert switches.permissions("intent").frozen
    monkeypatch.setattr(client, "get_paginator", down)
    monkeypatch.setattr(client, "put_parameter", down)
    assert switches.permissions("intent").frozen
    with pytest.raises(Unavailable):
        switches.freeze(True, actor="ic", reason="SEV-1", at=clock.now())
    assert Switches(ledger).permissions("intent").frozen


def test_parameters_are_read_at_most_once_a_second(ledger: Ledger, client: Any) -> None:
    now, reads = [0.0], count()
    switches = SsmSwitches(ledger, client, "mangaassist", now=lambda: now[0])
    listed = switches._listed

    def counted() -> Any:
        next(reads)
        return listed()

    switches._listed = counted  # type: ignore[method-assign]
    for _ in range(50):
        switches.permissions("intent")
    now[0] = 1.0
    switches.permissions("intent")
    assert next(reads) == 2


def test_the_setting_opens_it(home: Home, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    opened = Platform.open(Home(home.path, Settings(switches_url="ssm://shop/ml")), clock).switches
    assert isinstance(opened, SsmSwitches)
    assert opened._path("intent.promotion_enabled") == "/shop/ml/intent/promotion_enabled"
    for wrong in ("ssm://", "https://x", "ssm:///"):
        with pytest.raises(InputError, match="switches_url"):
            SsmSwitches.open(Ledger.open(home), wrong)
