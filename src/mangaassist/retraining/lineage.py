"""Which model reads what another one writes: data, checked for cycles and unknown names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from mangaassist.core.errors import InputError, nearest
from mangaassist.retraining.documents import malformed, of_home, shipped

FILE = "models.yaml"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The models in an order in which each comes after those it reads.

    Attributes:
        reads: direct upstream models by model.
    """

    reads: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, home: Path | None = None) -> Lineage:
        """The shipped graph with what the home's own says.

        Raises:
            InputError: no mapping of lists, a name nobody declared, or models that read each other.
        """
        return lineage({**shipped(FILE)["models"], **(of_home(home, FILE).get("models") or {})})

    def knows(self, model: str) -> bool:
        """Whether the graph says anything about ``model``."""
        return model in self.reads

    def upstream(self, model: str) -> tuple[str, ...]:
        """Every model whose output reaches ``model``, nearest first, then by name."""
        found: dict[str, None] = {}
        level = list(self.reads.get(model, ()))
        while level:
            found |= dict.fromkeys(sorted(level))
            level = [far for near in level for far in self.reads[near] if far not in found]
        return tuple(found)

    def downstream(self, model: str) -> tuple[str, ...]:
        """Every model that ``model``'s output reaches, in the order in which they should be retrained."""
        order = TopologicalSorter(self.reads).static_order()
        return tuple(name for name in order if model in self.upstream(name))


def lineage(reads: object, *, source: str = FILE) -> Lineage:
    """A checked graph; ``source`` is the document errors name.

    Raises:
        InputError: see :meth:`Lineage.load`.
    """
    if not isinstance(reads, dict) or not all(
        isinstance(one, list) and all(isinstance(name, str) for name in one) for one in reads.values()
    ):
        raise malformed(f"{source}: models", "a list of names per model", reads)
    for model, names in reads.items():
        for name in names:
            if name not in reads:
                raise InputError(
                    f"{source}: {model}", expected="a model", got=f"'{name}'", next_step=nearest(name, reads)
                )
    try:
        tuple(TopologicalSorter(reads).static_order())
    except CycleError as error:
        raise malformed(f"{source}: models", "no circle", " reads ".join(reversed(error.args[1]))) from error
    return Lineage({model: tuple(names) for model, names in reads.items()})
