"""The triage tree (INC-1): named categories as data, walked from the cheapest question to the dearest.

A walk asks every node; a machine asks them all in a moment, and only together they tell a guilty change from
an innocent one beside it. The answer: one verdict per node, suspects by probability, one thing to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.alarms import EPOCH, TICK
from mangaassist.incidents.evidence import Evidence
from mangaassist.incidents.grouping import TOGETHER, dependencies, shipped
from mangaassist.incidents.hypotheses import (
    QUERIES,
    Hypothesis,
    Node,
    Weighed,
    Weights,
    nothing,
    probabilities,
    weigh,
)
from mangaassist.incidents.records import Incident, Localisation, Mitigation, Suspect
from mangaassist.incidents.scene import Scene, scene
from mangaassist.retraining.documents import malformed, of_home
from mangaassist.retraining.lineage import Lineage

FILE = "tree.yaml"
UNKNOWN = "unknown"
SUSPECTS = 5
SURE, CERTAIN = 0.9, 0.98
"""Probabilities from which a category is acted on before patience has run out: on panels measured since it
began, and whatever they will say."""
_ESCALATE = Mitigation(
    "No category fits: page staff, take command, freeze what moves.",
    'mangaassist freeze on --reason "Incident {incident}, cause unknown"',
    False,
    "unknown.md",
)


@dataclass(frozen=True, slots=True)
class Category:
    """One named root cause.

    Attributes:
        name, number, title: as in AML-08; 11 and above were added.
        roll_back_first: take the change back before looking further.
        harmless: nothing is broken, so nothing is ever rolled back.
    """

    name: str
    number: int
    title: str
    roll_back_first: bool = False
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """Categories, nodes in the order in which they are asked, weights, and the dependency map."""

    categories: Mapping[str, Category]
    nodes: tuple[Node, ...]
    weights: Weights
    lineage: Lineage

    @classmethod
    def load(cls, home: Path | None = None) -> Tree:
        """The shipped tree with what the home's own says.

        Raises:
            InputError: a node of an unknown category or query, or with a key nobody knows.
        """
        ours, own = shipped(FILE), of_home(home, FILE)
        categories = {
            name: _category(name, body)
            for name, body in {**ours["categories"], **(own.get("categories") or {})}.items()
        }
        bodies = {body["name"]: body for body in ours["nodes"]}
        for body in own.get("nodes") or []:
            if not isinstance(body, dict) or not isinstance(body.get("name"), str):
                raise malformed(f"{FILE}: nodes", "nodes with a name", body)
            bodies[body["name"]] = body
        nodes = tuple(_node(body, categories) for body in bodies.values())
        weights = Weights(**{**ours["weights"], **(own.get("weights") or {})})
        return cls(categories, nodes, weights, dependencies(home))


def walk(tree: Tree, incident: Incident, evidence: Evidence) -> Localisation:
    """Localise ``incident``: one verdict per node, suspects likeliest first, what to do."""
    found = scene(incident, evidence)
    weighed = [
        weigh(one, found, tree.lineage, tree.weights)
        for node in tree.nodes
        for one in QUERIES[node.query](node, found, evidence)
    ]
    chances, none = probabilities(weighed, nothing(found, tree.lineage, tree.weights))
    ranked = sorted(zip(weighed, chances, strict=True), key=lambda pair: -pair[1])
    by_category: dict[str, float] = defaultdict(float)
    for one, chance in ranked:
        by_category[one.hypothesis.node.category] += chance
    # Of equally likely ones the cheaper comes first: a dictionary keeps the order of the tree.
    ordered = sorted(tree.categories, key=lambda name: -by_category[name])
    category = ordered[0] if by_category[ordered[0]] > none else UNKNOWN
    return Localisation(
        incident.id,
        evidence.now,
        category,
        by_category[category] if category != UNKNOWN else none,
        tuple(_verdict(node, ranked, found, evidence, tree.weights) for node in tree.nodes),
        tuple(_suspect(one, chance) for one, chance in ranked[:SUSPECTS]),
        _mitigation(tree, category, ranked, incident),
    )


def decided(found: Localisation, incident: Incident, *, alarmed: datetime) -> bool:
    """Whether a walk may be acted on: it is certain, or sure on panels measured since, or patience is over.

    What panels say is of before until they have been measured over two whole windows since. Patience are the
    ten minutes in which alarms are one incident.

    Args:
        alarmed: when it first alarmed.
    """
    window = EPOCH - (EPOCH - incident.alarms[0].onset.earliest) // TICK * TICK
    needed = SURE if found.at >= window + 2 * TICK else CERTAIN
    sure = found.probability >= needed and found.category != UNKNOWN
    return sure or found.at - alarmed >= TOGETHER


def _mitigation(
    tree: Tree, category: str, ranked: Sequence[tuple[Weighed, float]], incident: Incident
) -> Mitigation:
    """What the likeliest category asks for; a plausible roll-back comes first, unless nothing is broken."""
    if category == UNKNOWN:
        return _filled(_ESCALATE, incident, "", "", "")
    own = next(one for one, _ in ranked if one.hypothesis.node.category == category)
    chosen = own.hypothesis
    known = tree.categories[category]
    if not (known.roll_back_first or known.harmless):
        for one, chance in ranked:
            if (
                tree.categories[one.hypothesis.node.category].roll_back_first
                and chance >= tree.weights.plausible
            ):
                chosen = one.hypothesis
                break
    node = chosen.node
    back = tree.categories[node.category].roll_back_first
    proposal = Mitigation(node.mitigation, node.command, back, f"{node.runbook}.md")
    revert = chosen.change.revert if chosen.change else None
    component = (chosen.touches or incident.components)[0]
    return _filled(proposal, incident, chosen.subject, component, revert or "")


def _filled(given: Mitigation, incident: Incident, subject: str, component: str, revert: str) -> Mitigation:
    names = {"subject": subject, "component": component, "revert": revert, "incident": incident.id}
    command = given.command.format(**names) if given.command else ""
    return Mitigation(given.sentence.format(**names), command or None, given.roll_back, given.runbook)


def _verdict(
    node: Node,
    ranked: Sequence[tuple[Weighed, float]],
    found: Scene,
    evidence: Evidence,
    weights: Weights,
) -> Verdict:
    own = [(one, chance) for one, chance in ranked if one.hypothesis.node is node]
    total = sum(chance for _, chance in own)
    if own:
        status = Status.FAIL if total >= weights.named else Status.PASS
        if weights.ruled_out <= total < weights.named:
            status = Status.INSUFFICIENT
        said = own[0][0].sentence
        return Verdict(node.name, status, said, total, threshold=weights.named, n=len(own))
    panels = [panel for panel in node.panels if panel in evidence.panels()]
    if node.panels and not panels:
        why = [evidence.absent.get(one, f"Nobody measures {one.replace('_', ' ')}.") for one in node.panels]
        return Verdict(node.name, Status.INSUFFICIENT, " ".join(why))
    if panels and set(panels) <= found.silent:
        return Verdict(node.name, Status.STALE, f"Nothing new in {', '.join(panels)} for half an hour.")
    return Verdict(node.name, Status.PASS, _clear(node), 0.0, threshold=weights.named)


def _clear(node: Node) -> str:
    if node.query == "changes":
        return f"No {' or '.join(node.kinds).replace('_', ' ')} change in 24 h."
    if node.query == "failing":
        return f"{', '.join(node.panels).replace('_', ' ').capitalize()} within limits."
    return "The calendar has nothing."


def _suspect(one: Weighed, chance: float) -> Suspect:
    cause: Hypothesis = one.hypothesis
    change = cause.change.id if cause.change else None
    return Suspect(cause.node.category, cause.subject, chance, one.sentence, change)


def _category(name: str, body: Any) -> Category:
    try:
        return Category(name, **body)
    except TypeError as error:
        known = [one.name for one in fields(Category)][1:]
        raise malformed(f"{FILE}: {name}", f"a category with {', '.join(known)}", body) from error


def _node(body: Mapping[str, Any], categories: Mapping[str, Category]) -> Node:
    where, known = f"{FILE}: {body['name']}", {one.name for one in fields(Node)}
    for key in body:
        if key not in known:
            raise InputError(
                where, expected="a known key", got=f"'{key}'", next_step=nearest(str(key), known)
            )
    for key, options in (("category", categories), ("query", QUERIES)):
        if body.get(key) not in options:
            raise InputError(
                f"{where}.{key}",
                expected="one that exists",
                got=repr(body.get(key)),
                next_step=nearest(str(body.get(key)), options),
            )
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in body.items()
    }
    try:
        node = Node(**given)
        _filled(Mitigation(node.mitigation, node.command, False, ""), _NOBODY, "", "", "")
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise malformed(where, "a node as in the shipped tree", error) from error
    prior = given["prior"]
    if not isinstance(prior, int | float) or prior <= 0:
        raise malformed(f"{where}.prior", "odds above 0", prior)
    return node


_NOBODY = Incident("", datetime(2026, 1, 1, tzinfo=UTC), ())
