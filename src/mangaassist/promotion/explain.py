"""Why a version is where it is (PRO-9): labels, features, code, evaluation, gates, people.

Everything said here is read from the ledger and from stored artifacts; nothing is computed anew and nothing
is remembered elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Decision, Verdict
from mangaassist.governance.switches import GLOBAL_FREEZE, KIND, promotion_switch
from mangaassist.promotion.controller import HELD, REVIEWED, REVISED
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.requirements import subject as registry_subject
from mangaassist.promotion.rollbacks import MEASURED, subject
from mangaassist.promotion.versions import (
    ADVANCED,
    FAILED,
    PROMOTED,
    REENABLED,
    REGISTERED,
    ROLLED_BACK,
    SHADOW_STARTED,
    Version,
)
from mangaassist.storage.ledger import Entry, Verification

_WHAT = {
    REGISTERED: "registered",
    SHADOW_STARTED: "started its shadow",
    ADVANCED: "moved to {stage} ({share:.0%} of users)",
    PROMOTED: "became champion",
    FAILED: "failed",
    ROLLED_BACK: "was rolled back; version {to} came back",
    REENABLED: "was enabled again at {stage}{as_role}",
    HELD: "held in {stage}",
    REVISED: "was judged again on what became known since",
    REVIEWED: "had its disagreements reviewed",
    MEASURED: "rollback took {seconds:.3f} s, to the last of {readers} readers",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story of one version.

    Attributes:
        body: as JSON.
        lines: the same for people.
    """

    body: Mapping[str, Any]
    lines: tuple[str, ...]


def explain(registry: Registry, story: str, number: int, *, whole: Verification | None = None) -> Explanation:
    """Explain version ``number`` of ``story``, and say whether the ledger it is read from is whole.

    Args:
        whole: what a recent verification of the ledger found; None verifies it now.

    Raises:
        InputError: there is no such version.
    """
    whole = whole or registry.ledger.verify()
    version = registry.get(story, number)
    deployment = registry.deployment(story)
    events = [_event(registry, version, entry) for entry in _entries(registry, version)]
    body = {
        **version.as_dict(),
        "now": deployment.as_dict(),
        "labels": _labels(registry, version),
        "features": {"feature_schema_version": version.tags["feature_schema_version"]},
        "code": {key: version.tags[key] for key in ("code_revision", "seed")},
        "data": {key: version.tags[key] for key in ("data_snapshot_id", "model_target")},
        "evaluation": dict(version.metrics),
        "missing_documents": [
            name for name, digest in version.documents.items() if not registry.artifacts.has(digest)
        ],
        "gate": version.gate.as_dict(),
        "events": events,
        "overrides": [one for one in events if one["override"]],
        "ledger": {
            "verified": whole.ok,
            "entries": whole.entries,
            "head": whole.head,
            "problem": whole.problem,
        },
    }
    return Explanation(body, tuple(_lines(version, body)))


def _entries(registry: Registry, version: Version) -> list[Entry]:
    """Ledger entries about the version, and the switches set while it was on its way, in order."""
    ledger = registry.ledger
    own = [
        entry
        for name in (registry_subject(version.story), subject(version.story))
        for entry in ledger.entries(subject=name)
        if _is_about(entry, version.number)
    ]
    last = max(entry.sequence for entry in own)
    names = (GLOBAL_FREEZE, promotion_switch(version.story))
    switches = [
        entry
        for entry in ledger.entries(kind=KIND, after=version.entry)
        if entry.body["name"] in names and (entry.sequence <= last or _underway(registry, version))
    ]
    return sorted([*own, *switches], key=lambda entry: entry.sequence)


def _is_about(entry: Entry, number: int) -> bool:
    body = entry.body
    if entry.kind in (HELD, REVISED):
        return str(body["decision"]["subject"]).endswith(f"/{number}")
    return body.get("version") == number or body.get("to") == number


def _underway(registry: Registry, version: Version) -> bool:
    return registry.deployment(version.story).challenger == version.number


def _event(registry: Registry, version: Version, entry: Entry) -> dict[str, Any]:
    decision = _decision(entry)
    void = entry.sequence in registry.state(version.story).voided
    return {
        "sequence": entry.sequence,
        "at": isoformat(entry.at),
        "actor": entry.actor,
        "kind": entry.kind,
        "what": _what(entry, version, decision) + (" (void: a kill switch was on)" if void else ""),
        "reason": decision.reason if decision else entry.body.get("reason", ""),
        "verdicts": [one.as_dict() for one in decision.verdicts] if decision else [],
        "evidence": entry.body.get("evidence"),
        "override": entry.kind in (KIND, REENABLED, REVIEWED) or (bool(decision) and _by_a_person(entry)),
    }


def _by_a_person(entry: Entry) -> bool:
    """A retreat without verdicts was ordered, not judged."""
    return entry.kind in (FAILED, ROLLED_BACK) and not entry.body["decision"]["verdicts"]


def _decision(entry: Entry) -> Decision | None:
    found = entry.body.get("gate") if entry.kind == REGISTERED else entry.body.get("decision")
    return Decision.from_dict(found) if found else None


def _what(entry: Entry, version: Version, decision: Decision | None) -> str:
    if entry.kind == KIND:
        return f"{entry.body['name']} was set to {str(entry.body['value']).lower()}"
    if entry.kind == ROLLED_BACK and entry.body["to"] == version.number:
        return f"came back as champion when version {entry.body['version']} was rolled back"
    stage = decision.verdicts[0].name.split(".")[0] if decision and decision.verdicts else "its stage"
    severity = entry.body.get("severity")
    as_role = f" as {entry.body['role']}" if entry.body.get("role") else ""
    what = _WHAT.get(entry.kind, entry.kind).format(**{"stage": stage, "as_role": as_role, **entry.body})
    return f"{what} ({severity})" if severity else what


def _labels(registry: Registry, version: Version) -> dict[str, Any]:
    """The finalised label version it was trained on, as the ledger has it."""
    wanted = str(version.label_version)
    found = [
        entry
        for entry in registry.ledger.entries(subject=f"labels/{version.story}", kind="labels.finalised")
        if str(entry.body.get("number")) == wanted
    ]
    pinned = {"entry": found[-1].sequence, **found[-1].body} if found else {}
    return {"label_version": version.label_version, **pinned}


def _lines(version: Version, body: Mapping[str, Any]) -> Iterable[str]:
    cap = f", capped at {version.capped}" if version.capped else ""
    yield f"{version.story} version {version.number}: {version.status}{cap}"
    labels = body["labels"]
    sources = ", ".join(f"{name} {count}" for name, count in labels.get("sources", {}).items())
    yield f"  labels      version {labels['label_version']}" + (f" from {sources}" if sources else "")
    yield f"  data        snapshot {body['data']['data_snapshot_id']}"
    yield f"  features    schema {body['features']['feature_schema_version']}"
    yield f"  code        {body['code']['code_revision']}, seed {body['code']['seed']}"
    yield f"  artifact    {version.artifact[:12]}"
    yield f"  evaluation  {_numbers(version.metrics)}"
    for waiver in version.waivers:
        yield f"  waived      {waiver['name']} by {waiver['actor']}: {waiver['reason']}"
    for name in body["missing_documents"]:
        yield f"  missing     document '{name}' is no longer in the store"
    for event in body["events"]:
        yield f"{event['at'][:19]}Z  {event['what']}, by {event['actor']}"
        if event["reason"]:
            yield f"    {event['reason']}"
        for verdict in event["verdicts"]:
            yield f"    {_verdict_line(Verdict.from_dict(verdict))}"
    ledger = body["ledger"]
    if ledger["verified"]:
        head = ledger["head"][:12]
        yield f"Read from a ledger of {ledger['entries']:,} entries, each verified; head {head}"
    else:
        yield f"NOT to be trusted: {ledger['problem']}"


def _numbers(metrics: Mapping[str, Any]) -> str:
    shown = []
    for name, value in metrics.items():
        number = value.get("value") if isinstance(value, Mapping) else value
        if isinstance(number, int | float):
            shown.append(f"{name} {number:.4g}")
    return ", ".join(shown) or "none recorded"


def _verdict_line(verdict: Verdict) -> str:
    mark = {"pass": "+", "fail": "x", "insufficient": "?", "stale": "~"}[str(verdict.status)]
    parts = [f"{mark} {verdict.name}: {verdict.sentence}"]
    if verdict.value is not None and verdict.threshold is not None:
        parts.append(f"[{verdict.value:.4g} against {verdict.threshold:.4g}, n={verdict.n}]")
    if not verdict.blocking:
        parts.append("(informs only)")
    return " ".join(parts)
