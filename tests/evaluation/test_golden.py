"""A golden set goes stale with age, with traffic that moves away, and with common requests it never asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mangaassist.core.verdict import Status
from mangaassist.evaluation.golden import age_verdict, mix_verdict

NOW = datetime(2026, 10, 5, tzinfo=UTC)
QUARTER = timedelta(days=92)


@pytest.mark.parametrize(
    ("days", "status"), [([400, 91], Status.PASS), ([93, 400], Status.STALE), ([], Status.INSUFFICIENT)]
)
def test_age_is_that_of_the_newest_row(days: list[int], status: Status) -> None:
    """EVA-1: refreshed quarterly, or stale."""
    found = age_verdict([NOW - timedelta(days=one) for one in days], now=NOW, limit=QUARTER)
    assert (found.status, found.blocking) == (status, False)
    assert found.value == (min(days) if days else None)


@pytest.mark.parametrize(
    ("live", "status", "said"),
    [
        ({"en": 5500, "ja": 4500}, Status.PASS, "within"),
        ({"en": 1500, "ja": 8500}, Status.STALE, "further"),
        ({"en": 5300, "ja": 4400, "mixed": 300}, Status.STALE, "'mixed'"),
        ({"en": 5500, "ja": 4470, "mixed": 30}, Status.PASS, "within"),
        ({"en": 300, "ja": 100}, Status.INSUFFICIENT, "500"),
    ],
)
def test_the_mix_beside_live_traffic(live: dict[str, int], status: Status, said: str) -> None:
    """EVA-1: PSI as drift has it, and values that are common live and hardly there in the set."""
    found = mix_verdict("language", {"en": 600, "ja": 400}, live, limit=0.2)
    assert (found.status, found.blocking) == (status, False)
    assert said in found.sentence


def test_too_few_golden_rows_to_tell() -> None:
    found = mix_verdict("label", {"a": 11, "b": 12}, {"a": 300, "b": 300}, limit=0.2)
    assert found.status is Status.INSUFFICIENT
