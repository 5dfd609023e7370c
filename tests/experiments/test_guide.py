"""The guide's example is a registration that works, and its numbers are the code's."""

from __future__ import annotations

import re
from pathlib import Path

from mangaassist.experiments.schema import Purpose, read_plan
from mangaassist.experiments.sizing import size_plan
from mangaassist.experiments.spending import bounds_report

GUIDE = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")


def test_the_example_file_registers() -> None:
    """EXP-1: the guide is executed."""
    block = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert block is not None
    plan = read_plan(block.group(1), source="docs/experiments.md")
    assert size_plan(plan).per_arm == 5_368
    assert size_plan(read_plan(block.group(1), source="x", purpose=Purpose.SIZE)).per_arm == 5_368


def test_the_boundaries_it_prints_are_the_computed_ones() -> None:
    """EXP-5."""
    rows = bounds_report("4/14,7/14,11/14,1", spending="obf", convention="one-sided", alpha=0.05)["bounds"]
    assert ", ".join(f"{row['z']:.3f}" for row in rows) in " ".join(GUIDE.split())
