"""Step 1, data validation: can a model be trained and judged on these rows?"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mangaassist.core.language import Language
from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.records import EXAMPLE_COLUMNS, ROLES

THIN_CLASS = 5
"""Fewer training examples than this cannot give every one of five folds one to test on."""
PER_CLASS = 10
"""Training rows per class below which intervals are too wide to tell models apart."""

_TYPES: Mapping[str, pl.DataType] = {
    "votes": pl.Int64(),
    "agreement": pl.Float64(),
    "captured_at": pl.Datetime("us", "UTC"),
    "holdout_eligible": pl.Boolean(),
}


def validate(story: Story, rows: pl.DataFrame, *, previous_train: int | None = None) -> list[Verdict]:
    """The verdicts of data validation on the rows of one label version.

    Args:
        rows: columns EXAMPLE_COLUMNS.
        previous_train: training rows of the version before; None for none.
    """
    schema = schema_verdict(rows)
    if not schema.passed:
        return [schema]
    return [schema, classes_verdict(rows), golden_verdict(story, rows), volume_verdict(rows, previous_train)]


def schema_verdict(rows: pl.DataFrame) -> Verdict:
    """Columns, types, no empty cells, known roles and languages, each example once per role."""
    problem = _schema_problem(rows)
    return Verdict(
        "labels.schema",
        Status.FAIL if problem else Status.PASS,
        problem or f"All {len(EXAMPLE_COLUMNS)} columns hold what they should.",
        n=rows.height,
    )


def _schema_problem(rows: pl.DataFrame) -> str:
    missing = [name for name in EXAMPLE_COLUMNS if name not in rows.columns]
    if missing:
        return f"Column '{missing[0]}' is missing."
    for name in EXAMPLE_COLUMNS:
        expected = _TYPES.get(name, pl.String())
        if rows[name].dtype != expected:
            return f"Column '{name}' is {rows[name].dtype} and should be {expected}."
        if rows[name].null_count():
            return f"Column '{name}' is empty in {rows[name].null_count()} rows."
    for name, known in (("role", ROLES), ("language", tuple(map(str, Language)))):
        unknown = rows.filter(~pl.col(name).is_in(list(known)))
        if unknown.height:
            return f"Column '{name}' holds '{unknown[name][0]}', which is none of {', '.join(known)}."
    repeated = rows.height - rows.n_unique(["example_id", "role"])
    return f"{repeated} rows repeat an example within its role." if repeated else ""


def classes_verdict(rows: pl.DataFrame) -> Verdict:
    """Two classes or more to train on; thin ones are named, because their numbers will mean little."""
    sizes = _class_sizes(rows, "train")
    thin = [name for name, size in sizes.items() if size < THIN_CLASS]
    if len(sizes) < 2:
        only = f"only '{next(iter(sizes))}'" if sizes else "none"
        status = Status.FAIL
        sentence = f"A classifier needs at least two classes and there is {only}: import more labels."
    elif thin:
        status = Status.INSUFFICIENT
        sentence = _thin_sentence(sizes, thin)
    else:
        status = Status.PASS
        smallest = min(sizes, key=lambda name: sizes[name])
        sentence = f"{len(sizes)} classes; the smallest, '{smallest}', has {sizes[smallest]} examples."
    return Verdict(
        "labels.classes",
        status,
        sentence,
        value=float(len(sizes)),
        threshold=2.0,
        n=sum(sizes.values()),
        blocking=status is not Status.INSUFFICIENT,
    )


def _thin_sentence(sizes: Mapping[str, int], thin: list[str]) -> str:
    shown = ", ".join(f"'{name}' ({sizes[name]})" for name in thin[:8]) + (", ..." if len(thin) > 8 else "")
    single = [name for name in thin if sizes[name] == 1]
    cannot = (
        f" {len(single)} of them with one example can be trained on but not evaluated without a golden set."
        if single
        else ""
    )
    return f"{len(thin)} of {len(sizes)} classes have fewer than {THIN_CLASS} examples: {shown}.{cannot}"


def golden_verdict(story: Story, rows: pl.DataFrame) -> Verdict:
    """Golden classes were trained on, except the one that means "none of these"."""
    golden, train = _class_sizes(rows, "golden"), _class_sizes(rows, "train")
    unknown = [name for name in golden if name not in train and name != story.out_of_scope_label]
    total = sum(golden.values())
    if not golden:
        status, sentence = (
            Status.INSUFFICIENT,
            "There is no golden set: the latest conversations are held out to judge by.",
        )
    elif unknown:
        status = Status.INSUFFICIENT
        lost = sum(golden[name] for name in unknown)
        shown = ", ".join(f"'{name}'" for name in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        sentence = f"{lost} of {total} golden examples are of classes without training examples: {shown}."
    else:
        status, sentence = Status.PASS, f"All {len(golden)} golden classes have training examples."
    return Verdict("labels.golden", status, sentence, n=total, blocking=status is Status.PASS)


def volume_verdict(rows: pl.DataFrame, previous_train: int | None) -> Verdict:
    """Rows to train on, against what the classes need and what the last version had."""
    sizes = _class_sizes(rows, "train")
    n, needed = sum(sizes.values()), PER_CLASS * max(2, len(sizes))
    if n == 0:
        status, sentence = Status.FAIL, "There is no training example."
    elif previous_train and 2 * n < previous_train:
        status = Status.INSUFFICIENT
        sentence = f"Training rows fell from {previous_train} to {n}; check whether a delivery is missing."
    elif n < needed:
        status = Status.INSUFFICIENT
        sentence = f"{n} training rows for {len(sizes)} classes; {needed} or more would tell models apart."
    else:
        status, sentence = Status.PASS, f"{n} training rows for {len(sizes)} classes."
    return Verdict(
        "labels.volume",
        status,
        sentence,
        value=float(n),
        threshold=float(needed),
        n=n,
        blocking=status is not Status.INSUFFICIENT,
    )


def _class_sizes(rows: pl.DataFrame, role: str) -> dict[str, int]:
    """Examples per class of one role, classes in alphabetical order."""
    return dict(rows.filter(pl.col("role") == role).group_by("label").len().sort("label").rows())
