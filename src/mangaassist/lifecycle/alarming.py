"""The alarms of a home: its own metrics watched, incidents opened, localised and closed in the ledger.

Every tick is seen once, in order, by whichever process holds the lock, and where the alarms stand is a file,
so that a restart loses no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from mangaassist.incidents import alarm_state, reading, register
from mangaassist.incidents.alarms import TICK, Label
from mangaassist.incidents.evidence import Evidence
from mangaassist.incidents.grouping import joined
from mangaassist.incidents.records import Alarm, Known, Series
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
        found = _watched(platform, evidence, until)
        if found is None:
            return f"No series has {_ENOUGH} values yet; nothing is watched."
        before, stretches = found
        tree = Tree.load(platform.home.path)
        now, fired = follow(before, [*stretches, *_newest_minutes(before, evidence, until)])
        running = _take_in(platform, tree, fired, at=evidence.now)
        walks = _attend(platform, tree, evidence, running, now)
        # Last: a process that dies before this sees the same ticks again and finds their alarms written.
        _keep(platform, now)
    quick = sum(len(part.labels) for part in now.parts[1:])
    return (
        f"{now.series} series watched, {quick} every minute, {len(fired)} alarms, {len(running)} incidents, "
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


def _watched(platform: Platform, evidence: Evidence, until: datetime) -> tuple[Watches, list[Stretch]] | None:
    """The watches as they stood or new ones, and the five-minute values; None for nothing to watch.

    Between two five-minute ticks nothing but minutes is read.
    """
    path = _path(platform)
    known = alarm_state.from_bytes(path.read_bytes()) if path.exists() else None
    last = known.parts[0].last if known else None
    if known is not None and last is not None and until < last + TICK:
        return known, []
    series = [one for panel in WATCHED for one in evidence.series(panel) if _watchable(one)]
    if not series:
        return None
    ticks = Stretch.of(series, until=until)
    if known is None or known.parts[0].labels != ticks.labels or last is None or last < ticks.start:
        return _begun(platform, ticks, evidence, until), [ticks]
    if last - known.parts[0].since > _REFIT and not any(known.firing().values()):
        return _renewed(known, ticks, evidence, until) or _begun(platform, ticks, evidence, until), [ticks]
    return known, [ticks]


def _renewed(known: Watches, ticks: Stretch, evidence: Evidence, until: datetime) -> Watches | None:
    """The watches on newer baselines; None when other series count enough in a minute than before."""
    quick = {label for part in known.parts[1:] for label in part.labels}
    if {_label(one) for one in _frequent(ticks, evidence, until)} != quick:
        return None
    return renewed(known, ticks, *_minutes(known, evidence, until - _REFIT, until))


def _frequent(ticks: Stretch, evidence: Evidence, until: datetime) -> list[Series]:
    """The minutes of those of the series that count enough in one."""
    own = set(ticks.labels)
    minutes = [one for panel in WATCHED for one in evidence.minutes(panel, until - _REFIT)]
    return [one for one in minutes if _label(one) in own and _often(one)]


def _begun(platform: Platform, ticks: Stretch, evidence: Evidence, until: datetime) -> Watches:
    """New watches on all the history there is, from its newest tick on.

    What running incidents hold as in alarm stays so until it has been back to usual.
    """
    known = reading.running(platform.ledger)
    loud = {Label(alarm.panel, alarm.name, alarm.cohort) for one in known for alarm in one.incident.alarms}
    often = _frequent(ticks, evidence, until)
    return begun(ticks, Stretch.of(often, until=until) if often else None, loud=loud)


def _newest_minutes(watches: Watches, evidence: Evidence, until: datetime) -> list[Stretch]:
    return [
        stretch
        for part in watches.parts[1:]
        if part.last is not None
        for stretch in _minutes(watches, evidence, part.last, until)
    ]


def _minutes(watches: Watches, evidence: Evidence, since: datetime, until: datetime) -> list[Stretch]:
    """The minutes after ``since`` of what is watched every minute; nothing where nobody asked."""
    found = {_label(one): one for panel in WATCHED for one in evidence.minutes(panel, since)}
    if not found:
        return []
    any_of_them = next(iter(found.values()))
    nothing = replace(any_of_them, values=np.full(len(any_of_them.values), np.nan))
    return [
        replace(Stretch.of([found.get(one, nothing) for one in part.labels], until=until), labels=part.labels)
        for part in watches.parts[1:]
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
