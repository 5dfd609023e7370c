"""Kill switches: precedence, fail-safe defaults, who wins a race, what a pause costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.governance.parameters import parameter_store, prefix

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import Conflict, GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.governance.ssm import SsmSwitches
from mangaassist.governance.switches import (
    GLOBAL_FREEZE,
    Switches,
    promotion_switch,
    technique_switch,
)
from mangaassist.storage.ledger import Ledger

Open = Callable[[Ledger], Switches]


@pytest.fixture(scope="module", params=["ledger", "ssm"])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """The two stores; what follows holds for both. Parameters of one home have one prefix."""
    if request.param == "ledger":
        yield Switches
        return
    with parameter_store() as client:
        yield lambda ledger: SsmSwitches(ledger, client, prefix(ledger), now=count().__next__)


@pytest.fixture
def switches(home: Home, opened: Open) -> Switches:
    return opened(Ledger.open(home))


def test_nothing_set_permits(switches: Switches) -> None:
    """PRO-8: a reachable store in which nobody denied anything."""
    found = switches.permissions("intent")
    assert found.may_promote
    assert found.challenger_traffic
    assert found.drift_triggers
    assert found.allows("blue_green")
    assert (found.epoch, found.source) == (0, "ledger")


@given(
    frozen=st.none() | st.booleans(), enabled=st.none() | st.booleans(), technique=st.none() | st.booleans()
)
@settings(max_examples=27, deadline=None)
def test_any_denial_wins(
    opened: Open,
    tmp_path_factory: pytest.TempPathFactory,
    frozen: bool | None,
    enabled: bool | None,
    technique: bool | None,
) -> None:
    """PRO-8: precedence as a lattice: no lower level permits what a higher one denies."""
    clock = SimulatedClock(datetime(2026, 10, 5, tzinfo=UTC))
    switches = opened(Ledger.open(Home.open(tmp_path_factory.mktemp("home"))))
    for name, value in (
        (GLOBAL_FREEZE, frozen),
        (promotion_switch("intent"), enabled),
        (technique_switch("intent", "quantised"), technique),
    ):
        if value is not None:
            switches.set(name, value, actor="mei", reason="drill", at=clock.now())
    found = switches.permissions("intent")
    assert found.may_promote == (frozen is not True and enabled is not False)
    assert found.allows("quantised") == (found.may_promote and technique is not False)
    assert found.drift_triggers == (frozen is not True)
    assert switches.permissions("spam").may_promote == (frozen is not True)


def test_unreachable_store_uses_the_safe_defaults(
    home: Home, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRO-8: freeze defaults to false, promotion_enabled to false, and the answer says so."""
    ledger = Ledger.open(home)
    switches = opened(ledger)

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    monkeypatch.setattr(ledger, "version", down)
    found = switches.permissions("intent")
    assert found.source == "defaults"
    assert not found.frozen
    assert not found.promotion_enabled
    assert not found.may_promote
    assert not found.allows("anything")
    assert "cannot be read" in found.sentence
    with pytest.raises(GateRefused, match="Bring the ledger back"):
        found.require_promotion()


def test_a_freeze_already_read_survives_losing_the_store(
    home: Home, opened: Open, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PRO-8: the default is for a missing signal; a freeze that was read is not missing."""
    ledger = Ledger.open(home)
    switches = opened(ledger)
    switches.freeze(True, actor="mei", reason="SEV-1", at=clock.now())

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    monkeypatch.setattr(ledger, "version", down)
    assert switches.permissions("intent").frozen


def test_loosening_over_a_newer_freeze_is_a_conflict(home: Home, opened: Open, clock: SimulatedClock) -> None:
    """PRO-8: an "off" written in ignorance of a newer "on" changes nothing."""
    mine, theirs = opened(Ledger.open(home)), opened(Ledger.open(home))
    first = mine.freeze(True, actor="mei", reason="SEV-2", at=clock.now())
    theirs.freeze(True, actor="ken", reason="worse than we thought", at=clock.now())
    with pytest.raises(Conflict):
        mine.set(GLOBAL_FREEZE, False, actor="mei", reason="over", at=clock.now(), seen=first.epoch)
    assert mine.permissions("intent").frozen
    mine.freeze(False, actor="mei", reason="both agree", at=clock.now())
    assert not theirs.permissions("intent").frozen


def test_the_epoch_only_grows_and_the_history_stays(switches: Switches, clock: SimulatedClock) -> None:
    """PRO-8, GOV-4: monotonic epoch = ledger sequence; who and why are kept."""
    epochs = [switches.permissions("intent").epoch]
    for on in (True, False, True):
        switches.freeze(on, actor="mei", reason=f"set to {on}", at=clock.now())
        epochs.append(switches.permissions("intent").epoch)
    assert epochs == sorted(set(epochs))
    assert not switches.at("intent", epochs[2]).frozen
    assert switches.at("intent", epochs[1]).frozen
    assert switches.settings()[0].reason == "set to True"
    assert "mei" in switches.permissions("intent").sentence


def test_paused_time(switches: Switches, clock: SimulatedClock) -> None:
    """PRO-8: overlapping denials count once, an open one counts until now."""
    start = clock.now()
    hour = timedelta(hours=1)
    switches.freeze(True, actor="a", reason="r", at=clock.advance(hour))
    switches.set(promotion_switch("intent"), False, actor="a", reason="r", at=clock.advance(hour))
    switches.freeze(False, actor="a", reason="r", at=clock.advance(hour))
    switches.set(promotion_switch("intent"), True, actor="a", reason="r", at=clock.advance(hour))
    assert switches.paused("intent", start, start + 10 * hour) == 3 * hour
    assert switches.paused("spam", start, start + 10 * hour) == 2 * hour
    assert switches.paused("intent", start + 2 * hour, start + 10 * hour) == 2 * hour
    switches.freeze(True, actor="a", reason="r", at=clock.advance(hour))
    assert switches.paused("spam", start, start + 7 * hour) == 4 * hour


@pytest.mark.parametrize(
    "name", ["", "freeze", "intent.enabled", "intent.technique.", "a b.promotion_enabled"]
)
def test_unknown_names_are_refused(switches: Switches, clock: SimulatedClock, name: str) -> None:
    with pytest.raises(InputError, match="global_ml_freeze"):
        switches.set(name, True, actor="mei", reason="why", at=clock.now())


def test_a_reason_is_required(switches: Switches, clock: SimulatedClock) -> None:
    """GOV-4: every flag change says why."""
    with pytest.raises(InputError, match="reason"):
        switches.freeze(True, actor="mei", reason="  ", at=clock.now())
