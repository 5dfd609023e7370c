"""The 3am page's snapshot as JSON: what the schedule writes and every server reads back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.verdict import Verdict
from mangaassist.incidents.records import Change, Suspect
from mangaassist.incidents.snapshot import IncidentView, OncallSnapshot, PanelView, SeriesView


def as_dict(view: OncallSnapshot) -> dict[str, Any]:
    """The snapshot as a JSON object."""
    body: dict[str, Any] = _plain(view)
    return body


def from_dict(body: Mapping[str, Any]) -> OncallSnapshot:
    """The inverse of :func:`as_dict`."""
    return OncallSnapshot(
        _at(body["at"]),
        body["source"],
        tuple(_incident_of(one) for one in body["incidents"]),
        tuple(_series_of(one) for one in body["focus"]),
        tuple(
            PanelView(
                one["name"],
                Verdict.from_dict(one["verdict"]),
                tuple(_series_of(row) for row in one["series"]),
                one["more"],
            )
            for one in body["panels"]
        ),
        dict(body["absent"]),
        tuple(Change.from_dict(one) for one in body["changes"]),
        tuple(body["occasions"]),
        tuple(Verdict.from_dict(one) for one in body["dependencies"]),
        body["problem"],
    )


def _plain(value: Any) -> Any:
    """A value of this module as JSON values."""
    if isinstance(value, Verdict | Change | Suspect):
        return value.as_dict()
    if isinstance(value, datetime):
        return isoformat(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _series_of(body: Mapping[str, Any]) -> SeriesView:
    points = {
        window: tuple((_at(at), value) for at, value in found) for window, found in body["points"].items()
    }
    return SeriesView(**{**body, "verdict": Verdict.from_dict(body["verdict"]), "points": points})


def _incident_of(body: Mapping[str, Any]) -> IncidentView:
    known = body["acknowledged"]
    return IncidentView(
        **{
            **body,
            "opened": _at(body["opened"]),
            "began": _at(body["began"]),
            "acknowledged": _at(known) if known else None,
            "alarms": tuple(body["alarms"]),
            "components": tuple(body["components"]),
            "shared": tuple(body["shared"]),
            "deadlines": tuple(Verdict.from_dict(one) for one in body["deadlines"]),
            "tree": tuple(Verdict.from_dict(one) for one in body["tree"]),
            "suspects": tuple(Suspect(**one) for one in body["suspects"]),
        }
    )


def _at(text: str) -> datetime:
    return parse_instant(text, field="snapshot")
