"""The Story contract: what one model is for, as a frozen value, and the few functions only it needs.

Everything else, from splitting to rollback, reads this value and belongs to the platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mangaassist.core.identity import digest

if TYPE_CHECKING:
    import polars as pl


Combination = Literal["priority", "majority", "model"]


@dataclass(frozen=True, slots=True)
class Window:
    """Which labels a retrain reads (RET-1): the last ``days`` (sliding) or everything (cumulative)."""

    kind: Literal["sliding", "cumulative"]
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number a candidate must meet offline.

    Attributes:
        metric: dotted name of the metric ("golden.accuracy").
        minimum: absolute floor for the lower confidence bound's point value; None for none.
        regression: how far below the champion it may be, in the metric's unit; None for no comparison.
        blocking: False for a flag that informs without refusing.
    """

    metric: str
    minimum: float | None = None
    regression: float | None = None
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class ImplicitPolicy:
    """What a shopper's acts say about an item shown for a query, and how much of it is needed.

    A purchase that stayed, a cart, or a click with a long enough look speak for the item; a return or a
    quick way back speak against it, and so, weakly, does being seen and left alone. Every act counts for
    1 / examination of its position (LAB-8).

    Attributes:
        relevant, irrelevant: the two labels.
        satisfied: a click followed by a look this long or longer speaks for the item (30 s: Fox et al. 2005,
            ACM TOIS 23).
        quick_back: a shorter one than this speaks against it; in between it says nothing.
        purchase, cart, click, returned, quick, left: the weight of each kind of act.
        maturity: how long after the list was shown its acts are waited for.
        window: how far back lists are read.
        floor: smallest examination divided by; a position below it counts for 1 / floor.
        least_requests: informative requests an examination estimate needs, per surface and device.
        widest: largest half-width of its interval, relative to the estimate.
        least_effective: effective number of clicks behind a surface's and device's labels.
        least_shown: times a pair was shown before it may have a label.
        least_confidence: share of the weight the label must have.
    """

    relevant: str = "relevant"
    irrelevant: str = "irrelevant"
    satisfied: timedelta = timedelta(seconds=30)
    quick_back: timedelta = timedelta(seconds=5)
    purchase: float = 3.0
    cart: float = 2.0
    click: float = 1.0
    returned: float = 3.0
    quick: float = 1.0
    left: float = 0.2
    maturity: timedelta = timedelta(days=14)
    window: timedelta = timedelta(days=90)
    floor: float = 0.05
    least_requests: int = 300
    widest: float = 0.5
    least_effective: float = 50.0
    least_shown: int = 10
    least_confidence: float = 0.6


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """Where labels come from and how good they must be.

    Attributes:
        sources: accepted label sources, highest priority first; "*" accepts any other. Production needs
            labels from at least two (LAB-3).
        maturity: how long after capture a label counts as final.
        golden_refresh: how old the newest golden row may be before the set is stale (EVA-1: quarterly).
        agreement_floor: kappa below which a lot is rejected, per language pool (LAB-4, LAB-7).
        holdout_floor: kappa below which an accepted lot stays out of hold-outs.
        precision_floor: lower confidence bound on programmatic and LLM precision (LAB-6).
        implicit: how labels are made of what shoppers do, for a story that accepts "implicit".
        combination: how sources become one label: "priority" (the first source that voted),
            "majority" (one vote for each source) or "model" (Dawid-Skene over everybody who voted).
        classes: the labels there are; empty accepts any.
    """

    sources: tuple[str, ...] = ("vendor", "programmatic", "llm")
    maturity: timedelta = timedelta(0)
    golden_refresh: timedelta = timedelta(days=92)
    agreement_floor: float = 0.65
    holdout_floor: float = 0.75
    precision_floor: float = 0.90
    implicit: ImplicitPolicy = ImplicitPolicy()
    combination: Combination = "priority"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryStage:
    """One step of a rollout: ``share`` of users for ``lasts``, with ``minimum_n`` canary requests or more."""

    name: str
    share: float
    lasts: timedelta
    minimum_n: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers shadow and canary are judged by; the first block is the source's.

    Attributes:
        safety_sigmas, safety_for: a safety metric this many standard errors below hold-out for longer than.
        safety_window: the trailing window of that metric; half its time, so that one unlucky stretch cannot
            fill it (with windows of the whole hour an equal canary is aborted on 1.3% of days, measured).
        error_ratio, error_for: error rate above this multiple of the hold-out's for longer than.
        latency_ratio, latency_for: p99 above this multiple of the hold-out's for longer than.
        exception_share: share of canary requests an exception type unseen in the hold-out may reach.
        certainty_z: standard errors by which a window's error rate or p99 must also differ from the
            hold-out's; twice a rate of 1% is one unlucky request in a window of fifty.
        minimum_window: requests of each arm a window needs before a rule about rates applies to it.
        minimum_latency: requests of each arm a window needs before its p99 means anything.
        minimum_exceptions: how often a new exception type must have been seen.
        latency_floor_ms: a p99 that is slower by less than this is not slower to anybody.
        harm_alpha: chance, over the whole rollout and all metrics and languages, of calling an equal
            challenger harmful.
        non_inferiority_alpha: chance of calling a challenger worse by the margin not inferior.
        minimum_cohort: canary requests a language needs before a verdict about it.
        silence: how long an arm may be silent while traffic exists before its evidence is stale.
        outcome_silence: how long no outcome may become known before the evidence is stale.
        disagreement, cohort_disagreement: share of different answers in shadow, overall and in a language,
            above which a person has to review them.
        disagreement_limit: share above which shadow fails without a review.
        error_limit, latency_p95_ms, resolved_floor: absolute limits where there is no champion to compare
            with.
    """

    safety_sigmas: float = 2.0
    safety_for: timedelta = timedelta(hours=1)
    error_ratio: float = 2.0
    error_for: timedelta = timedelta(minutes=5)
    latency_ratio: float = 1.5
    latency_for: timedelta = timedelta(minutes=15)
    exception_share: float = 0.001

    safety_window: timedelta = timedelta(minutes=30)
    certainty_z: float = 3.0
    minimum_window: int = 20
    minimum_latency: int = 100
    minimum_exceptions: int = 2
    latency_floor_ms: float = 1.0
    harm_alpha: float = 0.01
    non_inferiority_alpha: float = 0.05
    minimum_cohort: int = 30
    silence: timedelta = timedelta(minutes=30)
    outcome_silence: timedelta = timedelta(hours=24)
    disagreement: float = 0.10
    cohort_disagreement: float = 0.15
    disagreement_limit: float = 0.50
    error_limit: float = 0.01
    latency_p95_ms: float = 15.0
    resolved_floor: float = 0.50


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """Shadow and canary (PRO-2, PRO-3) with the numbers of the source as defaults.

    Attributes:
        shadow: how long the challenger answers beside the champion unseen.
        shadow_minimum_n: requests a shadow needs before it can pass.
        stages: the canary plan.
        latency_ratio: shadow fails when its p99 exceeds this multiple of the champion's.
        hold: how long past its planned end a stage may stay undecided before it rolls back.
        margin: the largest tolerated loss of the online metric, absolute.
        rollback_within: the acceptance criterion of PRO-4.
        extended: the stage a canary has in addition when the offline gate is not trusted (EVA-3).
        always_extended: whether it has it every time: offline metrics say little about this story.
        rules: the numbers the stages are judged by.
    """

    shadow: timedelta = timedelta(hours=24)
    shadow_minimum_n: int = 500
    stages: tuple[CanaryStage, ...] = (
        CanaryStage("canary_1", 0.01, timedelta(days=7), 30),
        CanaryStage("canary_5", 0.05, timedelta(days=3), 100),
        CanaryStage("canary_25", 0.25, timedelta(days=7), 500),
    )
    latency_ratio: float = 1.30
    hold: timedelta = timedelta(days=3)
    margin: float = 0.05
    rollback_within: timedelta = timedelta(seconds=60)
    extended: CanaryStage = CanaryStage("canary_10", 0.10, timedelta(days=14), 200)
    always_extended: bool = False
    rules: Rules = Rules()


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """Thresholds pinned with each version (DRF-1, DRF-2)."""

    input_psi: float = 0.2
    input_sustained: timedelta = timedelta(hours=24)
    label_p: float = 0.01
    label_sustained: timedelta = timedelta(days=7)
    prediction_ks: float = 0.15
    prediction_sustained: timedelta = timedelta(hours=24)
    concept_f1: float = 0.03
    concept_sustained: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a story may cost (GOV-6), in the currency of the settings' price.

    Attributes:
        run: one retrain, its steps up to the bias audit.
        per_thousand: a thousand predictions.
    """

    run: float
    per_thousand: float


Enforcement = Literal["block", "flag", "off"]


@dataclass(frozen=True, slots=True)
class Enforced:
    """What a finding may do: decide ("block"), inform ("flag") or not be there ("off").

    Attributes:
        verdict: name of the verdict; "*" stands for any text ("bias.*").
    """

    verdict: str
    mode: Enforcement


@dataclass(frozen=True, slots=True)
class Story:
    """One production model, specified.

    Attributes:
        name: identifier, lower case with underscores; also its feature namespace.
        kind: which family of model ("text-classification").
        predicts: one sentence for people.
        labels, rollout, drift: the policies above.
        features: names in the feature catalog read point in time for every example; may be empty.
        window: which labels a retrain reads.
        thresholds: the offline gate.
        enforced: which verdicts block, flag or are off where that differs from what they say of themselves;
            the last that fits counts.
        slices: columns whose values (and crosses) are evaluated apart.
        safety_critical: labels whose recall may never regress.
        out_of_scope_label: label meaning "none of these"; such rows tune and measure abstention.
        cadence: time between scheduled retrains.
        residency: region the training data may not leave.
        budget: what it may cost; None measures without judging.
    """

    name: str
    kind: str
    predicts: str
    labels: LabelPolicy = LabelPolicy()
    rollout: RolloutPolicy = RolloutPolicy()
    drift: DriftPolicy = DriftPolicy()
    features: tuple[str, ...] = ()
    window: Window = Window("cumulative")
    thresholds: tuple[Threshold, ...] = ()
    enforced: tuple[Enforced, ...] = ()
    slices: tuple[str, ...] = ("language",)
    safety_critical: tuple[str, ...] = ()
    out_of_scope_label: str | None = None
    cadence: timedelta = timedelta(days=7)
    residency: str = "us"
    budget: Budget | None = None

    def as_dict(self) -> dict[str, Any]:
        """The specification as JSON; durations in seconds."""
        body: dict[str, Any] = _plain(asdict(self))
        return body

    @property
    def digest(self) -> str:
        """Identity of the specification: the policy version written into every decision."""
        return digest(self.as_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of a model.

    Attributes:
        label: the most probable label, whether or not the model abstains.
        confidence: its calibrated probability.
        abstains: True when the input looks out of scope and ``label`` should not be acted on.
        probabilities: the most probable labels with their probabilities, best first.
    """

    label: str
    confidence: float
    abstains: bool
    probabilities: tuple[tuple[str, float], ...]


class Model(Protocol):
    """A fitted model as the platform sees it, whatever it is made of."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it can answer with, in a fixed order."""

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One answer per text; the batch and the single call are the same code."""

    def files(self) -> Mapping[str, bytes]:
        """The model as artifact files, ``manifest.json`` naming the format that loads them."""


class StoryModule(Protocol):
    """What a story's folder exports.

    ``examples`` frames have the columns of ``mangaassist.labels.EXAMPLE_COLUMNS`` plus one column per
    feature of the story.
    """

    STORY: Story

    def load(self, examples: pl.DataFrame) -> pl.DataFrame:
        """The training frame from labelled examples: derive slice columns, drop what must not be learnt."""

    def fit(self, examples: pl.DataFrame, *, seed: int) -> Model:
        """Train on all rows of ``examples``."""
