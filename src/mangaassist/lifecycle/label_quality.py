"""What people do about labels: plan lots, review them, settle disputes, take things out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.labels import archive as label_archive
from mangaassist.labels import audits, changes, escalations, overlap, withdrawals
from mangaassist.labels import versions as label_versions
from mangaassist.labels.annotators import judged_votes, standings, watch
from mangaassist.labels.intake import Batch, subject
from mangaassist.labels.lots import LotReview, lot_reviews, review_lots
from mangaassist.labels.pauses import pauses, resume
from mangaassist.labels.records import Label
from mangaassist.labels.votes import current_votes, one_example
from mangaassist.lifecycle.label_impact import impact
from mangaassist.lifecycle.label_report import POOL_NAMES, pool_agreements
from mangaassist.lifecycle.platform import Platform


def plan(platform: Platform, name: str, lot: str, *, size: int, seed: int, actor: str) -> dict[str, Any]:
    """Plan a lot of unlabelled examples; see :func:`mangaassist.labels.overlap.plan_lot`."""
    story = platform.story(name)
    made = overlap.plan_lot(platform.labels, story, lot, size=size, seed=seed, actor=actor)
    return {"story": name, **made.as_dict()}


def export_plan(platform: Platform, name: str, lot: str, path: Path) -> dict[str, Any]:
    """Write a planned lot as CSV for the vendor.

    Raises:
        InputError: for a lot nobody planned or a path that cannot be written.
    """
    return {"story": name, "lot": lot, **_export(platform, name, [lot], path)}


def _export(platform: Platform, name: str, lots: Sequence[str], path: Path) -> dict[str, Any]:
    text = overlap.vendor_file(platform.labels, platform.story(name), lots)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            str(path),
            expected="a file that can be written",
            got=str(error),
            next_step="Pass another path; the plan is kept.",
        ) from error
    return {"file": str(path), "items": pl.read_csv(text.encode()).height}


def export_audit(
    platform: Platform, name: str, path: Path, *, source: str | None, actor: str
) -> dict[str, Any]:
    """Plan what this week's audits wait for as one lot per rule set and prompt, and write it for the vendor.

    The lots come back as any planned lot does. The same week gives the same lots; an example that another lot
    holds comes back with that one.

    Raises:
        InputError: for a source no rule set or prompt speaks for, or a path that cannot be written.
    """
    story, store = platform.story(name), platform.labels
    known = {one.lot for one in overlap.planned_lots(store, story)}
    lots = []
    for one in audits.audit(store, story, source=source):
        lot = f"audit-{one.labeller or one.source}-{one.week}"
        among = one.to_label
        if lot not in known and not overlap.waiting_for_people(store, story, among=among).is_empty():
            overlap.plan_lot(store, story, lot, size=len(among), seed=0, actor=actor, among=among)
            known.add(lot)
        lots += [lot] if lot in known else []
    made = _export(platform, name, lots, path) if lots else {"file": None, "items": 0}
    return {"lots": lots, **made}


def lots(platform: Platform, name: str) -> dict[str, Any]:
    """Every lot with its agreement, overlap and verdict, and every planned lot; nothing is changed."""
    return _lots(platform, name, lot_reviews(platform.labels, platform.story(name)))


def review_labels(platform: Platform, name: str, *, actor: str) -> dict[str, Any]:
    """Pause annotators who fell, measure every lot, and write what follows for its labels."""
    story, store = platform.story(name), platform.labels
    people = watch(store, story, actor=actor)
    found, batch = review_lots(store, story, actor=actor)
    return {
        **_lots(platform, name, found),
        "restated": batch.labels if batch else 0,
        "paused": [one.annotator for one in people if one.paused],
        "pauses": [one.as_dict() for one in pauses(store.ledger, subject(story)) if one.until is None],
    }


def _lots(platform: Platform, name: str, found: list[LotReview]) -> dict[str, Any]:
    returned = {one.lot for one in found}
    planned = overlap.planned_lots(platform.labels, platform.story(name))
    return {
        "story": name,
        "pools": {POOL_NAMES[one.pool]: one.as_dict() for one in pool_agreements(platform, name)},
        "lots": [one.as_dict() for one in found],
        "planned": [{**one.as_dict(), "delivered": one.lot in returned} for one in planned],
    }


def waiting(platform: Platform, name: str) -> dict[str, Any]:
    """The escalation queue."""
    story, store = platform.story(name), platform.labels
    found = escalations.queue(store.examples(story), store.labels(story), story.labels)
    return {"story": name, "waiting": [one.as_dict() for one in found]}


def settle(
    platform: Platform, name: str, example: str, label: str, *, actor: str, reason: str
) -> dict[str, Any]:
    """A senior annotator's word on a disputed example."""
    story = platform.story(name)
    found, batch = escalations.settle(platform.labels, story, example, label, actor=actor, reason=reason)
    return {"story": name, "example_id": found.example_id, "label": label, "batch": batch.batch}


def annotators(platform: Platform, name: str) -> dict[str, Any]:
    """Where every annotator stands; nothing is changed."""
    story, store = platform.story(name), platform.labels
    judged = judged_votes(store.examples(story), store.labels(story), story.labels)
    found = pauses(store.ledger, subject(story))
    now = platform.clock.now()
    return {
        "story": name,
        "annotators": [one.as_dict() for one in standings(judged, found, at=now)],
        "pauses": [one.as_dict() for one in found],
    }


def bring_back(platform: Platform, name: str, annotator: str, *, actor: str, reason: str) -> dict[str, Any]:
    """End an annotator's pause."""
    topic = subject(platform.story(name))
    ended = resume(platform.ledger, topic, annotator, at=platform.clock.now(), actor=actor, reason=reason)
    return {"story": name, **ended.as_dict()}


def withdraw(
    platform: Platform, name: str, example: str | None, *, user: str | None, actor: str, reason: str
) -> dict[str, Any]:
    """Take one example, or all of a user, out for good, and say what it had gone into.

    Raises:
        InputError: for neither or both, and as :func:`mangaassist.labels.withdrawals.withdraw`.
    """
    if (example is None) == (user is None):
        raise InputError(
            "EXAMPLE_ID",
            expected="an example or --user, not both",
            got="both" if user else "neither",
            next_step="Pass one.",
        )
    story, store = platform.story(name), platform.labels
    if user is not None:
        ids = withdrawals.examples_of(store, story, user)
    else:
        ids = [one_example(store.examples(story)["example_id"], example or "")]
    batch = withdrawals.withdraw(store, story, ids, actor=actor, reason=reason, user=user)
    reached = impact(platform, ids[0]) if user is None else impact(platform, user=user)
    return {"story": name, "examples": ids, "records": batch.labels, "impact": reached}


def edit(
    platform: Platform,
    name: str,
    example: str,
    label: str,
    *,
    source: str | None,
    annotator: str | None,
    actor: str,
    reason: str,
) -> dict[str, Any]:
    """Correct one vote on an example; which one must be said where there are several.

    Raises:
        InputError: when no vote or several fit, and as :func:`mangaassist.labels.changes.edit`.
    """
    story, store = platform.story(name), platform.labels
    identity = one_example(store.examples(story)["example_id"], example)
    standing = current_votes(store.labels(story)).filter(pl.col("example_id") == identity)
    fitting = standing
    if source is not None:
        fitting = fitting.filter(pl.col("label_source") == source)
    if annotator is not None:
        fitting = fitting.filter(pl.col("annotator_id") == annotator)
    voices = fitting.select("label_source", "annotator_id", "role").unique(maintain_order=True)
    if voices.height != 1:
        known = sorted(
            {
                f"{one['label_source']}/{one['annotator_id'] or 'anonymous'}"
                for one in standing.iter_rows(named=True)
            }
        )
        raise InputError(
            "--annotator" if voices.height else "vote",
            expected="one vote to correct",
            got=f"{voices.height} that fit, of {', '.join(known) or 'nobody'}",
            next_step="Say which with --source and --annotator." if known else "Import its labels first.",
        )
    (row,) = fitting.head(1).iter_rows(named=True)
    vote = Label(
        identity,
        label,
        row["label_source"],
        row["captured_at"],
        row["labeled_at"],
        annotator_id=row["annotator_id"],
        role=row["role"],
    )
    batch: Batch = changes.edit(store, story, vote, actor=actor, reason=reason)
    return {
        "story": name,
        "example_id": identity,
        "before": row["label"],
        "after": label,
        "batch": batch.batch,
    }


def archive(platform: Platform, name: str, *, apply: bool, actor: str) -> dict[str, Any]:
    """Every label version with where it is kept; with ``apply``, those past 18 months move."""
    story, store = platform.story(name), platform.labels
    due = {one.number for one in label_archive.due(store, story)}
    for number in sorted(due) if apply else ():
        label_archive.archive(store, story, number, actor=actor)
    cold = label_versions.archived(store, story)
    rows = []
    for one in label_versions.versions(store, story):
        kept = "cold folder" if one.number in cold else "due" if one.number in due else "tables"
        body = one.as_dict()
        rows.append(
            {
                "version": one.number,
                "finalised_at": body["finalised_at"],
                "examples": one.examples,
                "kept": kept,
                "manifest": cold.get(one.number),
            }
        )
    return {"story": name, "applied": apply, "versions": rows}
