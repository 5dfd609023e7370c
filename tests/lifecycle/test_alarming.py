"""The alarms of a home: from its own series to incidents in the ledger, over restarts (INC-1, INC-3)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.incidents import reading
from mangaassist.incidents.alarms import TICK
from mangaassist.incidents.records import LOCALISED, OPENED
from mangaassist.lifecycle import alarming
from mangaassist.lifecycle.platform import Platform
from mangaassist.portfolio.evidence import Period, gather
from mangaassist.simulation.change_log import change
from mangaassist.simulation.faults import Effect, Fault, record
from mangaassist.simulation.recordings import EACH, HISTORY_START, Fleet, Observed, Recording

START = HISTORY_START
WEEK = 7 * 288
BROKEN, MENDED = WEEK + 30, WEEK + 48


class Shop:
    """Meters of a simulated shop: evidence up to the platform's clock."""

    def __init__(self, platform: Platform, recording: Recording) -> None:
        self._platform, self._recording = platform, recording

    def look(self) -> Observed:
        return Observed(self._recording, self._platform.clock.now())


@pytest.fixture(scope="module")
def recording() -> Recording:
    """A week of health, a bad model version of an hour and a half, health again."""
    generator = np.random.default_rng(21)
    fleet = Fleet.drawn(generator)
    onset = START + BROKEN * TICK
    guilty = change("model", "registry/intent", onset, ("intent",), generator=generator)
    effects = (Effect("quality", "intent.resolved", 12.0), Effect("quality", "answers.resolved", 8.0))
    fault = Fault("model_version", "registry/intent", effects, (guilty,))
    ticks = WEEK + 120
    bad = record(fleet, [(onset, fault)], start=START, ticks=ticks, generator=generator)
    good = record(fleet, [], start=START, ticks=ticks, generator=generator)
    for mended, healthy in ((bad.metrics, good.metrics), (bad.gauges, good.gauges)):
        mended[MENDED:] = healthy[MENDED:]
    bad.minutes[MENDED * EACH :] = good.minutes[MENDED * EACH :]
    return replace(bad, log=(guilty,), calendar=())


@pytest.fixture
def platform(home: Home) -> Platform:
    return Platform.open(home, SimulatedClock(START + (WEEK + 20) * TICK))


def go(platform: Platform, shop: Shop, until: int) -> None:
    """Run the job every five minutes until tick ``until``."""
    clock = platform.clock
    assert isinstance(clock, SimulatedClock)
    while clock.now() < START + until * TICK:
        alarming.alarms(platform, shop)
        clock.advance(TICK)


def test_an_incident_is_opened_localised_and_ended(platform: Platform, recording: Recording) -> None:
    """The ledger has what the clock, the page and the quarter's audit read."""
    shop = Shop(platform, recording)
    go(platform, shop, BROKEN)
    assert reading.incidents(platform.ledger) == []
    go(platform, shop, MENDED)
    (running,) = reading.running(platform.ledger)
    assert running.incident.opened <= START + (BROKEN + 8) * TICK
    assert set(running.incident.components) == {"intent", "answers"}
    found = running.localisation
    assert found is not None
    assert found.category == "model_version"
    assert found.mitigation.command == "mangaassist rollback intent"
    go(platform, shop, MENDED + 40)
    assert reading.running(platform.ledger) == []
    (minutes,) = gather(platform.ledger, Period()).recoveries
    assert (MENDED - BROKEN - 8) * 5 < minutes < (MENDED - BROKEN + 30) * 5
    assert platform.ledger.verify().ok


def test_a_process_that_dies_before_its_state_is_kept_writes_nothing_twice(
    platform: Platform, recording: Recording
) -> None:
    shop = Shop(platform, recording)
    go(platform, shop, BROKEN)
    path = platform.home.folder("oncall") / "watches.npz"
    before = path.with_suffix(".before")
    shutil.copy(path, before)
    go(platform, shop, BROKEN + 12)
    entries = len(platform.ledger.entries())
    alarms = len(reading.running(platform.ledger)[0].incident.alarms)
    shutil.copy(before, path)
    alarming.alarms(platform, shop)
    assert len(platform.ledger.entries()) == entries
    # Not even the state: a new watch does not take a running incident for ended.
    path.unlink()
    alarming.alarms(platform, shop)
    (running,) = reading.running(platform.ledger)
    assert len(running.incident.alarms) == alarms


def test_a_home_without_history_watches_nothing_and_says_so(platform: Platform, recording: Recording) -> None:
    short = replace(
        recording,
        minutes=recording.minutes[: 100 * EACH],
        metrics=recording.metrics[:100],
        gauges=recording.gauges[:100],
    )
    clock = platform.clock
    assert isinstance(clock, SimulatedClock)
    said = alarming.alarms(
        Platform.open(platform.home, SimulatedClock(START + timedelta(hours=8))), Shop(platform, short)
    )
    assert "nothing is watched" in said
    assert platform.ledger.entries(kind=OPENED) == platform.ledger.entries(kind=LOCALISED) == []
