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


def measure_latency(model: Model, texts: Sequence[str], *, calls: int = 1_000) -> Latency:
    """Time ``calls`` single predictions, going round ``texts`` in order, after a short warm-up.

    The interval of the 95th percentile is that of its order statistics (binomial), free of any assumption
    about the shape of the distribution.

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
        text = texts[call % len(texts)]
        began = perf_counter()
        model.predict([text])
        seconds[call] = perf_counter() - began
    worked = (process_time() - worked) / calls
    milliseconds = np.sort(seconds) * 1e3
    ends = np.asarray(stats.binom.ppf([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], calls, 0.95), dtype=np.int64)
    low, high = milliseconds[np.clip(ends, 0, calls - 1)]
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return Latency(calls, float(p50), float(p95), float(p99), float(low), float(high), worked * 1e3)
