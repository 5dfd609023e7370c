"""The reference a version is watched against: frozen bins, counts, thresholds; one artifact file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl

from mangaassist.core.clock import isoformat, parse_instant, utc
from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.identity import canonical_json
from mangaassist.core.story import DriftPolicy, Story
from mangaassist.drift import sketch as sketches
from mangaassist.drift.centroid import fit_centroid
from mangaassist.drift.derived import Derived, Made, add_derived, of_embeddings, of_texts
from mangaassist.drift.estimate import bin_means
from mangaassist.drift.profile import (
    ConfusionSketch,
    Profile,
    confusion_cells,
    confusion_from_cells,
    confusions,
    profile_as_dict,
    profile_from_dict,
    require_columns,
)
from mangaassist.drift.sketch import SCORE_BINS, CategoricalSketch, Sketch

REFERENCE_FILE = "drift_reference.json"
INPUT_COLUMNS = ("text_length", "japanese_share", "unknown_share", "language", "device", "cohort")
COHORT = "language"
"""Traffic is counted apart by this column (EN, JP, mixed), so that one language's trouble can be told."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a version's traffic should look like, with the thresholds pinned to it (DRF-2).

    Attributes:
        story: the story's name.
        fitted_at: when the bins were frozen.
        policy: thresholds that hold for as long as the version does.
        profile: the reference counts, which also carry the bins.
        derived: columns made from texts and embeddings before they are counted.
        confidences: mean confidence per bin, for the estimate without labels.
        cohorts: true against predicted label of the reference per language, for slice regressions.
    """

    story: str
    fitted_at: datetime
    policy: DriftPolicy
    profile: Profile
    derived: tuple[Derived, ...] = ()
    confidences: tuple[float, ...] = ()
    cohorts: Mapping[str, ConfusionSketch] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The artifact file :data:`REFERENCE_FILE`."""
        return canonical_json(
            {
                "format": 1,
                "story": self.story,
                "fitted_at": isoformat(self.fitted_at),
                "policy": _plain_policy(self.policy),
                "profile": profile_as_dict(self.profile),
                "derived": [[one.source, str(one.how)] for one in self.derived],
                "confidences": list(self.confidences),
                "cohorts": {name: confusion_cells(one) for name, one in self.cohorts.items()},
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """The inverse of :meth:`to_bytes`.

        Raises:
            IntegrityError: when the bytes are not a reference this release can read.
        """
        try:
            body = orjson.loads(data)
            if body["format"] != 1:
                raise ValueError(f"format {body['format']}")
            profile = profile_from_dict(body["profile"])
            return cls(
                body["story"],
                parse_instant(body["fitted_at"], field="fitted_at"),
                _policy(body["policy"]),
                profile,
                # References of the first release have none of these.
                tuple(Derived(source, Made(how)) for source, how in body.get("derived", ())),
                tuple(body.get("confidences", ())),
                {
                    name: confusion_from_cells(profile.truth.values, cells)
                    for name, cells in body.get("cohorts", {}).items()
                },
            )
        except (ValueError, KeyError, TypeError, InputError) as error:
            raise IntegrityError(
                REFERENCE_FILE,
                expected="a drift reference of format 1",
                got=f"{type(error).__name__}: {error}",
                next_step="Register the version again; its artifact is damaged or of a newer release.",
            ) from error


def fit_reference(
    story: Story,
    frame: pl.DataFrame,
    *,
    at: datetime,
    inputs: Sequence[str] | None = None,
    texts: Sequence[str] = (),
    embeddings: Sequence[str] = (),
) -> Reference:
    """Freeze the bins of a version on rows it answered.

    Args:
        story: its name and drift policy are pinned.
        frame: one row per prediction with the input columns, ``label`` (predicted), ``confidence`` and
            ``truth`` (true label, null where unknown). Numbers are counted by bin, all else by value.
        at: now.
        inputs: the input columns; by default those of :data:`INPUT_COLUMNS` and of the story's features that
            the frame has.
        texts: further input columns of text, watched by length and script.
        embeddings: further input columns of vectors, watched by norm and centroid.

    Raises:
        InputError: for a missing column or an empty frame.
    """
    if inputs is None:
        inputs = [name for name in (*INPUT_COLUMNS, *story.features) if name in frame.columns]
    require_columns(frame, (*inputs, *texts, *embeddings, "label", "confidence", "truth"))
    if frame.is_empty():
        raise InputError(
            "reference", expected="at least one row", got="none", next_step="Pass rows the version answered."
        )
    derived = (*of_texts(texts), *of_embeddings(embeddings))
    frame = add_derived(frame, derived)
    known = frame.filter(pl.col("truth").is_not_null())
    labels = tuple(sorted({*frame["label"].drop_nulls().to_list(), *known["truth"].to_list()}))
    every_label = CategoricalSketch(labels, (0,) * (len(labels) + 1))
    confidence = sketches.fit_numeric(frame["confidence"], bins=SCORE_BINS)
    made = {
        one.name: fit_centroid(frame[one.name]) if one.how is Made.CENTROID else _fit(frame[one.name])
        for one in derived
    }
    profile = Profile(
        # By name, as the artifact's canonical JSON has them: stored counts are read back in this order.
        inputs=dict(sorted({**{name: _fit(frame[name]) for name in inputs}, **made}.items())),
        confidence=confidence,
        label=sketches.count(every_label, frame["label"]),
        truth=sketches.count(every_label, known["truth"]),
        confusion=confusions(labels, known, np.zeros(known.height, dtype=np.int64), 1)[0],
    )
    return Reference(
        story.name,
        utc(at, field="at"),
        story.drift,
        profile,
        derived,
        bin_means(confidence, frame["confidence"]),
        _cohorts(labels, known),
    )


def _cohorts(labels: tuple[str, ...], known: pl.DataFrame) -> dict[str, ConfusionSketch]:
    if COHORT not in known.columns:
        return {}
    names = sorted(known[COHORT].drop_nulls().unique().to_list())
    index = known[COHORT].replace_strict(dict(zip(names, range(len(names)), strict=True)), default=len(names))
    codes = index.to_numpy().astype(np.int64) if names else np.zeros(known.height, dtype=np.int64)
    return dict(zip(names, confusions(labels, known, codes, len(names) + 1)[:-1], strict=True))


def _fit(values: pl.Series) -> Sketch:
    if values.dtype.is_numeric():
        return sketches.fit_numeric(values)
    return sketches.fit_categorical(values)


def _plain_policy(policy: DriftPolicy) -> dict[str, float]:
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(policy).items()
    }


def _policy(body: Mapping[str, float]) -> DriftPolicy:
    values: dict[str, Any] = {
        name: timedelta(seconds=value) if name.endswith("_sustained") else float(value)
        for name, value in body.items()
    }
    return DriftPolicy(**values)
