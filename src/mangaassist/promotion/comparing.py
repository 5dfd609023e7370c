"""What differs between two registered versions: from where they come from to what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mangaassist.promotion.versions import Version

_OWN = frozenset({"version", "run_id", "registered_at", "signatures"})
"""Fields that differ between any two versions and so say nothing."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs.

    Attributes:
        field: its dotted name in the registry record.
        before, after: its two values; None where a version has none.
        change: ``after - before`` for two numbers; None otherwise.
    """

    field: str
    before: Any
    after: Any
    change: float | None

    def as_dict(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return asdict(self)


def compare(before: Version, after: Version) -> tuple[Difference, ...]:
    """Every field of the registry record that differs, in the order of the record."""
    left, right = dict(_flat(before.as_dict())), dict(_flat(after.as_dict()))
    left["policy"], right["policy"] = before.policy, after.policy
    names = [*left, *(name for name in right if name not in left)]
    return tuple(
        Difference(name, left.get(name), right.get(name), _change(left.get(name), right.get(name)))
        for name in names
        if name.partition(".")[0] not in _OWN and left.get(name) != right.get(name)
    )


def _flat(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _change(before: Any, after: Any) -> float | None:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (before, after))
    return after - before if numbers else None
