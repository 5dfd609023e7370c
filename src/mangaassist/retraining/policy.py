"""How often and how dearly a drift may retrain a story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.story import Story
from mangaassist.retraining.documents import malformed, of_home, shipped

FILE = "retraining.yaml"
MONTH = timedelta(days=30)
"""Over how long a budget is counted."""
_SPARE = 2
"""Drift may make as many runs as the cadence does."""
_KEYS = ("per_month", "cooldown_hours")


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """Limits on retrains that drift causes; the cadence has its own rhythm.

    Attributes:
        per_month: cost of a story's runs in thirty days after which a person decides; None for no limit.
        cooldown: the least time between two retrains; a candidate needs labels its predecessor did not have.
    """

    per_month: float | None = None
    cooldown: timedelta = timedelta(days=1)

    @classmethod
    def load(cls, story: Story, home: Path | None = None) -> RetrainPolicy:
        """The story's policy: its own budget, then the shipped default, then what the home says.

        Raises:
            InputError: an unknown key or a value that is no number of zero or more.
        """
        runs = MONTH / story.cadence
        policy = cls(per_month=_SPARE * story.budget.run * runs if story.budget else None)
        for body in (shipped("policy.yaml"), of_home(home, FILE)):
            policy = _changed(policy, FILE, body.get("default") or {})
            policy = _changed(
                policy, f"{FILE}: {story.name}", (body.get("stories") or {}).get(story.name) or {}
            )
        return policy


def _changed(policy: RetrainPolicy, where: str, values: Any) -> RetrainPolicy:
    if not isinstance(values, Mapping):
        raise malformed(where, "a mapping", values)
    for key, value in values.items():
        if key not in _KEYS:
            raise InputError(
                where, expected="a known key", got=f"'{key}'", next_step=nearest(str(key), _KEYS)
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise malformed(f"{where}: {key}", "a number, zero or more", value)
    cooldown = values.get("cooldown_hours")
    return replace(
        policy,
        per_month=values.get("per_month", policy.per_month),
        cooldown=policy.cooldown if cooldown is None else timedelta(hours=cooldown),
    )
