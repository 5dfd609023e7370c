"""The protocol through which evidence is read, live and in a drill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from mangaassist.incidents.records import Change, Occasion, Series


class Evidence(Protocol):
    """Everything the triage tree may look at; the live platform and the drills both implement it.

    Nothing in it knows a cause. ``now`` is the instant it was gathered: it holds nothing known later.
    """

    @property
    def now(self) -> datetime: ...

    @property
    def absent(self) -> Mapping[str, str]:
        """Panels that are not measured here, and why in one sentence."""
        ...

    def panels(self) -> Sequence[str]:
        """The panels it can answer for; one that is absent makes its nodes ``insufficient``."""
        ...

    def series(self, panel: str) -> Sequence[Series]:
        """The series of one panel, some days up to ``now``."""
        ...

    def minutes(self, panel: str, since: datetime) -> Sequence[Series]:
        """Series of a panel that can be read minute by minute: the minutes that ended after ``since``."""
        ...

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        """Changes that took effect between the two and were known by ``now``."""
        ...

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        """Calendar entries in force at any time between the two."""
        ...
