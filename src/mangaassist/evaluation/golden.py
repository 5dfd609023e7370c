"""Is the golden set still a picture of what is asked? Its age, and its mix beside live traffic's (EVA-1).

A golden set is refreshed every quarter. In between it can go stale earlier, when traffic moves away from it.
None of these verdicts blocks by itself: whether a stale set holds a release is for the story's policy to say
(``verdicts: {golden_set.*: block}``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from mangaassist.core.verdict import Status, Verdict
from mangaassist.evaluation.wording import share
from mangaassist.stats.divergence import psi_test

LIVE_WINDOW = timedelta(days=7)
LEAST_LIVE = 500
COMMON = 0.01
LEAST_GOLDEN = 10


def age_verdict(captured: Sequence[datetime], *, now: datetime, limit: timedelta) -> Verdict:
    """Stale when even the newest golden row is older than ``limit``.

    Args:
        captured: when each golden row was captured.
    """
    if not captured:
        return _verdict("age", Status.INSUFFICIENT, "The golden set is empty.", n=0)
    days, most = (now - max(captured)) / timedelta(days=1), limit / timedelta(days=1)
    stale = days > most
    sentence = (
        f"The newest of {len(captured):,} golden rows is {days:.0f} days old; "
        f"{'it is time for a refresh, which is due after' if stale else 'a refresh is due after'} {most:.0f}."
    )
    status = Status.STALE if stale else Status.PASS
    return _verdict("age", status, sentence, value=days, threshold=most, n=len(captured))


def mix_verdict(what: str, golden: Mapping[str, int], live: Mapping[str, int], *, limit: float) -> Verdict:
    """Stale when live traffic has another mix than the golden set, or a common value the set hardly has.

    Args:
        what: what is mixed ("language", "label").
        golden, live: rows per value; of labels, the live ones are what the models answered, since nobody
            knows the true ones yet.
        limit: the PSI above which two mixes are different.
    """
    n = sum(live.values())
    if n < LEAST_LIVE or not golden:
        sentence = f"{n} live requests of the last 7 days; {LEAST_LIVE} are needed to compare their {what}s."
        return _verdict(f"mix.{what}", Status.INSUFFICIENT, sentence, threshold=limit, n=n)
    rare = sorted(
        value for value, count in live.items() if count / n >= COMMON and golden.get(value, 0) < LEAST_GOLDEN
    )
    values = sorted({*golden, *live})
    if rare:
        worst = max(rare, key=lambda value: live[value])
        sentence = (
            f"{share(live[worst] / n)} of live requests are '{worst}', which {golden.get(worst, 0)} golden "
            f"rows are{f' (and {len(rare) - 1} more such {what}s)' if len(rare) > 1 else ''}."
        )
        return _verdict(f"mix.{what}", Status.STALE, sentence, value=float(len(rare)), threshold=0.0, n=n)
    if len(values) < 2:
        return _verdict(f"mix.{what}", Status.PASS, f"There is one {what} only, here and there.", n=n)
    found = psi_test(
        [golden.get(one, 0) for one in values], [live.get(one, 0) for one in values], threshold=limit
    )
    status = Status.STALE if found.fires else Status.PASS if found.sufficient else Status.INSUFFICIENT
    moved = "further from it than" if found.fires else "within"
    sentence = (
        f"The {what}s of {n:,} live requests of the last 7 days are at a PSI of {found.value:.2f} from the "
        f"golden set's, {moved} the {limit:g} allowed."
    )
    return _verdict(f"mix.{what}", status, sentence, value=found.value, threshold=limit, n=n)


def _verdict(
    name: str,
    status: Status,
    sentence: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
    n: int,
) -> Verdict:
    return Verdict(
        f"golden_set.{name}", status, sentence, value=value, threshold=threshold, n=n, blocking=False
    )
