"""What labels in place of people: rule sets and prompts, one in force per source, each known to the ledger.

A labeller is the annotator of its labels. A new one replaces what the one before said about every example it
looks at, silence included, so that two rule sets never outvote a person by being two. Nothing is overwritten:
rolling back finds what stood before and says it again (:mod:`mangaassist.labels.changes`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from mangaassist.core.errors import Conflict, GateRefused
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import Story
from mangaassist.labels.intake import Batch, LabelStore, subject
from mangaassist.labels.records import LABELS_TABLE, Label, family, labels_frame
from mangaassist.labels.votes import current_votes

REGISTERED, ROLLED_BACK = "labels.labeller_registered", "labels.labeller_rolled_back"
SUPERSEDED_BY = "superseded_by"
"""Metadata of a withdrawn vote: the labeller that looked again and said something else, or nothing."""


@dataclass(frozen=True, slots=True)
class Labeller:
    """A version of a rule set, or of a prompt with the model it is put to.

    Attributes:
        source: the label source it speaks for.
        version: its identity, and the annotator of its labels.
        body: what it consists of, as JSON: functions and their code digests, or a prompt's text and digest.
    """

    source: str
    version: str
    body: Mapping[str, Any]


def register(store: LabelStore, story: Story, labeller: Labeller, *, actor: str) -> None:
    """Make ``labeller`` known to the ledger; the same one twice is recorded once.

    Raises:
        InputError: for a source outside the story's policy.
        GateRefused: when it was rolled back before.
        Conflict: when the same version stands for something else already.
    """
    family(labeller.source, story.labels)
    _refuse_rolled_back(store, story, labeller)
    for entry in store.ledger.entries(subject=subject(story), kind=REGISTERED):
        if (entry.body["source"], entry.body["labeller"]) != (labeller.source, labeller.version):
            continue
        if canonical_json(entry.body["about"]) != canonical_json(labeller.body):
            raise Conflict(
                f"labeller '{labeller.version}'",
                expected="what it was when it was registered",
                got="something else under the same name",
                next_step="Give the changed one a name of its own: labels say who gave them.",
            )
        return
    body = {"source": labeller.source, "labeller": labeller.version, "about": labeller.body}
    store.ledger.append(kind=REGISTERED, subject=subject(story), body=body, actor=actor, at=store.clock.now())


def _refuse_rolled_back(store: LabelStore, story: Story, labeller: Labeller) -> None:
    for entry in store.ledger.entries(subject=subject(story), kind=ROLLED_BACK):
        if (entry.body["source"], entry.body["labeller"]) == (labeller.source, labeller.version):
            raise GateRefused(
                f"labeller '{labeller.version}'",
                expected="one that was not rolled back",
                got=f"rolled back on {entry.at:%Y-%m-%d}: {entry.body['reason']}",
                next_step="Change the rules or the prompt; a new version is a new labeller.",
            )


def state(
    store: LabelStore,
    story: Story,
    labeller: Labeller,
    statements: Sequence[Label],
    asked: Collection[str],
    *,
    actor: str,
) -> Batch | None:
    """Let ``labeller`` have said ``statements`` about the examples ``asked``, and nothing about their rest.

    Args:
        statements: labels with the labeller's source and version as their annotator.
        asked: example ids it was asked about.

    Returns:
        What was added; None when every example already says so.
    """
    standing = current_votes(store.labels(story)).filter(
        (pl.col("label_source") == labeller.source) & pl.col("example_id").is_in(list(asked))
    )
    said = {
        (row["example_id"], row["role"]): row["label"]
        for row in standing.iter_rows(named=True)
        if row["annotator_id"] == labeller.version
    }
    news = [one for one in statements if said.get((one.example_id, one.role)) != one.label]
    gone = _superseded(standing, labeller, statements)
    if not news and gone.is_empty():
        return None
    fresh = labels_frame(news, model_target=story.name)
    about = {
        "change": "labelled",
        "source": labeller.source,
        "labeller": labeller.version,
        "asked": len(asked),
    }
    return store.restate(story, pl.concat([fresh, gone]), actor=actor, about=about)


def _superseded(standing: pl.DataFrame, labeller: Labeller, statements: Sequence[Label]) -> pl.DataFrame:
    """Withdrawals of standing votes that are another labeller's, or that ``labeller`` no longer gives."""
    kept = {(one.example_id, one.role) for one in statements}
    stays = [
        row["annotator_id"] == labeller.version and (row["example_id"], row["role"]) in kept
        for row in standing.iter_rows(named=True)
    ]
    gone = standing.filter(~pl.Series(stays, dtype=pl.Boolean))

    def mark(metadata: str) -> str:
        return canonical_json({**orjson.loads(metadata), SUPERSEDED_BY: labeller.version}).decode()

    return gone.with_columns(
        review_status=pl.lit("withdrawn"),
        metadata=pl.col("metadata").map_elements(mark, return_dtype=pl.String()),
    ).select(list(LABELS_TABLE))


def in_force(labels: pl.DataFrame) -> dict[str, str | None]:
    """The annotator behind the newest standing label of every source; None where it is unnamed."""
    newest = (
        current_votes(labels)
        .sort("label_source", "label_version", "labeled_at", "annotator_id", nulls_last=False)
        .unique("label_source", keep="last", maintain_order=True)
    )
    return dict(newest.select("label_source", "annotator_id").rows())
