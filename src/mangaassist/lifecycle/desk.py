"""What a person does to an incident: acknowledge, mitigate, close with its retrospective, follow up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import Conflict, GateRefused, InputError
from mangaassist.incidents import actions, clock, reading, records
from mangaassist.incidents.actions import ActionItem
from mangaassist.incidents.notices import Notice, addresses, send
from mangaassist.incidents.outbox import judge
from mangaassist.incidents.rates import Past, past, rates
from mangaassist.incidents.records import Known
from mangaassist.incidents.retro import Retrospective, write
from mangaassist.lifecycle.platform import Platform


def listing(platform: Platform) -> dict[str, Any]:
    """Every incident with its clock, the rates over the last quarter, and the open action items."""
    now, known = platform.clock.now(), reading.incidents(platform.ledger)
    return {
        "incidents": [shown(one, platform) for one in known],
        "rates": [one.as_dict() for one in rates([past(one) for one in known], now=now)],
        "action_items": [one.as_dict() for one in actions.items(platform.ledger) if one.open],
    }


def shown(known: Known, platform: Platform) -> dict[str, Any]:
    """One incident with its clock as a JSON object."""
    walk = known.localisation
    return {
        **known.incident.as_dict(),
        "localisation": walk.as_dict() if walk else None,
        "clock": clock.standing(known, now=platform.clock.now()).as_dict(),
        "timeline": [
            {"at": at.isoformat(), "kind": kind, "actor": actor, "body": dict(body)}
            for at, kind, actor, body in known.timeline
        ],
    }


def move(platform: Platform, key: str, kind: str, *, actor: str, reason: str, **body: Any) -> Known:
    """Write that an incident was acknowledged, mitigated, or has recovered.

    Raises:
        InputError: no such incident. Conflict: it was so already, or is over.
    """
    known = reading.incident(platform.ledger, key)
    word = kind.partition(".")[2]
    reached = clock.moments(known)
    if word in reached or "closed" in reached:
        raise Conflict(
            f"incident {known.incident.id}",
            expected=f"one not yet {word}",
            got=f"{word if word in reached else 'closed'} at {reached.get(word, reached.get('closed'))}",
            next_step=f"See 'mangaassist incident show {known.incident.id}'.",
        )
    if not reason.strip():
        raise InputError(
            "--reason", expected="what was done", got="nothing", next_step="Say it in a few words."
        )
    _append(platform, known, kind, {"reason": reason, **body}, actor=actor)
    return reading.incident(platform.ledger, known.incident.id)


def retrospective(platform: Platform, key: str) -> Retrospective:
    """The document as of now; nothing is written down."""
    known = reading.incident(platform.ledger, key)
    return write(
        known,
        now=platform.clock.now(),
        items=actions.items(platform.ledger, known.incident.id),
        earlier=_earlier(platform, known),
        affected=affected(platform, known),
    )


def close(
    platform: Platform, key: str, *, actor: str, reason: str, category: str, cause: str, false_alarm: bool
) -> Retrospective:
    """End an incident: it has recovered, its retrospective is kept, its action items are open.

    Raises:
        GateRefused: nobody has mitigated it, and it is no false alarm.
    """
    known = reading.incident(platform.ledger, key)
    reached = clock.moments(known)
    if not false_alarm and not {"mitigated", "recovered"} & set(reached):
        raise GateRefused(
            f"incident {known.incident.id}",
            expected="one that was mitigated or has recovered",
            got="one that still hurts, as far as the ledger knows",
            next_step=f"Run 'mangaassist incident mitigate {known.incident.id} --reason …' first, "
            "or pass --false-alarm.",
        )
    if "recovered" not in reached and not false_alarm:
        known = move(platform, key, records.RECOVERED, actor=actor, reason=reason)
    closing = {"reason": reason, "category": category, "cause": cause, "false_alarm": false_alarm}
    _append(platform, known, clock.CLOSED, closing, actor=actor)
    document = retrospective(platform, known.incident.id)
    now = platform.clock.now()
    for item in document.items:
        actions.record(platform.ledger, item, actor=actor, at=now)
    kept = platform.artifacts.put(document.markdown().encode(), durable=True)
    platform.ledger.append(
        kind="incident.retrospective",
        subject=known.incident.subject,
        body={"digest": kept, "action_items": [one.id for one in document.items]},
        actor=actor,
        at=now,
    )
    return replace(document, items=tuple(actions.items(platform.ledger, known.incident.id)))


def add_action(platform: Platform, item: ActionItem, *, actor: str) -> ActionItem:
    """Open an action item on an incident that exists; returns it with the incident's whole id."""
    known = reading.incident(platform.ledger, item.incident)
    item = replace(item, incident=known.incident.id)
    actions.record(platform.ledger, item, actor=actor, at=platform.clock.now())
    return item


def notice_listing(platform: Platform, *, test: bool, deliver: bool) -> dict[str, Any]:
    """The newest notices and how the outbox stands, after a test and a round of deliveries if asked."""
    now = platform.clock.now()
    if test:
        roles = tuple(platform.home.settings.notices.roles)
        notice = Notice(
            f"test/{isoformat(now)}", "SEV-4", "A test of the notices", "Nothing is wrong.", roles
        )
        platform.outbox.put(notice, at=now)
    if deliver:
        platform.outbox.deliver(send, now=now)
    verdict = judge(
        platform.outbox.standing(now=now), len(addresses(platform.home.settings.notices)), now=now
    )
    return {"verdict": verdict.as_dict(), "notices": platform.outbox.recent()}


def affected(platform: Platform, known: Known) -> int | None:
    """Answers given by the stories that alarmed, from the onset until recovery or now.

    None when what alarmed is not a story of this home, so that nobody can count.
    """
    reached = clock.moments(known)
    return _answered(platform, known, reached["began"], reached.get("recovered", platform.clock.now()))


def hurt_in_an_hour(platform: Platform, known: Known) -> int | None:
    """Answers of the last hour by the stories that alarmed, once the clock asks how large an incident is.

    None before that, and when what alarmed is not a story of this home.
    """
    now = platform.clock.now()
    if now - known.incident.opened < clock.COMMAND:
        return None
    return _answered(platform, known, now - timedelta(hours=1), now)


def _answered(platform: Platform, known: Known, since: datetime, until: datetime) -> int | None:
    import polars as pl

    from mangaassist.serving.prediction_log import predictions_table
    from mangaassist.storage.tables import Between

    own = [one for one in known.incident.components if one in platform.registry.stories()]
    tables = [name for name in map(predictions_table, own) if platform.tables.exists(name)]
    if not own:
        return None
    given = (pl.col("arm") != "shadow") & pl.col("answered_by").is_not_null()
    columns, span = ("at", "arm", "answered_by"), Between("at", since, until)
    return sum(
        platform.tables.read(name, columns=columns, between=span).filter(given).height for name in tables
    )


def _earlier(platform: Platform, known: Known) -> list[Past]:
    opened = known.incident.opened
    return [past(one) for one in reading.incidents(platform.ledger) if one.incident.opened < opened]


def _append(platform: Platform, known: Known, kind: str, body: Mapping[str, Any], *, actor: str) -> None:
    platform.ledger.append(
        kind=kind,
        subject=known.incident.subject,
        body=body,
        actor=actor,
        at=platform.clock.now(),
        expected=known.head,
    )
