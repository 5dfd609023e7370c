"""Schema versions: catalogs published to the ledger, numbered, compared and read back exactly (FEA-2, FEA-4).

Any change to a catalog, also of an owner or a promise of freshness, is a new schema version. Training and
serving compare the narrower served fingerprint, so that a new owner does not stop a deployment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import Conflict, GateRefused, InputError, IntegrityError, nearest
from mangaassist.features.catalog import Catalog, diff
from mangaassist.storage.ledger import Entry, Ledger

PUBLISHED = "features.published"
_SUBJECT = "features/"
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """A published catalog.

    Attributes:
        number: 1, 2, 3, ... per namespace.
        catalog: as it was published.
        changes: what differs from the version before, one line each; empty for the first.
        actor, at: who published it, when.
        sequence: its entry in the ledger.
    """

    number: int
    catalog: Catalog
    changes: tuple[str, ...]
    actor: str
    at: datetime
    sequence: int

    @property
    def name(self) -> str:
        """The namespace and the number: "intent v3"."""
        return f"{self.catalog.namespace} v{self.number}"

    def as_dict(self) -> dict[str, Any]:
        """The version as a JSON object, with its digest and its served fingerprint."""
        return {
            "namespace": self.catalog.namespace,
            "number": self.number,
            "digest": self.catalog.digest,
            "fingerprint": self.catalog.fingerprint,
            "changes": list(self.changes),
            "actor": self.actor,
            "at": isoformat(self.at),
            "sequence": self.sequence,
        }


def publish(ledger: Ledger, catalog: Catalog, *, actor: str, at: datetime) -> SchemaVersion:
    """Make ``catalog`` the newest schema version of its namespace; unchanged, it is the one it already is.

    Raises:
        GateRefused: a feature has another dtype, or a view another entity, than in an earlier version: their
            table holds the earlier one, and rows of two meanings would share a name.
        Conflict: other writers were faster every time.
    """
    subject = _SUBJECT + catalog.namespace
    for _ in range(_ATTEMPTS):
        head = ledger.head(subject)
        known = history(ledger, catalog.namespace)
        if known and known[-1].catalog.digest == catalog.digest:
            return known[-1]
        for earlier in known:
            _check_evolution(earlier, catalog)
        changes = tuple(map(str, diff(known[-1].catalog, catalog))) if known else ()
        number = len(known) + 1
        body = {
            "number": number,
            "digest": catalog.digest,
            "fingerprint": catalog.fingerprint,
            "changes": list(changes),
            "catalog": catalog.as_dict(),
        }
        try:
            entry = ledger.append(
                kind=PUBLISHED, subject=subject, body=body, actor=actor, at=at, expected=head
            )
        except Conflict:
            continue
        return _version(entry)
    raise Conflict(
        f"feature namespace '{catalog.namespace}'",
        expected=f"a turn within {_ATTEMPTS} tries",
        got="other writers publishing each time",
        next_step="Run it again.",
    )


def history(ledger: Ledger, namespace: str) -> tuple[SchemaVersion, ...]:
    """Every schema version of ``namespace``, oldest first.

    Raises:
        IntegrityError: a catalog is not the one that was published.
    """
    return tuple(_version(entry) for entry in ledger.entries(subject=_SUBJECT + namespace, kind=PUBLISHED))


def published(
    ledger: Ledger, namespace: str, *, number: int | None = None, fingerprint: str | None = None
) -> SchemaVersion:
    """The newest schema version of ``namespace``, of those with this number and served fingerprint.

    Both training and serving read defaults from what this gives for the pinned fingerprint (FEA-4).

    Raises:
        InputError: no such version. IntegrityError: as :func:`history`.
    """
    known = history(ledger, namespace)
    for one in reversed(known):
        if number in (None, one.number) and fingerprint in (None, one.catalog.fingerprint):
            return one
    wanted = [f"number {number}"] if number is not None else []
    wanted += [f"served fingerprint {fingerprint[:16]}"] if fingerprint is not None else []
    raise InputError(
        "feature schema version",
        expected=f"a published version of '{namespace}'" + "".join(f" with {one}" for one in wanted),
        got=f"{len(known)} published, none of them that" if known else "none published",
        next_step=_next_step(ledger, namespace, known),
    )


def _next_step(ledger: Ledger, namespace: str, known: Sequence[SchemaVersion]) -> str:
    if known:
        return f"Published numbers: {', '.join(str(one.number) for one in known)}."
    others = {entry.subject.removeprefix(_SUBJECT) for entry in ledger.entries(kind=PUBLISHED)}
    return nearest(namespace, others) if others else "Publish the catalog first."


def _version(entry: Entry) -> SchemaVersion:
    body = entry.body
    name = f"{body['catalog']['namespace']} v{body['number']}"
    catalog = Catalog.from_dict(body["catalog"], source=name)
    if (catalog.digest, catalog.fingerprint) != (body["digest"], body["fingerprint"]):
        raise IntegrityError(
            f"feature schema version '{name}'",
            expected=f"a catalog with digest {body['digest'][:16]}",
            got=catalog.digest[:16],
            next_step="Read it with the release that published it, or restore the ledger from a backup.",
        )
    return SchemaVersion(
        body["number"], catalog, tuple(body["changes"]), entry.actor, entry.at, entry.sequence
    )


def _check_evolution(earlier: SchemaVersion, catalog: Catalog) -> None:
    """A name, once published, means one thing in its table for good, also after it was removed."""
    entities = {one.view: one.entity for one in earlier.catalog.features.values()}
    for name, feature in catalog.features.items():
        before = earlier.catalog.features.get(name)
        if before is not None and before.view == feature.view and before.dtype != feature.dtype:
            raise _refused(f"feature '{name}'", earlier, f"dtype {before.dtype}", feature.dtype, "feature")
        entity = entities.get(feature.view, feature.entity)
        if entity != feature.entity:
            raise _refused(f"view '{feature.view}'", earlier, f"entity {entity}", feature.entity, "view")


def _refused(field: str, earlier: SchemaVersion, expected: str, got: str, kind: str) -> GateRefused:
    return GateRefused(
        field,
        expected=f"{expected}, as in {earlier.name}",
        got=got,
        next_step=f"Stored rows keep their meaning: give the changed {kind} a new name.",
    )
