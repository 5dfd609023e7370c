"""A watch as bytes, so that a restart loses no evidence: an npz of arrays with one JSON header."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta

import numpy as np

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import IntegrityError
from mangaassist.incidents.alarms import SPEEDS, Label, Watch
from mangaassist.incidents.baselines import Usual
from mangaassist.stats.cusum import Cusum

_USUAL = ("centre", "scale", "autocorrelation")
_PLAIN = ("strays", "level", "worst", "recent", "values", "firing", "calm")
_SUMS = ("high", "low", "alarm", "rising")


def to_bytes(watch: Watch) -> bytes:
    """Everything :func:`from_bytes` needs."""
    header = {
        "labels": [[one.panel, one.name, one.cohort] for one in watch.labels],
        "thresholds": watch.thresholds,
        "step": watch.step.total_seconds(),
        "since": isoformat(watch.since),
        "last": isoformat(watch.last) if watch.last else None,
    }
    arrays = {f"usual.{name}": getattr(watch.usual, name) for name in _USUAL}
    arrays |= {name: getattr(watch, name) for name in _PLAIN}
    arrays |= {f"{name}.{part}": getattr(sums, part) for name, sums in watch.sums.items() for part in _SUMS}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(body: bytes) -> Watch:
    """The inverse of :func:`to_bytes`.

    Raises:
        IntegrityError: the bytes are not what was written.
    """
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        header = json.loads(arrays["header"].tobytes())
        return Watch(
            labels=tuple(Label(*one) for one in header["labels"]),
            usual=Usual(*(arrays[f"usual.{name}"] for name in _USUAL)),
            thresholds=header["thresholds"],
            sums={name: Cusum(*(arrays[f"{name}.{part}"] for part in _SUMS)) for name in SPEEDS},
            step=timedelta(seconds=header["step"]),
            since=parse_instant(header["since"], field="watch.since"),
            last=parse_instant(header["last"], field="watch.last") if header["last"] else None,
            **{name: arrays[name] for name in _PLAIN},
        )
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            "alarm state",
            expected="the state the last tick left",
            got=str(error),
            next_step="Delete the file: the alarms begin anew from the history of the series.",
        ) from error
