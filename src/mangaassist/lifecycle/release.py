"""Steps 8 to 10: registration, shadow, canary. They write to the ledger and are safe to repeat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import canonical_json, digest
from mangaassist.core.verdict import Action, Decision, Verdict
from mangaassist.evaluation.adversarial import attack
from mangaassist.evaluation.gate import gate_decision
from mangaassist.evaluation.paired import paired_change
from mangaassist.evaluation.report import EvaluationReport
from mangaassist.evaluation.slices import slice_matrix
from mangaassist.governance.cost import cost_verdicts
from mangaassist.governance.residency import resident
from mangaassist.labels.waivers import cap
from mangaassist.lifecycle.files import (
    VERDICTS,
    VerdictsRefused,
    read_frame,
    read_json,
    read_verdicts,
    verdict_bytes,
)
from mangaassist.lifecycle.golden import golden_verdicts, record_golden
from mangaassist.lifecycle.job import Job
from mangaassist.lifecycle.steps import (
    BIAS,
    EVALUATION,
    FEATURES,
    SLICES,
    SPLIT,
    TRAINING,
    VALIDATION,
    Files,
    judge,
)
from mangaassist.promotion.versions import FAILED, Version, VersionStatus
from mangaassist.promotion.versions import SHADOW as SHADOW_STAGE
from mangaassist.stats.intervals import two_sided_z
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.training.formats import load as load_model
from mangaassist.training.pipeline import Step, StepInputs, Waiting

REGISTRATION, SHADOW, CANARY = "registration", "shadow", "canary"
ACTOR = "retrain"
FINDINGS, CHAMPION_REPORT = "findings", "champion_evaluation"
"""Documents of a version that hold what its gate saw beside its own evaluation."""


class Traffic(Protocol):
    """Where a rollout's evidence comes from while a run waits for it; a serving fleet, or a simulation."""

    def until_settled(self, story: str, number: int, stage: str) -> None:
        """Play traffic, look after look, until the version has left ``stage`` ("shadow" or "canary")."""


def release_steps(job: Job, traffic: Traffic | None) -> list[Step]:
    """The last three steps. Without ``traffic`` shadow waits for whoever serves this home."""
    offline = (VALIDATION, FEATURES, SPLIT, TRAINING, EVALUATION, SLICES, BIAS)
    return [
        Step(
            REGISTRATION,
            lambda inputs: register(job, inputs),
            offline,
            {"config": job.config(), "champion": job.champion},
            job.code("mangaassist.evaluation", "mangaassist.lifecycle.release"),
            remembered=False,
        ),
        Step(SHADOW, lambda inputs: shadow(job, inputs, traffic), (REGISTRATION,), remembered=False),
        Step(CANARY, lambda inputs: canary(job, inputs, traffic), (REGISTRATION, SHADOW), remembered=False),
    ]


def register(job: Job, inputs: StepInputs) -> Files:
    """Step 8: the offline gate, and the version with everything that explains it (TRN-6).

    Raises:
        VerdictsRefused: the gate said no; the version is in the registry as failed_promotion.
    """
    run_id = _run_id(job, inputs)
    versions = job.platform.registry.versions(job.story.name)
    known = [one for one in versions if one.run_id.partition(".")[0] == run_id]
    if not known:
        version = _enter(job, inputs, run_id)
    elif job.again and known[-1].status is VersionStatus.FAILED_PROMOTION:
        # Asked for by name: the same model may have another try, as a version of its own.
        version = _enter(job, inputs, f"{run_id}.{len(known) + 1}")
    else:
        version = known[-1]
    if version.gate.action is not Action.PROMOTE:
        raise VerdictsRefused(
            f"offline gate of {version.name}",
            version.gate.verdicts,
            next_step=f"It is kept as failed_promotion; see 'mangaassist explain {job.story.name} "
            f"{version.number}'.",
        )
    return {"version.json": canonical_json({"version": version.number, "artifact": version.artifact})}


def _enter(job: Job, inputs: StepInputs, run_id: str) -> Version:
    """Judge the candidate and register it, whatever the judgement."""
    report, champion = full_report(inputs), _champion_report(job, inputs)
    findings = [*_step_verdicts(inputs), *_golden_set(job, inputs), *_cost(job, inputs, report)]
    now = job.platform.clock.now()
    return job.platform.registry.register(
        job.story.name,
        artifact=inputs.outputs[TRAINING],
        tags=job.tags.as_dict(),
        metrics={**headline(report), **_against(job, report, champion)},
        gate=gate_decision(job.story, report, champion, findings, actor=ACTOR, at=now),
        run_id=run_id,
        actor=ACTOR,
        at=now,
        documents=_documents(job, inputs, champion, findings),
        policy=job.story.digest,
        capped=cap(job.waivers),
        waivers=[
            {"name": waiver.rule, "actor": waiver.actor, "reason": waiver.reason} for waiver in job.waivers
        ],
    )


def _golden_set(job: Job, inputs: StepInputs) -> list[Verdict]:
    """Whether the golden set is still what it should be (EVA-1); nothing where the story has none."""
    if read_json(inputs.read(SPLIT, "split.json"))["judged_on"] != "golden":
        return []
    rows = read_frame(inputs.read(SPLIT, "test.arrow"))
    record_golden(job.platform, job.story, rows, actor=ACTOR)
    return golden_verdicts(job.platform, job.story, rows)


def _cost(job: Job, inputs: StepInputs, report: EvaluationReport) -> list[Verdict]:
    """What the run and a thousand predictions cost, against the story's budget (GOV-6)."""
    return cost_verdicts(
        job.story.budget,
        run_seconds=sum(inputs.compute.values()),
        call_seconds=report.latency.cpu_ms / 1e3 if report.latency else None,
        cpu_second=job.platform.home.settings.cpu_second_price,
    )


def full_report(inputs: StepInputs) -> EvaluationReport:
    """The evaluation with its slices, attacks, latency and bias audit put together."""
    outputs = (inputs.outputs[step] for step in (EVALUATION, SLICES, BIAS))
    return stored_report(inputs.artifacts, *outputs)


def stored_report(store: ArtifactStore, evaluation: str, slices: str, bias: str) -> EvaluationReport:
    """An evaluation put together from the outputs of its three steps."""
    body = read_json(store.read(evaluation, "report.json"))
    body |= {
        "adversarial": read_json(store.read(evaluation, "adversarial.json")),
        "latency": read_json(store.read(evaluation, "latency.json")),
        "slices": read_json(store.read(slices, "slices.json")),
        "bias": read_json(store.read(bias, "bias.json")),
    }
    return EvaluationReport.from_dict(body)


def _champion_report(job: Job, inputs: StepInputs) -> EvaluationReport | None:
    """The champion on the very rows the candidate was judged by, not on those of its own day."""
    if job.champion is None:
        return None
    champion = job.platform.registry.get(job.story.name, job.champion)
    files = job.platform.artifacts.files(champion.artifact)
    rows = read_frame(inputs.read(SPLIT, "test.arrow"))
    model = load_model(files)
    report = judge(
        job,
        model,
        rows,
        on=read_json(inputs.read(SPLIT, "split.json"))["judged_on"],
        train=read_frame(inputs.read(SPLIT, "train.arrow")),
        ceilings={},
        facts={},
    )
    curated = read_frame(inputs.read(SPLIT, "adversarial.arrow"))
    return replace(
        report,
        adversarial=attack(job.story, model, rows, curated=curated, seed=job.seed),
        slices=slice_matrix(report.answers, job.story.slices),
    )


def _step_verdicts(inputs: StepInputs) -> list[Verdict]:
    """The verdicts of the steps before, in their order."""
    return [
        verdict
        for step in (VALIDATION, FEATURES, SPLIT)
        for verdict in read_verdicts(inputs.read(step, VERDICTS))
    ]


def _against(job: Job, report: EvaluationReport, champion: EvaluationReport | None) -> dict[str, Any]:
    """The accuracy less the champion's on the same rows, with its standard error (EVA-3)."""
    if champion is None or champion.answers.rows != report.answers.rows:
        return {}
    rows = report.answers.in_scope
    change = paired_change(champion.answers.correct[rows], report.answers.correct[rows])
    error = (change.high - change.low) / (2 * two_sided_z(0.95))
    return {"against": {"champion": job.champion, "difference": change.difference, "error": error}}


def headline(report: EvaluationReport) -> dict[str, Any]:
    """The few numbers a registry row shows; accuracy whole, so that nobody quotes it bare."""
    accuracy = report.metrics["accuracy"]
    return {
        "on": report.on,
        "accuracy": accuracy.as_dict(),
        "macro_f1": report.metrics["macro_f1"].value,
        "languages": {name: metric.as_dict() for name, metric in report.languages.items()},
        "p95_ms": report.latency.p95_ms if report.latency else None,
    }


def _run_id(job: Job, inputs: StepInputs) -> str:
    """What makes two registrations the same: the model, the rows it was judged by, and the specification.

    Measured latency is no part of it, so a run that was killed registers the version it would have.
    """
    outputs = {step: inputs.outputs[step] for step in (VALIDATION, FEATURES, SPLIT, TRAINING)}
    return digest([outputs, job.story.digest, job.label_version.number])[:16]


def _documents(
    job: Job, inputs: StepInputs, champion: EvaluationReport | None, findings: list[Verdict]
) -> dict[str, str]:
    """Required artifacts of a release, each by its digest; with all the gate saw, to decide it again."""
    names = {
        "dataset": VALIDATION,
        "features": FEATURES,
        "split": SPLIT,
        "evaluation": EVALUATION,
        "slices": SLICES,
        "bias": BIAS,
    }
    store = job.platform.artifacts
    made = {
        "training_config": store.put_files({"config.json": canonical_json(job.config())}, durable=True),
        FINDINGS: store.put_files({VERDICTS: verdict_bytes(findings)}, durable=True),
    }
    if champion is not None:
        report = canonical_json(champion.as_dict())
        marks = resident(job.story.name, job.story.residency)
        made[CHAMPION_REPORT] = store.put_files({"report.json": report}, durable=True, marks=marks)
    return {**{name: inputs.outputs[step] for name, step in names.items()}, **made}


def registered(job: Job, inputs: StepInputs) -> Version:
    """The version step 8 registered."""
    number = read_json(inputs.read(REGISTRATION, "version.json"))["version"]
    return job.platform.registry.get(job.story.name, number)


def shadow(job: Job, inputs: StepInputs, traffic: Traffic | None) -> Files | Waiting:
    """Step 9: let the version answer unseen until the evidence settles it."""
    version = registered(job, inputs)
    name, number = job.story.name, version.number
    if version.status is VersionStatus.REGISTERED:
        _withdraw_unseen(job, number)
        job.platform.registry.start_shadow(name, number, actor=ACTOR, at=job.platform.clock.now())
    if traffic is not None and version.capped is None:
        traffic.until_settled(name, number, SHADOW)
    return _settled(job, number, SHADOW, (VersionStatus.REGISTERED, VersionStatus.SHADOW))


def canary(job: Job, inputs: StepInputs, traffic: Traffic | None) -> Files | Waiting:
    """Step 10: 1, 5 and 25 per cent of users against a hold-out, then everybody."""
    number = registered(job, inputs).number
    if traffic is not None:
        traffic.until_settled(job.story.name, number, CANARY)
    return _settled(job, number, CANARY, (VersionStatus.CANARY,))


def _withdraw_unseen(job: Job, number: int) -> None:
    """A newer candidate takes the place of one that is still in shadow and that no user has met."""
    deployment = job.platform.registry.deployment(job.story.name)
    if deployment.challenger in (None, number) or deployment.stage != SHADOW_STAGE:
        return
    decision = Decision(
        Action.ROLL_BACK,
        f"{job.story.name}/{deployment.challenger}",
        f"Superseded in shadow by version {number}.",
        ACTOR,
        job.platform.clock.now(),
    )
    job.platform.registry.fail(
        job.story.name, deployment.challenger or 0, decision=decision, epoch=deployment.epoch
    )


def _settled(job: Job, number: int, stage: str, running: tuple[VersionStatus, ...]) -> Files | Waiting:
    version = job.platform.registry.get(job.story.name, number)
    if version.status is VersionStatus.FAILED_PROMOTION:
        raise _failed(job, version, stage)
    if version.status in running:
        capped = f" It is capped at {version.capped} by a waiver." if version.capped else ""
        return Waiting(
            f"{version.name} is in {stage} and needs traffic: serve this home, and 'mangaassist promote "
            f"{job.story.name}' judges what was logged.{capped}"
        )
    return {"stage.json": canonical_json({"version": number, "status": str(version.status)})}


def _failed(job: Job, version: Version, stage: str) -> GateRefused:
    """Why a version is out: the evidence spoke against it, or a person took it back."""
    name = job.story.name
    entries = job.platform.ledger.entries(subject=f"registry/{name}", kind=FAILED)
    last = [entry for entry in entries if entry.body["version"] == version.number][-1:]
    reason = last[0].body["decision"]["reason"] if last else "it failed its promotion"
    if last and not last[0].body["decision"]["verdicts"]:
        return GateRefused(
            version.name,
            expected="a version nobody has withdrawn",
            got=f"one withdrawn by {last[0].actor}: {reason}",
            next_step="Nothing has changed since. To put the same model up again: "
            f"mangaassist retrain {name} --from-step {REGISTRATION}",
        )
    answers = "The champion answers as before" if job.champion else "No version answers yet"
    return GateRefused(
        f"{stage} of {version.name}",
        expected="evidence that it does no harm",
        got=reason,
        next_step=f"{answers}; see 'mangaassist explain {name} {version.number}'.",
    )
