"""Examples and labels into their tables: append-only, exactly once, every batch in the ledger (LAB-8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.core.clock import Clock
from mangaassist.core.errors import Conflict
from mangaassist.core.identity import digest, digest_bytes
from mangaassist.core.story import Story
from mangaassist.governance.redaction import redact
from mangaassist.labels import filing
from mangaassist.labels.admission import admit_examples, admit_labels
from mangaassist.labels.importing import ImportedFile
from mangaassist.labels.pauses import hold, pauses
from mangaassist.labels.records import (
    EXAMPLES_TABLE,
    LABELS_TABLE,
    arrow_schema,
    check_role,
    family,
    frame_schema,
)
from mangaassist.labels.votes import VOTE_KEY, current_examples, current_votes, erased, with_metadata
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Entry, Ledger
from mangaassist.storage.tables import Tables

if TYPE_CHECKING:
    from mangaassist.labels.lots import Known

_RESERVED, _ADDED = "labels.batch_reserved", "labels.batch_added"
_ATTEMPTS = 50

Build = Callable[[datetime], Mapping[str, pl.DataFrame]]
"""From the moment of a batch's reservation to its rows, by table ("examples", "labels")."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one delivery did.

    Attributes:
        batch: digest of its content; the same content again is the same batch.
        repeated: True when it had been added before, so that nothing changed.
        examples, labels: rows it holds.
        label_versions: source -> version of its labels, monotonic per story and source.
        replaced: earlier votes of the same annotators that these labels take the place of.
    """

    batch: str
    repeated: bool
    examples: int
    labels: int
    label_versions: Mapping[str, int]
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class LabelStore:
    """The label tables of every story, with the ledger that says how each row came in.

    No text is stored with personal data in it (GOV-2). An example keeps the id of its text as it was
    captured, so that labels find it whoever sends them.

    Attributes:
        tables, ledger: where rows and entries go.
        clock: what "now" is.
        cold: the folder of archived label versions; None where there is none.
        reviews: what was measured of each story's lots, so that only lots that changed are measured anew.
    """

    tables: Tables
    ledger: Ledger
    clock: Clock
    cold: ArtifactStore | None = None
    reviews: dict[str, Known] = field(default_factory=dict, compare=False, repr=False)

    def add_examples(self, story: Story, examples: pl.DataFrame, *, actor: str = "labels") -> Batch:
        """Append ``examples`` (the columns of EXAMPLES_TABLE); the same rows twice are one batch.

        Raises:
            InputError: as :func:`mangaassist.labels.admission.admit_examples`.
        """
        frame = admit_examples(story, examples, now=self.clock.now())
        return self._add(story, _content(frame), lambda _: {"examples": frame}, actor=actor, about={})

    def add_labels(
        self,
        story: Story,
        labels: pl.DataFrame,
        *,
        actor: str = "labels",
        about: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Append ``labels`` (the columns of LABELS_TABLE); their versions are assigned here, per source.

        Votes that an annotator gave while paused come in without counting (LAB-5).

        Args:
            about: what the ledger should also say about the batch; part of what makes it the same batch.

        Raises:
            InputError: as :func:`mangaassist.labels.admission.admit_labels`.
        """
        frame = admit_labels(story, labels, now=self.clock.now())
        about = dict(about or {})
        content = digest([_content(frame), about]) if about else _content(frame)
        return self._add(
            story, content, lambda _: self._held(story, {"labels": frame}), actor=actor, about=about
        )

    def import_file(
        self, story: Story, file: ImportedFile, *, source: str, role: str = "train", actor: str = "labels"
    ) -> Batch:
        """Add every row of ``file`` as an example of ``role`` and a label by ``source``.

        A file without any times was captured and labelled at the moment it was first imported. What is on
        record about a text (conversation, user, when it was captured) stays where the file is silent. Of
        annotators with labelling times only news counts: what they were recorded to have said at that time,
        or have said something else since, is left out, so that a project exported again and again adds what
        is new in it.

        Raises:
            InputError: for an unknown role or a source outside the story's policy.
        """
        check_role(role)
        family(source, story.labels)
        identities = filing.identities(story, self.examples(story), file.rows["text"])
        content = digest([file.digest, digest_bytes(filing.stated(file.rows).encode()), source, role])
        about = {"file": file.name, "file_digest": file.digest, "source": source, "role": role}

        def build(at: datetime) -> Mapping[str, pl.DataFrame]:
            known = current_examples(self.examples(story)).filter(pl.col("role") == role)
            made = filing.frames(story, file, identities, known, source=source, role=role, at=at)
            return self._held(story, {**made, "labels": filing.news(self.labels(story), made["labels"])})

        return self._add(story, content, build, actor=actor, about=about)

    def restate(self, story: Story, labels: pl.DataFrame, *, actor: str, about: Mapping[str, Any]) -> Batch:
        """Append ``labels`` in place of what the same annotators said; earlier records stay (LAB-8).

        Saying what had been said once before is news here, so the batch counts from the versions it follows.

        Raises:
            InputError: as :meth:`add_labels`.
        """
        versions = self.labels(story).group_by("label_source").agg(pl.col("label_version").max())
        follows = dict(sorted(versions.rows()))
        frame = admit_labels(story, labels, now=self.clock.now())
        said = {**about, "follows": follows}
        content = digest([_content(frame), said])
        return self._add(story, content, lambda _: {"labels": frame}, actor=actor, about=said)

    def examples(self, story: Story, *, snapshot: int | None = None) -> pl.DataFrame:
        """All rows of the story's examples table; empty before the first batch."""
        return self._read("examples", story, EXAMPLES_TABLE, snapshot)

    def labels(self, story: Story, *, snapshot: int | None = None) -> pl.DataFrame:
        """All rows of the story's labels table, every version; empty before the first batch."""
        return self._read("labels", story, LABELS_TABLE, snapshot)

    def unlabelled(self, story: Story, *, by: str | None = None) -> pl.DataFrame:
        """Examples without a standing vote, as last captured; those erased are left alone.

        Args:
            by: a family of sources; only its votes are looked at.
        """
        labels = self.labels(story)
        votes = current_votes(labels)
        if by is not None:
            source = pl.col("label_source")
            votes = votes.filter((source == by) | source.str.starts_with(f"{by}_"))
        waiting = current_examples(self.examples(story)).join(votes, on="example_id", how="anti")
        return waiting.filter(~pl.col("example_id").is_in(erased(labels).implode()))

    def _held(self, story: Story, frames: Mapping[str, pl.DataFrame]) -> Mapping[str, pl.DataFrame]:
        """``frames`` with votes of paused annotators marked; which batch it is does not depend on that."""
        return {**frames, "labels": hold(frames["labels"], pauses(self.ledger, subject(story)))}

    def _read(
        self, kind: str, story: Story, columns: Mapping[str, str], snapshot: int | None
    ) -> pl.DataFrame:
        name = f"{kind}.{story.name}"
        if snapshot is None and not self.tables.exists(name):
            return pl.DataFrame(schema=frame_schema(columns))
        # A batch that two processes appended at once is there twice, row for row.
        return self.tables.read(name, snapshot=snapshot).select(list(columns)).unique()

    def _add(
        self, story: Story, content: str, build: Build, *, actor: str, about: Mapping[str, Any]
    ) -> Batch:
        """Reserve in the ledger, append to the tables, confirm in the ledger; safe to repeat at any point.

        A crash after the reservation leaves a batch that the same call completes: tables that already hold
        it (their snapshot summaries say so) are left alone. Two processes adding the same batch at once may
        both append it; the rows are then equal to the last bit, because times come from the one reservation,
        and reading takes equal rows once.
        """
        now = self.clock.now()
        frames = build(now)
        reserved = self._reserve(story, content, frames, actor=actor, about=about, at=now)
        known = self._entry(story, _ADDED, content)
        if known is None:
            if reserved.at != now:
                frames = build(reserved.at)
            for kind, frame in frames.items():
                self._append_once(kind, story, frame, content, reserved.body["label_versions"])
            self.ledger.append(
                kind=_ADDED,
                subject=subject(story),
                body={"batch": content, "snapshots": self.snapshots(story)},
                actor=actor,
                at=self.clock.now(),
            )
        counts = {name: reserved.body[name] for name in ("examples", "labels", "label_versions", "replaced")}
        return Batch(content, known is not None, **counts)

    def snapshots(self, story: Story) -> dict[str, int | None]:
        """The newest snapshot of each of the story's two tables."""
        names = {kind: f"{kind}.{story.name}" for kind in ("examples", "labels")}
        return {
            kind: self.tables.snapshot(name) if self.tables.exists(name) else None
            for kind, name in names.items()
        }

    def _reserve(
        self,
        story: Story,
        identity: str,
        frames: Mapping[str, pl.DataFrame],
        *,
        actor: str,
        about: Mapping[str, Any],
        at: datetime,
    ) -> Entry:
        """The batch's first entry, written now or by an earlier attempt; it fixes the label versions."""
        labels = frames.get("labels")
        replaced = 0 if labels is None else self._replaced(story, labels)
        for _ in range(_ATTEMPTS):
            head = self.ledger.head(subject(story))
            earlier = self.ledger.entries(subject=subject(story), kind=_RESERVED)
            for entry in earlier:
                if entry.body["batch"] == identity:
                    return entry
            body = {
                **about,
                "batch": identity,
                "examples": frames["examples"].height if "examples" in frames else 0,
                "labels": 0 if labels is None else labels.height,
                "label_versions": _next_versions(labels, earlier),
                "replaced": replaced,
            }
            try:
                return self.ledger.append(
                    kind=_RESERVED,
                    subject=subject(story),
                    body=body,
                    actor=actor,
                    at=at,
                    expected=head,
                )
            except Conflict:
                continue
        raise Conflict(
            f"labels of '{story.name}'",
            expected=f"a free turn within {_ATTEMPTS} attempts",
            got="another writer each time",
            next_step="Run the command again.",
        )

    def _entry(self, story: Story, kind: str, identity: str) -> Entry | None:
        entries = self.ledger.entries(subject=subject(story), kind=kind)
        return next((entry for entry in entries if entry.body["batch"] == identity), None)

    def _append_once(
        self, kind: str, story: Story, frame: pl.DataFrame, identity: str, versions: Mapping[str, int]
    ) -> None:
        name = f"{kind}.{story.name}"
        if self.tables.exists(name) and any(
            summary.get("batch") == identity for summary in self.tables.properties(name)
        ):
            return
        if frame.is_empty():
            return
        columns = EXAMPLES_TABLE if kind == "examples" else LABELS_TABLE
        if kind == "examples":
            clean = [redact(text).text for text in frame["text"]]
            frame = frame.with_columns(text=pl.Series(clean, dtype=pl.String()))
        else:
            version = pl.col("label_source").replace_strict(dict(versions), return_dtype=pl.Int64())
            frame = frame.with_columns(label_version=version)
        rows = frame.select(list(columns)).to_arrow().cast(arrow_schema(columns))
        self.tables.append(name, rows, properties={"batch": identity})

    def _replaced(self, story: Story, labels: pl.DataFrame) -> int:
        """How many standing votes belong to the keys of ``labels``."""
        standing = current_votes(self.labels(story))
        keys = with_metadata(labels).select(VOTE_KEY).unique()
        return standing.join(keys, on=list(VOTE_KEY), how="semi", nulls_equal=True).height


def subject(story: Story) -> str:
    """The ledger subject of a story's labels."""
    return f"labels/{story.name}"


def _next_versions(labels: pl.DataFrame | None, earlier: Sequence[Entry]) -> dict[str, int]:
    if labels is None:
        return {}
    last: dict[str, int] = {}
    for entry in earlier:
        last.update(entry.body["label_versions"])
    return {source: last.get(source, 0) + 1 for source in sorted(labels["label_source"].unique())}


def _content(frame: pl.DataFrame) -> str:
    """What makes two frames the same batch; versions and intake times are no part of it."""
    rows = frame.drop("label_version", "ingested_at", strict=False)
    return digest([frame.columns, digest_bytes(rows.write_ndjson().encode())])
