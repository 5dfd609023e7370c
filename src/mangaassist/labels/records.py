"""The two label tables, column by column, and the rows that go into them (LAB-1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_json, example_id
from mangaassist.core.language import Language, detect_language
from mangaassist.core.story import LabelPolicy

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ANY_SOURCE = "*"
"""In a policy's sources: whatever name comes is accepted, and trusted least."""
_SOURCE_NAME = re.compile(r"\w[\w.-]{0,63}")
ROLES = ("train", "golden", "adversarial")
REVIEW_STATUSES = ("draft", "qa_passed", "qa_failed", "withdrawn")

_TEXT, _TIME, _INTEGER, _REAL = "text", "time", "integer", "real"

EXAMPLES_TABLE: Mapping[str, str] = {
    "example_id": _TEXT,
    "model_target": _TEXT,
    "text": _TEXT,
    "language": _TEXT,
    "role": _TEXT,
    "group_id": _TEXT,
    "captured_at": _TIME,
    "ingested_at": _TIME,
    "attributes": _TEXT,
    "source_file": _TEXT,
}
LABELS_TABLE: Mapping[str, str] = {
    "example_id": _TEXT,
    "model_target": _TEXT,
    "label": _TEXT,
    "confidence": _REAL,
    "metadata": _TEXT,
    "label_source": _TEXT,
    "annotator_id": _TEXT,
    "label_version": _INTEGER,
    "captured_at": _TIME,
    "labeled_at": _TIME,
    "review_status": _TEXT,
    "iaa_lot_id": _TEXT,
}
EXAMPLE_COLUMNS = (
    "example_id",
    "text",
    "language",
    "label",
    "group_id",
    "captured_at",
    "role",
    "attributes",
    "votes",
    "agreement",
    "source",
    "sources",
    "resolved_by",
    "holdout_eligible",
)
"""Columns of a labelled example as training and evaluation read it: one row per example and role."""


@dataclass(frozen=True, slots=True)
class Example:
    """One input worth labelling.

    Attributes:
        text: what the shopper wrote.
        captured_at: when it happened, timezone-aware.
        role: train, golden or adversarial.
        language: None detects it by script.
        group_id: conversation or user; rows of one group never straddle a split. None: its own group.
        attributes: anything slices or features need (user_id, device, turn, ...); JSON values.
        source_file: the file it came from, if any.
    """

    text: str
    captured_at: datetime
    role: str = "train"
    language: Language | None = None
    group_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source_file: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """One statement of one annotator about one example.

    Attributes:
        example_id: as :func:`mangaassist.core.identity.example_id` gives it.
        label: the class.
        source: label source; a family of the story's policy or ``<family>_<name>`` ("vendor_north").
        captured_at: when the example happened; labeled_at: when the label was given.
        confidence: the source's own, in 0..1; None where it states none.
        annotator_id: person, rule set or model id; None where unknown.
        lot: agreement lot of a vendor delivery; None outside lots.
        role: the one role of the example this label speaks about; None for all.
        escalation: True for a senior annotator settling a disagreement: it wins.
        metadata: further JSON values.
    """

    example_id: str
    label: str
    source: str
    captured_at: datetime
    labeled_at: datetime
    confidence: float | None = None
    annotator_id: str | None = None
    lot: str | None = None
    role: str | None = None
    escalation: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of one of the two tables; instants are UTC microseconds."""
    import pyarrow as pa

    types = {
        _TEXT: pa.string(),
        _TIME: pa.timestamp("us", tz="UTC"),
        _INTEGER: pa.int64(),
        _REAL: pa.float64(),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def frame_schema(columns: Mapping[str, str]) -> pl.Schema:
    """The polars schema of one of the two tables."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        _TEXT: pl.String(),
        _TIME: pl.Datetime("us", "UTC"),
        _INTEGER: pl.Int64(),
        _REAL: pl.Float64(),
    }
    return pl.Schema({name: types[kind] for name, kind in columns.items()})


def examples_frame(rows: Iterable[Example], *, model_target: str, ingested_at: datetime) -> pl.DataFrame:
    """``rows`` as the examples table holds them.

    Raises:
        InputError: for an unknown role or a naive time.
    """
    import polars as pl

    records = []
    for row in rows:
        check_role(row.role)
        identity = example_id(row.text, model_target)
        records.append(
            (
                identity,
                model_target,
                row.text,
                str(row.language or detect_language(row.text)),
                row.role,
                row.group_id or identity,
                utc(row.captured_at, field="captured_at"),
                utc(ingested_at, field="ingested_at"),
                canonical_json(dict(row.attributes)).decode(),
                row.source_file,
            )
        )
    return pl.DataFrame(records, schema=frame_schema(EXAMPLES_TABLE), orient="row")


def labels_frame(rows: Iterable[Label], *, model_target: str) -> pl.DataFrame:
    """``rows`` as the labels table holds them; ``label_version`` is 0 until the store assigns it.

    Labels inside a lot start as drafts, because the lot's agreement is still to be measured (LAB-4);
    labels outside one have no such measurement to wait for.

    Raises:
        InputError: for a naive time or an unknown role.
    """
    import polars as pl

    records = [
        (
            row.example_id,
            model_target,
            row.label,
            row.confidence,
            canonical_json(_metadata(row)).decode(),
            row.source,
            row.annotator_id,
            0,
            utc(row.captured_at, field="captured_at"),
            utc(row.labeled_at, field="labeled_at"),
            "qa_passed" if row.lot is None else "draft",
            row.lot,
        )
        for row in rows
    ]
    return pl.DataFrame(records, schema=frame_schema(LABELS_TABLE), orient="row")


def _metadata(row: Label) -> dict[str, Any]:
    body = dict(row.metadata)
    if row.role is not None:
        body["role"] = check_role(row.role)
    if row.escalation:
        body["escalation"] = True
    return body


def check_role(role: str) -> str:
    """``role`` itself, or InputError naming the nearest known one."""
    if role not in ROLES:
        raise InputError("role", expected=" or ".join(ROLES), got=repr(role), next_step=nearest(role, ROLES))
    return role


def family(source: str, policy: LabelPolicy) -> str:
    """The family of the policy that ``source`` belongs to: itself or the part before its first underscore.

    Under a policy that lists ANY_SOURCE a name it does not know is a family of its own.

    Raises:
        InputError: for a source the policy does not accept.
    """
    for known in policy.sources:
        if source == known or source.startswith(known + "_"):
            return known
    if ANY_SOURCE in policy.sources and _SOURCE_NAME.fullmatch(source):
        return source
    raise InputError(
        "label source",
        expected="one of " + ", ".join(policy.sources) + " (or one of them followed by _name)",
        got=repr(source),
        next_step=nearest(source, policy.sources),
    )


def attribute(name: str) -> pl.Expr:
    """The attribute ``name`` of an example as a text column; null where the example has none."""
    import polars as pl

    return pl.col("attributes").str.json_path_match(f"$.{name}").alias(name)


def require_columns(frame: pl.DataFrame, columns: Sequence[str], *, what: str) -> None:
    """Refuse a frame that lacks any of ``columns``.

    Raises:
        InputError: naming the first missing one.
    """
    for name in columns:
        if name not in frame.columns:
            raise InputError(
                f"{what}: column '{name}'",
                expected="it to be present",
                got=", ".join(frame.columns) or "no columns",
                next_step=nearest(name, frame.columns),
            )
