"""What the hub tells other systems: samples, as a small file for Prometheus and as CloudWatch lines.

The namespace and the dimensions are those of the source: MangaAssist/MLDrift, by model target and kind.
The lines follow CloudWatch's Embedded Metric Format: an agent that reads them turns each into metrics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import IntegrityError
from mangaassist.core.identity import canonical_json
from mangaassist.drift.history import State
from mangaassist.drift.hub import DriftReport

NAMESPACE = "MangaAssist/MLDrift"
DIMENSIONS = ("model_target", "kind")
STATES = {State.INSUFFICIENT: -1, State.QUIET: 0, State.RISING: 1, State.FIRED: 2}
"""What the metric ``state`` says; -1 also where nothing was ever decided."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind of drift of one model at one look.

    Attributes:
        model_target, kind, version: what was looked at.
        at: when.
        state: a value of :data:`STATES`.
        value, threshold: of the leading finding, in its own unit; None where there is none.
        sustained: how long it has failed without a break.
        name: the leading finding; empty for none.
    """

    model_target: str
    kind: str
    version: int
    at: datetime
    state: int
    value: float | None
    threshold: float | None
    sustained: timedelta
    name: str

    def as_dict(self) -> dict[str, Any]:
        """The sample as a JSON object."""
        return {
            "model_target": self.model_target,
            "kind": self.kind,
            "version": self.version,
            "at": isoformat(self.at),
            "state": self.state,
            "value": self.value,
            "threshold": self.threshold,
            "sustained_seconds": self.sustained.total_seconds(),
            "name": self.name,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Sample:
        """The inverse of :meth:`as_dict`."""
        rest = {key: value for key, value in body.items() if key not in ("at", "sustained_seconds")}
        sustained = timedelta(seconds=body["sustained_seconds"])
        return cls(**rest, at=parse_instant(body["at"], field="at"), sustained=sustained)


def samples(report: DriftReport) -> list[Sample]:
    """One sample per kind, whether or not anything was ever decided about it."""
    return [
        Sample(
            report.story,
            str(kind),
            report.version,
            report.at,
            STATES[one.state] if one else -1,
            one.value if one else None,
            one.threshold if one else None,
            report.at - one.since if one and one.since else timedelta(0),
            one.name if one else "",
        )
        for kind, one in report.kinds.items()
    ]


def emf_line(sample: Sample) -> bytes:
    """One line of CloudWatch's Embedded Metric Format, without its newline."""
    values: dict[str, float] = {"State": sample.state, "Sustained": sample.sustained.total_seconds()}
    units = {"State": "None", "Sustained": "Seconds"}
    if sample.value is not None:
        values["Value"], units["Value"] = sample.value, "None"
    if sample.threshold is not None:
        values["Threshold"], units["Threshold"] = sample.threshold, "None"
    return orjson.dumps(
        {
            "_aws": {
                "Timestamp": int(sample.at.timestamp() * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": NAMESPACE,
                        "Dimensions": [list(DIMENSIONS)],
                        "Metrics": [{"Name": name, "Unit": units[name]} for name in sorted(values)],
                    }
                ],
            },
            "model_target": sample.model_target,
            "kind": sample.kind,
            "version": sample.version,
            "finding": sample.name,
            **values,
        }
    )


def latest_file(home: Path) -> Path:
    """Where the newest samples of every model lie, for whoever is scraped."""
    return home / "metrics" / "drift.json"


def write_latest(home: Path, found: Sequence[Sample]) -> None:
    """Put the samples in the place of the same models' earlier ones; readers see the old file or the new."""
    path = latest_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    looked_at = {one.model_target for one in found}
    kept = [one for one in read_latest(home) if one.model_target not in looked_at]
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(canonical_json([one.as_dict() for one in (*kept, *found)]))
    draft.replace(path)


def write_emf(target: str, found: Sequence[Sample]) -> None:
    """Append one line per sample to the file ``target``; "-" is standard output, empty writes nothing."""
    lines = b"".join(emf_line(one) + b"\n" for one in found)
    if target == "-":
        sys.stdout.write(lines.decode())
        sys.stdout.flush()
    elif target:
        with Path(target).open("ab") as file:
            file.write(lines)


def read_latest(home: Path) -> list[Sample]:
    """The newest samples of every model; empty before the first look.

    Raises:
        IntegrityError: the file is damaged.
    """
    path = latest_file(home)
    if not path.exists():
        return []
    try:
        return [Sample.from_dict(one) for one in orjson.loads(path.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            str(path),
            expected="the hub's newest samples",
            got=f"{type(error).__name__}: {error}",
            next_step="Remove it; the next look writes it again.",
        ) from error
