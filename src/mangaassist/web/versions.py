"""From the registry to the page of one version (PRO-9, EVA-2). Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

import orjson

from mangaassist.core.clock import parse_instant
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.verdict import Verdict
from mangaassist.evaluation.report import Slice, SliceMatrix
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.explain import explain
from mangaassist.promotion.versions import Version
from mangaassist.storage.ledger import Ledger, Verification
from mangaassist.web.version_view import STEPS, Cell, Event, FlaggedSlice, HeatMap, VersionPage
from mangaassist.web.view import SERVICE, Measure

_DIGEST_SHOWN = 12
_CROSS = " & "
_ROWS_FIRST = ("label", "cohort", "device", "catalog_tier")
_ACROSS = "language"


def version_view(platform: Platform, story: str, number: int) -> VersionPage:
    """The page of one version.

    Raises:
        InputError: no such story or version.
    """
    platform.module(story)
    now = platform.clock.now()
    whole = _verified(platform.ledger, platform.ledger.version(), now.replace(second=0, microsecond=0))
    version = platform.registry.get(story, number)
    body = explain(platform.registry, story, number, whole=whole).body
    problem, matrix = "" if whole.ok else f"Do not trust this page: {whole.problem}", None
    try:
        matrix = _matrix(platform, version)
    except MangaAssistError as error:
        problem = problem or str(error)
    slices = matrix.slices if matrix else ()
    return VersionPage(
        now,
        story,
        number,
        str(version.status),
        tuple(_origin(version, body)),
        _accuracy(version),
        tuple(_maps(matrix)) if matrix else (),
        len(slices),
        sum(one.p is not None for one in slices),
        tuple(_flagged(slices)),
        tuple(_in_a_row(_event(one) for one in body["events"])),
        SERVICE,
        problem,
    )


@lru_cache(maxsize=8)
def _verified(ledger: Ledger, _version: int, _minute: datetime) -> Verification:
    """The whole ledger read: after every entry, and once a minute for those who change old ones."""
    return ledger.verify()


def _matrix(platform: Platform, version: Version) -> SliceMatrix | None:
    stored = version.documents.get("slices")
    if stored is None:
        return None
    return SliceMatrix.from_dict(orjson.loads(platform.artifacts.read(stored, "slices.json")))


def _accuracy(version: Version) -> Measure | None:
    found = version.metrics.get("accuracy")
    if not isinstance(found, Mapping):
        return None
    return Measure(found["value"], found["low"], found["high"], found["n"])


def _origin(version: Version, body: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    labels, tags = body["labels"], version.tags
    sources = ", ".join(f"{name} {count:,}" for name, count in labels.get("sources", {}).items())
    yield "Labels", f"version {labels['label_version']}", sources
    yield "Data", f"snapshot {tags['data_snapshot_id']}", ""
    yield "Features", f"schema {tags['feature_schema_version'][:_DIGEST_SHOWN]}", ""
    yield "Code", tags["code_revision"][:_DIGEST_SHOWN], f"seed {tags['seed']}"
    yield "Artifact", version.artifact[:_DIGEST_SHOWN], _signed(version)
    yield "Policy", version.policy[:_DIGEST_SHOWN], "the story specification it was gated by"
    for waiver in version.waivers:
        yield "Waived", waiver["name"], f"by {waiver['actor']}: {waiver['reason']}"
    for name in body["missing_documents"]:
        yield "Missing", name, "no longer in the store"
    ledger = body["ledger"]
    said = f"{ledger['entries']:,} entries, each verified" if ledger["verified"] else ledger["problem"]
    yield "Ledger", ledger["head"][:_DIGEST_SHOWN], said


def _signed(version: Version) -> str:
    regions = ", ".join(sorted(version.signatures))
    return f"signed for {regions}" if regions else "signed for no region: it cannot be loaded"


def _event(body: Mapping[str, Any]) -> Event:
    return Event(
        body["sequence"],
        parse_instant(body["at"], field="at"),
        body["actor"],
        body["what"],
        body["reason"],
        tuple(Verdict.from_dict(one) for one in body["verdicts"]),
        body["override"],
    )


def _in_a_row(events: Iterable[Event]) -> Iterator[Event]:
    """A stage that held ten times before it moved is one line with its newest verdicts."""
    for _, run in groupby(events, key=lambda one: (one.what, one.actor)):
        found = list(run)
        yield replace(found[-1], entries=len(found))


def _flagged(slices: Sequence[Slice]) -> Iterator[FlaggedSlice]:
    worst_first = sorted((one for one in slices if one.flagged), key=lambda one: one.gap or 0.0)
    for one in worst_first:
        yield FlaggedSlice(one.name, _measure(one), one.gap or 0.0, one.p or 0.0)


def _maps(matrix: SliceMatrix) -> Iterator[HeatMap]:
    """One map per dimension that has a cross with the language; without languages, none."""
    known = {one.name: one for one in matrix.slices}
    values = _values(matrix)
    # The rows of one dimension are all rows, so their sum is the whole.
    whole_n = sum(known[f"{_ACROSS}={value}"].n for value in values.get(_ACROSS, ()))
    if not whole_n:
        return
    whole = sum(known[f"{_ACROSS}={value}"].correct for value in values[_ACROSS]) / whole_n
    others = [name for name in values if name != _ACROSS]
    for name in sorted(others, key=lambda one: _ROWS_FIRST.index(one) if one in _ROWS_FIRST else 99):
        heads = values[_ACROSS]
        body = tuple(
            (
                value,
                (
                    _cell(known.get(f"{name}={value}"), whole),
                    *(_cell(_crossed(known, name, value, head), whole) for head in heads),
                ),
            )
            for value in values[name]
        )
        yield HeatMap(name, _ACROSS, ("", *heads), body)


def _values(matrix: SliceMatrix) -> dict[str, tuple[str, ...]]:
    """The values of every dimension, in the order of the matrix."""
    found: dict[str, list[str]] = {}
    for one in matrix.slices:
        if _CROSS not in one.name:
            name, _, value = one.name.partition("=")
            found.setdefault(name, []).append(value)
    return {name: tuple(every) for name, every in found.items()}


def _crossed(known: Mapping[str, Slice], name: str, value: str, head: str) -> Slice | None:
    across, down = f"{_ACROSS}={head}", f"{name}={value}"
    return known.get(f"{across}{_CROSS}{down}") or known.get(f"{down}{_CROSS}{across}")


def _cell(one: Slice | None, whole: float) -> Cell | None:
    if one is None:
        return None
    below = whole - one.value
    return Cell(_measure(one), sum(below > step for step in STEPS), one.insufficient, one.flagged)


def _measure(one: Slice) -> Measure:
    return Measure(one.value, one.low, one.high, one.n)
