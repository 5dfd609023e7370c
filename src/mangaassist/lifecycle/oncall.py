"""The 3am page of a home, made in advance: what the schedule writes and every server serves (INC-2)."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import actions, clock, deploys, reading
from mangaassist.incidents.changes import record
from mangaassist.incidents.notices import Notice, addresses
from mangaassist.incidents.outbox import judge
from mangaassist.incidents.snapshot import OncallSnapshot, snapshot
from mangaassist.incidents.snapshot_json import as_dict, from_dict
from mangaassist.lifecycle import probe_history
from mangaassist.lifecycle.desk import hurt_in_an_hour
from mangaassist.lifecycle.evidence import Meters, missing
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.probing import probe
from mangaassist.lifecycle.schedule import Schedule

PROBES_OLD = timedelta(minutes=3)
_SNAPSHOT, _PROBES, _DEPLOYS = "snapshot.json", "probes.json", "deploys.json"


def refresh(platform: Platform, meters: Meters) -> str:
    """Build the page's snapshot and put it in place of the last one, whole or not at all."""
    view = build(platform, meters)
    _replace(_path(platform, _SNAPSHOT), orjson.dumps(as_dict(view)))
    if view.problem:
        return view.problem
    return f"{len(view.incidents)} incidents, {len(view.panels)} panels, {len(view.changes)} changes."


def build(platform: Platform, meters: Meters) -> OncallSnapshot:
    """The page as of now; what cannot be read becomes a sentence on it."""
    try:
        return snapshot(
            meters.look(),
            reading.running(platform.ledger),
            dependencies=[*probed(platform), *housekeeping(platform)],
            absent=missing(platform),
        )
    except MangaAssistError as error:
        return OncallSnapshot(platform.clock.now(), "platform", problem=str(error))


def stored(platform: Platform) -> OncallSnapshot | None:
    """The snapshot the schedule wrote last; None before the first."""
    path = _path(platform, _SNAPSHOT)
    return from_dict(orjson.loads(path.read_bytes())) if path.exists() else None


def probe_all(platform: Platform) -> str:
    """Ask every dependency and keep the answers for the page."""
    found = probe(platform)
    now = platform.clock.now()
    probe_history.remember(platform, found, at=now)
    body = {"at": isoformat(now), "verdicts": [one.as_dict() for one in found]}
    _replace(_path(platform, _PROBES), orjson.dumps(body))
    failed = [one.name.partition(".")[2] for one in found if not one.passed]
    return f"{len(found)} asked, {', '.join(failed) or 'none'} in trouble."


def probed(platform: Platform) -> list[Verdict]:
    """What the last probes found; ``stale`` when that is too long ago."""
    path = _path(platform, _PROBES)
    if not path.exists():
        return []
    body: dict[str, Any] = orjson.loads(path.read_bytes())
    age = platform.clock.now() - parse_instant(body["at"], field="probes.at")
    found = [Verdict.from_dict(one) for one in body["verdicts"]]
    if age <= PROBES_OLD:
        return found
    said = f"Last asked {clock.minutes(age):.0f} min ago."
    return [Verdict(one.name, Status.STALE, said, threshold=one.threshold) for one in found]


def housekeeping(platform: Platform) -> list[Verdict]:
    """Whether people can be reached, and whether the platform's own jobs go well."""
    now = platform.clock.now()
    routes = platform.home.settings.notices
    schedule = Schedule.open(platform.home, platform.clock)
    try:
        last = schedule.last()
    finally:
        schedule.close()
    failing = [one for one in last.values() if not one.ok]
    said = f"{len(last)} jobs, none failing."
    if failing:
        said = " ".join(f"{one.name}: {one.said}" for one in failing)
    status = Status.FAIL if failing else Status.PASS if last else Status.INSUFFICIENT
    return [
        judge(platform.outbox.standing(now=now), len(addresses(routes)), now=now),
        Verdict("jobs.schedule", status, said, float(len(failing)), threshold=0.0, n=len(last)),
    ]


def read_deploys(platform: Platform) -> str:
    """Write down every checkout of the home's ``deploys.yaml`` that has moved since the last look."""
    path, now = _path(platform, _DEPLOYS), platform.clock.now()
    known: dict[str, str] = orjson.loads(path.read_bytes()) if path.exists() else {}
    found = deploys.checkouts(platform.home.path)
    moved = 0
    for one in found:
        standing = deploys.head(one.folder)
        change = deploys.change(one, standing, known.get(one.subject), now=now)
        if change is not None:
            moved += record(platform.ledger, change, actor="git")
        known[one.subject] = standing.commit
    if found:
        # Last: whoever dies before this finds the same moves again, and they are written once.
        _replace(path, orjson.dumps({one.subject: known[one.subject] for one in found}))
    return f"{len(found)} checkouts, {moved} moved."


def watch(platform: Platform, meters: Meters) -> str:
    """Move the clock of every running incident, and look through the monitors that action items became."""
    now, told = platform.clock.now(), 0
    known = reading.running(platform.ledger)
    for one in known:
        for notice in clock.announcements(one, now=now, affected=hurt_in_an_hour(platform, one)):
            told += platform.outbox.put(notice, at=now)
    items = actions.monitors(actions.items(platform.ledger))
    told += sum(platform.outbox.put(notice, at=now) for notice in _monitored(meters, items))
    return f"{len(known)} running, {len(items)} monitors, {told} notices written."


def _monitored(meters: Meters, items: Sequence[tuple[actions.ActionItem, actions.Monitor]]) -> list[Notice]:
    """A notice for every monitor beyond its limit, one a day."""
    if not items:
        return []
    evidence, found = meters.look(), []
    for item, monitor in items:
        series = evidence.series(monitor.panel) if monitor.panel in evidence.panels() else []
        verdict = monitor.look(series)
        if verdict.status is Status.FAIL:
            key = f"monitor/{item.id}/{evidence.now:%Y-%m-%d}"
            title = f"Monitor of incident {item.incident}: {monitor.sentence}"
            roles = (clock.ON_CALL,)
            found.append(Notice(key, "SEV-2", title, verdict.sentence, roles, item.incident, "monitor"))
    return found


def _replace(path: Path, body: bytes) -> None:
    """Readers see the old file or the new one. Nothing is synced: the next round writes it again."""
    draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    draft.write_bytes(body)
    draft.replace(path)


def _path(platform: Platform, name: str) -> Path:
    return platform.home.folder("oncall") / name
