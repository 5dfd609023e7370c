"""Reading the model registry (PRO-1): versions and deployments of every story, as the ledger has them.

State is the fold of a story's entries, cached by sequence and brought up to date incrementally.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from mangaassist.core.errors import InputError
from mangaassist.governance.signing import KeyRing
from mangaassist.governance.switches import Switches
from mangaassist.promotion.requirements import known, subject
from mangaassist.promotion.versions import (
    FAILED,
    PROMOTED,
    REGISTERED,
    Deployment,
    StoryState,
    Version,
    VersionStatus,
    fold,
)
from mangaassist.storage.artifacts import ArtifactStore
from mangaassist.storage.ledger import Entry, Ledger


class RegistryReader:
    """What the registry of one ledger says; safe to share between threads."""

    def __init__(
        self, ledger: Ledger, artifacts: ArtifactStore, keys: KeyRing, switches: Switches | None = None
    ) -> None:
        self.ledger = ledger
        self.artifacts = artifacts
        self.keys = keys
        self.switches = switches or Switches(ledger)
        self._lock = threading.RLock()
        self._states: dict[str, StoryState] = {}
        self._seen: dict[str, int] = {}

    def state(self, story: str) -> StoryState:
        """Everything known about ``story`` now; microseconds when nothing changed anywhere."""
        with self._lock:
            version = self.ledger.version()
            state = self._states.get(story) or StoryState.empty(story)
            if version > self._seen.get(story, 0):
                for entry in self.ledger.entries(subject=subject(story), after=state.sequence):
                    state = self._fold(state, entry)
                self._states[story], self._seen[story] = state, version
            return state

    def deployment(self, story: str) -> Deployment:
        """Who answers ``story`` now; an unknown story has an empty deployment."""
        return self.state(story).deployment

    def versions(self, story: str) -> list[Version]:
        """Every version of ``story``, oldest first, failed ones included."""
        return [version for _, version in sorted(self.state(story).versions.items())]

    def latest(self, story: str) -> Version | None:
        """The newest version that has not failed (PRO-1); None when there is none."""
        standing = [one for one in self.versions(story) if one.status is not VersionStatus.FAILED_PROMOTION]
        return standing[-1] if standing else None

    def get(self, story: str, number: int) -> Version:
        """One version.

        Raises:
            InputError: there is none of that number.
        """
        return known(self.state(story), number)

    def verified(self, story: str, number: int) -> Version:
        """One version whose artifact this region's key vouches for: what may be loaded (GOV-3).

        Raises:
            InputError: there is none of that number. IntegrityError: nobody trusted vouches for it.
        """
        version = self.get(story, number)
        self.keys.verify(version.signatures, version.artifact, name=version.name)
        return version

    def before_failure(self, story: str, number: int) -> tuple[Entry, Deployment]:
        """The last entry that failed a version, and the deployment it ended.

        Raises:
            InputError: the version never failed.
        """
        found = self._before(story, number, FAILED)
        if found is None:
            raise InputError(
                f"{story}/{number}",
                expected="a version that failed",
                got=str(self.get(story, number).status),
                next_step="Nothing has to be enabled again.",
            )
        return found

    def before_promotion(self, story: str, number: int) -> tuple[Entry, Deployment] | None:
        """The last entry that made a version champion, and the canary it ended; None where none did."""
        return self._before(story, number, PROMOTED)

    def _before(self, story: str, number: int, kind: str) -> tuple[Entry, Deployment] | None:
        state, found = StoryState.empty(story), None
        for entry in self.ledger.entries(subject=subject(story)):
            before, state = state.deployment, self._fold(state, entry)
            if entry.kind == kind and entry.body["version"] == number and entry.sequence not in state.voided:
                found = entry, before
        return found

    def stories(self) -> list[str]:
        """Names of the stories that have a version, sorted."""
        found = {entry.subject for entry in self.ledger.entries(kind=REGISTERED)}
        return sorted(name.removeprefix(subject("")) for name in found)

    def _fold(self, state: StoryState, entry: Entry) -> StoryState:
        self.switches.refresh()
        allowed = self.switches.at(state.story, entry.sequence).may_promote
        return fold(state, entry, allowed=allowed)

    def _check_stored(self, artifact: str, documents: Mapping[str, str]) -> None:
        self.artifacts.names(artifact)
        for name, digest in documents.items():
            if not self.artifacts.has(digest):
                raise InputError(
                    f"document '{name}'",
                    expected="the digest of something in the artifact store",
                    got=digest,
                    next_step="Store the document before registering the version.",
                )
