"""One feature, as the catalog describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

Value = int | float | str | bool

SERVED = ("view", "entity", "dtype", "default", "serving_lag", "ttl", "recency_window")
"""What decides which value a model is given."""
DESCRIPTIVE = ("freshness_sla", "owner", "description")
"""The rest: a change is a new schema version too, but training and serving still agree on every value."""
_DURATIONS = ("serving_lag", "ttl", "freshness_sla", "recency_window")


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Attributes:
        name: column name in its view's table.
        view: the table it lives in, written together with its other columns.
        entity: the key column of that table.
        dtype: "int", "float", "bool" or "string".
        default: what a model is given when there is no value.
        serving_lag: how long after an event serving can see it; 0 (online) or an hour and more (batch).
        ttl: age beyond which a value is stale and the default takes its place.
        freshness_sla: promised age of the newest value.
        recency_window: how much time the value summarises.
        owner: who answers for it.
        description: one sentence.
    """

    name: str
    view: str
    entity: str
    dtype: str
    default: Value
    serving_lag: timedelta
    ttl: timedelta
    freshness_sla: timedelta
    recency_window: timedelta
    owner: str
    description: str

    def served(self) -> dict[str, Any]:
        """The part that the served fingerprint covers, as JSON values (durations in seconds)."""
        return {name: _plain(getattr(self, name)) for name in SERVED}

    def as_dict(self) -> dict[str, Any]:
        """Everything but the name, as JSON values (durations in seconds)."""
        return {name: _plain(getattr(self, name)) for name in (*SERVED, *DESCRIPTIVE)}

    @classmethod
    def from_dict(cls, name: str, body: Mapping[str, Any]) -> Feature:
        """The inverse of :meth:`as_dict`."""
        durations = {field: timedelta(seconds=body[field]) for field in _DURATIONS}
        return cls(**{**body, **durations, "name": name})


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
