"""Who is to see what twice and what three times, decided before a lot goes out, and held to when it is back.

A vendor that chose the shared items itself could choose the easy ones, so the plan does (LAB-4).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import Conflict, InputError
from mangaassist.core.identity import digest, digest_bytes
from mangaassist.core.language import Language
from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.votes import current_examples, erased
from mangaassist.stats.intervals import wilson

POOLS = {"en": (Language.EN,), "ja": (Language.JA, Language.MIXED)}
"""Agreement pools. Mixed text belongs to the Japanese team: nobody else can read all of it."""

MINIMUM_ITEMS = 10
"""Triple-annotated items below which a lot's kappa says nothing: its standard error would pass 0.15."""

TRIPLE_SHARE = 0.10
COMPLETE = 0.95
"""Share of the planned items that must come back as planned; a few are always unreadable or late."""

ANNOTATED_BY = "vendor"
"""The family of sources whose annotators are people."""

_PLANNED = "labels.lot_planned"
_SCHEMA = {
    "plan": pl.String(),
    "lot": pl.String(),
    "example_id": pl.String(),
    "language": pl.String(),
    "pool": pl.String(),
    "annotations": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class PlannedLot:
    """A lot that was planned.

    Attributes:
        lot: its name; plan: digest of its rows; at: when; actor: by whom.
        items, triple: examples in it, and how many of them three people are to see.
        pools: items per language pool.
    """

    lot: str
    plan: str
    at: datetime
    actor: str
    items: int
    triple: int
    pools: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The plan's headline as a JSON object."""
        return {
            "lot": self.lot,
            "plan": self.plan,
            "planned_at": isoformat(self.at),
            "actor": self.actor,
            "items": self.items,
            "triple": self.triple,
            "double": self.items - self.triple,
            "pools": dict(self.pools),
        }


def with_pool(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with the agreement pool of their language."""
    pools = {str(language): pool for pool, languages in POOLS.items() for language in languages}
    return rows.with_columns(pool=pl.col("language").replace_strict(pools, return_dtype=pl.String()))


def draw(examples: pl.DataFrame, *, generator: np.random.Generator) -> pl.DataFrame:
    """``examples`` with how many people are to annotate each: three for a tenth of each language, else two.

    A pool too small for a tenth to be measured (:data:`MINIMUM_ITEMS`) gets as many as a kappa needs.

    Args:
        examples: columns example_id and language, each example once.

    Returns:
        example_id, language, pool and annotations (2 or 3), sorted by id.
    """
    rows = with_pool(examples.select("example_id", "language")).sort("example_id")
    chosen: list[str] = []
    for _, own in sorted(rows.partition_by("pool", as_dict=True).items()):
        wanted = min(own.height, max(MINIMUM_ITEMS, math.ceil(TRIPLE_SHARE * own.height)))
        by_language = [part for _, part in sorted(own.partition_by("language", as_dict=True).items())]
        for part, count in zip(
            by_language, _shares([one.height for one in by_language], wanted), strict=True
        ):
            ids = part["example_id"].to_list()
            chosen += [ids[place] for place in generator.permutation(len(ids))[:count]]
    triple = pl.col("example_id").is_in(chosen)
    return rows.with_columns(annotations=pl.when(triple).then(3).otherwise(2).cast(pl.Int64()))


def _shares(sizes: list[int], total: int) -> list[int]:
    """``total`` spread over groups in proportion to their sizes, by largest remainder."""
    exact = [size * total / sum(sizes) for size in sizes]
    counts = [math.floor(one) for one in exact]
    order = sorted(range(len(sizes)), key=lambda place: counts[place] - exact[place])
    for place in order[: total - sum(counts)]:
        counts[place] += 1
    return counts


def plan_lot(
    store: LabelStore,
    story: Story,
    lot: str,
    *,
    size: int,
    seed: int,
    actor: str,
    role: str = "train",
    among: Collection[str] | None = None,
) -> PlannedLot:
    """Choose ``size`` examples at random, decide who of them is seen three times, and write it down.

    Examples that people labelled already, or that are in another lot, are left out; what rules and models say
    about an example does not keep it from people.

    Args:
        among: example ids to choose from; None for all.

    Raises:
        InputError: for an unprintable name or when nothing waits for labels.
        Conflict: when the lot was planned already; a plan is never changed.
    """
    if not lot.strip() or not lot.isprintable():
        raise InputError("lot", expected="a name", got=repr(lot), next_step="Name it like en-2026-W47.")
    generator = np.random.default_rng(seed)
    waiting = waiting_for_people(store, story, role=role, among=among)
    if waiting.is_empty():
        raise InputError(
            f"lot '{lot}'",
            expected=f"{role} examples of '{story.name}' without a {ANNOTATED_BY} label",
            got="none that no other lot has",
            next_step="Add examples first.",
        )
    ids = waiting.sort("example_id")
    drawn = ids[np.sort(generator.permutation(ids.height)[:size]).tolist()]
    rows = draw(drawn, generator=generator)
    plan = digest([lot, digest_bytes(rows.write_ndjson().encode())])
    head = store.ledger.head(subject(story))
    _refuse_known(store, story, lot)
    stored = rows.with_columns(plan=pl.lit(plan), lot=pl.lit(lot)).select(list(_SCHEMA))
    store.tables.append(_table(story), stored.to_arrow(), properties={"plan": plan})
    counts = dict(sorted(rows.group_by("pool").len().rows()))
    triple = rows.filter(pl.col("annotations") == 3).height
    body = {
        "lot": lot,
        "plan": plan,
        "items": rows.height,
        "triple": triple,
        "pools": counts,
        "seed": seed,
    }
    # The entry makes the rows a plan: rows that a crash left without one, or a faster writer's, mean nothing.
    entry = store.ledger.append(
        kind=_PLANNED,
        subject=subject(story),
        body=body,
        actor=actor,
        at=store.clock.now(),
        expected=head,
    )
    return PlannedLot(lot, plan, entry.at, actor, rows.height, triple, counts)


def waiting_for_people(
    store: LabelStore, story: Story, *, role: str = "train", among: Collection[str] | None = None
) -> pl.DataFrame:
    """Examples people have not labelled and no planned lot holds; ``among`` as for :func:`plan_lot`."""
    taken = planned(store, story)["example_id"].implode()
    waiting = store.unlabelled(story, by=ANNOTATED_BY)
    wanted = pl.lit(True) if among is None else pl.col("example_id").is_in(list(among))
    return waiting.filter(wanted & (pl.col("role") == role) & ~pl.col("example_id").is_in(taken))


def _refuse_known(store: LabelStore, story: Story, lot: str) -> None:
    if lot in {one.lot for one in planned_lots(store, story)}:
        raise Conflict(
            f"lot '{lot}'",
            expected="a lot that was not planned yet",
            got="one that was",
            next_step=f"Export it with 'mangaassist labels planned {story.name} {lot}' or pick another name.",
        )


def planned_lots(store: LabelStore, story: Story) -> list[PlannedLot]:
    """Every planned lot, oldest first."""
    found = []
    for entry in store.ledger.entries(subject=subject(story), kind=_PLANNED):
        body = entry.body
        found.append(
            PlannedLot(
                body["lot"],
                body["plan"],
                entry.at,
                entry.actor,
                body["items"],
                body["triple"],
                dict(body["pools"]),
            )
        )
    return found


def planned(store: LabelStore, story: Story, lot: str | None = None) -> pl.DataFrame:
    """The rows of every plan, or of one: lot, example_id, language, pool, annotations.

    Examples that were erased since are nobody's to annotate and left out.

    Raises:
        InputError: for a lot nobody planned.
    """
    plans = {one.lot: one.plan for one in planned_lots(store, story)}
    if lot is not None and lot not in plans:
        raise InputError(
            "lot",
            expected="a planned lot",
            got=repr(lot),
            next_step=f"Known: {', '.join(sorted(plans)) or 'none'}.",
        )
    wanted = [plans[lot]] if lot is not None else list(plans.values())
    if not wanted:
        return pl.DataFrame(schema=_SCHEMA).drop("plan")
    rows = store.tables.read(_table(story)).unique()
    gone = erased(store.labels(story)).implode()
    kept = rows.filter(pl.col("plan").is_in(wanted) & ~pl.col("example_id").is_in(gone))
    return kept.select(list(_SCHEMA)).drop("plan").sort("lot", "example_id")


def vendor_file(store: LabelStore, story: Story, lots: Sequence[str]) -> str:
    """Planned lots as CSV for the vendor: lot, example_id, language, annotations (2 or 3), text.

    Raises:
        InputError: for a lot nobody planned.
    """
    known = current_examples(store.examples(story)).unique("example_id", maintain_order=True)
    rows = pl.concat([planned(store, story, lot) for lot in lots])
    waiting = rows.join(known.select("example_id", "text"), on="example_id", maintain_order="left")
    return waiting.select("lot", "example_id", "language", "annotations", "text").write_csv()


def overlap_verdict(lot: str, pool: str, votes: pl.DataFrame, plan: pl.DataFrame) -> Verdict:
    """Did as many people see each item as were meant to? Named annotators count, each once per item.

    Without a plan the same shares are asked for without blocking, as nobody promised them.

    Args:
        votes: the lot's standing votes in this pool, as ``lot_votes`` gives them.
        plan: its planned items in this pool: example_id and annotations; empty when it was not planned.
    """
    name = f"labels.overlap.{lot}.{pool}"
    seen = (
        votes.filter(~pl.col("escalation") & pl.col("annotator_id").is_not_null())
        .group_by("example_id")
        .agg(people=pl.col("annotator_id").n_unique().cast(pl.Int64()))
    )
    if plan.is_empty():
        return _unplanned(name, seen)
    held = plan.join(seen, on="example_id", how="left").with_columns(pl.col("people").fill_null(0))
    n = held.height
    if not held.filter(pl.col("people") > 1).height:
        sentence = f"None of the {n:,} planned items came back from two people or more."
        return Verdict(name, Status.INSUFFICIENT, sentence, value=0.0, threshold=COMPLETE, n=n)
    whole = held.with_columns(done=pl.col("people") >= pl.col("annotations"))
    shares = {
        int(count): float(done)
        for count, done in whole.group_by("annotations").agg(pl.col("done").mean()).rows()
    }
    value = min(shares.values())
    short = whole.filter(~pl.col("done"))
    missing = int((short["annotations"] - short["people"]).sum())
    sentence = f"{n - short.height:,} of {n:,} planned items came back as planned" + (
        f"; {missing:,} annotations are missing on {short.height:,} items." if short.height else "."
    )
    status = Status.PASS if value >= COMPLETE else Status.FAIL
    return Verdict(name, status, sentence, value=value, threshold=COMPLETE, n=n)


def _unplanned(name: str, seen: pl.DataFrame) -> Verdict:
    n = seen.height
    twice, thrice = (seen.filter(pl.col("people") >= count).height for count in (2, 3))
    if not twice:
        sentence = f"No plan, and none of its {n:,} items was seen by two people: agreement is unknown."
        return Verdict(name, Status.INSUFFICIENT, sentence, threshold=COMPLETE, n=n, blocking=False)
    enough = twice >= COMPLETE * n and wilson(thrice, n).high >= TRIPLE_SHARE
    sentence = f"No plan; {twice:,} of its {n:,} items were seen by two people or more, {thrice:,} by three."
    status = Status.PASS if enough else Status.FAIL
    return Verdict(name, status, sentence, value=twice / n, threshold=COMPLETE, n=n, blocking=False)


def _table(story: Story) -> str:
    return f"overlap_plans.{story.name}"
