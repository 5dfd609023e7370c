"""Steps 1 to 7: pure functions from pinned inputs to files (TRN-1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.identity import canonical_json, canonical_text
from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.evaluation.adversarial import attack
from mangaassist.evaluation.answers import Answers
from mangaassist.evaluation.bias import bias_audit, bias_verdicts
from mangaassist.evaluation.classification import confusion, evaluate
from mangaassist.evaluation.latency import measure_latency
from mangaassist.evaluation.report import Ceiling, EvaluationReport
from mangaassist.evaluation.slices import slice_matrix
from mangaassist.features.pinning import require_served
from mangaassist.governance.residency import resident
from mangaassist.labels import versions as label_versions
from mangaassist.labels.quality import agreement_verdicts, precision_verdicts
from mangaassist.labels.validation import validate
from mangaassist.labels.waivers import sources_verdict
from mangaassist.lifecycle.ceilings import measured_ceilings, with_estimate
from mangaassist.lifecycle.features import declared, feature_verdicts, with_features
from mangaassist.lifecycle.files import (
    VERDICTS,
    VerdictsRefused,
    frame_bytes,
    read_frame,
    read_json,
    verdict_bytes,
)
from mangaassist.lifecycle.foreign import story_code
from mangaassist.lifecycle.job import Job
from mangaassist.lifecycle.trainings import training_place
from mangaassist.training.floors import fit_floors
from mangaassist.training.formats import load as load_model
from mangaassist.training.pipeline import Step, StepInputs
from mangaassist.training.splits import leaks, split

if TYPE_CHECKING:
    from mangaassist.core.story import Model

Files = Mapping[str, bytes]

VALIDATION, FEATURES, SPLIT = "data_validation", "feature_materialisation", "split"
TRAINING, EVALUATION = "training", "offline_evaluation"
SLICES, BIAS = "slice_analysis", "bias_audit"


def offline_steps(job: Job) -> list[Step]:
    """The first seven steps of ``job``, each with what determines its output."""
    data = {
        "story": job.story.digest,
        "labels": job.label_version.content_hash,
        "waivers": [waiver.rule for waiver in job.waivers],
    }
    features = {
        "schema": job.catalog.fingerprint if job.catalog else None,
        "snapshots": dict(job.feature_snapshots),
        "story_code": job.story_code,
    }
    labels, evaluation, training = "mangaassist.labels", "mangaassist.evaluation", "mangaassist.training"
    # Outputs that hold texts of customers; a model, a matrix and an audit do not, and may travel.
    texts = resident(job.story.name, job.story.residency)
    return [
        Step(
            VALIDATION,
            lambda _: validate_data(job),
            (),
            data,
            job.code(labels, "mangaassist.stats"),
            marks=texts,
        ),
        Step(
            FEATURES,
            lambda inputs: materialise(job, inputs),
            (VALIDATION,),
            features,
            job.code(labels, "mangaassist.features", "mangaassist.lifecycle.features"),
            marks=texts,
        ),
        Step(
            SPLIT,
            lambda inputs: split_rows(job, inputs),
            (FEATURES,),
            {"seed": job.seed},
            job.code(training + ".splits"),
            marks=texts,
        ),
        Step(
            TRAINING,
            lambda inputs: train(job, inputs),
            (SPLIT,),
            {"seed": job.seed, "story_code": job.story_code},
            job.code(training, "mangaassist.stats"),
        ),
        Step(
            EVALUATION,
            lambda inputs: evaluate_offline(job, inputs),
            (VALIDATION, SPLIT, TRAINING),
            {"seed": job.seed},
            job.code(evaluation, "mangaassist.stats", training),
            marks=texts,
        ),
        Step(
            SLICES,
            lambda inputs: analyse_slices(job, inputs),
            (EVALUATION,),
            {"slices": job.story.slices},
            job.code(evaluation),
        ),
        Step(BIAS, audit_bias, (EVALUATION,), {}, job.code(evaluation)),
    ]


def validate_data(job: Job) -> Files:
    """Step 1: are these labels good enough to learn from, by every rule there is?"""
    store, story, version = job.platform.labels, job.story, job.label_version
    rows = label_versions.read(store, story, version.number)
    examples = store.examples(story, snapshot=version.snapshot_examples)
    labels = store.labels(story, snapshot=version.snapshot_labels)
    earlier = [one for one in label_versions.versions(store, story) if one.number < version.number]
    verdicts = [
        *validate(story, rows, previous_train=earlier[-1].counts["train"] if earlier else None),
        sources_verdict(version, job.waivers),
        *agreement_verdicts(examples, labels, story.labels),
        *precision_verdicts(examples, labels, story.labels),
    ]
    refuse_failures(VALIDATION, verdicts, next_step="Then retrain.")
    return {
        "examples.arrow": frame_bytes(rows),
        "ceilings.json": canonical_json(
            {key: asdict(one) for key, one in measured_ceilings(examples, labels, story.labels).items()}
        ),
        VERDICTS: verdict_bytes(verdicts),
    }


def refuse_failures(step: str, verdicts: list[Verdict], *, next_step: str) -> None:
    """Stop here when a blocking verdict fails, with all verdicts for the ledger.

    Raises:
        VerdictsRefused: naming what failed.
    """
    if worst(verdicts) is Status.FAIL:
        raise VerdictsRefused(step, tuple(verdicts), next_step=next_step)


def materialise(job: Job, inputs: StepInputs) -> Files:
    """Step 2: the features each example had when it was captured, then the story's own slice columns."""
    rows = read_frame(inputs.read(VALIDATION, "examples.arrow"))
    verdicts: list[Verdict] = []
    if job.catalog is not None:
        # Here and not only before shadow: a training that could not be deployed is not worth its cost.
        serving = declared(job.platform, job.story.name)
        require_served("this run", job.catalog, job.catalog.fingerprint, serving, story=job.story.name)
        rows = with_features(job.platform, job.story, rows, job.feature_snapshots)
        verdicts = feature_verdicts(
            job.platform, job.story, job.catalog, rows, seed=job.seed, snapshots=job.feature_snapshots
        )
        refuse_failures(FEATURES, verdicts, next_step="Fix the feature's pipeline or its serving lag.")
    with story_code(job.module, "load"):
        loaded = frame_bytes(job.module.load(rows))
    return {"examples.arrow": loaded, VERDICTS: verdict_bytes(verdicts)}


def split_rows(job: Job, inputs: StepInputs) -> Files:
    """Step 3: which rows teach and which judge, with a check that neither knows the other (TRN-2)."""
    rows = read_frame(inputs.read(FEATURES, "examples.arrow"))
    golden = rows.filter((pl.col("role") == "golden") & pl.col("holdout_eligible"))
    teaching = without_lookalikes(rows.filter(pl.col("role") == "train"), golden)
    found = split(teaching, seed=job.seed, has_golden=golden.height > 0)
    test = golden if golden.height else found.test
    known = leaks(found.train, test, cut_off=found.report.cut_off)
    sentence = "; ".join(
        f"{leak.count} {leak.kind}s on both sides, such as '{leak.example}'" for leak in known
    )
    verdict = Verdict(
        "split.leak",
        Status.FAIL if known else Status.PASS,
        sentence or f"No group, text or later row is shared by {found.train.height} and {test.height} rows.",
        n=test.height,
    )
    refuse_failures(SPLIT, [verdict], next_step="Correct the groups or the roles and import again.")
    return {
        "train.arrow": frame_bytes(found.train),
        "test.arrow": frame_bytes(test),
        "adversarial.arrow": frame_bytes(rows.filter(pl.col("role") == "adversarial")),
        "split.json": canonical_json({**found.report.as_dict(), "judged_on": judged_on(golden)}),
        VERDICTS: verdict_bytes([verdict]),
    }


def without_lookalikes(train: pl.DataFrame, golden: pl.DataFrame) -> pl.DataFrame:
    """``train`` without rows that differ from a golden one in nothing but what redaction took out.

    The same example in both roles is a mistake and stays, to be refused.
    """
    known = {canonical_text(text) for text in golden["text"]}
    same_text = pl.Series([canonical_text(text) in known for text in train["text"]], dtype=pl.Boolean)
    return train.filter(~same_text | train["example_id"].is_in(golden["example_id"].implode()))


def judged_on(golden: pl.DataFrame) -> str:
    """What the rows that judge are called: a golden set if the story has one, else its own latest rows."""
    return "golden" if golden.height else "test"


def train(job: Job, inputs: StepInputs) -> Files:
    """Step 4: the model's artifact files; the same rows and seed give the same bytes."""
    rows = read_frame(inputs.read(SPLIT, "train.arrow"))
    with training_place(job, rows=inputs.outputs[SPLIT]), story_code(job.module, "fit"):
        return job.module.fit(rows, seed=job.seed).files()


def evaluate_offline(job: Job, inputs: StepInputs) -> Files:
    """Step 5: quality beside floor and ceiling, hostile spelling, single-call latency."""
    model = load_model(inputs.files(TRAINING))
    rows = read_frame(inputs.read(SPLIT, "test.arrow"))
    if rows.is_empty():
        raise InputError(
            f"evaluation of '{job.story.name}'",
            expected="rows to judge by",
            got="none: too few groups to hold any back",
            next_step="Import a golden set (--role golden) or more conversations.",
        )
    on = read_json(inputs.read(SPLIT, "split.json"))["judged_on"]
    report = judge(
        job,
        model,
        rows,
        on=on,
        train=read_frame(inputs.read(SPLIT, "train.arrow")),
        ceilings=read_json(inputs.read(VALIDATION, "ceilings.json")),
        facts=read_json(inputs.read(TRAINING, "manifest.json"))["facts"],
    )
    curated = read_frame(inputs.read(SPLIT, "adversarial.arrow"))
    hostile = attack(job.story, model, rows, curated=curated, seed=job.seed)
    return {
        "report.json": canonical_json(report.as_dict()),
        "confusion.json": canonical_json(confusion(report.answers).as_dict()),
        "adversarial.json": canonical_json(hostile.as_dict() if hostile else None),
        "latency.json": canonical_json(measure_latency(model, rows["text"].to_list()).as_dict()),
    }


def judge(
    job: Job,
    model: Model,
    rows: pl.DataFrame,
    *,
    on: str,
    train: pl.DataFrame,
    ceilings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> EvaluationReport:
    """``model`` on ``rows`` beside floors fitted on ``train``; without votes the ceiling is the fit's own."""
    measured = {key: Ceiling(**one) for key, one in ceilings.items()} if on == "golden" else {}
    floors = fit_floors(
        train["text"].to_list(), train["label"].to_list(), out_of_scope_label=job.story.out_of_scope_label
    )
    return evaluate(
        job.story, model, rows, on=on, floors=floors, ceilings=with_estimate(measured, facts), seed=job.seed
    )


def analyse_slices(job: Job, inputs: StepInputs) -> Files:
    """Step 6: accuracy of every slice and cross (EVA-2)."""
    matrix = slice_matrix(read_answers(inputs), job.story.slices)
    return {"slices.json": canonical_json(matrix.as_dict())}


def audit_bias(inputs: StepInputs) -> Files:
    """Step 7: gaps between languages and between cohorts."""
    audit = bias_audit(read_answers(inputs))
    return {"bias.json": canonical_json(audit.as_dict()), VERDICTS: verdict_bytes(bias_verdicts(audit))}


def read_answers(inputs: StepInputs) -> Answers:
    """What the model said to each row of the judging set."""
    return Answers.from_dict(read_json(inputs.read(EVALUATION, "report.json"))["answers"])
