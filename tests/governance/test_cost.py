"""GOV-6: measured seconds times a price, against a budget; over budget blocks, unmeasured holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mangaassist.core.errors import InputError
from mangaassist.core.settings import Settings
from mangaassist.core.story import Budget
from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.governance.cost import cost_verdicts

CENT_A_SECOND = 0.01
BUDGET = Budget(run=1.0, per_thousand=0.02)


def found(budget: Budget | None, run: float, call: float | None) -> list[Verdict]:
    return cost_verdicts(budget, run_seconds=run, call_seconds=call, cpu_second=CENT_A_SECOND)


def test_costs_are_seconds_times_the_price() -> None:
    run, calls = found(BUDGET, 100.0, 0.002)
    assert (run.value, calls.value) == (1.0, 0.02)
    assert {one.status for one in (run, calls)} == {Status.PASS}


@pytest.mark.parametrize(
    ("run", "call", "name"), [(101.0, 0.001, "cost.run"), (1.0, 0.0021, "cost.per_thousand")]
)
def test_over_budget_blocks(run: float, call: float, name: str) -> None:
    verdicts = found(BUDGET, run, call)
    assert worst(verdicts) is Status.FAIL
    assert [one.name for one in verdicts if one.status is Status.FAIL] == [name]


def test_without_a_budget_costs_inform_and_without_a_measurement_they_hold() -> None:
    assert not any(one.blocking for one in found(None, 1e6, 1e6))
    assert worst(found(BUDGET, 1.0, None)) is Status.INSUFFICIENT


def test_the_price_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('cpu_hour = "36"', encoding="utf-8")
    assert Settings.load(tmp_path, {}).cpu_second_price == 0.01
    for wrong in ("-1", "free", "nan", "inf"):
        with pytest.raises(InputError, match="a price per processor hour"):
            _ = replace(Settings(), cpu_hour=wrong).cpu_second_price
