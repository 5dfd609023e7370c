"""Labels by a language model: a versioned prompt, a provider, answers that are durable one by one (LAB-3).

A run may end anywhere. Every answer is on disk before it counts, silence included, so the next run asks only
what was not answered and labels nothing twice. Personal data is taken out of a text before it leaves (GOV-2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import polars as pl
import pyarrow as pa

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import Story
from mangaassist.governance.redaction import redact
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.labellers import Labeller, register, state
from mangaassist.labels.records import Label
from mangaassist.labels.votes import current_examples
from mangaassist.storage.spool import Spool

LABELS_PLACE = "{labels}"
"""Where a prompt's text lists the labels to choose from."""
Silence = Literal["abstained", "outside", "unreadable", "refused"]

_SETTLED = "labels.answers_settled"
_SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("labeller", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("silence", pa.string()),
        pa.field("said", pa.string(), nullable=False),
        pa.field("tokens_in", pa.int64(), nullable=False),
        pa.field("tokens_out", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt under a name that stands for one text for ever.

    Attributes:
        name: its version ("intent-v3").
        text: the instruction, with :data:`LABELS_PLACE` where the labels go.
    """

    name: str
    text: str

    @property
    def digest(self) -> str:
        return digest_bytes(self.text.encode())

    def written_for(self, classes: Sequence[str]) -> str:
        """The instruction with the labels listed in it.

        Raises:
            InputError: for a prompt that lists none.
        """
        if LABELS_PLACE not in self.text:
            raise InputError(
                f"prompt '{self.name}'",
                expected=f"{LABELS_PLACE} where the labels go",
                got="a text without it",
                next_step="Add it; a model that is not told the labels makes up its own.",
            )
        return self.text.replace(LABELS_PLACE, "\n".join(f"- {one}" for one in classes))


@dataclass(frozen=True, slots=True)
class Question:
    """One text to label, as it leaves the platform: without personal data."""

    example_id: str
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider made of one question.

    Attributes:
        label: one of the labels it was given; None for silence.
        confidence: the model's own, in 0..1; None for silence.
        silence: why there is no label: it abstained, its label is outside the set, what it wrote cannot be
            read as a label, or it or its server refused. Never guessed at.
        said: the beginning of what it wrote, where that was no label.
        tokens_in, tokens_out: what it was charged for.
    """

    label: str | None
    confidence: float | None = None
    silence: Silence | None = None
    said: str = ""
    tokens_in: int = 0
    tokens_out: int = 0


class LabelProvider(Protocol):
    """A language model that labels."""

    @property
    def model(self) -> str:
        """The model's id."""

    def answer(
        self, prompt: Prompt, classes: Sequence[str], questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Answer]]:
        """Each question with its answer, as they come in; closing the iterator asks no more.

        Raises:
            Unavailable: the model cannot be reached; what was answered before has been handed over.
        """


@dataclass(frozen=True, slots=True)
class Distilled:
    """What one run did.

    Attributes:
        labeller: model and prompt; the annotator of the labels.
        asked: questions answered in this run; labelled: labels among them, silent: why not -> how many.
        remaining: examples not asked yet.
        recovered: answers an interrupted run had left.
        tokens_in, tokens_out: of this run.
        redacted: texts that lost personal data before they were sent.
    """

    labeller: str
    asked: int
    labelled: int
    silent: Mapping[str, int]
    remaining: int
    recovered: int
    tokens_in: int
    tokens_out: int
    redacted: int


def distil(
    store: LabelStore,
    story: Story,
    provider: LabelProvider,
    prompt: Prompt,
    *,
    classes: Sequence[str],
    answers: Spool,
    source: str = "llm",
    limit: int | None = None,
    actor: str = "labels",
) -> Distilled:
    """Label training examples that this model and prompt have not been asked about, newest first.

    Args:
        classes: the labels to choose from.
        answers: where answers become durable; drained into the table ``answers.<story>``.
        limit: most examples to ask about; None for all.

    Raises:
        InputError: for a prompt without a place for the labels, or a source outside the policy.
        GateRefused: when this prompt was rolled back. Conflict: when its name stood for another text.
        Unavailable: the model cannot be reached; answers so far are kept and have become labels.
    """
    prompt.written_for(classes)
    labeller = prompt_labeller(provider.model, prompt, classes, source=source)
    register(store, story, labeller, actor=actor)
    run = _Run(store, story, labeller, answers, actor)
    recovered = run.settle()
    questions, redacted = _questions(run.unasked(), limit)
    total: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    try:
        for question, answer in provider.answer(prompt, classes, questions):
            answers.append([_row(question, answer, labeller, store.clock.now())])
            total.update(asked=1, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)
            silent.update([answer.silence] if answer.silence else [])
    finally:
        run.settle()
    return Distilled(
        labeller=labeller.version,
        asked=total["asked"],
        labelled=total["asked"] - silent.total(),
        silent=dict(silent),
        remaining=run.unasked().height,
        recovered=recovered,
        tokens_in=total["tokens_in"],
        tokens_out=total["tokens_out"],
        redacted=redacted,
    )


def prompt_labeller(model: str, prompt: Prompt, classes: Sequence[str], *, source: str = "llm") -> Labeller:
    """The labeller that a model with this prompt is."""
    body = {
        "model": model,
        "prompt": prompt.name,
        "prompt_digest": prompt.digest,
        "text": prompt.text,
        "classes": list(classes),
    }
    return Labeller(source, f"{model}/{prompt.name}", body)


def _questions(examples: pl.DataFrame, limit: int | None) -> tuple[list[Question], int]:
    """The next questions without personal data, and how many texts had some."""
    rows = examples.head(limit) if limit is not None else examples
    found, redacted = [], 0
    for identity, text, language in rows.select("example_id", "text", "language").iter_rows():
        clean = redact(text)
        redacted += bool(clean.findings)
        found.append(Question(identity, clean.text, language))
    return found, redacted


def _row(question: Question, answer: Answer, labeller: Labeller, at: datetime) -> dict[str, Any]:
    return {
        "example_id": question.example_id,
        "labeller": labeller.version,
        "label": answer.label,
        "confidence": answer.confidence,
        "silence": answer.silence,
        "said": answer.said,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "at": isoformat(at),
    }


@dataclass(frozen=True, slots=True)
class _Run:
    """The state of one labeller's work, all of it on disk."""

    store: LabelStore
    story: Story
    labeller: Labeller
    answers: Spool
    actor: str

    def settle(self) -> int:
        """Move answers into the table and make labels of what is new there; how many were moved."""
        moved = self.answers.drain(self.store.tables, self._table, _SCHEMA)
        answered, before = self._answered(), self._settled()
        if answered.height == before["answers"]:
            return moved
        # Older answers are left alone: another prompt may have labelled those examples since.
        until, last = parse_instant(before["until"], field="until"), pl.col("at").max()
        done = (pl.col("at") == until) & pl.col("example_id").is_in(before["last"])
        fresh = answered.filter((pl.col("at") >= until) & ~done)
        statements = self._statements(fresh)
        state(self.store, self.story, self.labeller, statements, set(fresh["example_id"]), actor=self.actor)
        body = {
            "labeller": self.labeller.version,
            "answers": answered.height,
            "until": isoformat(max(answered["at"].to_list())),
            "last": sorted(answered.filter(pl.col("at") == last)["example_id"]),
            "labelled": fresh["label"].count(),
            "silent": dict(fresh["silence"].drop_nulls().value_counts(sort=True).rows()),
            "tokens_in": fresh["tokens_in"].sum(),
            "tokens_out": fresh["tokens_out"].sum(),
        }
        self.store.ledger.append(
            kind=_SETTLED,
            subject=subject(self.story),
            body=body,
            actor=self.actor,
            at=self.store.clock.now(),
        )
        return moved

    def _settled(self) -> Mapping[str, Any]:
        """What the ledger says was made into labels last."""
        entries = self.store.ledger.entries(subject=subject(self.story), kind=_SETTLED)
        own = [entry.body for entry in entries if entry.body["labeller"] == self.labeller.version]
        return own[-1] if own else {"answers": 0, "until": "0001-01-01T00:00:00Z", "last": []}

    def _statements(self, answered: pl.DataFrame) -> list[Label]:
        captured = self._examples().select("example_id", "captured_at")
        rows = answered.drop_nulls("label").join(captured, on="example_id")
        return [
            Label(
                example_id=row["example_id"],
                label=row["label"],
                source=self.labeller.source,
                captured_at=row["captured_at"],
                labeled_at=max(row["at"], row["captured_at"]),
                confidence=row["confidence"],
                annotator_id=self.labeller.version,
                role="train",
                metadata={"prompt": self.labeller.body["prompt"]},
            )
            for row in rows.iter_rows(named=True)
        ]

    def unasked(self) -> pl.DataFrame:
        """Training examples this labeller has not answered, newest first."""
        left = self._examples().join(self._answered(), on="example_id", how="anti")
        return left.sort("captured_at", "example_id", descending=[True, False])

    @property
    def _table(self) -> str:
        return f"answers.{self.story.name}"

    def _examples(self) -> pl.DataFrame:
        return current_examples(self.store.examples(self.story)).filter(pl.col("role") == "train")

    def _answered(self) -> pl.DataFrame:
        if not self.store.tables.exists(self._table):
            return pl.DataFrame(schema={"example_id": pl.String})
        found = self.store.tables.read(self._table).filter(pl.col("labeller") == self.labeller.version)
        return found.unique("example_id", keep="first", maintain_order=True)
