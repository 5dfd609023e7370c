"""The change log of a simulated shop: what was done and hurt nobody, and entries like it for what did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from mangaassist.incidents.alarms import TICK
from mangaassist.incidents.records import Change

_MINUTE = timedelta(minutes=1)

_KINDS = {
    "deploy": 0.34,
    "configuration": 0.18,
    "switch": 0.08,
    "model": 0.08,
    "prompt": 0.08,
    "interface": 0.08,
    "campaign": 0.05,
    "managed_service": 0.05,
    "index": 0.03,
    "schema": 0.03,
}
_PLACES = {
    "deploy": ("gateway", "intent", "reranker", "recommendation", "answers", "feature_store", "sentiment"),
    "configuration": ("gateway", "intent", "reranker", "recommendation", "answers", "language_model"),
    "switch": ("intent", "reranker", "recommendation"),
    "model": ("intent", "embedding", "reranker", "recommendation", "sentiment", "spam", "forecasting"),
    "prompt": ("answers",),
    "interface": ("frontend",),
    "campaign": ("gateway",),
    "managed_service": ("language_model", "catalog_index", "feature_store"),
    "index": ("catalog_index",),
    "schema": ("catalog_feed", "orders_feed", "reviews_feed"),
}


def innocent(
    start: datetime, ticks: int, onsets: Sequence[datetime], generator: np.random.Generator
) -> list[Change]:
    """Changes that did nothing: twelve a day, and one in the hour and a half before each onset."""
    span = ticks * TICK
    count = int(generator.poisson(12.0 * (span / timedelta(days=1))))
    times = [start + generator.random() * span for _ in range(count)]
    times += [onset - float(generator.uniform(5.0, 90.0)) * _MINUTE for onset in onsets]
    return [_innocent(at, generator) for at in times]


def _innocent(at: datetime, generator: np.random.Generator) -> Change:
    kind = str(generator.choice(list(_KINDS), p=list(_KINDS.values())))
    place = str(generator.choice(_PLACES[kind]))
    serial = int(generator.integers(1000, 10_000))
    cohorts = (str(generator.choice(["locale=ja", "locale=en"])),) if generator.random() < 0.1 else ()
    return change(kind, f"{place}-{serial}", at, (place,), cohorts, generator=generator)


def change(
    kind: str,
    subject: str,
    at: datetime,
    touches: tuple[str, ...],
    cohorts: tuple[str, ...] = (),
    *,
    generator: np.random.Generator,
) -> Change:
    """An entry of the change log, known some minutes after it happened."""
    at = at.replace(microsecond=0)
    known = at + timedelta(seconds=int(generator.integers(5, 240)))
    revert = f"mangaassist rollback {touches[0]}" if kind == "model" else f"shopctl revert {kind} {subject}"
    return Change(kind, subject, at, known, "pipeline", f"{kind} of {subject}.", touches, cohorts, revert)
