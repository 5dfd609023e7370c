"""Incidents as the ledger tells them."""

from __future__ import annotations

from collections.abc import Sequence

from mangaassist.core.errors import InputError, nearest
from mangaassist.incidents import clock, records
from mangaassist.incidents.records import SUBJECT, Incident, Known, Localisation
from mangaassist.storage.ledger import Entry, Ledger


def incidents(ledger: Ledger) -> list[Known]:
    """Every incident, in the order in which they were opened."""
    subjects = [entry.subject for entry in ledger.entries(kind=records.OPENED)]
    return [_known(ledger.entries(subject=one)) for one in dict.fromkeys(subjects)]


def running(ledger: Ledger) -> list[Known]:
    """The incidents that have neither recovered nor been closed."""
    over = {
        entry.subject for kind in (records.RECOVERED, clock.CLOSED) for entry in ledger.entries(kind=kind)
    }
    return [one for one in incidents(ledger) if one.incident.subject not in over]


def incident(ledger: Ledger, key: str) -> Known:
    """One incident by its id, or by the beginning of it when that names only one.

    Raises:
        InputError: no incident, or several.
    """
    known = [entry.subject.removeprefix(SUBJECT) for entry in ledger.entries(kind=records.OPENED)]
    found = [one for one in dict.fromkeys(known) if one == key] or [
        one for one in known if one.startswith(key)
    ]
    if len(found) != 1 or not key:
        raise InputError(
            "incident", expected="the id of one incident", got=repr(key), next_step=nearest(key, known)
        )
    return _known(ledger.entries(subject=SUBJECT + found[0]))


def _known(entries: Sequence[Entry]) -> Known:
    """The newest state of the incident, folded from its entries."""
    opened = [entry for entry in entries if entry.kind == records.OPENED]
    walks = [entry for entry in entries if entry.kind == records.LOCALISED]

    def first(kind: str) -> Entry | None:
        return next((entry for entry in entries if entry.kind == kind), None)

    mitigated, recovered = first(records.MITIGATED), first(records.RECOVERED)
    return Known(
        # Opened again with what joined it later; the id stays.
        Incident.from_dict(opened[-1].body),
        entries[-1].sequence,
        Localisation.from_dict(walks[-1].body) if walks else None,
        mitigated.at if mitigated else None,
        recovered.at if recovered else None,
        tuple((entry.at, entry.kind, entry.actor, entry.body) for entry in entries),
    )
