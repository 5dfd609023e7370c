"""`registry diff`: every field that differs, none that does not."""

from __future__ import annotations

from dataclasses import replace

from tests.promotion.samples import add, registry

from mangaassist.core.home import Home
from mangaassist.promotion.comparing import compare


def test_a_version_does_not_differ_from_itself(home: Home) -> None:
    version = add(registry(home), run="r1")
    assert compare(version, version) == ()


def test_what_differs_is_named_with_both_values(home: Home) -> None:
    target = registry(home)
    before, after = add(target, run="r1"), add(target, run="r2")
    assert [one.field for one in compare(before, after)] == ["artifact"]
    after = replace(
        after, tags={**after.tags, "seed": "12"}, metrics={"accuracy": 0.97, "new": 1}, policy="p2"
    )
    found = {one.field: (one.before, one.after) for one in compare(before, after)}
    assert found == {
        "artifact": (before.artifact, after.artifact),
        "tags.seed": ("11", "12"),
        "metrics.accuracy": (0.95, 0.97),
        "metrics.new": (None, 1),
        "policy": (before.policy, "p2"),
    }
    changes = {one.field: one.change for one in compare(before, after)}
    assert round(changes["metrics.accuracy"] or 0, 6) == 0.02
    assert changes["tags.seed"] is None
