"""What an evaluation found, as frozen values that go to JSON and come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from mangaassist.evaluation.answers import Answers
from mangaassist.stats.intervals import Estimate


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best a metric can be, because labels are themselves sometimes wrong.

    Attributes:
        method: how it was found, for the reader ("annotator agreement", "out-of-fold estimate").
    """

    value: float
    low: float
    high: float
    method: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured number between what is trivial and what is possible.

    Attributes:
        value, low, high: the number and its 95% interval; None where an interval makes no sense.
        n: rows behind it.
        floor: the best of ``floors``; None where there is none.
        floors: the same metric of each floor model on the same rows.
        ceiling, ceiling_method: the label-noise ceiling and where it comes from.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    floors: Mapping[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    ceiling_method: str = ""

    @property
    def floor(self) -> float | None:
        return max(self.floors.values(), default=None)

    @classmethod
    def of(
        cls, estimate: Estimate, *, floors: Mapping[str, float] | None = None, ceiling: Ceiling | None = None
    ) -> Self:
        """The metric of an estimate; an estimated ceiling below the measured value is kept and says so."""
        method = ceiling.method if ceiling else ""
        if ceiling and ceiling.value < estimate.value:
            method += "; the measured value lies above it, so it is too low here"
        return cls(
            estimate.value,
            estimate.low,
            estimate.high,
            estimate.n,
            dict(floors or {}),
            ceiling.value if ceiling else None,
            method,
        )

    def as_dict(self) -> dict[str, Any]:
        """The metric as a JSON object, ``floor`` included."""
        return {**asdict(self), "floor": self.floor}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        return cls(**{one.name: body[one.name] for one in fields(cls)})


@dataclass(frozen=True, slots=True)
class Confused:
    """How often rows of one label were answered with another."""

    actual: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix of the in-scope rows.

    Attributes:
        labels: row and column names.
        counts: shape (k, k) as nested tuples; rows are true labels, columns answers.
        most_confused: pairs of different labels, most frequent first; ``share`` is of the true label's rows.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    most_confused: tuple[Confused, ...]

    def as_dict(self) -> dict[str, Any]:
        """The matrix as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Slice:
    """The accuracy of one part of the rows.

    Attributes:
        name: "language=ja" or, for a cross, "language=ja & device=ios".
        n, correct: rows and right answers.
        value, low, high: accuracy and its 95% interval.
        answered: share of the rows that got an answer.
        gap: accuracy less that of all other rows; None where there are no others.
        p: one-sided probability of so low an accuracy if the slice were like the rest, Holm-adjusted over
            all slices large enough; None where it was not tested.
        insufficient: True below the minimum number of rows; reported, but not tested.
        flagged: True when ``p`` is below 5%.
    """

    name: str
    n: int
    correct: int
    value: float
    low: float
    high: float
    answered: float
    gap: float | None
    p: float | None
    insufficient: bool
    flagged: bool


@dataclass(frozen=True, slots=True)
class SliceMatrix:
    """Every slice that has rows, and the dimensions that could not be cut because the data lacks them."""

    slices: tuple[Slice, ...]
    minimum: int
    absent_dimensions: tuple[str, ...] = ()

    def get(self, name: str) -> Slice | None:
        """The slice ``name``; None when it has no rows."""
        return next((one for one in self.slices if one.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """The matrix as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        slices = tuple(Slice(**one) for one in body["slices"])
        return cls(slices, body["minimum"], tuple(body["absent_dimensions"]))


@dataclass(frozen=True, slots=True)
class Attack:
    """Accuracy on the same rows before and after one kind of change.

    Attributes:
        n: rows the attack applies to (kana attacks skip English).
        clean: accuracy on those rows as they were.
        value, low, high: accuracy on them after the change.
        example: one text before and after.
    """

    name: str
    n: int
    clean: float
    value: float
    low: float
    high: float
    example: tuple[str, str]

    @property
    def drop(self) -> float:
        return self.clean - self.value


@dataclass(frozen=True, slots=True)
class Adversarial:
    """How the model stands up to hostile spelling.

    Attributes:
        accuracy: over all attacked texts together; its ``floors`` hold nothing.
        clean: accuracy on the same rows unchanged, weighted alike.
        attacks: one entry per kind of change.
        curated: accuracy on the story's own adversarial set; None where it has none.
    """

    accuracy: Metric
    clean: float
    attacks: tuple[Attack, ...]
    curated: Metric | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "accuracy": self.accuracy.as_dict(),
            "clean": self.clean,
            "attacks": [{**asdict(one), "drop": one.drop} for one in self.attacks],
            "curated": self.curated.as_dict() if self.curated else None,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        names = [one.name for one in fields(Attack)]
        attacks = tuple(
            Attack(**{**{name: one[name] for name in names}, "example": tuple(one["example"])})
            for one in body["attacks"]
        )
        curated = Metric.from_dict(body["curated"]) if body["curated"] else None
        return cls(Metric.from_dict(body["accuracy"]), body["clean"], attacks, curated)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of single predictions, in process.

    Attributes:
        cpu_ms: mean processor time of one, the basis of its cost (GOV-6).
        p95_low, p95_high: 95% interval of the 95th percentile.
    """

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p95_low: float
    p95_high: float
    cpu_ms: float

    def as_dict(self) -> dict[str, Any]:
        """The measurement as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference between two groups of rows: the first's rate less the second's.

    Attributes:
        measure: "accuracy" or "coverage".
        low, high: 95% interval of the difference.
        p: two-sided probability of so large a difference by chance, Holm-adjusted over the audit.
    """

    dimension: str
    measure: str
    first: str
    second: str
    value: float
    low: float
    high: float
    n_first: int
    n_second: int
    p: float


@dataclass(frozen=True, slots=True)
class BiasAudit:
    """Every pairwise gap between languages and between cohorts."""

    gaps: tuple[Gap, ...]

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        return cls(tuple(Gap(**one) for one in body["gaps"]))


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """One model on one set of rows.

    Attributes:
        story: its story.
        on: what the rows are: "golden" or "test".
        metrics: accuracy, macro_f1, coverage, accuracy_when_answering, calibration_error, log_loss and,
            with out-of-scope rows, out_of_scope_recall.
        recalls: recall of each label that has rows, before abstention.
        languages: accuracy by traffic language.
        answers: the answer to every row.
    """

    story: str
    on: str
    metrics: Mapping[str, Metric]
    recalls: Mapping[str, Metric]
    languages: Mapping[str, Metric]
    answers: Answers
    slices: SliceMatrix | None = None
    adversarial: Adversarial | None = None
    latency: Latency | None = None
    bias: BiasAudit | None = None

    @property
    def n(self) -> int:
        return len(self.answers.actual)

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        parts = {name: getattr(self, name) for name in _PARTS}
        return {
            "story": self.story,
            "on": self.on,
            "n": self.n,
            **{name: _dicts(getattr(self, name)) for name in _TABLES},
            "answers": self.answers.as_dict(),
            **{name: part.as_dict() if part else None for name, part in parts.items()},
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_dict`."""
        tables = {name: {key: Metric.from_dict(one) for key, one in body[name].items()} for name in _TABLES}
        return cls(
            story=body["story"],
            on=body["on"],
            answers=Answers.from_dict(body["answers"]),
            slices=SliceMatrix.from_dict(body["slices"]) if body["slices"] else None,
            adversarial=Adversarial.from_dict(body["adversarial"]) if body["adversarial"] else None,
            latency=Latency(**body["latency"]) if body["latency"] else None,
            bias=BiasAudit.from_dict(body["bias"]) if body["bias"] else None,
            **tables,
        )


_TABLES = ("metrics", "recalls", "languages")
_PARTS = ("slices", "adversarial", "latency", "bias")


def _dicts(table: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: metric.as_dict() for name, metric in table.items()}
