"""Ask one version: on a held-out set, or one text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.language import detect_language
from mangaassist.governance.redaction import redact
from mangaassist.lifecycle.choosing import choose_version, standing
from mangaassist.lifecycle.files import read_frame, read_json
from mangaassist.lifecycle.intake import select_now
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.versions import Version
from mangaassist.training.formats import load as load_model

if TYPE_CHECKING:
    from mangaassist.core.story import Model, Story
    from mangaassist.evaluation.report import Ceiling, EvaluationReport
    from mangaassist.evaluation.weekly import Stratum

WEEK = "week"
SETS = ("golden", "adversarial", WEEK)
_BEFORE_ABSTENTION = (
    "Accuracy is of the most probable label over in-scope rows, before abstention; coverage says how many of "
    "them would be answered."
)


def evaluate(platform: Platform, name: str, *, on: str, version: int | None) -> dict[str, Any]:
    """Measure a version on the story's golden or adversarial set as it is now, or on the last week's rows.

    Floors are fitted on the rows the version was trained on. The result is printed, not recorded: gates have
    their own evaluation.

    Raises:
        InputError: for another set, or one without rows.
    """
    from mangaassist.evaluation.adversarial import attack
    from mangaassist.evaluation.classification import confusion
    from mangaassist.evaluation.latency import measure_latency
    from mangaassist.lifecycle.golden import golden_verdicts, golden_versions

    asked = _ask(platform, name, on, version)
    report, rows, story = asked.report, asked.rows, asked.story
    golden = on == "golden"
    hostile = attack(story, asked.model, rows, seed=asked.seed) if golden else None
    return {
        **asked.head(),
        "metrics": {key: metric.as_dict() for key, metric in report.metrics.items()},
        "languages": {key: metric.as_dict() for key, metric in report.languages.items()},
        "recalls": {key: metric.as_dict() for key, metric in report.recalls.items()},
        "adversarial": hostile.as_dict() if hostile else None,
        "most_confused": confusion(report.answers).as_dict()["most_confused"],
        "latency": measure_latency(asked.model, rows["text"].to_list()).as_dict(),
        "golden_set": [one.as_dict() for one in golden_verdicts(platform, story, rows)] if golden else [],
        "golden_versions": [one.as_dict() for one in golden_versions(platform, name)] if golden else [],
        "strata": [one.as_dict() for one in asked.strata],
        "notes": [
            _BEFORE_ABSTENTION,
            *_notes(report.metrics["accuracy"].ceiling_method),
            *_drawn(asked.strata),
        ],
    }


def slices(platform: Platform, name: str, *, on: str, version: int | None) -> dict[str, Any]:
    """Every slice and cross of a version's answers (EVA-2); raises like :func:`evaluate`."""
    from mangaassist.evaluation.slices import slice_matrix

    asked = _ask(platform, name, on, version)
    return {**asked.head(), **slice_matrix(asked.report.answers, asked.story.slices).as_dict()}


def bias(platform: Platform, name: str, *, on: str, version: int | None) -> dict[str, Any]:
    """Gaps between languages and between cohorts, and their verdicts; raises like :func:`evaluate`."""
    from mangaassist.evaluation.bias import bias_audit, bias_verdicts

    asked = _ask(platform, name, on, version)
    audit = bias_audit(asked.report.answers)
    return {**asked.head(), **audit.as_dict(), "verdicts": [one.as_dict() for one in bias_verdicts(audit)]}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A version's answers to the rows of a set as it is now."""

    version: Version
    story: Story
    model: Model
    rows: pl.DataFrame
    report: EvaluationReport
    seed: int
    strata: Sequence[Stratum]

    def head(self) -> dict[str, Any]:
        """What every answer begins with."""
        return {
            "story": self.story.name,
            "version": self.version.number,
            "status": str(self.version.status),
            "on": self.report.on,
            "n": self.report.n,
        }


def _ask(platform: Platform, name: str, on: str, version: int | None) -> _Asked:
    from mangaassist.evaluation.classification import evaluate as measure
    from mangaassist.training.floors import fit_floors

    if on not in SETS:
        raise InputError("--on", expected=" or ".join(SETS), got=repr(on), next_step=nearest(on, SETS))
    chosen, story = choose_version(platform, name, version), platform.module(name).STORY
    model = load_model(platform.artifacts.files(chosen.artifact))
    train = read_frame(platform.artifacts.read(chosen.documents["split"], "train.arrow"))
    rows, strata = _this_week(platform, name, train) if on == WEEK else (_rows(platform, name, on), [])
    floors = fit_floors(
        train["text"].to_list(), train["label"].to_list(), out_of_scope_label=story.out_of_scope_label
    )
    ceilings, seed = _ceilings(platform, name, chosen, on), int(chosen.tags["seed"])
    report = measure(story, model, rows, on=on, floors=floors, ceilings=ceilings, seed=seed)
    return _Asked(chosen, story, model, rows, report, seed, strata)


def _this_week(platform: Platform, name: str, train: pl.DataFrame) -> tuple[pl.DataFrame, list[Stratum]]:
    """Labelled rows of the last week that ``train`` could not know, drawn to the traffic's cohorts (EVA-4).

    Stories without cohorts are drawn to its languages; the draw is another one every week.

    Raises:
        InputError: nothing of the last week has been labelled that the version did not learn from.
    """
    from mangaassist.evaluation.weekly import stratified, unseen
    from mangaassist.lifecycle.golden import live

    now = platform.clock.now()
    labelled = select_now(platform, name).rows.filter(
        (pl.col("role") == "train") & pl.col("holdout_eligible")
    )
    rows = unseen(labelled, train, now=now)
    if rows.is_empty():
        raise InputError(
            f"last week of '{name}'",
            expected="labelled rows of the last 7 days that came after what the version learnt from",
            got="none",
            next_step=f"Import labels of this week's messages: mangaassist labels import {name} FILE ...",
        )
    rows = _loaded(platform, name, rows)
    by = "cohort" if "cohort" in rows.columns else "language"
    traffic = Counter(live(platform, platform.story(name), now)[by])
    year, week, _ = now.isocalendar()
    drawn, strata = stratified(
        rows[by].to_list(), rows["example_id"].to_list(), traffic, week=f"{year}-W{week:02d}"
    )
    return rows[drawn], strata


def _drawn(strata: Sequence[Stratum]) -> list[str]:
    """Of whom the week's rows are, where they were drawn."""
    if not strata:
        return []
    parts = [
        f"{one.name} {one.drawn:,} of {one.available:,} ({one.traffic:.0%} of traffic{', short' * one.short})"
        for one in strata
    ]
    return [f"Labelled rows of the last 7 days, all newer than what it learnt from: {'; '.join(parts)}."]


def _notes(ceiling_method: str) -> list[str]:
    return [f"Ceiling: {ceiling_method}."] if ceiling_method else ["Ceiling: unknown, no vote was repeated."]


def _rows(platform: Platform, name: str, on: str) -> pl.DataFrame:
    # The same rows a gate judges by: labels in doubt teach, but they do not judge.
    rows = select_now(platform, name).rows.filter((pl.col("role") == on) & pl.col("holdout_eligible"))
    if rows.is_empty():
        raise InputError(
            f"{on} set of '{name}'",
            expected="at least one example",
            got="none",
            next_step=f"Run 'mangaassist labels import {name} FILE --role {on} ...' first.",
        )
    return _loaded(platform, name, rows)


def _loaded(platform: Platform, name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with their features as they stood then, and the story's own slice columns."""
    module = platform.module(name)
    if module.STORY.features:
        from mangaassist.lifecycle.features import with_features

        rows = with_features(platform, module.STORY, rows)
    return module.load(rows)


def _ceilings(platform: Platform, name: str, version: Version, on: str) -> dict[str, Ceiling]:
    """Label-noise ceilings: from repeated votes where there are any, else the fit's own estimate."""
    from mangaassist.lifecycle.ceilings import measured_ceilings, with_estimate

    story, store = platform.story(name), platform.labels
    measured = measured_ceilings(store.examples(story), store.labels(story), story.labels, role=on)
    facts = read_json(platform.artifacts.read(version.artifact, "manifest.json"))["facts"]
    return with_estimate(measured, facts)


def predict(platform: Platform, name: str, text: str, *, version: int | None) -> dict[str, Any]:
    """Answer one text as serving would, without writing to the prediction log.

    Raises:
        InputError: for an empty text. IntegrityError: the artifact is damaged.
    """
    if not text.strip():
        raise InputError("TEXT", expected="something to read", got="nothing", next_step="Pass an utterance.")
    chosen = choose_version(platform, name, version)
    model = platform.models.model(name, chosen.number)
    began = perf_counter()
    answer = model.predict([redact(text).text])[0]
    return {
        "story": name,
        "label": answer.label,
        "confidence": answer.confidence,
        "abstains": answer.abstains,
        "probabilities": dict(answer.probabilities),
        "language": str(detect_language(text)),
        "version": chosen.number,
        "status": str(chosen.status),
        "served_by": standing(chosen),
        "latency_ms": (perf_counter() - began) * 1000.0,
    }
