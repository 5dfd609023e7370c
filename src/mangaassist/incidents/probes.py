"""Synthetic probes: a small question to every dependency, asked before a shopper asks it (INC-5).

A probe makes a real request and looks at the answer, so that a service that answers quickly and wrongly is
found, too. One that hangs is left behind after its limit and counts as failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter

from mangaassist.core.errors import MangaAssistError
from mangaassist.core.verdict import Status, Verdict

PATIENCE = timedelta(seconds=10)
"""After this a probe is given up; long before that it has missed its own limit."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One dependency.

    Attributes:
        name: of the component, in the words of the dependency map ("ledger", "model.intent").
        ask: makes the request and returns what it found in one sentence.
        within: an answer that takes longer is a failure.
    """

    name: str
    ask: Callable[[], str]
    within: timedelta = timedelta(seconds=1)


class Wrong(Exception):
    """Raised by a probe for an answer that came and is not right; the message is its sentence."""


def look(probes: Sequence[Probe], *, patience: timedelta = PATIENCE) -> list[Verdict]:
    """Ask all at once; one verdict each, in the same order, never later than ``patience``.

    A verdict's value is the latency in milliseconds; None when no answer came.
    """
    asked = [_Asking(one) for one in probes]
    end = perf_counter() + patience.total_seconds()
    for one in asked:
        one.thread.join(max(0.0, end - perf_counter()))
    return [one.verdict(patience) for one in asked]


class _Asking:
    """One probe under way. Its thread is a daemon: a dependency that hangs holds up no exit."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.found: tuple[Status, str, float] | None = None
        self.thread = threading.Thread(target=self._ask, name=f"probe-{probe.name}", daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        began = perf_counter()
        try:
            said = self.probe.ask()
        except (MangaAssistError, Wrong) as error:
            self.found = Status.FAIL, str(error), _milliseconds(began)
        except Exception as error:  # a driver or a model may raise anything, and its text may quote input
            self.found = Status.FAIL, f"It raised {type(error).__name__}.", _milliseconds(began)
        else:
            self.found = Status.PASS, said, _milliseconds(began)

    def verdict(self, patience: timedelta) -> Verdict:
        name, limit = f"probe.{self.probe.name}", self.probe.within.total_seconds() * 1000
        if self.found is None:
            said = f"No answer within {patience.total_seconds():g} s."
            return Verdict(name, Status.FAIL, said, threshold=limit, n=1)
        status, said, took = self.found
        if status is Status.PASS and took > limit:
            status, said = Status.FAIL, f"It answered after {took:.0f} ms (limit {limit:.0f} ms). {said}"
        return Verdict(name, status, said, took, threshold=limit, n=1)


def _milliseconds(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
