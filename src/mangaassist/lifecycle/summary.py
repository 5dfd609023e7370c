"""The demo's summary for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def summary_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The whole story in about twenty lines; every number is of the simulated shop.

    Args:
        shown: what :func:`mangaassist.lifecycle.demo.run_demo` returned.
    """
    yield ""
    days, requests = shown["simulated_days"], shown["requests"]
    yield f"{days:.0f} simulated days, {requests:,} requests through router and model server."
    yield "All data is simulated: no number here says anything about real traffic."
    yield ""
    champion = f"version {shown['champion_version']} of {shown['story']}"
    yield f"Champion: {champion}. Golden accuracy on unseen phrasings:"
    yield f"  {'language':<9}{'accuracy':>9}{'95% interval':>18}{'n':>7}{'floor':>8}{'ceiling':>9}"
    for language, one in shown["languages"].items():
        interval = f"{one['low']:.3f} to {one['high']:.3f}"
        ceiling = f"{one['ceiling']:.3f}" if one["ceiling"] is not None else "-"
        numbers = f"{one['n']:>7,}{one['floor']:>8.3f}{ceiling:>9}"
        yield f"  {language:<9}{one['accuracy']:>9.3f}{interval:>18}{numbers}"
    yield ""
    drift = shown["drift"]
    yield f"Drift of version {drift['version']} after the season began ({drift['at'][:10]}):"
    for kind in ("input", "prediction", "label", "concept"):
        found = shown["drift"]["kinds"][kind]
        state = (
            "quiet, too few labels to say more" if found is None else f"{found['state']} ({found['name']})"
        )
        yield f"  {kind:<11}{state}"
    yield ""
    if shown["rollback"] is not None:
        version, seconds = shown["rollback"]["version"], shown["rollback"]["seconds"]
        yield f"Version {version} did harm and was rolled back by itself in {seconds:.3f} s:"
        yield f"  {shown['rollback']['reason']}"
        yield ""
    yield shown["ledger"]["sentence"]
