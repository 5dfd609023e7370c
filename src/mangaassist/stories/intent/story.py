"""STO-1, specified: the intent classifier that is retrained every week."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mangaassist.core.story import Budget, LabelPolicy, Story, Threshold, Window
from mangaassist.stories.intent.intents import INTENTS, OUT_OF_SCOPE, SAFETY_CRITICAL

if TYPE_CHECKING:
    import polars as pl

    from mangaassist.core.story import Model
    from mangaassist.labels.functions import RuleSet

STORY = Story(
    name="intent",
    kind="text-classification",
    predicts="What a shopper of the bilingual manga shop wants: one of 14 intents, or none of them.",
    labels=LabelPolicy(sources=("vendor", "programmatic", "llm"), classes=(*INTENTS, OUT_OF_SCOPE)),
    features=("orders_90d", "account_age_days", "returns_90d"),
    window=Window("sliding", days=84),
    thresholds=(
        Threshold("golden.accuracy", minimum=0.90, regression=0.002),
        Threshold("golden.macro_f1", minimum=0.88),
        Threshold("golden.coverage", minimum=0.85, blocking=False),
        Threshold("adversarial.accuracy", regression=0.02),
    ),
    slices=("language", "intent", "cohort", "device", "catalog_tier", "time_of_day"),
    safety_critical=SAFETY_CRITICAL,
    out_of_scope_label=OUT_OF_SCOPE,
    cadence=timedelta(days=7),
    residency="us",
    budget=Budget(run=0.05, per_thousand=0.001),
)


def load(examples: pl.DataFrame) -> pl.DataFrame:
    """The training frame: slice columns derived, raw attributes dropped.

    Args:
        examples: the columns of ``labels.records.EXAMPLE_COLUMNS`` and one per feature of the story.

    Returns:
        ``examples`` without ``attributes`` and with cohort, device, intent (the label, for slicing),
        catalog_tier and time_of_day. Whatever else the attributes hold, such as a simulation's notes, ends
        here.

    Raises:
        InputError: when a column is missing.
    """
    from mangaassist.labels.records import attribute, require_columns
    from mangaassist.stories.intent.cohorts import cohort, time_of_day

    needed = ("text", "label", "group_id", "captured_at", "attributes", *STORY.features)
    require_columns(examples, needed, what="examples")
    return examples.with_columns(
        cohort(),
        attribute("device").fill_null("unknown"),
        attribute("catalog_tier").replace("", None).fill_null("no_title"),
        time_of_day(),
        intent="label",
    ).drop("attributes")


def labelling() -> RuleSet:
    """The story's labelling functions; see :mod:`mangaassist.stories.intent.labelling`."""
    from mangaassist.stories.intent.labelling import RULES

    return RULES


def fit(examples: pl.DataFrame, *, seed: int) -> Model:
    """Train the default text classifier on all rows of ``examples``."""
    from mangaassist.training.text.classifier import fit_examples

    return fit_examples(examples, seed=seed, out_of_scope_label=STORY.out_of_scope_label)
