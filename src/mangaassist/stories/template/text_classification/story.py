"""story_name: what this model is for, as one readable value, and the two functions only it needs.

Everything else, from splitting to rollback, belongs to the platform and reads the specification below.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mangaassist.core.story import LabelPolicy, Story, Threshold, Window

if TYPE_CHECKING:
    import polars as pl

    from mangaassist.core.story import Model

STORY = Story(
    name="story_name",
    kind="text-classification",
    predicts="The label of a text.",
    # Label sources, the most trusted first; "*" accepts any other name. Production needs at least two.
    labels=LabelPolicy(sources=("vendor", "programmatic", "llm", "implicit", "*")),
    # Values known when a text was written, as features.yaml beside this file describes them.
    features=(),
    # "cumulative" learns from all labels there are; Window("sliding", days=84) forgets old ones.
    window=Window("cumulative"),
    # What a candidate must reach offline: an absolute minimum, and how far it may fall behind the champion.
    # How good is good enough is yours to say: raise the minimum once you know your data.
    thresholds=(
        Threshold("golden.accuracy", minimum=0.60, regression=0.01),
        Threshold("adversarial.accuracy", regression=0.03, blocking=False),
    ),
    # Columns whose values are evaluated apart from each other.
    slices=("language",),
    # Labels whose recall may never get worse, for example ("refund", "emergency").
    safety_critical=(),
    # Rows with this label teach the model to abstain instead of being an answer.
    out_of_scope_label="out_of_scope",
    cadence=timedelta(days=7),
    # The region the training data may not leave.
    residency="us",
)


def load(examples: pl.DataFrame) -> pl.DataFrame:
    """The training frame: derive columns named in ``slices`` here, and drop what must not be learnt.

    Args:
        examples: one row per labelled example with text, label, language, group_id, captured_at, attributes
            (JSON text) and more.
    """
    return examples.drop("attributes")


def fit(examples: pl.DataFrame, *, seed: int) -> Model:
    """Train on all rows of ``examples``."""
    from mangaassist.training.text.classifier import fit_examples

    return fit_examples(examples, seed=seed, out_of_scope_label=STORY.out_of_scope_label)
