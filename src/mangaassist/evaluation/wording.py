"""How numbers are written in verdict sentences: one spelling for all of them."""

from __future__ import annotations

from mangaassist.evaluation.report import Metric


def share(value: float) -> str:
    """A proportion as a percentage: 0.9287 is "92.9%"."""
    return f"{value:.1%}"


def points(value: float) -> str:
    """A difference of proportions in percentage points: 0.0021 is "0.21 points", 0.03 "3.0 points"."""
    digits = 1 if abs(value) >= 0.00995 or value == 0 else 2
    number = f"{value * 100:.{digits}f}"
    return f"{number} point{'' if number in ('1.0', '-1.0') else 's'}"


def measured(metric: Metric, *, percent: bool = True) -> str:
    """A metric with its interval and n: "92.9% (92.1% to 93.6%, n = 4,500)"."""
    write = share if percent else "{:.3f}".format
    if metric.low is None or metric.high is None:
        return f"{write(metric.value)} (n = {metric.n:,})"
    return f"{write(metric.value)} ({write(metric.low)} to {write(metric.high)}, n = {metric.n:,})"
