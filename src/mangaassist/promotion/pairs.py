"""Coupled members released as one (PRO-5, PRO-7): an index with its encoder, an embedding with its reranker.

A bundle names its members and the evaluation that saw them together. Which bundle is read is one ledger
entry, so a flip moves all members or none; the bundle before stays written and warm until it is released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Action, Decision, Status, Verdict, decide
from mangaassist.storage.ledger import Entry

REGISTERED: Final = "bundle.registered"
FLIPPED: Final = "bundle.flipped"
FLIPPED_BACK: Final = "bundle.flipped_back"
RELEASED: Final = "bundle.released"
MEASURED: Final = "bundle.flip_measured"
KEPT_WARM = timedelta(days=14)
"""How long the bundle before stays a way back (PRO-5)."""
WITHIN = timedelta(minutes=5)
"""How long a flip back may take (PRO-4)."""
TECHNIQUE: Final = "blue_green"
"""The switch of a member's story that denies its flips: ``STORY.technique.blue_green`` (PRO-8)."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VERSION = re.compile(r"(?P<story>[^/\s]+)/(?P<number>[1-9][0-9]*)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Member:
    """One part of a bundle.

    Attributes:
        role: what it does there ("embedding", "index").
        reference: what it was registered as: ``story/version``, or the digest of an artifact.
        artifact: id of its files.
    """

    role: str
    reference: str
    artifact: str

    @property
    def version(self) -> tuple[str, int] | None:
        """Story and number of a registered version; None for a bare artifact."""
        found = _VERSION.fullmatch(self.reference)
        return (found["story"], int(found["number"])) if found else None

    def __str__(self) -> str:
        shown = self.reference[:12] if _DIGEST.fullmatch(self.reference) else self.reference
        return f"{self.role} {shown}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Members that go live together.

    Attributes:
        name, number: which one; numbers start at 1 and have no gaps.
        members: sorted by role.
        evaluation: digest of the stored end-to-end evaluation; None where there was none.
        decision: what was made of it: only a promotion can be flipped to.
    """

    name: str
    number: int
    members: tuple[Member, ...]
    evaluation: str | None
    decision: Decision
    registered_at: datetime

    @property
    def title(self) -> str:
        """The bundle and its members, as refusals name it."""
        return f"{self.name}/{self.number} ({' + '.join(map(str, self.members))})"

    @property
    def stories(self) -> tuple[str, ...]:
        """The stories of its registered versions."""
        return tuple(one.version[0] for one in self.members if one.version)

    def as_dict(self) -> dict[str, Any]:
        """The bundle as a JSON object."""
        return {
            "bundle": self.name,
            "number": self.number,
            "members": {one.role: one.reference for one in self.members},
            "artifacts": {one.role: one.artifact for one in self.members},
            "evaluation": self.evaluation,
            "deployable": self.decision.action is Action.PROMOTE,
            "reason": self.decision.reason,
            "registered_at": isoformat(self.registered_at),
        }


@dataclass(frozen=True, slots=True)
class BundleState:
    """Everything the entries of one bundle name add up to.

    Attributes:
        sequence: the last entry folded, the compare-and-swap point.
        epoch: sequence of the last flip; 0 before the first.
        bundles: every one by number.
        lives: who was read, oldest first, without those flipped back from; the last is read now.
        replaced: when each one that is read no more was replaced.
        withdrawn: those flipped back from; they do not come again.
        released: those nobody keeps warm any more; their files may be gone.
        voided: flips a kill switch made void.
    """

    name: str
    sequence: int = 0
    epoch: int = 0
    bundles: Mapping[int, Bundle] = field(default_factory=dict)
    lives: tuple[int, ...] = ()
    replaced: Mapping[int, datetime] = field(default_factory=dict)
    withdrawn: frozenset[int] = frozenset()
    released: frozenset[int] = frozenset()
    voided: tuple[int, ...] = ()

    @property
    def live(self) -> Bundle | None:
        """The one that is read; None before the first flip."""
        return self.bundles[self.lives[-1]] if self.lives else None

    @property
    def blue(self) -> Bundle | None:
        """The one before it, where a flip back goes; None when there is none that is still warm."""
        before = self.lives[-2] if len(self.lives) > 1 else None
        return None if before is None or before in self.released else self.bundles[before]

    @property
    def green(self) -> Bundle | None:
        """The newest one never read, which may be next; None when there is none."""
        newest = max(self.bundles, default=0)
        fresh = newest and newest not in {*self.lives, *self.withdrawn, *self.released}
        return self.bundles[newest] if fresh else None

    @property
    def known_good(self) -> Bundle | None:
        """What a flip back would leave: the one a reader that is cut off serves."""
        return self.blue or self.live

    @property
    def written(self) -> tuple[Bundle, ...]:
        """Those every new document has to be written to, so that no flip in either direction loses one."""
        found = (self.live, self.blue, self.green)
        return tuple(one for one in found if one is not None)

    def releasable(self, now: datetime) -> tuple[Bundle, ...]:
        """Those neither read nor next, once 14 days have passed since they were."""
        keep = {self.lives[-1] if self.lives else 0, self.green.number if self.green else 0, *self.released}
        return tuple(
            one
            for number, one in sorted(self.bundles.items())
            if number not in keep and self.replaced.get(number, one.registered_at) + KEPT_WARM <= now
        )

    def as_dict(self) -> dict[str, Any]:
        """The state as a JSON object."""
        return {
            "bundle": self.name,
            "epoch": self.epoch,
            "live": self.live.number if self.live else None,
            "blue": self.blue.number if self.blue else None,
            "green": self.green.number if self.green else None,
            "bundles": [
                {**one.as_dict(), "state": self._word(number)} for number, one in sorted(self.bundles.items())
            ],
        }

    def _word(self, number: int) -> str:
        if self.lives and number == self.lives[-1]:
            return "live"
        if number in self.released:
            return "released"
        if number in self.withdrawn:
            return "withdrawn"
        return "warm" if number in self.lives else "registered"


def subject(name: str) -> str:
    """The ledger subject of a bundle name; also what its readers acknowledge."""
    return f"bundle/{name}"


def check_name(name: str) -> None:
    """Refuse a name that is none."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "bundle",
            expected="a lower-case name like catalog-search",
            got=repr(name),
            next_step="Correct it.",
        )


def judge(
    name: str, members: tuple[Member, ...], evaluation: Mapping[str, Any] | None, *, actor: str, at: datetime
) -> Decision:
    """What an end-to-end evaluation says about exactly these members (PRO-7).

    Args:
        evaluation: ``{"members": {role: reference}, "verdicts": [verdict, ...]}``; None for none.

    Raises:
        InputError: it is something else.
    """
    wanted = {one.role: one.reference for one in members}
    if evaluation is None:
        return decide(name, [_together(members, "were not evaluated together")], actor=actor, at=at)
    try:
        seen = dict(evaluation["members"])
        verdicts = [Verdict.from_dict({"evidence": (), **one}) for one in evaluation["verdicts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "evaluation",
            expected='{"members": {ROLE: REFERENCE}, "verdicts": [...]}',
            got=f"{type(error).__name__}: {error}",
            next_step="Write it where the members are evaluated end to end.",
        ) from error
    if seen != wanted:
        named = " + ".join(f"{role} {reference}" for role, reference in sorted(seen.items())) or "nothing"
        said = f"were not evaluated together: the evaluation is of {named}"
        return decide(name, [_together(members, said), *verdicts], actor=actor, at=at)
    if not any(one.blocking for one in verdicts):
        return decide(name, [_together(members, "have an evaluation without a verdict")], actor=actor, at=at)
    return decide(name, verdicts, actor=actor, at=at)


def _together(members: tuple[Member, ...], said: str) -> Verdict:
    sentence = f"{' and '.join(map(str, members))} {said}."
    return Verdict("bundle.evaluated_together", Status.INSUFFICIENT, sentence)


def fold(state: BundleState, entry: Entry, *, allowed: bool) -> BundleState:
    """``state`` after ``entry``.

    Args:
        allowed: whether the kill switches permitted a flip at the entry's sequence.
    """
    body, state = entry.body, replace(state, sequence=entry.sequence)
    match entry.kind:
        case k if k == REGISTERED:
            bundle = _bundle(state.name, entry)
            return replace(state, bundles={**state.bundles, bundle.number: bundle})
        case k if k == FLIPPED and not allowed:
            return replace(state, voided=(*state.voided, entry.sequence))
        case k if k == FLIPPED:
            replaced = {**state.replaced, **dict.fromkeys(state.lives[-1:], entry.at)}
            replaced.pop(body["to"], None)
            lives = (*(one for one in state.lives if one != body["to"]), body["to"])
            return replace(state, epoch=entry.sequence, lives=lives, replaced=replaced)
        case k if k == FLIPPED_BACK:
            gone = state.lives[-1]
            return replace(
                state,
                epoch=entry.sequence,
                lives=state.lives[:-1],
                replaced={**state.replaced, gone: entry.at},
                withdrawn=state.withdrawn | {gone},
            )
        case k if k == RELEASED:
            return replace(state, released=state.released | set(body["numbers"]))
    return state


def _bundle(name: str, entry: Entry) -> Bundle:
    body = entry.body
    members = tuple(Member(role, *pair) for role, pair in sorted(body["members"].items()))
    decision = Decision.from_dict(body["decision"])
    return Bundle(name, body["number"], members, body["evaluation"], decision, entry.at)
