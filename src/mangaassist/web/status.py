"""From a home to what its status page shows. Reads only; a room that cannot be read becomes a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from mangaassist.core.errors import MangaAssistError
from mangaassist.core.story import RolloutPolicy, Story
from mangaassist.core.verdict import Decision, Status, Verdict
from mangaassist.drift import history as past
from mangaassist.drift import hub
from mangaassist.drift.history import Kind
from mangaassist.governance.switches import GLOBAL_FREEZE, Setting
from mangaassist.lifecycle.auditing import summarise
from mangaassist.lifecycle.monitoring import PROPOSED, stored_reference
from mangaassist.lifecycle.monitoring import subject as monitoring_subject
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.controller import HELD
from mangaassist.promotion.stages import planned
from mangaassist.promotion.versions import FAILED, SHADOW, Deployment, Version, VersionStatus
from mangaassist.stories.discovery import story_names
from mangaassist.web.view import (
    SERVICE,
    ChallengerView,
    ChampionView,
    DriftView,
    LanguageView,
    LedgerRow,
    LedgerView,
    Measure,
    StageView,
    StatusView,
    StoryView,
    SwitchView,
    VerdictGroup,
    VersionView,
)

_TAIL = 25
_POINTS = 120
# The first word of a verdict's name is the room it came from; the page names primitives.
_PRIMITIVES = {
    "labels": "labels",
    "features": "features",
    "split": "training",
    "bias": "evaluation",
    "golden": "evaluation",
    "adversarial": "evaluation",
    "latency": "evaluation",
    "slice": "evaluation",
    "shadow": "promotion",
    "canary": "promotion",
    "drift": "drift",
}


def status_view(platform: Platform) -> StatusView:
    """Everything the page shows, as of now on the platform's clock."""
    now = platform.clock.now()
    try:
        stories = tuple(_stories(platform, now))
        return StatusView(now, stories, _switches(platform), _ledger(platform), SERVICE)
    except MangaAssistError as error:
        return StatusView(now, links=SERVICE, problem=str(error))


def _stories(platform: Platform, now: datetime) -> Iterable[StoryView]:
    for name in story_names(platform.home.path):
        if platform.registry.versions(name):
            yield _story(platform, platform.story(name), now)


def _story(platform: Platform, story: Story, now: datetime) -> StoryView:
    name, registry = story.name, platform.registry
    deployment = registry.deployment(name)
    versions = registry.versions(name)
    reasons = _ends(platform, name)
    shown = registry.get(name, deployment.champion) if deployment.champion else versions[-1]
    return StoryView(
        name=name,
        predicts=story.predicts,
        champion=_champion(platform, deployment),
        challenger=_challenger(platform, story, deployment, now),
        verdicts=tuple(_verdicts(platform, name, versions)),
        drift=tuple(_drift(platform, name, deployment, now)),
        languages=tuple(_languages(shown.metrics)),
        versions=tuple(_version(one, reasons.get(one.number, "")) for one in reversed(versions)),
        next_retrain=versions[-1].registered_at + story.cadence,
        proposal=_proposal(platform, name, versions[-1].registered_at),
        last_trial=reasons.get(max(reasons, default=0), ""),
    )


def _measure(metric: Mapping[str, Any]) -> Measure:
    return Measure(metric["value"], metric["low"], metric["high"], metric["n"])


def _champion(platform: Platform, deployment: Deployment) -> ChampionView | None:
    if deployment.champion is None:
        return None
    version = platform.registry.get(deployment.story, deployment.champion)
    promoted = [
        entry.at
        for entry in platform.ledger.entries(subject=f"registry/{deployment.story}", kind="registry.promoted")
        if entry.body["version"] == version.number
    ]
    since = promoted[-1] if promoted else version.registered_at
    return ChampionView(version.number, since, 1.0 - deployment.share, _measure(version.metrics["accuracy"]))


def _challenger(
    platform: Platform, story: Story, deployment: Deployment, now: datetime
) -> ChallengerView | None:
    if deployment.challenger is None or deployment.since is None:
        return None
    rollout = planned(story.rollout, deployment.extended)
    stages = tuple(_stages(rollout, deployment, now))
    lasts = _lasts(rollout, deployment.stage)
    held = platform.ledger.entries(subject=f"promotion/{story.name}", kind=HELD)
    reasons = [
        entry.body["decision"]["reason"]
        for entry in held
        if entry.body["decision"]["subject"] == f"{story.name}/{deployment.challenger}"
    ]
    return ChallengerView(
        deployment.challenger,
        deployment.since,
        stages,
        str(reasons[-1]) if reasons else "",
        deployment.since + lasts + story.rollout.hold,
    )


def _lasts(policy: RolloutPolicy, stage: str) -> timedelta:
    planned = {one.name: one.lasts for one in policy.stages}
    return planned.get(stage, policy.shadow)


def _stages(policy: RolloutPolicy, deployment: Deployment, now: datetime) -> Iterable[StageView]:
    plan = [(SHADOW, "Shadow", policy.shadow)]
    plan += [(one.name, f"{one.share:.0%}", one.lasts) for one in policy.stages]
    current = [name for name, _, _ in plan].index(deployment.stage)
    elapsed = now - deployment.since if deployment.since else timedelta(0)
    for index, (_, title, lasts) in enumerate(plan):
        if index == current:
            share = min(1.0, elapsed / lasts) if lasts else 1.0
            detail = f"{elapsed / timedelta(days=1):.1f} of {lasts / timedelta(days=1):.0f} days"
            yield StageView(title, "current", share, detail)
        else:
            yield StageView(title, "done" if index < current else "ahead")
    yield StageView("Full", "ahead")


def _verdicts(platform: Platform, name: str, versions: list[Version]) -> Iterable[VerdictGroup]:
    """The newest version's gate, then the newest decision of its rollout."""
    newest = versions[-1]
    groups: dict[str, list[Verdict]] = {}
    for verdict in newest.gate.verdicts:
        groups.setdefault(_PRIMITIVES.get(verdict.name.split(".")[0], "evaluation"), []).append(verdict)
    for primitive, found in groups.items():
        yield VerdictGroup(primitive, newest.name, newest.registered_at, _pressing_first(found))
    decision = _rollout_decision(platform, name)
    if decision is not None and decision.verdicts:
        yield VerdictGroup(
            "promotion", decision.subject, decision.at, _pressing_first(list(decision.verdicts))
        )


def _pressing_first(found: list[Verdict]) -> tuple[Verdict, ...]:
    """What fails first, what decides before what informs; otherwise in order."""
    order = (Status.FAIL, Status.STALE, Status.INSUFFICIENT, Status.PASS)
    return tuple(sorted(found, key=lambda one: (order.index(one.status), not one.blocking)))


def _rollout_decision(platform: Platform, name: str) -> Decision | None:
    entries = [
        entry
        for subject in (f"registry/{name}", f"promotion/{name}")
        for entry in platform.ledger.entries(subject=subject)
        if entry.kind != "registry.shadow_started" and isinstance(entry.body.get("decision"), dict)
    ]
    newest = max(entries, key=lambda entry: entry.sequence, default=None)
    return Decision.from_dict(newest.body["decision"]) if newest else None


def _drift(platform: Platform, name: str, deployment: Deployment, now: datetime) -> Iterable[DriftView]:
    if deployment.champion is None:
        return
    reference = stored_reference(platform, name, deployment.champion)
    if reference is None:
        return
    history = hub.read_history(platform.tables, name)
    own = history.filter(history["version"] == deployment.champion)
    leading = past.by_kind(past.standings(history, reference.policy, version=deployment.champion, now=now))
    for kind in Kind:
        standing = leading[kind]
        if standing is None:
            yield DriftView(str(kind), "insufficient")
            continue
        points = own.filter(own["name"] == standing.name).sort("at").tail(_POINTS)
        yield DriftView(
            str(kind),
            standing.state.value,
            standing.name,
            standing.value,
            standing.threshold,
            standing.since,
            tuple(points.select("at", "value").iter_rows()),
        )


def _languages(metrics: Mapping[str, Any]) -> Iterable[LanguageView]:
    for language, metric in metrics["languages"].items():
        yield LanguageView(language, _measure(metric), metric["floor"], metric["ceiling"])


def _ends(platform: Platform, name: str) -> dict[int, str]:
    """How the trial of each version that did not make it ended: version to sentence."""
    found = {}
    for entry in platform.ledger.entries(subject=f"registry/{name}", kind=FAILED):
        body = entry.body
        stage = f" in {body['stage']}" if body["stage"] else ""
        reason = str(body["decision"]["reason"])
        found[int(body["version"])] = f"Version {body['version']} ended{stage} on {entry.at:%d %b}: {reason}"
    return found


def _version(version: Version, ended: str) -> VersionView:
    note = "" if version.capped is None else f"Capped at {version.capped} by a waiver."
    return VersionView(
        version.number,
        str(version.status),
        version.registered_at,
        _measure(version.metrics["accuracy"]),
        str(version.label_version),
        version.artifact,
        ended or note or (version.gate.reason if version.status is VersionStatus.FAILED_PROMOTION else ""),
    )


def _proposal(platform: Platform, name: str, since: datetime) -> str:
    entries = platform.ledger.entries(subject=monitoring_subject(name), kind=PROPOSED)
    open_ones = [entry.body["reason"] for entry in entries if entry.at > since]
    return str(open_ones[-1]) if open_ones else ""


def _switches(platform: Platform) -> tuple[SwitchView, ...]:
    known = {setting.name: setting for setting in platform.switches.settings()}
    frozen = known.pop(GLOBAL_FREEZE, None)
    first = SwitchView("Global freeze", frozen is not None and frozen.value, False, _set_by(frozen))
    return (first, *(SwitchView(name, one.value, True, _set_by(one)) for name, one in known.items()))


def _set_by(setting: Setting | None) -> str:
    return f"{setting.actor}: {setting.reason}" if setting else ""


def _ledger(platform: Platform) -> LedgerView:
    tail = platform.ledger.tail(_TAIL)
    rows = tuple(
        LedgerRow(one.sequence, one.at, one.actor, one.kind, one.subject, summarise(one), one.digest)
        for one in reversed(tail)
    )
    return LedgerView(rows, platform.ledger.head())
