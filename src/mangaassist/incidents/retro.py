"""The blameless retrospective of one incident: seven sections, written from its timeline (004, AML-08).

It says what happened and what the system made easy or hard. People appear by their role; their names stay in
the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mangaassist.core.clock import isoformat
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import clock, records
from mangaassist.incidents.actions import ACTION, ACTION_CLOSED, ActionItem, Monitor
from mangaassist.incidents.rates import Past, past, repeated
from mangaassist.incidents.records import EVERYBODY, Known, Localisation

TITLES: Final = (
    "Timeline",
    "Root cause",
    "Customer impact",
    "What went well",
    "What did not go well",
    "Action items",
    "Calibration",
)
PUBLISH_WITHIN = timedelta(hours=48)
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Retrospective:
    """The document.

    Attributes:
        incident: id; title: one line; written: when.
        sections: (title, lines of Markdown) in the order of :data:`TITLES`.
        items: the action items, recorded and proposed.
    """

    incident: str
    title: str
    written: datetime
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    items: tuple[ActionItem, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document as a JSON object."""
        return {
            "incident": self.incident,
            "title": self.title,
            "written": isoformat(self.written),
            "sections": [{"title": title, "lines": list(lines)} for title, lines in self.sections],
            "action_items": [item.as_dict() for item in self.items],
            "markdown": self.markdown(),
        }

    def markdown(self) -> str:
        """The document as people read it."""
        lines = [
            f"# {self.title}",
            "",
            f"Incident {self.incident}, written {self.written:%Y-%m-%d %H:%M} UTC. Roles, not names.",
        ]
        for number, (title, body) in enumerate(self.sections, 1):
            lines += ["", f"## {number}. {title}", "", *body]
        return "\n".join(lines) + "\n"


def write(
    known: Known,
    *,
    now: datetime,
    items: Sequence[ActionItem] = (),
    earlier: Sequence[Past] = (),
    affected: int | None = None,
) -> Retrospective:
    """The retrospective of ``known`` as the ledger tells it by ``now``.

    Args:
        items: what was recorded so far; what follows from the timeline is added.
        earlier: incidents before it, to say whether this one is a repeat.
        affected: answers given to the cohorts that alarmed while it lasted; None where nobody counted.
    """
    mine = past(known)
    before = repeated(mine, earlier)
    verdicts = clock.standing(known, now=now).verdicts
    all_items = [*items]
    for item in proposed(known, now=now, before=before):
        if all(item.id != one.id for one in all_items):
            all_items.append(item)
    bodies = (
        _timeline(known),
        _root_cause(known, mine),
        _impact(known, now, affected),
        _well(known, verdicts),
        _not_well(known, verdicts, before),
        [_item_line(item) for item in all_items],
        _calibration(known, mine, before),
    )
    sections = tuple((title, tuple(body)) for title, body in zip(TITLES, bodies, strict=True))
    return Retrospective(known.incident.id, _title(known), now, sections, tuple(all_items))


def proposed(known: Known, *, now: datetime, before: Past | None = None) -> Iterator[ActionItem]:
    """The action items that follow from the timeline; at least one of them is a monitor (INC-4)."""
    incident, walk = known.incident, known.localisation

    def item(title: str, owner: str, weeks: int, monitor: Monitor | None = None) -> ActionItem:
        return ActionItem(incident.id, title, owner, now + weeks * _WEEK, monitor)

    if incident.alarms:
        monitor = Monitor.of(min(incident.alarms, key=lambda one: one.onset.likeliest))
        yield item(f"Page on {monitor.sentence}.", clock.ON_CALL, 1, monitor)
    mine = past(known)
    if mine.detect > 15:
        late = f"The alarm came {mine.detect:.0f} min after the onset (target 15): find what moved first."
        yield item(late, clock.ON_CALL, 2)
    if mine.category == clock.UNKNOWN or not mine.cause:
        yield item("Find the root cause; this stays open until it is known.", clock.ON_CALL, 2)
    for verdict in walk.verdicts if walk else ():
        if verdict.status is Status.INSUFFICIENT:
            title = f"Give the triage tree evidence for '{verdict.name}': {verdict.sentence}"
            yield item(title, clock.OWNER, 2)
    yield from (item(title, clock.OWNER, 2) for title in _silent_changes(known))
    if before is not None:
        title = f"The same cause hurt on {before.opened:%Y-%m-%d}: say why its action items did not hold."
        yield item(title, clock.MANAGER, 1)


def _title(known: Known) -> str:
    what = ", ".join(known.incident.components) or "an incident without an alarm"
    return f"Retrospective: {what}, {known.incident.opened:%Y-%m-%d %H:%M} UTC"


def _timeline(known: Known) -> list[str]:
    """T+minutes from the first alarm; what each node of the tree said stands under its walk."""
    start = known.incident.opened
    began = clock.onset(known)
    lines = [f"- T{_offset(began, start)}: the shift begins (likeliest onset)."]
    lines += [f"- T{_offset(one.at, start)}: alarm. {one.sentence}" for one in known.incident.alarms]
    for at, kind, actor, body in known.timeline:
        lines.extend(f"- T{_offset(at, start)}: {said}" for said in _said(kind, actor, body))
    return lines


def _said(kind: str, actor: str, body: Any) -> Iterator[str]:
    reason = f" {body['reason']}" if body.get("reason") else ""
    match kind:
        case records.OPENED:
            yield "incident opened, on call paged."
        case clock.ACKNOWLEDGED:
            yield f"acknowledged by the on-call engineer.{reason}"
        case records.LOCALISED:
            walk = Localisation.from_dict(body)
            words = walk.category.replace("_", " ")
            yield f"triage walked by {_role(actor)}: {words} ({walk.probability:.0%})."
            for verdict in walk.verdicts:
                yield f"{_WORDS[verdict.status]} {verdict.name}: {verdict.sentence}"
        case records.MITIGATED:
            yield f"mitigated by {_role(actor)}.{reason}"
        case records.RECOVERED:
            yield f"recovered.{reason}"
        case clock.CLOSED:
            yield f"closed.{reason}"
        case _ if kind not in (ACTION, ACTION_CLOSED):
            yield f"{kind.partition('.')[2] or kind}.{reason}"


_WORDS = {
    Status.FAIL: "named:",
    Status.PASS: "ruled out:",
    Status.INSUFFICIENT: "no evidence:",
    Status.STALE: "old evidence:",
}


def _root_cause(known: Known, mine: Past) -> list[str]:
    closing = _closing(known)
    walk, lines = known.localisation, []
    if closing and closing.get("cause"):
        lines.append(f"Confirmed: {mine.category.replace('_', ' ')}, {closing['cause']}.")
    elif walk is None or walk.category == clock.UNKNOWN:
        return ["Not known. The first action item stays open until it is."]
    else:
        lines.append(f"Localised, not confirmed: {walk.category.replace('_', ' ')} ({walk.probability:.0%}).")
    if walk and walk.suspects:
        lines += ["", "| suspect | category | probability | what speaks for it |", "|---|---|---|---|"]
        for one in walk.suspects[:5]:
            said = one.sentence.replace("|", "\\|")
            lines.append(
                f"| {one.subject} | {one.category.replace('_', ' ')} | {one.probability:.0%} | {said} |"
            )
    return lines


def _impact(known: Known, now: datetime, affected: int | None) -> list[str]:
    reached = clock.moments(known)
    ended = reached.get("recovered") or reached.get("closed")
    lasted = clock.minutes((ended or now) - reached["began"])
    state = "lasted" if ended else "has lasted"
    lines = [f"- It {state} {lasted:.0f} min from the likeliest onset."]
    for alarm in known.incident.alarms:
        who = "everybody" if alarm.cohort == EVERYBODY else alarm.cohort
        lines.append(f"- {who}: {alarm.sentence}")
    if affected is None:
        lines.append("- How many answers were affected was not counted.")
    else:
        lines.append(f"- {affected:,} answers were given to these cohorts in that time.")
    return lines


def _well(known: Known, verdicts: Sequence[Verdict]) -> list[str]:
    lines = [f"- {one.sentence}" for one in verdicts if one.passed]
    detect = past(known).detect
    if detect <= 15:
        lines.append(f"- The alarm came {detect:.0f} min after the onset (target 15 min).")
    walk = known.localisation
    if walk:
        ruled_out = sum(one.passed for one in walk.verdicts)
        lines.append(f"- The tree ruled out {ruled_out} of {len(walk.verdicts)} causes from evidence.")
    return lines or ["- Nothing in the record met its target."]


def _not_well(known: Known, verdicts: Sequence[Verdict], before: Past | None) -> list[str]:
    lines = [f"- {one.sentence}" for one in verdicts if one.status is Status.FAIL]
    detect = past(known).detect
    if detect > 15:
        lines.append(f"- The alarm came {detect:.0f} min after the onset (target 15 min).")
    if "acknowledged" not in clock.moments(known):
        lines.append("- Nobody acknowledged the page.")
    walk = known.localisation
    blind = [one for one in walk.verdicts if one.status is Status.INSUFFICIENT] if walk else []
    lines.extend(f"- No evidence for '{one.name}': {one.sentence}" for one in blind)
    lines.extend(f"- {said}" for said in _silent_changes(known))
    if before is not None:
        lines.append(f"- The same cause was there on {before.opened:%Y-%m-%d}: the incident is a repeat.")
    return lines or ["- Nothing in the record missed its target."]


def _silent_changes(known: Known) -> Iterator[str]:
    """Suspected managed-service changes: nobody of ours made them, so the log must learn of them in time."""
    for one in known.localisation.suspects[:1] if known.localisation else ():
        if one.category == "managed_service":
            yield f"Learn of changes to {one.subject} when they happen: send its events to the change log."


def _item_line(item: ActionItem) -> str:
    box = " " if item.open else "x"
    watch = ""
    if item.monitor:
        said = item.monitor.sentence
        watch = " (a monitor)" if said in item.title else f" Monitor: {said}."
    ended = "" if item.open else f" Done: {item.outcome}"
    owner = item.owner.replace("_", " ")
    return f"- [{box}] `{item.id}` {item.title}{watch} (owner: {owner}; due {item.due:%Y-%m-%d}){ended}"


def _calibration(known: Known, mine: Past, before: Past | None) -> list[str]:
    walk, closing = known.localisation, _closing(known)
    lines = []
    if walk and closing and closing.get("category"):
        right = walk.category == closing["category"]
        word = "right" if right else f"wrong: it was {str(closing['category']).replace('_', ' ')}"
        lines.append(
            f"- The tree said {walk.category.replace('_', ' ')} with {walk.probability:.0%}: {word}."
        )
    elif walk:
        said = walk.category.replace("_", " ")
        lines.append(f"- The tree said {said} with {walk.probability:.0%}; nobody has confirmed it yet.")
    if mine.false_alarm:
        lines.append("- It was a false alarm: it counts against the threshold of its series.")
    question = "no, the tree has a name for it."
    if mine.category == clock.UNKNOWN:
        question = "yes, nothing in the tree fits: add a category to it."
    elif not walk or walk.category == clock.UNKNOWN:
        question = "no, but the tree did not find it: see what evidence its node lacked."
    lines.append(f"- Is this a new category? On the record: {question}")
    repeat = f"yes, of {before.opened:%Y-%m-%d}" if before else "no, not within a quarter"
    lines.append(f"- Is it a repeat? {repeat}.")
    lines.append("- For next quarter's portfolio: the open monitors and evidence gaps above.")
    return lines


def _closing(known: Known) -> dict[str, Any]:
    return next((dict(body) for _, kind, _, body in reversed(known.timeline) if kind == clock.CLOSED), {})


def _role(actor: str) -> str:
    return "the platform" if actor in ("triage", "platform", "incidents", "run") else "the on-call engineer"


def _offset(at: datetime, start: datetime) -> str:
    return f"{clock.minutes(at - start):+.0f}m"
