"""Golden sets by version, and whether the one a release is judged by is still fresh (EVA-1)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import Conflict
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Story
from mangaassist.core.verdict import Verdict
from mangaassist.evaluation.golden import LIVE_WINDOW, age_verdict, mix_verdict
from mangaassist.lifecycle.platform import Platform
from mangaassist.serving.prediction_log import predictions_table
from mangaassist.storage.ledger import Entry
from mangaassist.storage.tables import Between

VERSIONED = "golden.versioned"


@dataclass(frozen=True, slots=True)
class GoldenVersion:
    """One state of a golden set that a release was judged by.

    Attributes:
        number: 1, 2, 3, ... per story.
        rows: digest of the stored set, example id to label without texts; equal digests are the same set.
        n, labels, languages: how many rows, and how many of each.
        newest: when its newest row was captured.
        added, removed, relabelled: rows against the version before.
    """

    number: int
    rows: str
    n: int
    labels: dict[str, int]
    languages: dict[str, int]
    newest: str
    added: int
    removed: int
    relabelled: int

    def as_dict(self) -> dict[str, Any]:
        """The version as a JSON object."""
        return asdict(self)


def subject(story: str) -> str:
    """The ledger subject of a story's golden versions."""
    return f"golden/{story}"


def golden_versions(platform: Platform, name: str) -> list[GoldenVersion]:
    """Every version of the golden set, oldest first."""
    return [GoldenVersion(**entry.body) for entry in _entries(platform, name)]


def record_golden(platform: Platform, story: Story, rows: pl.DataFrame, *, actor: str) -> GoldenVersion:
    """The version ``rows`` are; entered in the ledger when they are not the newest one.

    Args:
        rows: the golden rows: example_id, label, language, captured_at.
    """
    labels = dict(sorted(zip(rows["example_id"], rows["label"], strict=True)))
    stored = platform.artifacts.put(canonical_json(labels), durable=True)
    while True:
        entries = _entries(platform, story.name)
        last = GoldenVersion(**entries[-1].body) if entries else None
        if last is not None and last.rows == stored:
            return last
        made = _version(platform, rows, labels, stored, last)
        try:
            platform.ledger.append(
                kind=VERSIONED,
                subject=subject(story.name),
                body=made.as_dict(),
                actor=actor,
                at=platform.clock.now(),
                expected=entries[-1].sequence if entries else 0,
            )
        except Conflict:
            continue
        return made


def golden_verdicts(platform: Platform, story: Story, rows: pl.DataFrame) -> list[Verdict]:
    """Age of the golden set, and its languages and labels beside those of the last week's traffic."""
    now, limit = platform.clock.now(), story.drift.input_psi
    asked = live(platform, story, now)
    answered = asked.filter(~pl.col("abstains") & pl.col("label").is_not_null())
    in_scope = rows.filter(pl.col("label") != (story.out_of_scope_label or ""))
    return [
        age_verdict(rows["captured_at"].to_list(), now=now, limit=story.labels.golden_refresh),
        mix_verdict("language", Counter(rows["language"]), Counter(asked["language"]), limit=limit),
        mix_verdict("label", Counter(in_scope["label"]), Counter(answered["label"]), limit=limit),
    ]


def live(platform: Platform, story: Story, now: datetime) -> pl.DataFrame:
    """What users asked in the last week: language, cohort, the answer's label and whether it abstained."""
    columns = ("at", "arm", "language", "cohort", "label", "abstains")
    table = predictions_table(story.name)
    if not platform.tables.exists(table):
        texts = dict.fromkeys(("language", "cohort", "label"), pl.String)
        return pl.DataFrame(schema={**texts, "abstains": pl.Boolean})
    found = platform.tables.read(table, columns=columns, between=Between("at", now - LIVE_WINDOW, now))
    return found.filter(pl.col("arm") != "shadow")


def _entries(platform: Platform, name: str) -> list[Entry]:
    return platform.ledger.entries(subject=subject(name), kind=VERSIONED)


def _version(
    platform: Platform, rows: pl.DataFrame, labels: dict[str, str], stored: str, last: GoldenVersion | None
) -> GoldenVersion:
    before: dict[str, str] = orjson.loads(platform.artifacts.get(last.rows)) if last else {}
    both = before.keys() & labels.keys()
    return GoldenVersion(
        number=last.number + 1 if last else 1,
        rows=stored,
        n=len(labels),
        labels=dict(sorted(Counter(labels.values()).items())),
        languages=dict(sorted(Counter(rows["language"]).items())),
        newest=isoformat(max(rows["captured_at"])),
        added=len(labels.keys() - before.keys()),
        removed=len(before.keys() - labels.keys()),
        relabelled=sum(before[one] != labels[one] for one in both),
    )
