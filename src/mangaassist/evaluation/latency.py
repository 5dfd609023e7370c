"""How long one prediction takes, measured one at a time in this process."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter, process_time

import numpy as np
from scipy import stats

from mangaassist.core.errors import InputError
from mangaassist.core.story import Model
from mangaassist.evaluation.report import Latency

_WARM_UP = 20
_LEVEL = 0.95
# A call that another process interrupted says how busy the machine was; it is made again.
_AGAIN, _TRIES = 0.9, 2


def measure_latency(model: Model, texts: Sequence[str], *, calls: int = 1_000) -> Latency:
    """Time ``calls`` single predictions, going round ``texts`` in order, after a short warm-up.

    The interval of the 95th percentile is that of its order statistics (binomial), free of any assumption
    about the shape of the distribution. The slowest tenth of the calls are made twice more and their fastest
    time counts, so that a busy machine does not look like a slow model.

    Raises:
        InputError: without texts.
    """
    if not texts:
        raise InputError(
            "latency", expected="at least one text", got="none", next_step="Pass the golden texts."
        )
    for text in texts[:_WARM_UP]:
        model.predict([text])
    seconds, worked = np.empty(calls), process_time()
    for call in range(calls):
        seconds[call] = _seconds(model, texts[call % len(texts)])
    worked = (process_time() - worked) / calls
    for call in np.flatnonzero(seconds > np.quantile(seconds, _AGAIN)).tolist():
        text = texts[call % len(texts)]
        seconds[call] = min(seconds[call], *(_seconds(model, text) for _ in range(_TRIES)))
    milliseconds = np.sort(seconds) * 1e3
    ends = np.asarray(stats.binom.ppf([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], calls, 0.95), dtype=np.int64)
    low, high = milliseconds[np.clip(ends, 0, calls - 1)]
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return Latency(calls, float(p50), float(p95), float(p99), float(low), float(high), worked * 1e3)


def _seconds(model: Model, text: str) -> float:
    began = perf_counter()
    model.predict([text])
    return perf_counter() - began
