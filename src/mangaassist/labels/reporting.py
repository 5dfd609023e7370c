"""How much came from whom, and where sources contradict each other."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.story import LabelPolicy
from mangaassist.labels.consensus import KEY, attach
from mangaassist.labels.votes import current_votes
from mangaassist.stats.agreement import cohen_kappa
from mangaassist.stats.intervals import Estimate, wilson

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Volume:
    """Standing votes of one source family given in the week that began on ``week`` (a Monday, UTC)."""

    week: datetime
    source: str
    votes: int

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {"week": isoformat(self.week)[:10], "source": self.source, "votes": self.votes}


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two sources on the examples both labelled.

    Attributes:
        first, second: families of sources, in the policy's order.
        same: share of examples they give one label; kappa: the same beyond chance, None where one class is
            all there is.
        differing: (label of the first, label of the second, examples), the most frequent first.
    """

    first: str
    second: str
    same: Estimate
    kappa: Estimate | None
    differing: tuple[tuple[str, str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {
            "sources": [self.first, self.second],
            "examples": self.same.n,
            "same": asdict(self.same),
            "kappa": asdict(self.kappa) if self.kappa else None,
            "differing": [
                {self.first: one, self.second: two, "examples": n} for one, two, n in self.differing
            ],
        }


def volume(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> list[Volume]:
    """Standing votes per week and source family, oldest first; a vote counts once whatever its role.

    Args:
        examples, labels: rows of the two tables.
    """
    votes = attach(examples, current_votes(labels), policy).unique(
        ["example_id", "label_source", "annotator_id", "label", "labeled_at"]
    )
    weeks = votes.group_by(week=pl.col("labeled_at").dt.truncate("1w"), source="family").len()
    return [Volume(week, source, int(n)) for week, source, n in weeks.sort("week", "source").rows()]


def confusions(examples: pl.DataFrame, labels: pl.DataFrame, policy: LabelPolicy) -> list[Confusion]:
    """Every two sources that labelled the same examples, each by its own majority (LAB-3).

    An example on which a source is split evenly says nothing about that source and is left out.

    Args:
        examples, labels: rows of the two tables.
    """
    standing = current_votes(labels).filter(pl.col("review_status") == "qa_passed")
    votes = attach(examples, standing, policy)
    tally = votes.group_by(*KEY, "family", "label").len()
    own = [*KEY, "family"]
    most = tally.filter(pl.col("len") == pl.col("len").max().over(own)).filter(pl.len().over(own) == 1)
    order = {name: rank for rank, name in enumerate(policy.sources)}
    families = sorted(most["family"].unique(), key=lambda one: (order.get(one, len(order)), one))
    found = []
    for first, second in combinations(families, 2):
        sides = (most.filter(pl.col("family") == name).select(*KEY, "label") for name in (first, second))
        one, two = sides
        both = one.join(two, on=KEY, suffix="_b")
        if both.height:
            found.append(_compare(first, second, both))
    return found


def _compare(first: str, second: str, both: pl.DataFrame) -> Confusion:
    apart = both.filter(pl.col("label") != pl.col("label_b"))
    cells = (
        apart.group_by("label", "label_b")
        .len()
        .sort("len", "label", "label_b", descending=[True, False, False])
    )
    try:
        kappa = cohen_kappa(both["label"].to_numpy(), both["label_b"].to_numpy())
    except InputError:  # one class only
        kappa = None
    same = wilson(both.height - apart.height, both.height)
    return Confusion(
        first, second, same, kappa, tuple((a, b, int(n)) for a, b, n in cells.head(_SHOWN).rows())
    )
