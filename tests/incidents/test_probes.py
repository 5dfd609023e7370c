"""Synthetic probes (INC-5)."""

from __future__ import annotations

import threading
from datetime import timedelta
from time import perf_counter

from mangaassist.core.errors import Unavailable
from mangaassist.core.verdict import Status
from mangaassist.incidents.probes import Probe, Wrong, look


def test_every_way_an_answer_can_be_bad() -> None:
    """INC-5: away, wrong, late, broken and hanging are failures; names and order stay."""
    never = threading.Event()

    def away() -> str:
        raise Unavailable("store", expected="an answer", got="nothing", next_step="Start it.")

    def wrong() -> str:
        raise Wrong("It answers otherwise than before.")

    def broken() -> str:
        raise ValueError("the text of a customer")

    def hangs() -> str:
        never.wait()
        return "never"

    def late() -> str:
        never.wait(0.05)
        return "Here."

    asks = {
        "good": lambda: "Fine.",
        "away": away,
        "wrong": wrong,
        "broken": broken,
        "hangs": hangs,
        "late": late,
    }
    probes = [
        Probe(name, ask, timedelta(milliseconds=20 if name == "late" else 5_000))
        for name, ask in asks.items()
    ]
    began = perf_counter()
    found = look(probes, patience=timedelta(seconds=0.5))
    assert perf_counter() - began < 5
    never.set()
    assert [one.name for one in found] == [f"probe.{name}" for name in asks]
    assert [one.status for one in found] == [Status.PASS, *[Status.FAIL] * 5]
    said = {one.name: one.sentence for one in found}
    assert said["probe.away"].endswith("Start it.")
    assert said["probe.broken"] == "It raised ValueError."
    assert "No answer" in said["probe.hangs"]
    assert "limit 20 ms" in said["probe.late"]
    assert found[4].value is None
    assert found[0].value is not None
