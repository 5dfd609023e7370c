"""The demo's summary for people."""

from __future__ import annotations

from collections.abc import Iterator

from mangaassist.lifecycle.demo import DemoResult


def summary_lines(result: DemoResult) -> Iterator[str]:
    """The whole story in about twenty lines; every number is of the simulated shop."""
    yield ""
    yield f"{result.days:.0f} simulated days, {result.requests:,} requests through router and model server."
    yield "All data is simulated: no number here says anything about real traffic."
    yield ""
    yield f"Champion: version {result.champion} of {result.story}. Golden accuracy on unseen phrasings:"
    yield f"  {'language':<9}{'accuracy':>9}{'95% interval':>18}{'n':>7}{'floor':>8}{'ceiling':>9}"
    for language, one in result.languages.items():
        interval = f"{one['low']:.3f} to {one['high']:.3f}"
        ceiling = f"{one['ceiling']:.3f}" if one["ceiling"] is not None else "-"
        numbers = f"{one['n']:>7,}{one['floor']:>8.3f}{ceiling:>9}"
        yield f"  {language:<9}{one['accuracy']:>9.3f}{interval:>18}{numbers}"
    yield ""
    yield "Drift at its strongest, kind by kind:"
    for kind, found in result.drift.kinds.items():
        state = "nothing decided yet" if found is None else f"{found.state} ({found.name})"
        yield f"  {kind:<11}{state}"
    yield ""
    if result.rollback is not None:
        version, seconds = result.rollback
        yield f"Version {version} did harm and was rolled back by itself in {seconds:.3f} s:"
        yield f"  {result.rollback_reason}"
        yield ""
    yield result.audit.sentence
