"""Registration, signatures, the freeze and who owns which users."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import START
from tests.experiments.examples import RERANKER, frozen, line_of, replaced

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused, InputError
from mangaassist.core.home import Home
from mangaassist.experiments import registry
from mangaassist.experiments.governance import change_threshold, changes
from mangaassist.experiments.schema import read_plan
from mangaassist.experiments.territory import claim, held, release
from mangaassist.storage.ledger import Ledger


def named(name: str, **changes: str) -> str:
    text = replaced("experiment: reranker-l12", f"experiment: {name}")
    for old, new in changes.items():
        text = replaced(old, new, text)
    return text


def test_nobody_is_randomised_before_every_role_has_signed(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-1: hashed and signed off by named roles before randomisation, refused otherwise."""
    known = registry.register(ledger, RERANKER, source="a.yaml", actor="rin", at=clock.now())
    with pytest.raises(GateRefused, match="pm, applied_ml_engineer, engineering_manager"):
        registry.require_frozen(known, what="randomisation")
    for role in ("pm", "engineering_manager"):
        known = registry.sign(ledger, known.name, role, actor=role, at=clock.now())
    with pytest.raises(GateRefused, match="none by applied_ml_engineer"):
        registry.require_frozen(known, what="randomisation")
    known = registry.sign(ledger, known.name, "applied_ml_engineer", actor="aki", at=clock.now())
    assert registry.require_frozen(known, what="randomisation").frozen_at == clock.now()
    assert known.signatures["applied_ml_engineer"] == "aki"
    with pytest.raises(InputError, match="Did you mean 'pm'"):
        registry.sign(ledger, known.name, "pmm", actor="x", at=clock.now())


def test_an_edited_file_is_refused_with_the_lines_that_differ(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-1: after the freeze the text under that name is the text that was signed."""
    known = frozen(ledger, RERANKER, at=clock.now())
    text = replaced("mde: 3%", "mde: 1%")
    with pytest.raises(GateRefused) as refused:
        registry.register(ledger, text, source="new.yaml", actor="rin", at=clock.now())
    assert f"frozen line {line_of('mde: 3%')} 'mde: 3%'" in str(refused.value)
    assert f"now line {line_of('mde: 3%')} 'mde: 1%'" in str(refused.value)
    with pytest.raises(GateRefused):
        registry.require_unedited(known, RERANKER + "# a remark\n", source="new.yaml")
    registry.require_unedited(known, RERANKER.replace("\n", "\r\n"), source="windows.yaml")


def test_a_new_text_before_the_freeze_voids_the_signatures(ledger: Ledger, clock: SimulatedClock) -> None:
    registry.register(ledger, RERANKER, source="a.yaml", actor="rin", at=clock.now())
    registry.sign(ledger, "reranker-l12", "pm", actor="p", at=clock.now())
    again = registry.register(ledger, RERANKER, source="a.yaml", actor="rin", at=clock.now())
    assert again.signatures == {"pm": "p"}
    changed = replaced("power: 0.8", "power: 0.9")
    known = registry.register(ledger, changed, source="a.yaml", actor="rin", at=clock.now())
    assert known.signatures == {}


def test_a_class_gives_each_experiment_users_of_its_own(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-2: no user is in two experiments of one exclusivity class."""
    share = {"  per_day: 200000": "  per_day: 200000\n  share: 40%"}
    first, second = (frozen(ledger, named(name, **share), at=clock.now()) for name in ("a", "b"))
    a, b = first.territory.segments[0], second.territory.segments[0]
    assert a.stop <= b.start or b.stop <= a.start
    with pytest.raises(GateRefused, match=r"20\.0% free beside a, b"):
        frozen(ledger, named("c", **share), at=clock.now())
    release(ledger, first.plan, actor="policy", at=clock.now())
    third = registry.sign(ledger, "c", "pm", actor="p", at=clock.now())
    assert third.frozen_at is not None
    assert held(ledger, "reranker")["c"].start == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10)), max_size=25))
def test_segments_of_a_class_never_overlap_whatever_comes_and_goes(steps: list[tuple[int, int]]) -> None:
    """EXP-2: claims and releases in any order."""
    with TemporaryDirectory() as folder:
        opened = Ledger.open(Home.open(Path(folder) / "home"))
        for name, tenths in steps:
            text = named(f"e{name}", **{"  per_day: 200000": f"  share: {tenths}0%"})
            plan = read_plan(text, source="x")
            if plan.name in held(opened, "reranker"):
                release(opened, plan, actor="t", at=START)
                continue
            with suppress(GateRefused):
                claim(opened, plan, actor="t", at=START)
            taken = sorted((one.start, one.stop) for one in held(opened, "reranker").values())
            assert all(a[1] <= b[0] for a, b in pairwise(taken))
        opened.close()


def test_overlap_rules_keep_later_experiments_out(ledger: Ledger, clock: SimulatedClock) -> None:
    """EXP-2: overlap rules across classes; the earlier experiment never loses a user."""
    other = {"  exclusivity: [reranker]": "  exclusivity: [latency]\n  never_with: [reranker-l12]"}
    half = {"  per_day: 200000": "  per_day: 200000\n  share: 50%"}
    first = frozen(ledger, replaced(*next(iter(half.items()))), at=clock.now())
    second = frozen(ledger, named("hedge", **other, **half), at=clock.now())
    assert first.excluded == ()
    assert second.excluded == (first.territory,)


def test_the_ramp_moves_in_registered_steps_only(ledger: Ledger, clock: SimulatedClock) -> None:
    known = frozen(ledger, RERANKER, at=clock.now())
    assert known.exposure == 0.01
    assert registry.set_exposure(ledger, known.name, 0.1, actor="policy", at=clock.now()).exposure == 0.1
    with pytest.raises(InputError, match="registered step"):
        registry.set_exposure(ledger, known.name, 0.5, actor="policy", at=clock.now())


LONG = "Two quarters of calibration showed that half a percent never came back."


def test_thresholds_move_only_in_the_open(ledger: Ledger, clock: SimulatedClock) -> None:
    """GRD-2: threshold changes are governed and audited; registered experiments keep what they signed."""
    first = frozen(ledger, RERANKER, at=clock.now())
    with pytest.raises(GateRefused, match="director"):
        change_threshold(ledger, "csat", -0.02, reason=LONG, role="pm", actor="p", at=clock.now())
    with pytest.raises(InputError, match="Did you mean 'csat'"):
        change_threshold(ledger, "csta", -0.005, reason=LONG, role="pm", actor="p", at=clock.now())
    with pytest.raises(InputError, match="at least 8 words"):
        change_threshold(ledger, "csat", -0.005, reason="because", role="pm", actor="p", at=clock.now())
    with pytest.raises(InputError, match="same side of 0"):
        change_threshold(ledger, "csat", 0.01, reason=LONG, role="director", actor="d", at=clock.now())
    tightened = change_threshold(ledger, "csat", -0.005, reason=LONG, role="pm", actor="p", at=clock.now())
    assert not tightened.loosened
    other = replaced("- use: csat", "- {use: csat, threshold: -0.8%}", named("second"))
    with pytest.raises(InputError, match="or tighter"):
        registry.register(ledger, other, source="b", actor="rin", at=clock.now())
    change_threshold(ledger, "csat", -0.02, reason=LONG, role="director", actor="dai", at=clock.now())
    registry.register(ledger, other, source="b", actor="rin", at=clock.now())
    assert [one.loosened for one in changes(ledger)] == [False, True]
    assert registry.get(ledger, first.name).plan.guardrails[0].threshold == -0.01
    third = registry.register(ledger, named("third"), source="c", actor="rin", at=clock.now())
    assert third.plan.guardrails[0].threshold == -0.02


def test_an_unknown_experiment_names_the_nearest(ledger: Ledger, clock: SimulatedClock) -> None:
    registry.register(ledger, RERANKER, source="a.yaml", actor="rin", at=clock.now())
    with pytest.raises(InputError, match="Did you mean 'reranker-l12'"):
        registry.get(ledger, "reranker-12")
