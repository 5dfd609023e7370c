"""The alarms of a home: its own metrics watched, incidents opened, localised and closed in the ledger.

Runs every minute and does something every five: each tick is seen once, in order, by whichever process holds
the lock, and where the alarms stand is a file, so that a restart loses no evidence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from mangaassist.incidents import alarm_state, reading, register
from mangaassist.incidents.alarms import TICK, Label, Watch, rebased, recovered, tick, watch
from mangaassist.incidents.baselines import fit, hours_of
from mangaassist.incidents.grouping import joined
from mangaassist.incidents.records import Alarm, Evidence, Known, Series
from mangaassist.incidents.tree import Tree, walk
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.domain import FloatArray

WATCHED = ("quality", "latency", "errors")
_ENOUGH = 288
"""Values a series must have before it is watched: a day of ticks."""

_REFIT = timedelta(days=7)
# The newest tick may still be on its way from the spool into the log.
_SETTLED = TICK


def alarms(platform: Platform, meters: Looking) -> str:
    """See every tick since the last time; open, extend, localise and end incidents."""
    with platform.home.lock("alarms"):
        evidence = meters.look()
        series = [one for panel in WATCHED for one in evidence.series(panel) if _watchable(one)]
        if not series:
            return f"No series has {_ENOUGH} values yet; nothing is watched."
        tree = Tree.load(platform.home.path)
        before = _resumed(_path(platform), series) or _begun(series, _loud(platform))
        now, fired = _follow(before, series)
        running = _take_in(platform, tree, fired, at=evidence.now)
        walks = _attend(platform, tree, evidence, running, now)
        # Last: a process that dies before this sees the same ticks again and finds their alarms written.
        _keep(platform, now)
    return f"{len(series)} series watched, {len(fired)} alarms, {len(running)} incidents, {walks} walks."


class Looking(Protocol):
    """Whatever gathers evidence: :class:`mangaassist.lifecycle.evidence.Meters`."""

    def look(self) -> Evidence: ...


def _watchable(one: Series) -> bool:
    known = one.values[np.isfinite(one.values)]
    return len(known) >= _ENOUGH and bool(np.median(np.abs(known - np.median(known))) > 0)


def _label(one: Series) -> Label:
    return Label(one.panel, one.name, one.cohort)


def _grid(series: Sequence[Series]) -> tuple[datetime, FloatArray]:
    """All series on their common grid, shape (ticks, series), without the tick that is not settled."""
    end = len(series[0].values) - int(_SETTLED / TICK)
    return series[0].start, np.stack([one.values[:end] for one in series], axis=1)


def _begun(series: Sequence[Series], loud: Collection[Label]) -> Watch:
    """A new watch on all the history there is, from its newest tick on.

    What running incidents hold as in alarm stays so until it has been back to usual.
    """
    start, values = _grid(series)
    labels = [_label(one) for one in series]
    begun = watch(labels, fit(values, hours_of(start, TICK, len(values))))
    begun = replace(begun, firing=np.array([label in loud for label in labels]))
    return tick(begun, np.full(len(series), np.nan), start + (len(values) - 1) * TICK)[0]


def _resumed(path: Path, series: Sequence[Series]) -> Watch | None:
    """Where the alarms stood, on a newer baseline once a week; None when that was of other series."""
    if not path.exists():
        return None
    known = alarm_state.from_bytes(path.read_bytes())
    start, values = _grid(series)
    same = known.labels == tuple(_label(one) for one in series)
    if not same or known.last is None or known.last < start:
        return None
    if known.last - known.since > _REFIT and recovered(known):
        return rebased(known, fit(values, hours_of(start, TICK, len(values))))
    return known


def _loud(platform: Platform) -> set[Label]:
    """What running incidents hold as in alarm."""
    known = reading.running(platform.ledger)
    return {Label(alarm.panel, alarm.name, alarm.cohort) for one in known for alarm in one.incident.alarms}


def _follow(now: Watch, series: Sequence[Series]) -> tuple[Watch, list[Alarm]]:
    start, values = _grid(series)
    fired: list[Alarm] = []
    for place, row in enumerate(values):
        at = start + place * TICK
        if now.last is None or at > now.last:
            now, found = tick(now, row, at)
            fired += found
    return now, fired


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


def _attend(platform: Platform, tree: Tree, evidence: Evidence, running: Sequence[Known], now: Watch) -> int:
    """Walk the tree for every running incident; write what is new; end what is back to usual."""
    firing = dict(zip(now.labels, now.firing.tolist(), strict=True))
    walks = 0
    for one in running:
        own = {Label(alarm.panel, alarm.name, alarm.cohort) for alarm in one.incident.alarms}
        if own <= firing.keys() and not any(firing[label] for label in own):
            register.recovered(platform.ledger, one, at=evidence.now)
            continue
        found, before = walk(tree, one.incident, evidence), one.localisation
        if before is None or (found.category, found.mitigation) != (before.category, before.mitigation):
            register.localised(platform.ledger, found, head=one.head)
            walks += 1
    return walks


def _keep(platform: Platform, now: Watch) -> None:
    """Put the new state in place of the old one, whole or not at all."""
    draft = _path(platform).with_suffix(".draft")
    draft.write_bytes(alarm_state.to_bytes(now))
    draft.replace(_path(platform))


def _path(platform: Platform) -> Path:
    return platform.home.folder("oncall") / "alarms.npz"
