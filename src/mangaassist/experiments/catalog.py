"""The guardrail and cohort catalogs: what every launch can name instead of inventing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from mangaassist.core.document import Value, read
from mangaassist.core.identity import digest


@dataclass(frozen=True, slots=True)
class Catalog:
    """Both catalogs at one moment.

    Attributes:
        guardrails: entries by name, as they stand in the file, governed changes applied.
        dimensions: known values per cohort dimension.
        floor: worst-cohort floor: lowest cohort level over the aggregate level.
        margin: default relative harm margin per cohort, below 0.
        texts: the two files; a registration keeps them, so that it means tomorrow what it meant when signed.
        limits: governed changes: threshold or ceiling per guardrail.
    """

    guardrails: Mapping[str, Value]
    dimensions: Mapping[str, tuple[str, ...]]
    floor: float
    margin: float
    texts: tuple[str, str]
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Digest of everything in it."""
        return digest([list(self.texts), dict(self.limits)])

    def mandatory(self, surface: str) -> tuple[str, ...]:
        """Guardrails a launch on ``surface`` may not leave out."""
        return tuple(
            name
            for name, entry in self.guardrails.items()
            if surface and "surfaces" in entry.mapping() and surface in entry.mapping()["surfaces"].texts()
        )


def load() -> Catalog:
    """The catalogs of this release."""
    return parse(*(_text(name) for name in ("guardrails.yaml", "cohorts.yaml")))


@cache
def parse(guardrails_text: str, cohorts_text: str) -> Catalog:
    """Catalogs from their two files.

    Raises:
        InputError: for a broken file, with its line.
    """
    guardrails = read(guardrails_text, source="guardrails.yaml").mapping(needs=("guardrails",))
    needs = ("dimensions", "floor", "margin")
    cohorts = read(cohorts_text, source="cohorts.yaml").mapping(needs=needs)
    dimensions = {
        name: entry.mapping(needs=("values",))["values"].texts()
        for name, entry in cohorts["dimensions"].mapping().items()
    }
    return Catalog(
        guardrails["guardrails"].mapping(),
        dimensions,
        cohorts["floor"].number(above=0, below=1),
        cohorts["margin"].number(below=0),
        (guardrails_text, cohorts_text),
    )


def with_limits(catalog: Catalog, limits: Mapping[str, float]) -> Catalog:
    """The catalog with governed thresholds in place of the shipped ones."""
    entries = dict(catalog.guardrails)
    for name, limit in limits.items():
        entry = entries[name]
        key = limit_name(entry)
        body = {**entry.mapping(), key: replace(entry.mapping()[key], raw=repr(limit))}
        entries[name] = replace(entry, raw=body)
    return replace(catalog, guardrails=entries, limits=dict(limits))


def limit_name(entry: Value) -> str:
    """Which of its fields is the limit."""
    return "ceiling" if "ceiling" in entry.mapping() else "threshold"


@cache
def _text(name: str) -> str:
    return resources.files("mangaassist.experiments").joinpath("catalog", name).read_text(encoding="utf-8")
