"""Labels that are probably wrong, by what a model that never saw them would have said."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from mangaassist.core.identity import canonical_json, digest, digest_bytes
from mangaassist.labels.intake import subject
from mangaassist.lifecycle.intake import select_now
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.confident import confident_joint
from mangaassist.stats.intervals import Estimate

MINIMUM = 50
"""Training examples below which out-of-fold probabilities mean nothing."""
_SUSPECTED = "labels.errors_suspected"
_KEPT = 200
_SEED = 0


@dataclass(frozen=True, slots=True)
class Suspect:
    """One label that is probably wrong.

    Attributes:
        example_id, text, language: which; given: what the consensus says; suggested: what the model says.
        margin: how much more probable the suggestion is, 0 to 1.
    """

    example_id: str
    text: str
    language: str
    given: str
    suggested: str
    margin: float


@dataclass(frozen=True, slots=True)
class Suspects:
    """Probable label errors of a story's training examples.

    Attributes:
        examples: how many were scored, each by a model of folds without its group and its text.
        noise: estimated share of wrong labels; None when nothing could be scored.
        found: the most certain first, at most 200.
        reason: one sentence when there is no estimate, else empty.
        fresh: whether the labels are still those that were scored.
    """

    examples: int
    noise: Estimate | None
    found: tuple[Suspect, ...]
    reason: str = ""
    fresh: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {
            "examples": self.examples,
            "noise": asdict(self.noise) if self.noise else None,
            "found": [asdict(one) for one in self.found],
            "reason": self.reason,
            "fresh": self.fresh,
        }


def suspects(platform: Platform, name: str, *, compute: bool) -> Suspects:
    """The probable errors of the labels as they are now; computed once for the same labels.

    Suspects somebody has edited or withdrawn since are left out.

    Args:
        compute: False takes the last computation, however old, and never trains anything.
    """
    rows = select_now(platform, name).rows.filter(pl.col("role") == "train").sort("example_id")
    content = digest(
        digest_bytes(rows.select("example_id", "text", "label", "group_id").write_ndjson().encode())
    )
    earlier = platform.ledger.entries(subject=subject(platform.story(name)), kind=_SUSPECTED)
    last = earlier[-1].body if earlier else None
    if last is not None and (last["content"] == content or not compute):
        stored = orjson.loads(platform.artifacts.get(last["artifact"]))
        return _standing(stored, rows, fresh=last["content"] == content)
    if not compute:
        return Suspects(0, None, (), f"Run 'mangaassist labels report {name}' to look for them.")
    found = _score(rows)
    artifact = platform.artifacts.put(canonical_json(found.as_dict()), durable=True)
    platform.ledger.append(
        kind=_SUSPECTED,
        subject=subject(platform.story(name)),
        body={
            "content": content,
            "artifact": artifact,
            "examples": found.examples,
            "found": len(found.found),
            "noise": found.noise.value if found.noise else None,
        },
        actor="labels report",
        at=platform.clock.now(),
    )
    return found


def _standing(stored: dict[str, Any], rows: pl.DataFrame, *, fresh: bool) -> Suspects:
    now = dict(rows.select("example_id", "label").rows())
    found = tuple(Suspect(**one) for one in stored["found"] if now.get(one["example_id"]) == one["given"])
    noise = Estimate(**stored["noise"]) if stored["noise"] else None
    return Suspects(stored["examples"], noise, found, stored["reason"], fresh)


def _score(rows: pl.DataFrame) -> Suspects:
    """Train on grouped folds, score what each fold left out, and compare (Northcutt et al. 2021)."""
    from mangaassist.training.text.classifier import fit

    if rows.height < MINIMUM or rows.n_unique("label") < 2:
        classes = rows.n_unique("label") if rows.height else 0
        reason = f"{rows.height} training examples of {classes} classes; {MINIMUM} of two or more are needed."
        return Suspects(rows.height, None, (), reason)
    columns = (rows[name].to_list() for name in ("text", "label", "group_id"))
    scored = fit(*columns, seed=_SEED)
    usable = np.isfinite(scored.probabilities).all(axis=1)
    if usable.sum() < MINIMUM:
        return Suspects(rows.height, None, (), "Too few groups to hold any out.")
    result = confident_joint(scored.probabilities[usable], scored.codes[usable])
    place, names = scored.rows[usable], scored.model.labels
    found = []
    for row, code, margin in zip(
        result.suspects[:_KEPT], result.suggested[:_KEPT], result.margin[:_KEPT], strict=True
    ):
        one = rows.row(int(place[row]), named=True)
        found.append(
            Suspect(
                one["example_id"],
                one["text"],
                one["language"],
                one["label"],
                names[int(code)],
                round(float(margin), 6),
            )
        )
    return Suspects(int(usable.sum()), result.noise_rate, tuple(found))
