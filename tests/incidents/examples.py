"""One incident as the ledger would tell it: the source's shard-3 story (004, AML-08), minute by minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents import clock, records
from mangaassist.incidents.records import Alarm, Incident, Known, Localisation, Mitigation, Onset, Suspect

T0 = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


def minute(value: float) -> datetime:
    return T0 + timedelta(minutes=value)


def alarm(name: str = "reranker.ndcg", *, at: float = 0, began: float = -12, cohort: str = "all") -> Alarm:
    onset = Onset(minute(began - 5), minute(began), minute(began + 5))
    return Alarm("quality", name, cohort, minute(at), 0.61, 0.78, False, onset)


def walk(category: str = "index", *, probability: float = 0.81) -> Localisation:
    verdicts = (
        Verdict("code_deploy", Status.PASS, "No deploy in 24 h.", 0.0),
        Verdict("upstream_data", Status.PASS, "Row counts and schema are as usual.", 0.0),
        Verdict("label_drift", Status.INSUFFICIENT, "No label has arrived for this hour."),
        Verdict("index", Status.FAIL, "Recall of catalog_index.shard_3 is 0.43.", 0.43, threshold=0.85),
    )
    suspects = (
        Suspect(category, "catalog_index.shard_3", probability, "Began 3 min before; touches the reranker."),
        Suspect("managed_service", "search-api", 0.11, "Upgraded overnight."),
    )
    mitigation = Mitigation(
        "Rebuild shard 3.", "mangaassist index rebuild catalog --shard 3", False, "index.md"
    )
    return Localisation(
        "20261120-0300-abcd", minute(9), category, probability, verdicts, suspects, mitigation
    )


def known(
    events: Mapping[float, tuple[str, Mapping[str, Any]]] | None = None,
    *,
    localisation: Localisation | None = None,
    alarms: tuple[Alarm, ...] = (),
) -> Known:
    """An incident opened at T0 with what happened at which minute."""
    incident = Incident("20261120-0300-abcd", T0, alarms or (alarm(),), ("catalog_index",))
    told = {0.0: (records.OPENED, incident.as_dict()), **(events or {})}
    timeline = tuple((minute(at), kind, "ana.tanaka", body) for at, (kind, body) in sorted(told.items()))
    moments = {kind: at for at, kind, _, _ in timeline}
    return Known(
        incident,
        len(timeline),
        localisation,
        moments.get(records.MITIGATED),
        moments.get(records.RECOVERED),
        timeline,
    )


def resolved(*, at: float = 45, closing: Mapping[str, Any] | None = None) -> Known:
    """Localised at 9, mitigated at 35, recovered at ``at`` minutes, then closed."""
    found = walk()
    closed = {"false_alarm": False, "category": "index", "cause": "catalog_index.shard_3", "reason": "Done."}
    return known(
        {
            5.0: (clock.ACKNOWLEDGED, {"reason": "On it."}),
            9.0: (records.LOCALISED, found.as_dict()),
            35.0: (records.MITIGATED, {"reason": "Shard 3 is rebuilt."}),
            at: (records.RECOVERED, {"reason": "nDCG is 0.77."}),
            at + 60: (clock.CLOSED, closed if closing is None else closing),
        },
        localisation=found,
    )
