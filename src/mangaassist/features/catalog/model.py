"""A namespace of features, its schema version, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest
from mangaassist.features.catalog.feature import DESCRIPTIVE, SERVED, Feature
from mangaassist.features.catalog.parsing import parse


@dataclass(frozen=True, slots=True)
class Catalog:
    """The features of one namespace (FEA-7: one per story).

    Attributes:
        namespace: its name.
        features: by name, in the order of the file.
        source: where it was read from; no part of what the catalog says.
    """

    namespace: str
    features: Mapping[str, Feature]
    source: str = field(compare=False)

    @classmethod
    def read(cls, path: Path) -> Catalog:
        """The catalog in a file.

        Raises:
            InputError: when it cannot be read or is broken.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), source=path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                "feature catalog",
                expected=f"a UTF-8 file at {path}",
                got=str(error),
                next_step="Check the path.",
            ) from error

    @classmethod
    def parse(cls, text: str, *, source: str) -> Catalog:
        """A catalog from YAML text; see ``stories/intent/features.yaml`` for the form.

        Raises:
            InputError: with the line, for anything missing, unknown, repeated or out of range.
        """
        namespace, features = parse(text, source)
        return cls(namespace, features, source)

    @property
    def version(self) -> str:
        """The served schema version (FEA-4), that training pins and serving declares."""
        return f"{self.namespace}@{self.fingerprint[:16]}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the served part of every feature, whatever their order."""
        return digest({name: feature.served() for name, feature in self.features.items()})

    @property
    def digest(self) -> str:
        """SHA-256 over everything the catalog says; whatever changes it is a new published version."""
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The catalog as a JSON object; the order of features says nothing."""
        return {
            "namespace": self.namespace,
            "features": {name: feature.as_dict() for name, feature in self.features.items()},
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], *, source: str) -> Catalog:
        """The inverse of :meth:`as_dict`."""
        features = {name: Feature.from_dict(name, one) for name, one in sorted(body["features"].items())}
        return cls(body["namespace"], features, source)

    def chosen(self, names: Iterable[str]) -> list[Feature]:
        """The features called ``names``, in that order.

        Raises:
            InputError: for an unknown or repeated name.
        """
        wanted = list(names)
        for name in wanted:
            if name not in self.features:
                raise InputError(
                    "feature",
                    expected=f"a feature of namespace '{self.namespace}'",
                    got=repr(name),
                    next_step=nearest(name, self.features),
                )
            if wanted.count(name) > 1:
                raise InputError(
                    "feature", expected="each name once", got=f"'{name}' twice", next_step="Drop the second."
                )
        return [self.features[name] for name in wanted]

    def view(self, name: str) -> list[Feature]:
        """The features of one view.

        Raises:
            InputError: for an unknown view.
        """
        known = {feature.view for feature in self.features.values()}
        if name not in known:
            raise InputError(
                "feature view",
                expected=f"a view of namespace '{self.namespace}'",
                got=repr(name),
                next_step=nearest(name, known),
            )
        return [feature for feature in self.features.values() if feature.view == name]

    def table(self, view: str) -> str:
        """The name of a view's table."""
        return f"features.{self.namespace}.{view}"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two catalogs.

    Attributes:
        feature: which feature.
        field: what about it; "" when it is new or gone.
        before, after: the values; None for absent.
        served: True when models may be given other values, so that the served fingerprint differs.
    """

    feature: str
    field: str
    before: Any
    after: Any
    served: bool

    def __str__(self) -> str:
        if not self.field:
            return f"{self.feature}: {'added' if self.before is None else 'removed'}"
        note = "" if self.served else " (served values unchanged)"
        return f"{self.feature}: {self.field} {self.before!s} -> {self.after!s}{note}"


def diff(before: Catalog, after: Catalog) -> tuple[Change, ...]:
    """Everything that differs between two catalogs, by feature and then by field."""
    changes = []
    for name in sorted({*before.features, *after.features}):
        old, new = before.features.get(name), after.features.get(name)
        if old is None or new is None:
            changes.append(Change(name, "", old and old.dtype, new and new.dtype, served=True))
            continue
        for about in (*SERVED, *DESCRIPTIVE):
            left, right = getattr(old, about), getattr(new, about)
            if (left, type(left)) != (right, type(right)):
                changes.append(Change(name, about, left, right, served=about in SERVED))
    return tuple(changes)
