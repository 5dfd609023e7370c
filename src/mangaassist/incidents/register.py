"""Incidents written to the ledger: opened, joined, localised, recovered (read back by :mod:`.reading`)."""

from __future__ import annotations

from datetime import datetime

from mangaassist.incidents import records
from mangaassist.incidents.records import Incident, Known, Localisation
from mangaassist.storage.ledger import Entry, Ledger

ACTOR = "alarms"


def opened(ledger: Ledger, incident: Incident, *, at: datetime, head: int = 0) -> Entry:
    """Open ``incident``, or write down what joined it since its entry ``head``.

    Raises:
        Conflict: somebody wrote to it since.
    """
    body = incident.as_dict()
    return ledger.append(
        kind=records.OPENED, subject=incident.subject, body=body, actor=ACTOR, at=at, expected=head
    )


def localised(ledger: Ledger, found: Localisation, *, head: int) -> Entry:
    """Write down one walk of the tree.

    Raises:
        Conflict: somebody wrote to the incident since ``head``.
    """
    subject, body = records.SUBJECT + found.incident, found.as_dict()
    return ledger.append(
        kind=records.LOCALISED, subject=subject, body=body, actor=ACTOR, at=found.at, expected=head
    )


def recovered(ledger: Ledger, known: Known, *, at: datetime) -> Entry:
    """Everything that was in alarm is back to usual.

    Raises:
        Conflict: somebody wrote to the incident since it was read.
    """
    subject, body = known.incident.subject, {"reason": "Every series that was in alarm is back to usual."}
    return ledger.append(
        kind=records.RECOVERED, subject=subject, body=body, actor=ACTOR, at=at, expected=known.head
    )
