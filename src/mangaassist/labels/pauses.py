"""Annotators who are paused: since when, why, by whom, and whose votes therefore do not count (LAB-5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_json
from mangaassist.storage.ledger import Ledger

_PAUSED, _RESUMED = "labels.annotator_paused", "labels.annotator_resumed"


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause of one annotator.

    Attributes:
        annotator: who.
        since: start of the work that led to it; from here to the resumption nothing is held against their
            baseline or in their favour.
        at: when the pause began; votes given after it do not count.
        until: when a named person ended it; None while it lasts.
        reason: the finding in one sentence.
        ended_by, ended_why: who resumed them and why; empty while it lasts.
    """

    annotator: str
    since: datetime
    at: datetime
    until: datetime | None
    reason: str
    ended_by: str = ""
    ended_why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The pause as a JSON object."""
        return {
            "annotator": self.annotator,
            "since": isoformat(self.since),
            "at": isoformat(self.at),
            "until": isoformat(self.until) if self.until else None,
            "reason": self.reason,
            "ended_by": self.ended_by,
            "ended_why": self.ended_why,
        }


def pauses(ledger: Ledger, subject: str) -> list[Pause]:
    """Every pause in the story whose ledger subject this is, oldest first."""
    ends = ledger.entries(subject=subject, kind=_RESUMED)
    found = []
    for entry in ledger.entries(subject=subject, kind=_PAUSED):
        who = entry.body["annotator"]
        end = next(
            (one for one in ends if one.sequence > entry.sequence and one.body["annotator"] == who), None
        )
        since = parse_instant(entry.body["since"], field="pause: since")
        said = (end.actor, end.body["reason"]) if end else ("", "")
        found.append(Pause(who, since, entry.at, end.at if end else None, str(entry.body["reason"]), *said))
    return found


def running(found: Sequence[Pause]) -> Mapping[str, Pause]:
    """The pauses that last, by annotator."""
    return {one.annotator: one for one in found if one.until is None}


def pause(
    ledger: Ledger,
    subject: str,
    annotator: str,
    *,
    since: datetime,
    at: datetime,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    """Record that ``annotator`` is paused from ``at`` on; one who is paused stays so without a new entry."""
    if annotator not in running(pauses(ledger, subject)):
        body = {
            "annotator": annotator,
            "since": isoformat(since),
            "reason": reason,
            "verdict": dict(evidence),
        }
        ledger.append(kind=_PAUSED, subject=subject, body=body, actor=actor, at=at)


def resume(ledger: Ledger, subject: str, annotator: str, *, at: datetime, actor: str, reason: str) -> Pause:
    """End the pause of ``annotator``; what they label from ``at`` on counts again.

    Returns:
        The pause as it now stands.

    Raises:
        InputError: without a person or a reason, or for somebody who is not paused.
    """
    for name, text in (("--actor", actor), ("--reason", reason)):
        if not text.strip():
            raise InputError(
                name, expected="a person and a reason", got="nothing", next_step=f"Add {name} TEXT."
            )
    paused = running(pauses(ledger, subject))
    if annotator not in paused:
        raise InputError(
            "annotator",
            expected="one who is paused",
            got=repr(annotator),
            next_step=nearest(annotator, paused),
        )
    body = {"annotator": annotator, "reason": reason}
    ledger.append(kind=_RESUMED, subject=subject, body=body, actor=actor, at=at)
    return [one for one in pauses(ledger, subject) if one.annotator == annotator][-1]


def hold(labels: pl.DataFrame, found: Sequence[Pause]) -> pl.DataFrame:
    """``labels`` with the votes that were given during a pause marked as not to be counted.

    They keep what they say, under status qa_failed and with ``held`` in their metadata, so that a review of
    their lot does not bring them back.
    """
    during = pl.lit(False)
    for one in found:
        inside = (pl.col("annotator_id") == one.annotator) & (pl.col("labeled_at") > pl.lit(one.at))
        during |= inside & (pl.lit(True) if one.until is None else pl.col("labeled_at") <= pl.lit(one.until))
    during = during.fill_null(False)
    return labels.with_columns(
        review_status=pl.when(during).then(pl.lit("qa_failed")).otherwise("review_status"),
        metadata=pl.when(during).then(_held()).otherwise("metadata"),
    )


def _held() -> pl.Expr:
    def rewrite(metadata: str) -> str:
        return canonical_json({**orjson.loads(metadata), "held": True}).decode()

    return pl.col("metadata").map_elements(rewrite, return_dtype=pl.String())
