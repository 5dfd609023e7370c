"""The guardrail and cohort catalogs: what every launch can name instead of inventing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mangaassist.core.identity import digest_bytes
from mangaassist.experiments.document import Value, read


@dataclass(frozen=True, slots=True)
class Catalog:
    """Both catalogs as shipped.

    Attributes:
        guardrails: entries by name, as they stand in the file.
        dimensions: known values per cohort dimension.
        floor: worst-cohort floor: lowest cohort level over the aggregate level.
        margin: default relative harm margin per cohort, below 0.
        version: digest of both files; a changed threshold is a new version.
    """

    guardrails: Mapping[str, Value]
    dimensions: Mapping[str, tuple[str, ...]]
    floor: float
    margin: float
    version: str

    def mandatory(self, surface: str) -> tuple[str, ...]:
        """Guardrails a launch on ``surface`` may not leave out."""
        return tuple(
            name
            for name, entry in self.guardrails.items()
            if surface and "surfaces" in entry.mapping() and surface in entry.mapping()["surfaces"].texts()
        )


@cache
def load() -> Catalog:
    """The catalogs of this release.

    Raises:
        InputError: for a broken file, with its line.
    """
    texts = {name: _text(name) for name in ("guardrails.yaml", "cohorts.yaml")}
    guardrails = read(texts["guardrails.yaml"], source="guardrails.yaml").mapping(needs=("guardrails",))
    cohorts = read(texts["cohorts.yaml"], source="cohorts.yaml").mapping(
        needs=("dimensions", "floor", "margin")
    )
    dimensions = {
        name: entry.mapping(needs=("values",))["values"].texts()
        for name, entry in cohorts["dimensions"].mapping().items()
    }
    return Catalog(
        guardrails["guardrails"].mapping(),
        dimensions,
        cohorts["floor"].number(above=0, below=1),
        cohorts["margin"].number(below=0),
        digest_bytes("".join(texts.values()).encode()),
    )


def _text(name: str) -> str:
    return resources.files("mangaassist.experiments").joinpath("catalog", name).read_text(encoding="utf-8")
