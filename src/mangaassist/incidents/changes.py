"""The change log: everything that could have done it, in one place.

What the platform does itself is in the ledger already: versions and switches are read from there. Everything
else is recorded: deploys from git (:mod:`.deploys`); prompts, indices, services and campaigns by webhook.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mangaassist.core.errors import InputError
from mangaassist.governance import switches
from mangaassist.incidents.records import Change
from mangaassist.storage.ledger import Entry, Ledger

RECORDED: Final = "change.recorded"
_PROMOTED, _ROLLED_BACK = "registry.promoted", "registry.rolled_back"


def record(ledger: Ledger, change: Change, *, actor: str) -> bool:
    """Write ``change`` down, once.

    Returns:
        Whether it was new.

    Raises:
        InputError: it took effect after it became known.
    """
    if change.at > change.known_at:
        raise InputError(
            "change.at",
            expected="a time that has come",
            got=change.at.isoformat(),
            next_step="Record a change when it takes effect; plans belong into the calendar.",
        )
    subject = f"change/{change.id}"
    if ledger.head(subject):
        return False
    ledger.append(kind=RECORDED, subject=subject, body=change.as_dict(), actor=actor, at=change.known_at)
    return True


def changes(ledger: Ledger, since: datetime, until: datetime, *, known_by: datetime) -> list[Change]:
    """Every change that took effect between the two and was known by ``known_by``, oldest first."""
    found = [Change.from_dict(entry.body) for entry in ledger.entries(kind=RECORDED)]
    found += [_version(entry) for kind in (_PROMOTED, _ROLLED_BACK) for entry in ledger.entries(kind=kind)]
    found += [_switch(entry) for entry in ledger.entries(kind=switches.KIND)]
    chosen = [one for one in found if since <= one.at <= until and one.known_at <= known_by]
    return sorted(chosen, key=lambda one: one.at)


def _version(entry: Entry) -> Change:
    """A version that began or ceased to answer everybody; the story it belongs to is what it may break."""
    story = entry.subject.partition("/")[2]
    done = "is champion" if entry.kind == _PROMOTED else "was taken back"
    revert = f"mangaassist rollback {story}" if entry.kind == _PROMOTED else None
    summary = f"Version {entry.body['version']} {done}."
    return Change("model", entry.subject, entry.at, entry.at, entry.actor, summary, (story,), (), revert)


def _switch(entry: Entry) -> Change:
    name, value = str(entry.body["name"]), bool(entry.body["value"])
    story, dot, _ = name.partition(".")
    summary = f"{name} is {'on' if value else 'off'}: {entry.body['reason']}"
    return Change(
        "switch", entry.subject, entry.at, entry.at, entry.actor, summary, (story,) if dot else (), (), None
    )
