"""Possible causes of an incident and how the evidence weighs for each: a naive Bayes over named causes.

A node of the tree turns evidence into hypotheses by one of three queries; each hypothesis is weighed by when
it began, what it reaches, whom, and which other panels are disturbed or calm. Weights are data (tree.yaml).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mangaassist.incidents.evidence import Evidence
from mangaassist.incidents.grouping import reach
from mangaassist.incidents.records import Change, Occasion
from mangaassist.incidents.scene import Failing, Scene
from mangaassist.retraining.lineage import Lineage

WINDOW = timedelta(hours=24)
"""How far back a change is suspected (AML-08: did anything change in the last 24 h?)."""

ADJUSTED = "adjusted"
"""What is left of a fall of quality when traffic is weighted as usual: calm, when other people came."""

_QUALITY = "quality"
_HOUR = timedelta(hours=1)
_TICK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Node:
    """One question of the tree; see tree.yaml."""

    name: str
    category: str
    query: str
    mitigation: str
    runbook: str
    prior: float
    kinds: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One possible cause.

    Attributes:
        node: that brought it up.
        subject: what is suspected.
        began: when it took effect.
        touches: components it acts on; empty when nobody knows.
        cohorts: it reaches; empty for everybody.
        change: None where it is none.
        said: what it is, for the sentence.
    """

    node: Node
    subject: str
    began: datetime
    touches: tuple[str, ...]
    cohorts: tuple[str, ...]
    said: str
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """How evidence weighs, as odds; see tree.yaml."""

    unknown: float
    blunt: float
    season: float
    unreached: float
    second: float
    unexplained: float
    calm: float
    nowhere: float
    quiet_reach: float
    same_cohorts: float
    other_cohorts: float
    whole: float
    part: float
    at_once: float
    later: float
    delay_hours: float
    after: float
    plausible: float
    named: float
    ruled_out: float


Query = Callable[[Node, Scene, Evidence], Iterator[Hypothesis]]


def changed(node: Node, scene: Scene, evidence: Evidence) -> Iterator[Hypothesis]:
    """Every change of the node's kinds in the day before, and until now."""
    for one in evidence.changes(scene.onset.earliest - WINDOW, scene.now):
        if one.kind in node.kinds:
            said = f"{one.subject}: {one.summary.rstrip('.')}"
            yield Hypothesis(node, one.subject, one.at, one.touches, one.cohorts, said, one)


def failed(node: Node, scene: Scene, evidence: Evidence) -> Iterator[Hypothesis]:  # noqa: ARG001 - one signature
    """Every component with a failing series of the node's panels; the one that failed first stands for it."""
    worst: dict[str, Failing] = {}
    for one in scene.failing:
        if one.panel in node.panels:
            known = worst.get(one.component)
            worst[one.component] = one if known is None or one.since < known.since else known
    for component, one in worst.items():
        cohorts = () if one.cohort == "all" else (one.cohort,)
        said = f"{one.name} is {one.value:.4g}, limit {one.limit:.4g}"
        yield Hypothesis(node, one.name, one.since, (component,), cohorts, said)


def occurs(node: Node, scene: Scene, evidence: Evidence) -> Iterator[Hypothesis]:
    """Every calendar entry in force at the onset."""
    for one in evidence.occasions(scene.onset.earliest - _HOUR, scene.onset.latest):
        yield Hypothesis(node, one.name, _began(one, scene), one.touches, one.cohorts, f"{one.name} is on")


def _began(occasion: Occasion, scene: Scene) -> datetime:
    """An occasion moves traffic at any time while it lasts: it is never late."""
    return min(max(occasion.since, scene.onset.likeliest), occasion.until)


QUERIES: Mapping[str, Query] = {"changes": changed, "failing": failed, "occasion": occurs}


@dataclass(frozen=True, slots=True)
class Weighed:
    """A hypothesis with the logarithm of its odds and the parts of its sentence."""

    hypothesis: Hypothesis
    log_odds: float
    sentence: str


def weigh(one: Hypothesis, scene: Scene, lineage: Lineage, weights: Weights) -> Weighed:
    """All evidence for and against ``one``."""
    touched = _reach(one, scene, lineage)
    parts = [
        (math.log(one.node.prior), ""),
        _in_time(one, scene, weights),
        _in_reach(one, scene, touched, weights),
        _in_cohorts(one, scene, weights),
        _besides(one, scene, lineage, touched, weights),
    ]
    said = " ".join(text for _, text in parts if text)
    return Weighed(one, sum(value for value, _ in parts), f"{one.said}. {said}".strip())


def nothing(scene: Scene, lineage: Lineage, weights: Weights) -> float:
    """The log odds of a cause nobody named: every disturbed panel is then an accident of its own."""
    # A real fall of quality is no accident of its own.
    besides = [panel for panel, _ in _disturbed(scene, lineage) if panel != ADJUSTED]
    return math.log(weights.unknown) + len(besides) * math.log(weights.unexplained)


def _reach(one: Hypothesis, scene: Scene, lineage: Lineage) -> frozenset[str]:
    if not one.touches:
        return scene.watched | frozenset(lineage.reads)
    return frozenset().union(*(reach(lineage, name) for name in one.touches))


def _in_time(one: Hypothesis, scene: Scene, weights: Weights) -> tuple[float, str]:
    """How much likelier this moment is for a cause than for something that happened anyway."""
    onset, until = scene.onset, scene.onset.latest + _TICK
    lead = (onset.likeliest - one.began) / timedelta(minutes=1)
    text = f"Began {lead:.0f} min before." if lead >= 0 else f"Began {-lead:.0f} min after."
    early = onset.earliest - one.began
    a_day = WINDOW / _HOUR
    if one.node.query == "occasion":
        return -math.log(weights.season), text
    if one.node.query != "changes":
        # When a panel was first seen beyond its limit is a blunt date of when it was disturbed.
        late = one.began > until + 6 * _TICK
        old = early > WINDOW
        return 0.0 if late or old else math.log(weights.blunt), text
    if one.began > until:
        return math.log(weights.after), text
    rest = 1.0 - weights.at_once - weights.later
    if early <= 2 * _TICK:
        width = (until - onset.earliest + 2 * _TICK) / _HOUR
        return math.log((weights.at_once / width + weights.later / weights.delay_hours) * a_day), text
    hours = early / _HOUR
    density = weights.later * math.exp(-hours / weights.delay_hours) / weights.delay_hours + rest / a_day
    return math.log(density * a_day), text


def _in_reach(one: Hypothesis, scene: Scene, touched: frozenset[str], weights: Weights) -> tuple[float, str]:
    """Whether it can do this, and whether it should have done more."""
    hurt = scene.components
    missed = sorted(hurt - touched)
    reached = touched & scene.watched
    share = len(hurt & touched) / max(len(reached), 1)
    apart = 1.0 if not missed else weights.second if hurt & touched else weights.unreached
    total = math.log(apart) + weights.quiet_reach * math.log(max(share, 0.05))
    if not one.touches and one.change is None:
        return 0.0, "May move everything."
    if not one.touches:
        return total + math.log(weights.nowhere), "Nobody says what it touches."
    if missed:
        return total, f"Does not reach {', '.join(missed)}."
    return total, f"Reaches all that is in alarm ({len(hurt)} of {len(reached)} it could hurt)."


def _in_cohorts(one: Hypothesis, scene: Scene, weights: Weights) -> tuple[float, str]:
    mine, hurt = frozenset(one.cohorts), scene.hurt
    if not mine:
        return (math.log(weights.whole), f"Only {', '.join(sorted(hurt))} hurt.") if hurt else (0.0, "")
    if not hurt:
        return math.log(weights.part), f"For {', '.join(sorted(mine))} only, but all are hurt."
    if mine & hurt:
        return math.log(weights.same_cohorts), f"For {', '.join(sorted(mine))}, who are hurt."
    return math.log(weights.other_cohorts), f"For {', '.join(sorted(mine))}, who are not hurt."


def _besides(
    one: Hypothesis, scene: Scene, lineage: Lineage, touched: frozenset[str], weights: Weights
) -> tuple[float, str]:
    """Panels that are disturbed without its doing, and calm ones that it must disturb."""
    odd = sorted(
        f"{panel} of {component}"
        for panel, component in _disturbed(scene, lineage)
        if panel not in one.node.explains or component not in touched
    )
    strange = sorted({panel for panel, _ in scene.alarmed if panel not in one.node.explains})
    disturbed = {
        panel for panel, component in _disturbed(scene, lineage) | scene.alarmed if component in touched
    }
    measured = {panel for panel, component in scene.measured | scene.alarmed if component in touched}
    expected = set(one.node.expects)
    if any(panel == _QUALITY for panel, _ in scene.alarmed):
        expected |= {ADJUSTED} & set(one.node.explains)
    calm = sorted(panel for panel in expected & measured if panel not in disturbed)
    total = (len(odd) + len(strange)) * math.log(weights.unexplained) + len(calm) * math.log(weights.calm)
    text = [f"Does not explain {', '.join(odd + strange)}."] if odd or strange else []
    text += [f"Yet {', '.join(calm)} is calm."] if calm else []
    return total, " ".join(text)


def _disturbed(scene: Scene, lineage: Lineage) -> frozenset[tuple[str, str]]:
    """(panel, component) that fail in what is in alarm or in what that depends on."""
    near = set(scene.components)
    for component in scene.components:
        near |= set(lineage.upstream(component)) if lineage.knows(component) else set()
    return frozenset((one.panel, one.component) for one in scene.failing if one.component in near)


def probabilities(weighed: Sequence[Weighed], unknown: float) -> tuple[list[float], float]:
    """Of each hypothesis and of none of them; they add up to one."""
    top = max([unknown, *(one.log_odds for one in weighed)])
    shares = [math.exp(one.log_odds - top) for one in weighed]
    nothing_known = math.exp(unknown - top)
    total = sum(shares) + nothing_known
    return [share / total for share in shares], nothing_known / total
