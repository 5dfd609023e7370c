"""Training and serving must mean the same by a feature (FEA-4): what differs is named, and refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mangaassist.core.errors import GateRefused
from mangaassist.features.catalog import Catalog, diff


def differences(training: Catalog, serving: Catalog) -> tuple[str, ...]:
    """What decides a served value and differs: "orders_90d.default 0 at training, 1 at serving"."""
    found = []
    for change in diff(training, serving):
        if change.served and change.field:
            before, after = _shown(change.before), _shown(change.after)
            found.append(f"{change.feature}.{change.field} {before} at training, {after} at serving")
        elif change.served:
            side = "serving" if change.before is None else "training"
            found.append(f"{change.feature} only at {side}")
    return tuple(found)


def require_served(
    version: str, training: Catalog | None, fingerprint: str, serving: Sequence[Catalog], *, story: str
) -> None:
    """Refuse to deploy a version trained with another schema than any that is served.

    Args:
        version: its name ("intent/3"), or what stands for one that is still to be trained.
        training: the catalog it was trained with; None when it was never published.
        fingerprint: what the version pins.
        serving: the schemas serving declares, the newest last.

    Raises:
        GateRefused: naming every field that differs.
    """
    if fingerprint in {one.fingerprint for one in serving}:
        return
    if training is None or not serving:
        got = "no schema at all" if not serving else f"schema {serving[-1].version}"
    else:
        got = "; ".join(differences(training, serving[-1]))
    raise GateRefused(
        f"features of {story}",
        expected=f"serving to declare the schema that {version} pins",
        got=got,
        next_step=f"Serve that schema with 'mangaassist features materialise {story}', or retrain {story}.",
    )


def _shown(value: Any) -> str:
    if not isinstance(value, timedelta):
        return repr(value) if isinstance(value, str) else str(value)
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"
