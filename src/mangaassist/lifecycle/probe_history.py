"""What probes have found over the last days, minute by minute: evidence for triage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.verdict import Verdict
from mangaassist.incidents.records import EVERYBODY, Series
from mangaassist.lifecycle.meters import Grid
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.domain import FloatArray

KEPT = timedelta(days=2)
WRONG = 2.0
"""A wrong answer or none counts as one that took twice as long as it may."""

_FILE = "probe-history.jsonl"
# Rewritten when it holds twice what is kept, one line a minute.
_MOST = 2 * int(KEPT / timedelta(minutes=1))


def remember(platform: Platform, found: Sequence[Verdict], *, at: datetime) -> None:
    """Add one round of probes."""
    line = orjson.dumps({"at": isoformat(at), "shares": {one.name: _share(one) for one in found}}) + b"\n"
    path = _path(platform)
    with path.open("ab") as file:
        file.write(line)
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) > _MOST:
        draft = path.with_suffix(".draft")
        draft.write_bytes(b"".join(lines[-_MOST // 2 :]))
        draft.replace(path)


def series(platform: Platform, grid: Grid) -> Iterator[Series]:
    """Answer times over what they may take, the worst of each window; beyond 1 is trouble."""
    path, found = _path(platform), dict[str, FloatArray]()
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the last line of a process that was killed while it wrote
        place = -int((grid.start - parse_instant(body["at"], field="probe.at")) // grid.step)
        if not 0 <= place < grid.count:
            continue
        for name, share in body["shares"].items():
            values = found.setdefault(name, np.full(grid.count, np.nan))
            values[place] = np.fmax(values[place], share)
    for name, values in sorted(found.items()):
        yield Series("probe", series_name(name), EVERYBODY, grid.start, grid.step, values, 1.0, "high")


def series_name(verdict: str) -> str:
    """ "probe.model.intent" is of component intent, "probe.ledger" of ledger."""
    kind, _, own = verdict.removeprefix("probe.").partition(".")
    return f"{own or kind}.answer_time"


def _share(one: Verdict) -> float:
    """An answer's time over its limit; a failure is beyond it however fast it came."""
    took = one.value / one.threshold if one.value is not None and one.threshold else WRONG
    return round(took if one.passed else max(took, WRONG), 4)


def _path(platform: Platform) -> Path:
    return platform.home.folder("oncall") / _FILE
