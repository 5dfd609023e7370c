"""Kill switches (PRO-8): three levels, read as a lattice in which any denial wins.

Each switch is a ledger subject of its own. Tightening one is appended without condition, so that nothing
can stand in the way of a freeze; loosening one is a compare-and-swap on what its author saw, so that an
"off" written in ignorance of a newer "on" is a conflict and not a surprise.

The epoch of an answer is the ledger sequence of the newest switch entry behind it: it only grows.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from mangaassist.core.errors import GateRefused, InputError, MangaAssistError
from mangaassist.storage.ledger import Entry, Ledger

GLOBAL_FREEZE = "global_ml_freeze"
KIND = "switch.set"
_NAMES = re.compile(rf"{GLOBAL_FREEZE}|\w+\.(promotion_enabled|technique\.\w+)")


def promotion_switch(story: str) -> str:
    """Name of the second level: may this story's gates promote anything."""
    return f"{story}.promotion_enabled"


def technique_switch(story: str, technique: str) -> str:
    """Name of the third level: may this story use this technique."""
    return f"{story}.technique.{technique}"


@dataclass(frozen=True, slots=True)
class Setting:
    """The last value given to one switch."""

    name: str
    value: bool
    epoch: int
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the switches allow one story.

    Attributes:
        story: whose permissions they are.
        frozen: ``global_ml_freeze``: champions stay, challengers get no traffic, drift triggers nothing.
        promotion_enabled: the story's own switch.
        techniques: the story's technique flags that somebody set.
        epoch: ledger sequence of the newest switch entry that was read.
        source: "defaults" when the store did not answer and the fail-safe values apply.
        sentence: why, for people and for the ledger.
    """

    story: str
    frozen: bool
    promotion_enabled: bool
    techniques: Mapping[str, bool] = field(default_factory=dict)
    epoch: int = 0
    source: Literal["ledger", "defaults"] = "ledger"
    sentence: str = ""

    @property
    def may_promote(self) -> bool:
        """Deny wins: a freeze overrides the story's switch, whatever that says."""
        return self.promotion_enabled and not self.frozen

    @property
    def challenger_traffic(self) -> bool:
        """Whether a challenger may see users; without it everybody gets the last known good version."""
        return self.may_promote

    @property
    def drift_triggers(self) -> bool:
        """Whether drift may start a retrain."""
        return not self.frozen

    def allows(self, technique: str) -> bool:
        """The finest level is honoured last: it can deny, never permit what a higher level denies."""
        return self.may_promote and self.techniques.get(technique, self.source == "ledger")

    def require_promotion(self) -> None:
        """Raise GateRefused unless promotions are allowed."""
        if self.may_promote:
            return
        name = GLOBAL_FREEZE if self.frozen else promotion_switch(self.story)
        step = (
            "Find out why with 'audit', then lift it with 'freeze off'."
            if self.source == "ledger"
            else "Bring the ledger back; nothing is promoted without it."
        )
        raise GateRefused(name, expected="promotions to be allowed", got=self.sentence, next_step=step)


class Switches:
    """The switches of one ledger, read incrementally; safe to share between threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._seen = 0
        self._history: dict[str, list[Setting]] = {}
        self._epoch = 0

    def set(
        self, name: str, value: bool, *, actor: str, reason: str, at: datetime, seen: int | None = None
    ) -> Setting:
        """Write one switch.

        Args:
            name: ``global_ml_freeze``, or what :func:`promotion_switch` and :func:`technique_switch` make.
            seen: the switch's epoch its author looked at, for loosening; None reads it now.

        Raises:
            InputError: an unknown name, or no reason. Conflict: loosening over a newer entry.
        """
        check_name(name)
        require_reason(reason)
        current = self.setting(name)
        expected = (
            None if denies(name, value) else (seen if seen is not None else current.epoch if current else 0)
        )
        body = {"name": name, "value": value, "reason": reason.strip()}
        entry = self._ledger.append(
            kind=KIND, subject=f"switch/{name}", body=body, actor=actor, at=at, expected=expected
        )
        self.refresh()
        return _setting(entry)

    def freeze(self, on: bool, *, actor: str, reason: str, at: datetime) -> Setting:
        """Set or lift ``global_ml_freeze``."""
        return self.set(GLOBAL_FREEZE, on, actor=actor, reason=reason, at=at)

    def refresh(self) -> int:
        """Read what is new; returns the epoch. Microseconds when nothing is."""
        with self._lock:
            version = self._ledger.version()
            if version > self._seen:
                for entry in self._ledger.entries(kind=KIND, after=self._epoch):
                    setting = _setting(entry)
                    self._history.setdefault(setting.name, []).append(setting)
                    self._epoch = entry.sequence
                self._seen = version
            return self._epoch

    def skip(self, sequence: int) -> None:
        """Entry ``sequence`` was just appended by the caller and is no switch: do not read for it."""
        with self._lock:
            if self._seen == sequence - 1:
                self._seen = sequence

    def permissions(self, story: str) -> Permissions:
        """What ``story`` may do now. Never raises for an unreachable store: the fail-safe defaults apply.

        A switch nobody set permits; one that cannot be read does not promote.
        """
        try:
            self.refresh()
        except MangaAssistError as error:
            return self._defaults(story, error)
        return self.at(story, None)

    def at(self, story: str, sequence: int | None) -> Permissions:
        """Permissions as the ledger had them at ``sequence`` (None: as last read), without reading anew."""
        frozen = self._value(GLOBAL_FREEZE, sequence)
        enabled = self._value(promotion_switch(story), sequence)
        prefix = technique_switch(story, "")
        techniques = {
            name.removeprefix(prefix): found.value
            for name in tuple(self._history)
            if name.startswith(prefix) and (found := self._value(name, sequence))
        }
        return Permissions(
            story,
            frozen=frozen is not None and frozen.value,
            promotion_enabled=enabled is None or enabled.value,
            techniques=techniques,
            epoch=self._epoch if sequence is None else min(sequence, self._epoch),
            sentence=_sentence(story, frozen, enabled),
        )

    def setting(self, name: str) -> Setting | None:
        """The last setting of one switch; None when nobody ever set it."""
        self.refresh()
        return self._value(name, None)

    def settings(self) -> list[Setting]:
        """The last setting of every switch anybody set, by name."""
        self.refresh()
        return [self._history[name][-1] for name in sorted(self._history)]

    def paused(self, story: str, since: datetime, until: datetime) -> timedelta:
        """How long between the two instants promotions of ``story`` were not allowed.

        A stage's planned duration counts only the time in which its challenger could see users.
        """
        relevant = (GLOBAL_FREEZE, promotion_switch(story))
        changes = sorted(
            (setting for name in relevant for setting in self._history.get(name, ())),
            key=lambda setting: setting.epoch,
        )
        total, cursor, allowed = timedelta(0), since, True
        for setting in changes:
            instant = min(max(setting.at, cursor), until)
            if not allowed:
                total += instant - cursor
            cursor, allowed = instant, self.at(story, setting.epoch).may_promote
        return total if allowed else total + (until - cursor)

    def _value(self, name: str, sequence: int | None) -> Setting | None:
        history = self._history.get(name)
        if not history:
            return None
        if sequence is None:
            return history[-1]
        index = bisect_right(history, sequence, key=lambda setting: setting.epoch)
        return history[index - 1] if index else None

    def _defaults(self, story: str, error: Exception) -> Permissions:
        # A missing signal does not freeze; a freeze this process has already read is not missing.
        frozen = self._value(GLOBAL_FREEZE, None)
        return Permissions(
            story,
            frozen=frozen is not None and frozen.value,
            promotion_enabled=False,
            epoch=self._epoch,
            source="defaults",
            sentence=f"The switches cannot be read, so nothing is promoted ({error})",
        )


def denies(name: str, value: bool) -> bool:
    """Whether ``value`` is the denying one: "on" for the freeze, "off" for every other switch."""
    return value == (name == GLOBAL_FREEZE)


def require_reason(reason: str) -> None:
    """Refuse a switch that is set without a reason."""
    if not reason.strip():
        raise InputError(
            "reason",
            expected="a sentence saying why",
            got="nothing",
            next_step="Add --reason; it stays in the ledger.",
        )


def check_name(name: str) -> None:
    """Refuse a switch name of none of the three levels."""
    if not _NAMES.fullmatch(name):
        raise InputError(
            "switch",
            expected=f"{GLOBAL_FREEZE}, STORY.promotion_enabled or STORY.technique.NAME",
            got=repr(name),
            next_step="Use one of the three forms.",
        )


def _setting(entry: Entry) -> Setting:
    body = entry.body
    return Setting(
        body["name"], bool(body["value"]), entry.sequence, entry.at, entry.actor, str(body["reason"])
    )


def _sentence(story: str, frozen: Setting | None, enabled: Setting | None) -> str:
    return " ".join(_reasons(story, frozen, enabled)) or "No switch denies anything."


def _reasons(story: str, frozen: Setting | None, enabled: Setting | None) -> Iterator[str]:
    if frozen is not None and frozen.value:
        yield f"Everything is frozen by {frozen.actor}: {frozen.reason}."
    if enabled is not None and not enabled.value:
        yield f"Promotion of {story} was switched off by {enabled.actor}: {enabled.reason}."
