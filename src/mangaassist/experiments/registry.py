"""Registered, signed, frozen: the state of an experiment is a fold over its ledger entries.

Nothing is randomised and nothing is analysed for a decision before every role the file names has signed
exactly the text that is there. From then on any other text under that name is refused, with the lines that
differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mangaassist.core.errors import GateRefused, InputError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.experiments.assignment import Running, Segment, Territory, running
from mangaassist.experiments.catalog import parse, with_limits
from mangaassist.experiments.governance import in_force
from mangaassist.experiments.plan import Plan
from mangaassist.experiments.schema import read_plan
from mangaassist.experiments.territory import claim, conflicts
from mangaassist.storage.ledger import Entry, Ledger

REGISTERED = "experiment.registered"
SIGNED = "experiment.signed"
FROZEN = "experiment.frozen"
RAMPED = "experiment.ramped"
PAUSED = "experiment.paused"
LOOKED = "experiment.looked"
DECIDED = "experiment.decided"
OVERRIDDEN = "experiment.overridden"
FOLLOWED_UP = "experiment.followed_up"

_PREFIX = "experiment/"
NOBODYS = Territory(())


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment as its entries say.

    Attributes:
        name: of the experiment.
        text: the registered file.
        digest: SHA-256 of ``text``.
        plan: what the text says.
        signatures: who signed this text, per role.
        head: sequence of its last entry, for compare-and-swap.
        frozen_at: when the last role signed; None before.
        territory: segments it owns, from the freeze on.
        excluded: territories it must keep out of.
        exposure: the ramp's share; 0 while paused.
        paused: why, or empty.
        looks: body of every look so far, in order.
        decision: the last decision's body, or None.
        override: the override's body, or None.
        actors: everybody who acted on it.
    """

    name: str
    text: str
    digest: str
    plan: Plan
    signatures: Mapping[str, str]
    head: int
    frozen_at: datetime | None = None
    territory: Territory = NOBODYS
    excluded: tuple[Territory, ...] = ()
    exposure: float = 0.0
    paused: str = ""
    looks: tuple[Mapping[str, Any], ...] = ()
    decision: Mapping[str, Any] | None = None
    override: Mapping[str, Any] | None = None
    actors: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Roles that have not signed this text."""
        return tuple(role for role in self.plan.sign_off if role not in self.signatures)

    @property
    def subject(self) -> str:
        return _PREFIX + self.name

    @property
    def status(self) -> str:
        """One word for lists."""
        if self.decision is not None and self.decision["action"] in ("promote", "roll_back"):
            return "shipped" if self.decision["action"] == "promote" else "stopped"
        if self.paused:
            return "paused"
        return "running" if self.frozen_at else "signing"

    @property
    def over(self) -> bool:
        """Whether it has been decided for good."""
        return self.status in ("shipped", "stopped")

    def running(self) -> Running:
        """What the resolver needs."""
        exposure = 0.0 if self.paused or self.over else self.exposure
        return running(
            self.plan, self.digest, self.territory.segments, excluded=self.excluded, exposure=exposure
        )


def register(ledger: Ledger, text: str, *, source: str, actor: str, at: datetime) -> Experiment:
    """Check a file and record it; registering the same text twice changes nothing.

    Raises:
        InputError: for a file the schema refuses.
        GateRefused: when a frozen registration of that name says something else.
    """
    text = canonical(text)
    catalog = in_force(ledger)
    plan = read_plan(text, source=source, catalog=catalog)
    known = find(ledger, plan.name)
    if known is not None:
        if known.digest == digest_bytes(text.encode()):
            return known
        if known.frozen_at is not None:
            raise edited(known, text, source)
    body = {
        "text": text,
        "digest": digest_bytes(text.encode()),
        "catalog": catalog.version,
        "catalog_texts": list(catalog.texts),
        "limits": dict(catalog.limits),
    }
    subject = _PREFIX + plan.name
    head = known.head if known else 0
    ledger.append(kind=REGISTERED, subject=subject, body=body, actor=actor, at=at, expected=head)
    return get(ledger, plan.name)


def sign(ledger: Ledger, name: str, role: str, *, actor: str, at: datetime) -> Experiment:
    """Sign the registered text in a role it names; the last signature freezes it and claims its users.

    Raises:
        InputError: for an unknown experiment or role.
        GateRefused: when the role has signed, or its exclusivity class has too few users left.
    """
    known = get(ledger, name)
    if role not in known.plan.sign_off:
        raise InputError(
            "role",
            expected="a role the registration names",
            got=repr(role),
            next_step=nearest(role, known.plan.sign_off),
        )
    if role not in known.missing and known.frozen_at is not None:
        raise GateRefused(
            f"role '{role}'",
            expected="a signature that is still missing",
            got=f"one by {known.signatures[role]}",
            next_step="Nothing to do: it is signed and frozen.",
        )
    if role in known.missing:
        body = {"role": role, "digest": known.digest}
        ledger.append(kind=SIGNED, subject=known.subject, body=body, actor=actor, at=at, expected=known.head)
        known = get(ledger, name)
    return known if known.missing else _freeze(ledger, known, actor=actor, at=at)


def _freeze(ledger: Ledger, known: Experiment, *, actor: str, at: datetime) -> Experiment:
    segments = claim(ledger, known.plan, actor=actor, at=at)
    others = [one for one in everything(ledger) if one.frozen_at and not one.over and one.name != known.name]
    excluded = [one for one in others if conflicts(known.plan, one.plan)]
    _refuse_nobody(known, excluded)
    body = {
        "digest": known.digest,
        "segments": [[one.layer, one.start, one.stop] for one in segments],
        "excluded": {
            one.name: [[s.layer, s.start, s.stop] for s in one.territory.segments] for one in excluded
        },
        "exposure": known.plan.ramp[0],
    }
    ledger.append(kind=FROZEN, subject=known.subject, body=body, actor=actor, at=at, expected=known.head)
    return get(ledger, known.name)


def _refuse_nobody(known: Experiment, excluded: list[Experiment]) -> None:
    owners = [one.name for one in excluded if not one.territory.segments]
    if owners:
        raise GateRefused(
            f"experiment '{known.name}'",
            expected="users that the experiments before it leave free",
            got=f"none: {owners[0]} may touch everybody",
            next_step="Wait until it is decided, or give both a class in population.exclusivity.",
        )


def get(ledger: Ledger, name: str) -> Experiment:
    """The experiment ``name``.

    Raises:
        InputError: when nobody registered it.
    """
    found = find(ledger, name)
    if found is None:
        raise InputError(
            "experiment",
            expected="a registered experiment",
            got=repr(name),
            next_step=nearest(name, [one.name for one in everything(ledger)])
            + " Register one with 'experiment register FILE'.",
        )
    return found


def find(ledger: Ledger, name: str) -> Experiment | None:
    """The experiment ``name``, or None when nobody registered it."""
    return _fold(name, ledger.entries(subject=_PREFIX + name))


def everything(ledger: Ledger) -> list[Experiment]:
    """Every registered experiment, in the order of registration."""
    names = dict.fromkeys(entry.subject for entry in ledger.entries(kind=REGISTERED))
    found = (find(ledger, subject.removeprefix(_PREFIX)) for subject in names)
    return [one for one in found if one is not None]


def require_frozen(known: Experiment, *, what: str) -> Experiment:
    """``known`` when everybody has signed it.

    Raises:
        GateRefused: naming the roles that have not.
    """
    if known.frozen_at is None:
        raise GateRefused(
            f"experiment '{known.name}'",
            expected=f"every signature before {what}",
            got=f"none by {', '.join(known.missing)}",
            next_step=f"Each signs with 'experiment sign {known.name} --role ROLE'.",
        )
    return known


def require_unedited(known: Experiment, text: str, *, source: str) -> None:
    """Refuse when a file says something else than the frozen registration."""
    if digest_bytes(canonical(text).encode()) != known.digest:
        raise edited(known, canonical(text), source)


def canonical(text: str) -> str:
    """The text with one kind of line end; everything else about it counts."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n") + "\n"


def edited(known: Experiment, text: str, source: str) -> GateRefused:
    """The refusal of an edited file, naming the first differing lines."""
    return GateRefused(
        f"experiment '{known.name}'",
        expected=f"the registration frozen as {known.digest[:12]}",
        got=f"{source} with other lines: {'; '.join(differing_lines(known.text, text)[:6])}",
        next_step="Restore the file, or register the change under a new name and collect new data for it.",
    )


def differing_lines(frozen: str, now: str) -> list[str]:
    """Each changed line with its number in the file it stands in."""
    before, after = frozen.splitlines(), now.splitlines()
    found: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            found += [f"frozen line {i + 1} '{before[i].strip()}'" for i in range(a, b)]
            found += [f"now line {i + 1} '{after[i].strip()}'" for i in range(c, d)]
    return found


def set_exposure(ledger: Ledger, name: str, share: float, *, actor: str, at: datetime) -> Experiment:
    """Move the ramp to a registered step; arms stay as they are.

    Raises:
        InputError: for a share that is not a registered step.
        GateRefused: before the freeze, while paused, or after the decision.
    """
    known = require_frozen(get(ledger, name), what="a ramp")
    if share not in known.plan.ramp:
        raise InputError(
            "share",
            expected=f"a registered step ({', '.join(f'{one:g}' for one in known.plan.ramp)})",
            got=f"{share:g}",
            next_step="Steps are registered so that nobody ramps by mood.",
        )
    if known.paused or known.over:
        raise GateRefused(
            f"experiment '{name}'",
            expected="a running experiment",
            got=known.paused or known.status,
            next_step="A paused experiment is decided, not resumed: see 'experiment decide'.",
        )
    body = {"exposure": share}
    ledger.append(kind=RAMPED, subject=known.subject, body=body, actor=actor, at=at, expected=known.head)
    return get(ledger, name)


def _fold(name: str, entries: list[Entry]) -> Experiment | None:
    known: Experiment | None = None
    for entry in entries:
        if entry.kind == REGISTERED:
            text = entry.body["text"]
            catalog = with_limits(parse(*entry.body["catalog_texts"]), entry.body["limits"])
            plan = read_plan(text, source=name, catalog=catalog)
            known = Experiment(name, text, entry.body["digest"], plan, {}, entry.sequence)
        elif known is not None:
            known = _apply(known, entry)
    return known


def _apply(known: Experiment, entry: Entry) -> Experiment:
    """The experiment after one more entry."""
    body = entry.body
    known = replace(known, head=entry.sequence, actors=(*known.actors, entry.actor))
    if entry.kind == SIGNED:
        return replace(known, signatures={**known.signatures, body["role"]: entry.actor})
    if entry.kind == FROZEN:
        excluded = tuple(_territory(one) for one in body["excluded"].values())
        return replace(
            known,
            frozen_at=entry.at,
            territory=_territory(body["segments"]),
            excluded=excluded,
            exposure=body["exposure"],
        )
    changes: dict[str, Any] = {
        RAMPED: lambda: {"exposure": body["exposure"]},
        PAUSED: lambda: {"paused": body["reason"]},
        LOOKED: lambda: {"looks": (*known.looks, body)},
        DECIDED: lambda: {"decision": body},
        OVERRIDDEN: lambda: {"override": {**body, "at": entry.at, "actor": entry.actor}},
    }
    return replace(known, **changes[entry.kind]()) if entry.kind in changes else known


def _territory(rows: list[list[Any]]) -> Territory:
    return Territory(tuple(Segment(layer, start, stop) for layer, start, stop in rows))
