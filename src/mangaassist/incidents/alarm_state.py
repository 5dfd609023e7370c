"""Watches as bytes, so that a restart loses no evidence: an npz of arrays with one JSON header."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import IntegrityError
from mangaassist.incidents.alarms import Label, Watch
from mangaassist.incidents.baselines import Usual
from mangaassist.incidents.watches import Watches
from mangaassist.stats.cusum import Cusum

_USUAL = ("centre", "scale", "autocorrelation")
_PLAIN = ("strays", "level", "worst", "recent", "values", "firing", "calm")
_SUMS = ("high", "low", "alarm", "rising")

Arrays = Mapping[str, NDArray[Any]]


def to_bytes(watches: Watches) -> bytes:
    """Everything :func:`from_bytes` needs."""
    headers, arrays = [], dict[str, NDArray[Any]]()
    for place, one in enumerate(watches.parts):
        header, own = _parts(one)
        headers.append(header)
        arrays |= {f"{place}.{name}": value for name, value in own.items()}
    arrays["header"] = np.frombuffer(json.dumps(headers).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(body: bytes) -> Watches:
    """The inverse of :func:`to_bytes`.

    Raises:
        IntegrityError: the bytes are not what was written.
    """
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        headers = json.loads(arrays["header"].tobytes())
        return Watches(tuple(_watch(one, arrays, f"{place}.") for place, one in enumerate(headers)))
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            "alarm state",
            expected="the state the last tick left",
            got=str(error),
            next_step="Delete the file: the alarms begin anew from the history of the series.",
        ) from error


def _parts(watch: Watch) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
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
    return header, arrays


def _watch(header: Mapping[str, Any], arrays: Arrays, prefix: str) -> Watch:
    def own(name: str) -> NDArray[Any]:
        return arrays[prefix + name]

    return Watch(
        labels=tuple(Label(*one) for one in header["labels"]),
        usual=Usual(*(own(f"usual.{name}") for name in _USUAL)),
        thresholds=header["thresholds"],
        sums={name: Cusum(*(own(f"{name}.{part}") for part in _SUMS)) for name in header["thresholds"]},
        step=timedelta(seconds=header["step"]),
        since=parse_instant(header["since"], field="watch.since"),
        last=parse_instant(header["last"], field="watch.last") if header["last"] else None,
        **{name: own(name) for name in _PLAIN},
    )
