"""Walk the ledger and everything it names, and say in one sentence whether all of it is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import GateRefused, InputError, IntegrityError
from mangaassist.lifecycle.platform import Platform
from mangaassist.storage.ledger import Entry, Verification
from mangaassist.stories.discovery import story_names

_PAGE = 5_000
# Kinds of entry, by their first word, and the field of theirs that names a stored document.
_EVIDENCE_OF = {"registry": "evidence", "promotion": "evidence", "drift": "digest"}


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        entries: ledger entries that are as they were written, counted from the first.
        head: digest of the last of them, to compare with one kept elsewhere.
        first_bad: number of the first entry that is not; None where all are.
        artifacts: stored documents whose bytes were compared with their digest.
        label_versions: pinned labels compared with their content hash; None when they were not asked for.
        elsewhere: stories whose labels live in another region and can be checked only there.
        problems: one sentence each; empty when ``ok``.
    """

    entries: int
    artifacts: int
    problems: tuple[str, ...]
    head: str = ""
    first_bad: int | None = None
    label_versions: int | None = None
    elsewhere: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def sentence(self) -> str:
        if not self.ok:
            return " ".join(self.problems)
        compared = [f"{self.entries:,} ledger entries"]
        if self.label_versions is not None:
            compared.append(f"{self.label_versions:,} label version{'s' * (self.label_versions != 1)}")
        away = f" Labels of {', '.join(self.elsewhere)} live in another region." if self.elsewhere else ""
        return f"Verified {', '.join(compared)} and {self.artifacts:,} artifacts: all intact.{away}"

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            "verified": self.ok,
            "entries": self.entries,
            "head": self.head,
            "first_bad": self.first_bad,
            "artifacts": self.artifacts,
            "label_versions": self.label_versions,
            "elsewhere": list(self.elsewhere),
            "problems": list(self.problems),
            "sentence": self.sentence,
        }


def audit_home(platform: Platform, *, labels: bool = False) -> Audit:
    """Recompute every digest of the chain and of all it names (GOV-4).

    That is the files and the signature of every registered version, the members and evaluations of every
    bundle that is kept, the evidence of every decision about a rollout and the drift references.

    Args:
        labels: also read every pinned label version back, from the tables or the cold folder, and compare it
            with its content hash. That takes longer than all the rest.
    """
    try:
        chain = platform.ledger.verify()
    except IntegrityError as error:
        return Audit(0, 0, (str(error),))
    if not chain.ok:
        problem = f"{chain.problem} {_restore(chain)}"
        return Audit(chain.entries, 0, (problem,), head=chain.head, first_bad=chain.first_bad)
    named = sorted({*_named_artifacts(platform), *_named_documents(platform)})
    problems = []
    for digest in named:
        try:
            platform.artifacts.check(digest)
        except (IntegrityError, InputError) as error:
            problems.append(str(error))
    problems += _unsigned(platform)
    pinned, elsewhere, wrong = _labels(platform) if labels else (None, (), ())
    return Audit(
        chain.entries,
        len(named),
        (*problems, *wrong),
        head=chain.head,
        label_versions=pinned,
        elsewhere=elsewhere,
    )


def _restore(chain: Verification) -> str:
    """What to do about a ledger that is not what was written."""
    intact = f"The {chain.entries:,} entries before it are as they were written. " if chain.entries else ""
    return (
        f"{intact}Commands that need what is damaged refuse to go on; 'mangaassist freeze on' still works. "
        "Stop what writes to this home, restore the ledger from a backup that goes on beyond it, and run "
        "'mangaassist audit verify' again."
    )


def _labels(platform: Platform) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """How many label versions were read back, stories of other regions, and what is not what was pinned."""
    # Here, because a ledger command must not wait for libraries it does not need.
    from mangaassist.labels import versions as label_versions

    compared, elsewhere, problems = 0, [], []
    for name in story_names(platform.home.path):
        story = platform.module(name).STORY
        try:
            for pinned in label_versions.versions(platform.labels, story):
                label_versions.contents(platform.labels, story, pinned)
                compared += 1
        except GateRefused:
            elsewhere.append(name)
        except (IntegrityError, InputError) as error:
            problems.append(str(error))
    return compared, tuple(elsewhere), tuple(problems)


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
