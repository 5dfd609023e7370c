"""What a home does by itself, and how often: one list for `serve`, `run` and Dagster (DRF-2, RET-1, INC-2).

Desk jobs keep the on-call page and the pager alive and never wait for anything long; work jobs look at
traffic; heavy ones train, and are left to ``mangaassist run``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import GateRefused, MangaAssistError, Unavailable
from mangaassist.core.verdict import Action
from mangaassist.incidents.clock import DATA_PLATFORM, ON_CALL, OWNER
from mangaassist.incidents.notices import Notice, send
from mangaassist.lifecycle import oncall
from mangaassist.lifecycle.alarming import alarms
from mangaassist.lifecycle.evidence import Meters
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.schedule import Job, Lane, Last

SEED = 7
"""Of a scheduled retrain; the same labels then give the same model as `mangaassist retrain`."""
NO_MOVE = "No rollout moved."
_MINUTES = timedelta(minutes=1)


def jobs(platform: Platform) -> list[Job]:
    """Every job of ``platform``, the shortest first."""
    return [
        Job("notices", timedelta(seconds=15), lambda: deliver(platform), Lane.DESK),
        Job("snapshot", timedelta(seconds=30), _kept(platform, oncall.refresh), Lane.DESK),
        Job("probes", _MINUTES, lambda: oncall.probe_all(platform), Lane.PROBES),
        Job("deploys", _MINUTES, lambda: oncall.read_deploys(platform), Lane.DESK),
        Job("alarms", _MINUTES, _kept(platform, alarms, fine=True), Lane.WORK),
        Job("incidents", _MINUTES, _kept(platform, oncall.watch), Lane.WORK),
        Job("rollouts", 5 * _MINUTES, lambda: judge_rollouts(platform), Lane.WORK),
        Job("late", 60 * _MINUTES, lambda: judge_again(platform), Lane.WORK),
        Job("drift", 5 * _MINUTES, _drift(platform), Lane.WORK),
        Job("features", 5 * _MINUTES, lambda: materialise(platform), Lane.WORK),
        Job("skew", 60 * _MINUTES, lambda: watch_features(platform), Lane.WORK),
        Job("events", 60 * _MINUTES, lambda: drain_events(platform), Lane.WORK),
        Job("implicit", timedelta(days=1), lambda: label_events(platform), Lane.WORK),
        Job("labels", timedelta(days=1), lambda: audit_labels(platform), Lane.WORK),
        Job("review", timedelta(days=7), lambda: review_labels(platform), Lane.WORK),
        Job("maintain", timedelta(days=7), lambda: maintain(platform), Lane.WORK),
        Job("retrain", 5 * _MINUTES, lambda: retrain_due(platform), Lane.HEAVY),
    ]


def deliver(platform: Platform) -> str:
    """Send what is due in the outbox."""
    sent = platform.outbox.deliver(send, now=platform.clock.now())
    return f"{sent.delivered} delivered, {sent.failed} failed for now, {sent.given_up} given up."


def judge_rollouts(platform: Platform) -> str:
    """One look at every running rollout; what follows is applied (PRO-3)."""
    from mangaassist.lifecycle.rollout import drain, judge_now, page

    def look(name: str) -> str:
        drain(platform, name)
        if platform.registry.deployment(name).challenger is None:
            page(platform, name)
            return ""
        decision = judge_now(platform, name)
        return f"{decision.subject}: {decision.action}." if decision.action is not Action.HOLD else ""

    return _each(platform.registry.stories(), look, NO_MOVE)


def judge_again(platform: Platform) -> str:
    """One look at every new champion, with what became known since; harm takes it back (PRO-2)."""
    from mangaassist.lifecycle.second_looks import revise_now

    def look(name: str) -> str:
        try:
            decision = revise_now(platform, name)
        except GateRefused:
            return ""  # nothing became champion lately
        return f"{decision.subject}: {decision.action}." if decision.action is Action.ROLL_BACK else ""

    return _each(platform.registry.stories(), look, NO_MOVE)


def materialise(platform: Platform) -> str:
    """The newest features of every story that has some, online (FEA-6)."""
    from mangaassist.lifecycle.features import materialise_story

    def look(name: str) -> str:
        built = sum(one.built for one in materialise_story(platform, name))
        return f"{name}: {built} new generations." if built else ""

    return _each([name for name in _named(platform) if platform.story(name).features], look, "Nothing new.")


def watch_features(platform: Platform) -> str:
    """Skew, freshness and recency of every story's features; what fails is told once a day (FEA-5, FEA-6)."""
    from mangaassist.lifecycle.feature_reports import alarms

    now = platform.clock.now()

    def look(name: str) -> str:
        found = alarms(platform, name)
        for one in found:
            key = f"{name}/{one.name}/{isoformat(now)[:10]}"
            title = f"{name}: {one.name} fails"
            roles = (DATA_PLATFORM, ON_CALL)
            notice = Notice(key, "SEV-3", title, one.sentence, roles, runbook="upstream_data")
            platform.outbox.put(notice, at=now)
        return f"{name}: {', '.join(one.name for one in found)}." if found else ""

    return _each(
        [name for name in _named(platform) if platform.story(name).features], look, "Served as trained."
    )


def audit_labels(platform: Platform) -> str:
    """The weekly audit of rule sets and prompts; a failing one goes back to the one before, and people hear.

    It runs every day, because the vendor labels a week's sample over days (LAB-6).
    """
    from mangaassist.lifecycle.labelling import audit_labels as audit

    now = platform.clock.now()

    def look(name: str) -> str:
        found = audit(platform, name, apply=True)["audits"]
        taken_back = [one for one in found if one["rolled_back"]]
        for one in taken_back:
            key = f"{name}/{one['source']}/{one['judged_week']}"
            title = f"{name}: {one['source']} was taken back to {one['now_in_force'] or 'nobody'}"
            notice = Notice(key, "SEV-3", title, one["reason"], (ON_CALL,), runbook="label_drift")
            platform.outbox.put(notice, at=now)
        return f"{name}: {len(found)} audited, {len(taken_back)} taken back." if found else ""

    return _each(_named(platform), look, "No rule set or prompt to audit.")


def review_labels(platform: Platform) -> str:
    """Every lot measured and every annotator looked at; who is paused is told (LAB-4, LAB-5)."""
    from mangaassist.lifecycle.label_quality import review_labels as review

    now = platform.clock.now()

    def look(name: str) -> str:
        found = review(platform, name, actor="label-qa")
        for pause in found["pauses"]:
            who = pause["annotator"]
            key = f"{name}/paused/{who}/{pause['since']}"
            title = f"{name}: annotator {who} is paused"
            notice = Notice(key, "SEV-3", title, pause["reason"], (ON_CALL,), runbook="label_drift")
            platform.outbox.put(notice, at=now)
        lots, restated = len(found["lots"]), found["restated"]
        return f"{name}: {lots} lots, {restated} labels restated." if lots or found["paused"] else ""

    return _each(_named(platform), look, "No lot to review.")


def drain_events(platform: Platform) -> str:
    """What servers received of shown lists, clicks and purchases, into the tables (LAB-9)."""
    from mangaassist.lifecycle.implicit import receive_file

    def look(name: str) -> str:
        stored = receive_file(platform, name, None)["stored"]
        return f"{name}: {stored} events." if stored else ""

    return _each(_named(platform), look, "No events.")


def label_events(platform: Platform) -> str:
    """Labels of mature events, corrected for position, of every story that takes them (LAB-3, LAB-8)."""
    from mangaassist.labels.event_intake import events_table
    from mangaassist.labels.implicit import SOURCE
    from mangaassist.lifecycle.implicit import label_events as label

    def look(name: str) -> str:
        done = label(platform, name)["labels"]
        return f"{name}: {done['added']} added, {done['revised']} revised, {done['withdrawn']} withdrawn."

    names = [
        name
        for name in _named(platform)
        if SOURCE in platform.story(name).labels.sources and platform.tables.exists(events_table(name))
    ]
    return _each(names, look, "No story's events to label.")


def maintain(platform: Platform) -> str:
    """Label versions past 18 months to the cold folder; what nothing needs any more is freed (LAB-2)."""
    from mangaassist.lifecycle.maintenance import maintain as free

    freed = [one for one in free(platform, dry_run=False) if one.items]
    return " ".join(f"{one.what}: {one.items}." for one in freed) or "Nothing to free."


def retrain_due(platform: Platform) -> str:
    """Run every retrain that was proposed and has not been run since (RET-1)."""
    from mangaassist.lifecycle.retrain import retrain

    def look(name: str) -> str:
        return retrain(platform, name, seed=SEED).sentence if wanted(platform, name) else ""

    return _each(platform.registry.stories(), look, "No retrain is due.")


def wanted(platform: Platform, name: str) -> Mapping[str, Any] | None:
    """The newest proposal to retrain ``name`` that nobody has acted on; None where there is none.

    Asking may write the proposal of the cadence to the ledger, once.
    """
    from mangaassist.lifecycle.monitoring import PROPOSED, next_step, subject
    from mangaassist.lifecycle.retrain import ENDED
    from mangaassist.lifecycle.triage import barred
    from mangaassist.retraining.schedule import Proposed

    next_step(platform, name, None)
    if not platform.switches.permissions(name).drift_triggers or barred(platform, name):
        return None
    ran = platform.ledger.entries(subject=f"run/{name}", kind=ENDED)[-1:]
    after = ran[0].sequence if ran else 0
    proposals = platform.ledger.entries(subject=subject(name), kind=PROPOSED, after=after)
    retrains = [entry.body for entry in proposals if entry.body["action"] == str(Proposed.RETRAIN)]
    return retrains[-1] if retrains else None


def tell(platform: Platform, last: Last) -> None:
    """A job that fails twice in a row is told once a day; the one that sends notices shows on the page."""
    if last.ok or last.failures < 2 or last.name == "notices":
        return
    day = isoformat(last.started)[:10]
    title = f"The job '{last.name}' fails"
    body = f"{last.failures} times in a row. {last.said}"
    notice = Notice(f"job/{last.name}/{day}", "SEV-3", title, body, (ON_CALL,), runbook="job_failed")
    platform.outbox.put(notice, at=platform.clock.now())


def _kept(
    platform: Platform, look: Callable[[Platform, Meters], str], *, fine: bool = False
) -> Callable[[], str]:
    """``look`` with meters of its own, which stay counted between two looks of this process."""
    meters = Meters(platform, fine=fine)
    return lambda: look(platform, meters)


def _drift(platform: Platform) -> Callable[[], str]:
    """One look at every story's drift, kept between looks; label and concept are due once a day (DRF-2)."""
    from mangaassist.lifecycle.watch import SAVED_EVERY, Watch

    watch = Watch(platform)

    def look() -> str:
        found = watch.look_all()
        watch.save(every=SAVED_EVERY)
        for name in found.reports:
            tell_proposal(platform, name)
        return f"{len(found.reports)} stories looked at, {len(found.unwatched)} not watched yet."

    return look


def tell_proposal(platform: Platform, name: str) -> None:
    """Tell people what the triage leaves to them, once per occasion (DRF-3).

    Corruption is the data platform's, a look at a drift the model owner's; whoever is on call hears of a
    safety-critical slice, though its retrain starts by itself.
    """
    from mangaassist.lifecycle.monitoring import PROPOSED, subject
    from mangaassist.retraining.schedule import Proposed

    known = {
        str(Proposed.PAGE): (
            "SEV-2",
            (DATA_PLATFORM, ON_CALL),
            "the data that feed it look corrupt",
            "upstream_data",
        ),
        str(Proposed.REVIEW): ("SEV-4", (OWNER,), "a person should look at its drift", "feature_drift"),
    }
    for entry in platform.ledger.entries(subject=subject(name), kind=PROPOSED)[-1:]:
        body = entry.body
        told = known.get(body["action"])
        if told is None and body.get("severity"):
            told = (body["severity"], (ON_CALL, OWNER), "it has become worse where safety depends", "quality")
        if told is not None:
            severity, roles, what, runbook = told
            notice = Notice(body["key"], severity, f"{name}: {what}", body["reason"], roles, runbook=runbook)
            platform.outbox.put(notice, at=platform.clock.now())


def _named(platform: Platform) -> list[str]:
    from mangaassist.stories.discovery import story_names

    return list(story_names(platform.home.path))


def _each(names: Iterable[str], look: Callable[[str], str], nothing: str) -> str:
    """``look`` at every name; one that fails does not keep the others waiting.

    Raises:
        Unavailable: some failed; all of them are named.
    """
    said, problems = [], []
    for name in names:
        try:
            said.append(look(name))
        except GateRefused as error:
            said.append(f"{name}: {error}")
        except MangaAssistError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise Unavailable("stories", expected="every one looked at", got=" ".join(problems), next_step="")
    return " ".join(one for one in said if one) or nothing
