"""Label versions: a set of labelled examples pinned by snapshot and content hash (LAB-2, LAB-3).

A version never changes. Reading it next year applies the policy, window and moment it was finalised with to
the snapshots it names, and checks that what comes out is what was finalised. Versions that were archived are
read from the cold folder, with the same check.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import Conflict, InputError, IntegrityError, nearest
from mangaassist.core.identity import digest
from mangaassist.core.story import LabelPolicy, Story, Window
from mangaassist.labels.consensus import consensus
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.votes import current_votes
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.fingerprint import fingerprint

_FINALISED = "labels.finalised"
ARCHIVED = "labels.archived"
COLD_FILES = ("examples.parquet", "labels.parquet", "rows.parquet")
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class LabelVersion:
    """A finalised label version.

    Attributes:
        number: 1, 2, 3, ... per story.
        finalised_at: the moment windows and maturity are counted from.
        snapshot_examples, snapshot_labels: Iceberg snapshots of the two tables.
        content_hash: digest over the content of both snapshots and over the resulting rows.
        examples: rows a reader gets, all roles.
        labels: votes that stood behind them or against them.
        sources: family of label source -> training examples it voted on.
        counts: rows per role ("train", "golden", "adversarial") and what was left out and why: "overlap"
            (training texts that are also golden or adversarial), "outside_window", "immature", "draft",
            "qa_failed" (votes), "withdrawn" (records).
        policy: sources, maturity and window it was finalised with.
    """

    number: int
    finalised_at: datetime
    snapshot_examples: int
    snapshot_labels: int
    content_hash: str
    examples: int
    labels: int
    sources: Mapping[str, int]
    counts: Mapping[str, int]
    policy: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The version as a JSON object."""
        return {
            **asdict(self),
            "finalised_at": isoformat(self.finalised_at),
            "sources": dict(self.sources),
            "counts": dict(self.counts),
            "policy": dict(self.policy),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> LabelVersion:
        """The inverse of :meth:`as_dict`."""
        at = parse_instant(body["finalised_at"], field="label version: finalised_at")
        return cls(**{**body, "finalised_at": at})


@dataclass(frozen=True, slots=True)
class Selection:
    """What a policy makes of the two tables at one moment.

    Attributes:
        rows: labelled examples, the columns of EXAMPLE_COLUMNS.
        votes: standing votes that were allowed to decide.
        counts: as in :class:`LabelVersion`.
    """

    rows: pl.DataFrame
    votes: int
    counts: Mapping[str, int] = field(default_factory=dict)


def select(
    examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy, window: Window, *, at: datetime
) -> Selection:
    """Labelled examples as of ``at``: mature labels, inside the window, no training text that is also a test.

    The window bounds training rows only; a golden example is golden at any age.
    """
    standing = current_votes(labels)
    mature = pl.col("captured_at") + policy.maturity <= at
    accepted = pl.col("review_status") == "qa_passed"
    settled = consensus(examples, labels.filter(mature), policy)
    kept = without_overlap(settled)
    inside = pl.lit(True)
    if window.kind == "sliding" and window.days is not None:
        inside = (pl.col("role") != "train") | (pl.col("captured_at") > at - timedelta(days=window.days))
    rows = kept.filter(inside)
    roles = dict(rows.group_by("role").len().rows())
    counts = {role: int(roles.get(role, 0)) for role in ("train", "golden", "adversarial")}
    counts |= {
        "overlap": settled.height - kept.height,
        "outside_window": kept.height - rows.height,
        "immature": standing.filter(accepted & ~mature).height,
        "draft": standing.filter(pl.col("review_status") == "draft").height,
        "qa_failed": standing.filter(pl.col("review_status") == "qa_failed").height,
        "withdrawn": labels.filter(pl.col("review_status") == "withdrawn").height,
    }
    return Selection(rows, standing.filter(accepted & mature).height, counts)


def without_overlap(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` without training examples whose canonical text is also golden or adversarial.

    Training on a test's texts measures memory; public benchmarks leak this way too.
    """
    tested = rows.filter(pl.col("role") != "train").select("example_id").unique()
    leaked = (pl.col("role") == "train") & pl.col("example_id").is_in(tested["example_id"].to_list())
    return rows.filter(~leaked)


def finalise(store: LabelStore, story: Story, *, actor: str) -> LabelVersion:
    """Pin what the tables hold now as the next version; unchanged content is the version it already was.

    Raises:
        InputError: when the story has no labels or no examples yet.
        Conflict: when other writers were faster every time.
    """
    for _ in range(_ATTEMPTS):
        head = store.ledger.head(subject(story))
        known = versions(store, story)
        version = _measure(store, story, number=len(known) + 1)
        if known and known[-1].content_hash == version.content_hash:
            return known[-1]
        try:
            store.ledger.append(
                kind=_FINALISED,
                subject=subject(story),
                body=version.as_dict(),
                actor=actor,
                at=version.finalised_at,
                expected=head,
            )
        except Conflict:
            continue
        return version
    raise Conflict(
        f"labels of '{story.name}'",
        expected=f"a free turn within {_ATTEMPTS} attempts",
        got="another writer each time",
        next_step="Run the command again.",
    )


def _measure(store: LabelStore, story: Story, *, number: int) -> LabelVersion:
    snapshots = store.snapshots(story)
    examples, labels = snapshots["examples"], snapshots["labels"]
    if examples is None or labels is None:
        raise InputError(
            f"labels of '{story.name}'",
            expected="at least one labelled example",
            got="none",
            next_step=f"Run 'mangaassist labels import {story.name} FILE' first.",
        )
    policy = _policy(story)
    at = store.clock.now()
    selection, found = _select(store, story, (examples, labels), policy, at)
    train = selection.rows.filter(pl.col("role") == "train")
    voters = train["sources"].str.split(",").explode().drop_nulls().value_counts()
    return LabelVersion(
        number=number,
        finalised_at=at,
        snapshot_examples=examples,
        snapshot_labels=labels,
        content_hash=_hash(found, policy),
        examples=selection.rows.height,
        labels=selection.votes,
        sources=dict(sorted(voters.rows())),
        counts=selection.counts,
        policy=policy,
    )


def _select(
    store: LabelStore, story: Story, snapshots: tuple[int, int], policy: Mapping[str, Any], at: datetime
) -> tuple[Selection, Contents]:
    """The rows of a pair of snapshots under a policy, alone and with the tables they come from."""
    examples = store.examples(story, snapshot=snapshots[0])
    labels = store.labels(story, snapshot=snapshots[1])
    labelling = LabelPolicy(
        sources=tuple(policy["sources"]),
        maturity=timedelta(seconds=policy["maturity_seconds"]),
        combination=policy.get("combination", "priority"),
    )
    window = Window(policy["window"], policy["window_days"])
    selection = select(examples, labels, labelling, window, at=at)
    return selection, Contents(examples, labels, selection.rows)


class Contents(NamedTuple):
    """The two tables as a version pinned them, and the rows its policy makes of them."""

    examples: pl.DataFrame
    labels: pl.DataFrame
    rows: pl.DataFrame


def _hash(found: Contents, policy: Mapping[str, Any]) -> str:
    return digest([*(fingerprint(frame) for frame in found), policy])


def _policy(story: Story) -> dict[str, Any]:
    return {
        "sources": list(story.labels.sources),
        "combination": story.labels.combination,
        "maturity_seconds": story.labels.maturity.total_seconds(),
        "window": story.window.kind,
        "window_days": story.window.days,
    }


def versions(store: LabelStore, story: Story) -> list[LabelVersion]:
    """All label versions of ``story``, oldest first."""
    entries = store.ledger.entries(subject=subject(story), kind=_FINALISED)
    return [LabelVersion.from_dict(entry.body) for entry in entries]


def version(store: LabelStore, story: Story, number: int) -> LabelVersion:
    """One label version.

    Raises:
        InputError: for a number that was never finalised.
    """
    known = versions(store, story)
    for one in known:
        if one.number == number:
            return one
    raise InputError(
        f"label version of '{story.name}'",
        expected="a finalised version",
        got=str(number),
        next_step=nearest(str(number), [str(one.number) for one in known]),
    )


def read(store: LabelStore, story: Story, number: int) -> pl.DataFrame:
    """The rows of a version, the same for ever: columns EXAMPLE_COLUMNS, sorted by role, time and id.

    Raises:
        InputError: for a number that was never finalised.
        IntegrityError: when the stored content is not what was finalised.
    """
    return _checked(store, story, version(store, story, number)).rows


def contents(store: LabelStore, story: Story, pinned: LabelVersion) -> Contents:
    """Everything a version consists of, from the tables or, once archived, from the cold folder; sorted.

    Raises:
        IntegrityError: when the stored content is not what was finalised.
    """
    found = _checked(store, story, pinned)
    examples, labels = (frame.sort(frame.columns, nulls_last=True) for frame in found[:2])
    return Contents(examples, labels, found.rows)


def _checked(store: LabelStore, story: Story, pinned: LabelVersion) -> Contents:
    cold = archived(store, story).get(pinned.number)
    if cold is not None and store.cold is not None:
        return verified(story, pinned, store.cold, cold)
    snapshots = (pinned.snapshot_examples, pinned.snapshot_labels)
    _, found = _select(store, story, snapshots, pinned.policy, pinned.finalised_at)
    content = _hash(found, pinned.policy)
    _check(story, pinned, content, "Restore the tables from a backup; do not train on this.")
    return found


def archived(store: LabelStore, story: Story) -> dict[int, str]:
    """Version number to the digest of its manifest in the cold folder."""
    entries = store.ledger.entries(subject=subject(story), kind=ARCHIVED)
    return {entry.body["label_version"]: entry.body["manifest"] for entry in entries}


def verified(story: Story, pinned: LabelVersion, cold: ArtifactStore, manifest: str) -> Contents:
    """An archived version read back; the rows are those stored, whatever code would make of the tables today.

    Raises:
        IntegrityError: when a byte is missing or other than it was.
    """
    found = Contents(*(pl.read_parquet(io.BytesIO(cold.read(manifest, name))) for name in COLD_FILES))
    _check(story, pinned, _hash(found, pinned.policy), "Restore the cold folder from a backup.")
    return found


def _check(story: Story, pinned: LabelVersion, content: str, next_step: str) -> None:
    if content != pinned.content_hash:
        raise IntegrityError(
            f"label version {pinned.number} of '{story.name}'",
            expected=f"content {pinned.content_hash[:16]}",
            got=f"content {content[:16]}",
            next_step=next_step,
        )
