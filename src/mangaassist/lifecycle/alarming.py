"""The alarms of a home: its own metrics watched, incidents opened, localised and closed in the ledger.

Every tick is seen once, in order, by whichever process holds the lock, and where the alarms stand is a file,
so that a restart loses no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from mangaassist.incidents import alarm_state, reading, register
from mangaassist.incidents.alarms import Label
from mangaassist.incidents.grouping import joined
from mangaassist.incidents.records import Alarm, Evidence, Known, Series
from mangaassist.incidents.tree import Tree, decided, walk
from mangaassist.incidents.watches import Stretch, Watches, begun, follow, renewed
from mangaassist.lifecycle.platform import Platform

WATCHED = ("quality", "latency", "errors")
_ENOUGH = 288
"""Values a series must have before it is watched: a day of ticks."""

_MINUTES_ENOUGH = 1440
_MINUTES_SHARE = 0.9
"""A series is watched every minute when nine of ten minutes of its last days counted enough."""

_REFIT = timedelta(days=7)
# An answer is durable before it is given; after this the window that ended holds all of them.
_SETTLED = timedelta(seconds=15)


def alarms(platform: Platform, meters: Looking) -> str:
    """See every tick since the last time; open, extend, localise and end incidents."""
    with platform.home.lock("alarms"):
        evidence = meters.look()
        until = evidence.now - _SETTLED
        series = [one for panel in WATCHED for one in evidence.series(panel) if _watchable(one)]
        if not series:
            return f"No series has {_ENOUGH} values yet; nothing is watched."
        ticks = Stretch.of(series, until=until)
        minutes = [one for panel in WATCHED for one in evidence.minutes(panel)]
        tree = Tree.load(platform.home.path)
        before = _resumed(platform, ticks, minutes, until) or _begun(platform, ticks, minutes, until)
        now, fired = follow(before, _stretches(before, ticks, minutes, until))
        running = _take_in(platform, tree, fired, at=evidence.now)
        walks = _attend(platform, tree, evidence, running, now)
        # Last: a process that dies before this sees the same ticks again and finds their alarms written.
        _keep(platform, now)
    quick = sum(len(part.labels) for part in now.parts[1:])
    return (
        f"{len(series)} series watched, {quick} every minute, {len(fired)} alarms, {len(running)} incidents, "
        f"{walks} walks."
    )


class Looking(Protocol):
    """Whatever gathers evidence: :class:`mangaassist.lifecycle.evidence.Meters`."""

    def look(self) -> Evidence: ...


def _watchable(one: Series, enough: int = _ENOUGH) -> bool:
    known = one.values[np.isfinite(one.values)]
    return len(known) >= enough and bool(np.median(np.abs(known - np.median(known))) > 0)


def _often(one: Series) -> bool:
    """Whether a series counts enough in a minute."""
    known = np.flatnonzero(np.isfinite(one.values))
    if not _watchable(one, _MINUTES_ENOUGH):
        return False
    return len(known) >= _MINUTES_SHARE * (len(one.values) - int(known[0]))


def _label(one: Series) -> Label:
    return Label(one.panel, one.name, one.cohort)


def _begun(platform: Platform, ticks: Stretch, minutes: Sequence[Series], until: datetime) -> Watches:
    """New watches on all the history there is, from its newest tick on.

    What running incidents hold as in alarm stays so until it has been back to usual.
    """
    known = reading.running(platform.ledger)
    loud = {Label(alarm.panel, alarm.name, alarm.cohort) for one in known for alarm in one.incident.alarms}
    own = set(ticks.labels)
    often = [one for one in minutes if _label(one) in own and _often(one)]
    return begun(ticks, Stretch.of(often, until=until) if often else None, loud=loud)


def _resumed(
    platform: Platform, ticks: Stretch, minutes: Sequence[Series], until: datetime
) -> Watches | None:
    """Where the alarms stood, on newer baselines once a week; None when that was of other series."""
    path = _path(platform)
    if not path.exists():
        return None
    known = alarm_state.from_bytes(path.read_bytes())
    coarse = known.parts[0]
    there = {_label(one) for one in minutes}
    if coarse.labels != ticks.labels or coarse.last is None or coarse.last < ticks.start:
        return None
    if any(not there.issuperset(part.labels) for part in known.parts[1:]):
        return None
    if coarse.last - coarse.since > _REFIT and not any(known.firing().values()):
        return renewed(known, *_stretches(known, ticks, minutes, until))
    return known


def _stretches(watches: Watches, ticks: Stretch, minutes: Sequence[Series], until: datetime) -> list[Stretch]:
    """What was measured of the series of each pace."""
    by_label = {_label(one): one for one in minutes}
    return [
        ticks,
        *(Stretch.of([by_label[label] for label in part.labels], until=until) for part in watches.parts[1:]),
    ]


def _take_in(platform: Platform, tree: Tree, fired: Sequence[Alarm], *, at: datetime) -> list[Known]:
    """New alarms into running incidents or new ones; returns all that run."""
    written = {_key(alarm) for one in reading.incidents(platform.ledger) for alarm in one.incident.alarms}
    known = {one.incident.id: one for one in reading.running(platform.ledger)}
    new = [alarm for alarm in fired if _key(alarm) not in written]
    changed, _ = joined([one.incident for one in known.values()], new, tree.lineage)
    for incident in changed:
        head = known[incident.id].head if incident.id in known else 0
        register.opened(platform.ledger, incident, at=at if head else incident.opened, head=head)
    return reading.running(platform.ledger)


def _key(alarm: Alarm) -> tuple[str, str, str, datetime]:
    return alarm.panel, alarm.name, alarm.cohort, alarm.at


def _attend(
    platform: Platform, tree: Tree, evidence: Evidence, running: Sequence[Known], now: Watches
) -> int:
    """Walk the tree for every running incident; write what is new; end what is back to usual."""
    firing = now.firing()
    walks = 0
    for one in running:
        own = {Label(alarm.panel, alarm.name, alarm.cohort) for alarm in one.incident.alarms}
        if own <= firing.keys() and not any(firing[label] for label in own):
            register.recovered(platform.ledger, one, at=evidence.now)
            continue
        found, before = walk(tree, one.incident, evidence), one.localisation
        if before is None and not decided(found, one.incident, alarmed=one.incident.opened):
            continue
        if before is None or (found.category, found.mitigation) != (before.category, before.mitigation):
            register.localised(platform.ledger, found, head=one.head)
            walks += 1
    return walks


def _keep(platform: Platform, now: Watches) -> None:
    """Put the new state in place of the old one, whole or not at all."""
    draft = _path(platform).with_suffix(".draft")
    draft.write_bytes(alarm_state.to_bytes(now))
    draft.replace(_path(platform))


def _path(platform: Platform) -> Path:
    return platform.home.folder("oncall") / "watches.npz"
