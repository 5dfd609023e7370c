"""How long one prediction takes, measured one at a time in this process."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.core.story import Model
from mangaassist.evaluation.report import Latency

_WARM_UP = 20
_LEVEL = 0.95
# Wall time beyond processor time is time spent waiting, mostly for other processes on a busy machine.
_DISTURBED, _RUNS = 1.25, 3


def measure_latency(model: Model, texts: Sequence[str], *, calls: int = 1_000) -> Latency:
    """Time ``calls`` single predictions, going round ``texts`` in order, after a short warm-up.

    The interval of the 95th percentile is that of its order statistics (binomial), free of any assumption
    about the shape of the distribution. A run that took a quarter more wall time than processor time is made
    again, up to three times, and the one that waited least counts: chosen by its whole, never by its tail, so
    that a busy machine looks less like a slow model and a model that is slow now and then still does.

    Raises:
        InputError: without texts.
    """
    if not texts:
        raise InputError(
            "latency", expected="at least one text", got="none", next_step="Pass the golden texts."
        )
    for text in texts[:_WARM_UP]:
        model.predict([text])
    runs = [_run(model, texts, calls)]
    while len(runs) < _RUNS and _waiting(runs[-1]) > _DISTURBED:
        runs.append(_run(model, texts, calls))
    seconds, worked = min(runs, key=_waiting)
    milliseconds = np.sort(seconds) * 1e3
    ends = np.asarray(stats.binom.ppf([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], calls, 0.95), dtype=np.int64)
    low, high = milliseconds[np.clip(ends, 0, calls - 1)]
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return Latency(calls, float(p50), float(p95), float(p99), float(low), float(high), worked / calls * 1e3)


_Run = tuple[NDArray[np.float64], float]
"""Wall seconds of each call, shape (calls,), and processor seconds of all."""


def _run(model: Model, texts: Sequence[str], calls: int) -> _Run:
    seconds, worked = np.empty(calls), process_time()
    for call in range(calls):
        text = texts[call % len(texts)]
        began = perf_counter()
        model.predict([text])
        seconds[call] = perf_counter() - began
    return seconds, process_time() - worked


def _waiting(run: _Run) -> float:
    """Wall time over processor time."""
    seconds, worked = run
    return float(seconds.sum()) / worked if worked else np.inf
