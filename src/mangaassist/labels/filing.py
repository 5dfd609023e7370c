"""A labelled file as rows of the two tables, beside what is on record about its texts already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from mangaassist.core.identity import canonical_text, example_id
from mangaassist.core.language import Language
from mangaassist.core.story import Story
from mangaassist.governance.redaction import PLACEHOLDERS
from mangaassist.labels.importing import ImportedFile
from mangaassist.labels.records import LABELS_TABLE, Example, Label, examples_frame, labels_frame
from mangaassist.labels.votes import VOTE_KEY, with_metadata


def stated(rows: pl.DataFrame) -> str:
    """The rows of a file as text, without the columns that say nothing in it."""
    silent = {
        **dict.fromkeys(("annotator_id", "lot", "labeled_at", "user_id")),
        "escalation": False,
        "metadata": "{}",
    }
    unused = [name for name, default in silent.items() if rows[name].eq_missing(default).all()]
    return rows.drop(unused).write_ndjson()


def identities(story: Story, examples: pl.DataFrame, texts: Iterable[str]) -> list[str]:
    """The example of each text.

    A vendor gets texts as they are stored and sends them back without what was taken out; such a text
    names the example that is stored so, the first one of several.

    Args:
        examples: rows of the examples table.
    """
    marked = pl.col("text").str.contains_any(list(PLACEHOLDERS.values()))
    stored = examples.filter(marked).sort("captured_at", "example_id", descending=True)
    known = {
        canonical_text(text): identity for text, identity in stored.select("text", "example_id").iter_rows()
    }
    return [known.get(canonical_text(text)) or example_id(text, story.name) for text in texts]


def frames(
    story: Story,
    file: ImportedFile,
    identities: Sequence[str],
    known: pl.DataFrame,
    *,
    source: str,
    role: str,
    at: datetime,
) -> dict[str, pl.DataFrame]:
    """The rows of ``file`` for both tables; a text with several labels is one example with several votes.

    A text on record of which the file says neither user nor conversation nor time is no new example.

    Args:
        identities: the example of each row.
        known: the examples of ``role`` on record, each once.
    """
    on_record = {row["example_id"]: row for row in known.iter_rows(named=True)}
    first = _first_labelled(identities, file.rows["labeled_at"].to_list())
    examples: dict[str, Example] = {}
    labels = []
    for identity, row in zip(identities, file.rows.iter_rows(named=True), strict=True):
        before = on_record.get(identity)
        times = (None if before is None else before["captured_at"], first.get(identity))
        captured: datetime = row["captured_at"] or min((one for one in times if one is not None), default=at)
        if before is None or any(row[name] for name in ("captured_at", "group_id", "user_id")):
            examples.setdefault(
                identity, _example(identity, row, before, captured=captured, role=role, file=file.name)
            )
        labels.append(_label(identity, row, source=source, role=role, captured=captured, at=at))
    rows = examples_frame(examples.values(), model_target=story.name, ingested_at=at)
    return {
        "examples": rows.with_columns(example_id=pl.Series(list(examples), dtype=pl.String())),
        "labels": labels_frame(labels, model_target=story.name),
    }


def _example(
    identity: str,
    row: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    *,
    captured: datetime,
    role: str,
    file: str,
) -> Example:
    attributes = {} if before is None else orjson.loads(before["attributes"])
    if row["user_id"] is not None:
        attributes["user_id"] = row["user_id"]
    if before is not None and row["captured_at"] is None:
        captured = before["captured_at"]
    group = row["group_id"] or (before["group_id"] if before is not None else identity)
    return Example(row["text"], captured, role, Language(row["language"]), group, attributes, file)


def _label(
    identity: str, row: Mapping[str, Any], *, source: str, role: str, captured: datetime, at: datetime
) -> Label:
    return Label(
        identity,
        row["label"],
        source,
        captured,
        row["labeled_at"] or at,
        annotator_id=row["annotator_id"],
        lot=row["lot"],
        role=role,
        escalation=row["escalation"],
        metadata=orjson.loads(row["metadata"]),
    )


def _first_labelled(identities: Sequence[str], times: Sequence[datetime | None]) -> dict[str, datetime]:
    """When each text was first labelled, of those that say: by then it had been captured."""
    first: dict[str, datetime] = {}
    for identity, at in zip(identities, times, strict=True):
        if at is not None:
            first[identity] = min(at, first.get(identity, at))
    return first


def news(labels: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """``given`` without labels their annotators are recorded to have given, or to have changed since.

    Records only ever grow in number, so repeating an interrupted batch never finds more to add.

    Args:
        labels: rows of the labels table; given: new ones.
    """
    records = with_metadata(labels).drop_nulls("annotator_id")
    key, said = list(VOTE_KEY), ["label", "labeled_at"]
    last = records.group_by(key).agg(last=pl.col("labeled_at").max())
    fresh = (
        with_metadata(given)
        .join(records.select(*key, *said), on=[*key, *said], how="anti", nulls_equal=True)
        .join(last, on=key, how="left", nulls_equal=True)
        .filter(pl.col("last").is_null() | (pl.col("labeled_at") >= pl.col("last")))
    )
    return fresh.select(list(LABELS_TABLE))
