"""Bundles in the ledger: registered, flipped to, flipped back from, released, each by compare-and-swap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any

from mangaassist.core.errors import Conflict, GateRefused, InputError, Unavailable
from mangaassist.core.identity import canonical_json
from mangaassist.core.verdict import Action, Status, Verdict
from mangaassist.promotion.pairs import (
    FLIPPED,
    FLIPPED_BACK,
    MEASURED,
    REGISTERED,
    RELEASED,
    TECHNIQUE,
    WITHIN,
    Bundle,
    BundleState,
    Member,
    check_name,
    fold,
    judge,
    subject,
)
from mangaassist.promotion.readers import Acknowledged, Reader
from mangaassist.promotion.registry import Registry
from mangaassist.promotion.versions import Version, VersionStatus
from mangaassist.storage.ledger import Entry

_ATTEMPTS = 100
Build = Callable[[BundleState], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Flip:
    """One flip, timed.

    Attributes:
        state: what it left.
        seconds: from the decision until the last reader read the new bundle, wall clock.
        safe: the readers that were waited for.
    """

    state: BundleState
    seconds: float
    safe: Acknowledged

    @property
    def verdict(self) -> Verdict:
        """PRO-4 as a verdict: an index flips within five minutes, measured."""
        limit = WITHIN.total_seconds()
        status = Status.PASS if self.seconds <= limit else Status.FAIL
        live = self.state.live
        sentence = (
            f"{live.title if live else 'Nothing'} is read since {self.seconds:.3f} s after the decision, "
            f"by {self.safe.readers} readers (limit {limit:g} s)."
        )
        return Verdict(
            "bundle.flip_seconds", status, sentence, value=self.seconds, threshold=limit, n=self.safe.readers
        )


class Bundles:
    """The bundles of one registry; safe to share between threads.

    Args:
        readers: who has to read a flip before it counts as done.
    """

    def __init__(self, registry: Registry, *, readers: Sequence[Reader] = ()) -> None:
        self._registry = registry
        self._readers = tuple(readers)
        self._lock = threading.Lock()
        self._states: dict[str, BundleState] = {}
        self._seen: dict[str, int] = {}

    def state(self, name: str) -> BundleState:
        """Everything known about ``name`` now: one immutable value, so its members belong together."""
        with self._lock:
            version = self._registry.ledger.version()
            state = self._states.get(name) or BundleState(name)
            if version > self._seen.get(name, 0):
                for entry in self._registry.ledger.entries(subject=subject(name), after=state.sequence):
                    state = self._fold(state, entry)
                self._states[name], self._seen[name] = state, version
            return state

    def names(self) -> list[str]:
        """Every bundle name, sorted."""
        found = {entry.subject for entry in self._registry.ledger.entries(kind=REGISTERED)}
        return sorted(one.removeprefix(subject("")) for one in found)

    def register(
        self,
        name: str,
        members: Mapping[str, str],
        *,
        evaluation: Mapping[str, Any] | None,
        actor: str,
        at: datetime,
    ) -> Bundle:
        """Enter a bundle; the same members with the same evaluation are the bundle that is there.

        One without an evaluation of exactly these members is entered too, and cannot be flipped to.

        Args:
            members: role to ``story/version`` or artifact digest.

        Raises:
            InputError: fewer than two members, an unknown version, or an artifact that is not stored.
        """
        check_name(name)
        if len(members) < 2:
            raise InputError(
                "members",
                expected="two or more that belong together",
                got=", ".join(members) or "none",
                next_step="A single version is promoted by its own rollout.",
            )
        found = tuple(self._member(role, reference) for role, reference in sorted(members.items()))
        digest = None
        if evaluation is not None:
            digest = self._registry.artifacts.put(canonical_json(dict(evaluation)), durable=True)

        def build(state: BundleState) -> Mapping[str, Any] | None:
            if _same(state, found, digest):
                return None
            number = len(state.bundles) + 1
            decision = judge(f"{name}/{number}", found, evaluation, actor=actor, at=at)
            return {
                "number": number,
                "members": {one.role: [one.reference, one.artifact] for one in found},
                "evaluation": digest,
                "decision": decision.as_dict(),
            }

        state, _ = self._commit(name, REGISTERED, build, actor=actor, at=at)
        return next(iter(_same(state, found, digest)))

    def flip(
        self, name: str, number: int, *, actor: str, reason: str, at: datetime, epoch: int | None = None
    ) -> Flip:
        """Read bundle ``number`` from now on; the one read until now stays warm.

        Args:
            epoch: the flip its author looked at; a newer one is a Conflict. None: the present one.

        Raises:
            GateRefused: it was not evaluated together, a member may not be deployed, it was withdrawn or
                released, or a kill switch denies it.
        """
        started = perf_counter()
        epoch = self.state(name).epoch if epoch is None else epoch

        def build(state: BundleState) -> Mapping[str, Any] | None:
            bundle = _known(state, number)
            _require_epoch(state, epoch)
            if state.live == bundle:
                return None
            _require_standing(state, bundle)
            self._require_deployable(bundle)
            self._require_allowed(bundle)
            return {"to": number, "from": state.lives[-1] if state.lives else None, "reason": reason}

        state, entry = self._commit(name, FLIPPED, build, actor=actor, at=at)
        if entry is not None and entry.sequence in state.voided:
            self._refuse_voided(state.bundles[number])
        return self._measured(state, state.blue, started, actor=actor, at=at)

    def back(self, name: str, *, actor: str, reason: str, at: datetime) -> Flip:
        """Read the bundle before again; works under a freeze, too: the way back is always open.

        Raises:
            GateRefused: there is none that is still warm. IntegrityError: its files are damaged.
        """
        started = perf_counter()
        left = self.state(name).live
        epoch = self.state(name).epoch

        def build(state: BundleState) -> Mapping[str, Any]:
            _require_epoch(state, epoch)
            blue = state.blue
            if blue is None:
                raise GateRefused(
                    f"flip back of '{name}'",
                    expected="a bundle before the present one that is still warm",
                    got="none",
                    next_step="Register and flip to another; 'freeze on' stops further changes.",
                )
            for member in blue.members:
                self._registry.artifacts.names(member.artifact)
            return {"to": blue.number, "from": state.lives[-1], "reason": reason}

        state, _ = self._commit(name, FLIPPED_BACK, build, actor=actor, at=at)
        return self._measured(state, left, started, actor=actor, at=at)

    def release(self, name: str, *, actor: str, at: datetime) -> tuple[Bundle, ...]:
        """Give up what has been out of use for 14 days; its files may be collected from then on."""

        def build(state: BundleState) -> Mapping[str, Any] | None:
            gone = state.releasable(at)
            return {"numbers": [one.number for one in gone]} if gone else None

        before = self.state(name).released
        after, _ = self._commit(name, RELEASED, build, actor=actor, at=at)
        return tuple(after.bundles[number] for number in sorted(after.released - before))

    def coupled(self, story: str) -> Bundle | None:
        """The bundle now read that ``story`` is a part of; None when it stands alone."""
        lives = (self.state(name).live for name in self.names())
        return next((one for one in lives if one is not None and story in one.stories), None)

    def require_uncoupled(self, version: Version) -> None:
        """Refuse to deploy one member alone: its partners were never evaluated with it (PRO-7)."""
        bundle = self.coupled(version.story)
        if bundle is not None:
            raise GateRefused(
                version.name,
                expected="a version that is deployed on its own",
                got=f"a story that is read as part of {bundle.title}",
                next_step=f"Evaluate it with its partners and use 'bundle register {bundle.name}'.",
            )

    def _member(self, role: str, reference: str) -> Member:
        given = Member(role, reference, reference)
        if given.version is not None:
            return Member(role, reference, self._registry.get(*given.version).artifact)
        if not self._registry.artifacts.has(reference):
            raise InputError(
                f"member '{role}'",
                expected="STORY/VERSION, or the digest of a stored artifact",
                got=repr(reference),
                next_step="Store the artifact before registering the bundle.",
            )
        self._registry.artifacts.names(reference)  # a set of files, as everything that is kept and audited
        return given

    def _require_deployable(self, bundle: Bundle) -> None:
        if bundle.decision.action is not Action.PROMOTE:
            raise GateRefused(
                bundle.title,
                expected="an end-to-end evaluation of exactly these members that passed",
                got=bundle.decision.reason,
                next_step="Evaluate them together and register the bundle with that evaluation.",
            )
        for member in bundle.members:
            self._registry.artifacts.names(member.artifact)
            if member.version is not None:
                _require_member(bundle, self._registry.verified(*member.version))

    def _require_allowed(self, bundle: Bundle) -> None:
        for story in (bundle.name, *bundle.stories):
            permissions = self._registry.switches.permissions(story)
            permissions.require_promotion()
            if not permissions.allows(TECHNIQUE):
                raise GateRefused(
                    f"{story}.technique.{TECHNIQUE}",
                    expected="flips to be allowed",
                    got="switched off",
                    next_step=f"Lift it with 'freeze off --story {story} --technique {TECHNIQUE}'.",
                )

    def _refuse_voided(self, bundle: Bundle) -> None:
        self._require_allowed(bundle)
        raise GateRefused(
            bundle.title,
            expected="flips to be allowed",
            got="a kill switch that was on a moment ago",
            next_step="Run the command again.",
        )

    def _commit(
        self, name: str, kind: str, build: Build, *, actor: str, at: datetime
    ) -> tuple[BundleState, Entry | None]:
        """The state after what ``build`` made, and its entry; None where there was nothing to do."""
        for _ in range(_ATTEMPTS):
            state = self.state(name)
            body = build(state)
            if body is None:
                return state, None
            try:
                entry = self._registry.ledger.append(
                    kind=kind, subject=subject(name), body=body, actor=actor, at=at, expected=state.sequence
                )
            except Conflict:
                continue  # built again on what is there now; a decision about an older flip ends there
            return self.state(name), entry
        raise Conflict(
            subject(name),
            expected=f"a free moment within {_ATTEMPTS} attempts",
            got="other processes writing all the time",
            next_step="Run the command again.",
        )

    def _fold(self, state: BundleState, entry: Entry) -> BundleState:
        allowed = True
        if entry.kind == FLIPPED:
            self._registry.switches.refresh()
            bundle = state.bundles[entry.body["to"]]
            asked = (bundle.name, *bundle.stories)
            allowed = all(self._registry.switches.at(one, entry.sequence).allows(TECHNIQUE) for one in asked)
        return fold(state, entry, allowed=allowed)

    def _measured(
        self, state: BundleState, left: Bundle | None, started: float, *, actor: str, at: datetime
    ) -> Flip:
        safe, late, name = Acknowledged(0), None, subject(state.name)
        try:
            for reader in self._readers:
                safe += reader.acknowledge(
                    name, state.epoch, within=WITHIN, withdrawn=left.number if left else 0
                )
        except Unavailable as error:
            late = error
        flip = Flip(state, perf_counter() - started, safe)
        body = {
            "epoch": state.epoch,
            "seconds": flip.seconds,
            "readers": safe.readers,
            "expired": list(safe.expired),
            "late": str(late) if late else None,
            "verdict": flip.verdict.as_dict(),
        }
        self._registry.ledger.append(
            kind=MEASURED, subject=f"flips/{state.name}", body=body, actor=actor, at=at
        )
        if late is not None:
            raise late
        return flip


def _same(state: BundleState, members: tuple[Member, ...], evaluation: str | None) -> list[Bundle]:
    return [one for one in state.bundles.values() if one.members == members and one.evaluation == evaluation]


def _known(state: BundleState, number: int) -> Bundle:
    if number not in state.bundles:
        raise InputError(
            "bundle",
            expected=f"a registered number of '{state.name}'",
            got=str(number),
            next_step=f"Known: {', '.join(map(str, sorted(state.bundles))) or 'none yet'}.",
        )
    return state.bundles[number]


def _require_epoch(state: BundleState, epoch: int) -> None:
    if state.epoch != epoch:
        raise Conflict(
            subject(state.name),
            expected=f"the flip of epoch {epoch}",
            got=f"epoch {state.epoch}",
            next_step="Somebody else flipped it first: look at what is read now.",
        )


def _require_standing(state: BundleState, bundle: Bundle) -> None:
    if bundle.number in state.withdrawn | state.released:
        what = "withdrawn" if bundle.number in state.withdrawn else "released"
        raise GateRefused(
            bundle.title,
            expected="a bundle that stands",
            got=f"one that was {what}",
            next_step="Register it again with a new evaluation.",
        )


def _require_member(bundle: Bundle, version: Version) -> None:
    failed = version.status is VersionStatus.FAILED_PROMOTION
    if failed or version.capped is not None or version.gate.action is not Action.PROMOTE:
        raise GateRefused(
            bundle.title,
            expected=f"{version.name} to have passed its own gate",
            got=f"status '{version.status}'" + (f", capped at {version.capped}" if version.capped else ""),
            next_step="Retrain it and evaluate the new version with its partners.",
        )
