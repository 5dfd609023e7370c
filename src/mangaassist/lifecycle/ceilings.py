"""How right a perfect model could be measured to be, given that labels are sometimes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from mangaassist.core.language import Language
from mangaassist.core.story import LabelPolicy
from mangaassist.evaluation.classification import ceiling_from_facts
from mangaassist.evaluation.report import Ceiling
from mangaassist.labels.noise import noise_ceiling

ALL = "all"
_KEYS = (ALL, *map(str, Language))


def measured_ceilings(
    examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy, *, role: str = "golden"
) -> dict[str, Ceiling]:
    """Ceilings from votes given twice or more, of all rows and by language; only those that can be told."""
    found = {}
    for key in _KEYS:
        own = examples if key == ALL else examples.filter(pl.col("language") == key)
        ceiling = noise_ceiling(own, labels, policy, role=role)
        if ceiling.estimate is not None:
            one = ceiling.estimate
            found[key] = Ceiling(one.value, one.low, one.high, ceiling.method)
    return found


def with_estimate(measured: Mapping[str, Ceiling], facts: Mapping[str, Any]) -> dict[str, Ceiling]:
    """``measured``, completed by the fit's own out-of-fold estimate of label noise where it has one."""
    estimated = ceiling_from_facts(facts)
    completed = dict(measured)
    for key in _KEYS:
        if estimated is not None:
            completed.setdefault(key, estimated)
    return completed
