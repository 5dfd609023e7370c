"""Walk the ledger and everything it names, and say in one sentence whether all of it is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.lifecycle.platform import Platform
from mangaassist.storage.ledger import Entry

_PAGE = 5_000
# Kinds of entry, by their first word, and the field of theirs that names a stored document.
_EVIDENCE_OF = {"registry": "evidence", "promotion": "evidence", "drift": "digest"}


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        entries: ledger entries read; artifacts: stored documents whose bytes were compared with their digest.
        problems: one sentence each; empty when ``ok``.
    """

    entries: int
    artifacts: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def sentence(self) -> str:
        if self.ok:
            return f"Verified {self.entries:,} ledger entries and {self.artifacts:,} artifacts: all intact."
        return " ".join(self.problems)

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            "verified": self.ok,
            "entries": self.entries,
            "artifacts": self.artifacts,
            "problems": list(self.problems),
            "sentence": self.sentence,
        }


def audit_home(platform: Platform) -> Audit:
    """Recompute every digest of the chain and of all it names (GOV-4).

    That is the files and the signature of every registered version, the members and evaluations of every
    bundle that is kept, the evidence of every decision about a rollout and the drift references.
    """
    try:
        chain = platform.ledger.verify()
    except IntegrityError as error:
        return Audit(0, 0, (str(error),))
    problems = [] if chain.ok else [chain.problem]
    sets = sorted(set(_named_artifacts(platform))) if chain.ok else []
    documents = sorted(set(_named_documents(platform))) if chain.ok else []
    reads = [
        *((platform.artifacts.files, one) for one in sets),
        *((platform.artifacts.get, one) for one in documents),
    ]
    for read, digest in reads:
        try:
            read(digest)
        except (IntegrityError, InputError) as error:
            problems.append(str(error))
    problems += _unsigned(platform) if chain.ok else ()
    return Audit(chain.entries, len(reads), tuple(problems))


def _unsigned(platform: Platform) -> Iterator[str]:
    """Versions whose signatures of this region no longer vouch for what the registry names (GOV-3).

    A version that has none yet, or whose key was revoked on purpose, is no damage: it is not loaded.
    """
    known = platform.keys.keys(platform.keys.region)
    for story in platform.registry.stories():
        for version in platform.registry.versions(story):
            signature = version.signatures.get(platform.keys.region)
            if signature is None or (signature.key in known and known[signature.key].revoked is not None):
                continue
            try:
                platform.registry.verified(story, version.number)
            except IntegrityError as error:
                yield str(error)


def _named_artifacts(platform: Platform) -> Iterator[str]:
    for story in platform.registry.stories():
        for version in platform.registry.versions(story):
            yield version.artifact
            yield from version.documents.values()
    for state in map(platform.bundles.state, platform.bundles.names()):
        for number, bundle in state.bundles.items():
            if number not in state.released:
                yield from (member.artifact for member in bundle.members)


def _named_documents(platform: Platform) -> Iterator[str]:
    """Single documents: what a decision about a rollout, a bundle or a drift finding was drawn from."""
    for state in map(platform.bundles.state, platform.bundles.names()):
        kept = (one for number, one in state.bundles.items() if number not in state.released)
        yield from (one.evaluation for one in kept if one.evaluation is not None)
    after = 0
    while page := platform.ledger.entries(after=after, limit=_PAGE):
        for entry in page:
            room = entry.kind.partition(".")[0]
            if room in _EVIDENCE_OF and (digest := entry.body.get(_EVIDENCE_OF[room])):
                yield str(digest)
        after = page[-1].sequence


def newest(platform: Platform, n: int) -> list[dict[str, Any]]:
    """The last ``n`` entries, newest first, each with a short summary."""
    return [
        {
            "sequence": entry.sequence,
            "at": isoformat(entry.at),
            "actor": entry.actor,
            "kind": entry.kind,
            "subject": entry.subject,
            "summary": summarise(entry),
        }
        for entry in reversed(platform.ledger.tail(n))
    ]


def summarise(entry: Entry) -> str:
    """What an entry says, in a few words."""
    body = entry.body
    decision = body.get("decision") or body.get("gate")
    said = decision["reason"] if isinstance(decision, dict) else body.get("reason", "")
    version = f"version {body['version']}" if body.get("version") else ""
    return ": ".join(part for part in (version, str(said)) if part)
