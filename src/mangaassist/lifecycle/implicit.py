"""A story's implicit feedback: events in, labels out once they are mature and corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.identity import user_digest
from mangaassist.core.story import Story
from mangaassist.labels import implicit
from mangaassist.labels.event_intake import LIMITS, EventIntake, events_table, read_event_file
from mangaassist.labels.events import Refusal
from mangaassist.labels.exposures import shown_rows
from mangaassist.labels.propensities import corrections
from mangaassist.labels.records import family
from mangaassist.lifecycle.platform import Platform
from mangaassist.storage.ledger import Entry
from mangaassist.storage.tables import Between

_EXCLUDED, _ERASED, _LABELLED = "events.user_excluded", "events.erased", "events.labelled"
_SEED = 20_260_101
_SHOWN_REFUSALS = 20


def receive_file(platform: Platform, name: str, path: Path | None) -> dict[str, Any]:
    """Every event of ``path`` into the story's table; loading the same file again adds nothing.

    Args:
        path: None moves only what servers received.

    Raises:
        InputError: for an unknown story, a missing file or another format.
    """
    story = platform.story(name)
    intake = EventIntake.open(platform.home, story.name, platform.clock)
    received, copies, reasons = 0, 0, Counter[str]()
    refusals: list[Refusal] = []
    try:
        for batch in read_event_file(path) if path else ():
            receipt = intake.receive(batch)
            received += len(batch)
            copies += receipt.duplicates
            reasons.update(receipt.reasons())
            refusals += receipt.refusals[: _SHOWN_REFUSALS - len(refusals)]
        # A file may be loaded again weeks later, so its copies are looked for as far back as events may lie.
        drained = intake.drain(platform.tables, resend=LIMITS.oldest if path else None)
    finally:
        intake.close()
    return {
        "story": name,
        "file": path.name if path else None,
        "events": received,
        "stored": drained.stored,
        "duplicates": copies + drained.duplicates,
        "refused": dict(reasons.most_common()),
        "refusals": [{"event_id": one.event_id, "sentence": one.sentence} for one in refusals],
    }


def exclude_user(platform: Platform, name: str, user_id: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Erase a user's lists with all acts on them, and leave later ones out of every label from now on.

    What arrives later is erased when labels are made. Files that hold erased events are freed with the table
    snapshots they belong to (:mod:`mangaassist.lifecycle.maintenance`).

    Raises:
        InputError: for an unknown story or without a reason.
    """
    story = platform.story(name)
    if not reason.strip():
        raise InputError("reason", expected="why", got="nothing", next_step="Say why.")
    user = user_digest(user_id)
    body = {"user": user, "reason": reason}
    already = user in _excluded(platform, story)
    if not already:
        platform.ledger.append(
            kind=_EXCLUDED, subject=_subject(story), body=body, actor=actor, at=platform.clock.now()
        )
    excluded = _excluded(platform, story)
    erased = _erase(platform, story, excluded, actor=actor)
    return {"story": name, "user": user, "already": already, "excluded": len(excluded), "erased": erased}


def _erase(platform: Platform, story: Story, users: Collection[str], *, actor: str) -> int:
    """Take the lists of ``users`` and all acts on them out of the table; how many events that were."""
    table = events_table(story.name)
    _drain(platform, story)
    if not users or not platform.tables.exists(table):
        return 0
    shown = platform.tables.read(table, columns=["request_id", "user"])
    requests = shown.filter(pl.col("user").is_in(list(users)))["request_id"].unique().to_list()
    erased = platform.tables.erase(table, "request_id", requests) if requests else 0
    if erased:
        body = {"lists": len(requests), "events": erased}
        platform.ledger.append(
            kind=_ERASED, subject=_subject(story), body=body, actor=actor, at=platform.clock.now()
        )
    return erased


def label_events(
    platform: Platform,
    name: str,
    *,
    as_of: datetime | None = None,
    dry_run: bool = False,
    actor: str = "labels",
) -> dict[str, Any]:
    """Make labels of what was known at ``as_of`` (default: now); the same moment again changes nothing.

    Raises:
        InputError: for a story that takes no implicit labels or has no events, or a moment to come.
        GateRefused: for a moment before the last one labels were made for, unless ``dry_run``.
    """
    story = platform.story(name)
    _check_accepts(story)
    moment = as_of or platform.clock.now()
    _check_moment(platform, story, moment, dry_run=dry_run)
    shown = shown_rows(_events(platform, story, moment), as_of=moment, excluded=_excluded(platform, story))
    policy = story.labels.implicit
    ripe = implicit.mature(shown.rows, policy, as_of=moment)
    found = corrections(ripe, policy, seed=_SEED)
    counted = implicit.count(shown.rows, found, story, as_of=moment)
    evidence = implicit.evidence_digest(found, policy, sorted(_excluded(platform, story)))
    examples, stated = implicit.statements(counted, story, as_of=moment, evidence=evidence)
    news = implicit.changes(platform.labels.labels(story), stated)
    surfaces = [one.as_dict() for one in found]
    report = {
        "story": name,
        "as_of": isoformat(moment),
        "volumes": _volumes(shown.rows, counted, shown.excluded),
        "left_out": shown.left_out,
        "sentences": [*shown.sentences(), *(one.verdict.sentence for one in found)],
        "surfaces": surfaces,
        "pairs": counted.pairs.height,
        "undecided": counted.pairs["label"].null_count(),
        "classes": dict(sorted(Counter(stated["label"].to_list()).items())),
        "labels": {
            "added": news.added,
            "revised": news.revised,
            "restated": news.repeated,
            "withdrawn": news.withdrawn,
        },
        "evidence": evidence,
        "dry_run": dry_run,
    }
    if not dry_run:
        _write(platform, story, examples, news, report, actor=actor)
        _erase(platform, story, _excluded(platform, story), actor=actor)
    return report


def _write(
    platform: Platform,
    story: Story,
    examples: pl.DataFrame,
    news: implicit.Changes,
    report: Mapping[str, Any],
    *,
    actor: str,
) -> None:
    """Examples, then labels, then the ledger's word that this moment is done; each step may be repeated."""
    changed = examples.join(news.labels, on="example_id", how="semi")
    if changed.height:
        platform.labels.add_examples(story, changed, actor=actor)
    if news.labels.height:
        about = {"change": "implicit", "as_of": report["as_of"], "evidence": report["evidence"]}
        platform.labels.restate(story, news.labels, actor=actor, about=about)
    if any(report["labels"].values()) or _last_moment(platform, story) != report["as_of"]:
        kept = ("as_of", "volumes", "left_out", "labels", "evidence", "surfaces")
        body = {name: report[name] for name in kept}
        platform.ledger.append(
            kind=_LABELLED, subject=_subject(story), body=body, actor=actor, at=platform.clock.now()
        )


def _events(platform: Platform, story: Story, moment: datetime) -> pl.DataFrame:
    """The story's events around the window, what waits in the spool included."""
    _drain(platform, story)
    table = events_table(story.name)
    if not platform.tables.exists(table):
        raise InputError(
            "events",
            expected=f"events of '{story.name}'",
            got="none yet",
            next_step=f"Load some with 'mangaassist labels events {story.name} FILE'.",
        )
    # Twice the window, so that late acts inside it find lists from before it.
    low = moment - 2 * story.labels.implicit.window
    return platform.tables.read(table, between=Between("at", low, moment + timedelta(days=1)))


def _drain(platform: Platform, story: Story) -> None:
    intake = EventIntake.open(platform.home, story.name, platform.clock)
    try:
        intake.drain(platform.tables)
    finally:
        intake.close()


def _volumes(rows: pl.DataFrame, counted: implicit.Counted, excluded: int) -> dict[str, int]:
    return {
        "lists": rows["request_id"].n_unique(),
        "shown": rows.height,
        "clicked": int(rows["clicked"].sum()),
        "purchased": int(rows["purchased"].sum()),
        "returned": int(rows["returned"].sum()),
        "immature": counted.immature,
        "uncorrected": counted.uncorrected,
        "unclear": counted.unclear,
        "excluded_lists": excluded,
    }


def _check_accepts(story: Story) -> None:
    try:
        family(implicit.SOURCE, story.labels)
    except InputError as error:
        raise InputError(
            "story",
            expected=f"one whose labels may come from '{implicit.SOURCE}'",
            got=f"'{story.name}', which takes {', '.join(story.labels.sources)}",
            next_step="What it predicts is not measured by clicks, or its LabelPolicy has to say so.",
        ) from error


def _check_moment(platform: Platform, story: Story, moment: datetime, *, dry_run: bool) -> None:
    now = platform.clock.now()
    if moment > now:
        raise InputError(
            "--as-of",
            expected=f"a time up to now ({isoformat(now)})",
            got=isoformat(moment),
            next_step="Leave it out for now.",
        )
    last = _last_moment(platform, story)
    if not dry_run and last is not None and moment < parse_instant(last, field="as_of"):
        raise GateRefused(
            "--as-of",
            expected=f"a time from {last} on, for which labels were made",
            got=isoformat(moment),
            next_step="Add --dry-run to see what was known then.",
        )


def _last_moment(platform: Platform, story: Story) -> str | None:
    entries = _entries(platform, story, _LABELLED)
    return str(entries[-1].body["as_of"]) if entries else None


def _excluded(platform: Platform, story: Story) -> frozenset[str]:
    return frozenset(str(entry.body["user"]) for entry in _entries(platform, story, _EXCLUDED))


def _entries(platform: Platform, story: Story, kind: str) -> list[Entry]:
    return list(platform.ledger.entries(subject=_subject(story), kind=kind))


def _subject(story: Story) -> str:
    return f"events/{story.name}"


def write_simulated_clicks(
    path: Path, *, requests: int, days: int, seed: int, now: datetime
) -> dict[str, Any]:
    """A SIMULATED click log for :func:`receive_file`.

    Raises:
        InputError: for another format or a file that is there already.
    """
    import numpy as np

    from mangaassist.simulation.clicks import EXAMINATION, simulate_clicks

    if path.suffix not in (".jsonl", ".parquet") or path.exists():
        got = "a file that is there" if path.exists() else path.name
        raise InputError(
            "FILE", expected="a new .jsonl or .parquet file", got=got, next_step="Choose another name."
        )
    log = simulate_clicks(np.random.default_rng(seed), requests=requests, until=now, days=days)
    if path.suffix == ".parquet":
        log.events.write_parquet(path)
    else:
        log.events.with_columns(pl.col("at", "known_at").dt.to_string("iso:strict")).write_ndjson(path)
    counts = dict(sorted(log.events.group_by("kind").len().rows()))
    return {
        "file": str(path),
        "simulated": True,
        "events": log.events.height,
        "kinds": counts,
        "examination": {device: list(values) for device, values in EXAMINATION.items()},
    }
