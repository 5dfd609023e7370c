"""Online reads: the values serving gives a model, with the reason of every cell (FEA-6, FEA-7).

A reader follows the manifest of one schema version. When the store is away, or what it holds is damaged, the
reader goes on with the last good generation it knows: the one it has open, its own copy on this machine, or
an earlier one of the same store. Values from there are marked ``fallback``. With none of them every value is
the catalog's default, and the read says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from mangaassist.core.clock import isoformat, utc
from mangaassist.core.errors import IntegrityError, MangaAssistError, Unavailable
from mangaassist.features.catalog import Catalog
from mangaassist.features.catalog.feature import Value
from mangaassist.features.online import Generation, Manifest, OnlineStore, copy
from mangaassist.features.point_in_time import Reason
from mangaassist.features.records import Group, Version, groups_of, instant_of, microseconds

_MICROSECOND = timedelta(microseconds=1)
# A member of an enum costs a lookup each time it is named.
_VALUE, _MISSING, _STALE, _DEFAULT, _FALLBACK = Reason
_FIRST_VALUE = 4  # in a version, after its times and its nulls

Key = str | None


class Served(NamedTuple):
    """What one online read gave: per feature a list with one item per entity, in order.

    A named tuple, because a frozen dataclass takes a tenth of a read to make.

    Attributes:
        values: what the model is given.
        reasons: why.
        events, ingested: microseconds since the epoch of the row behind a value; None where none is visible.
        manifest: the generation it came from; None when there was none.
        problem: why this is not the current state of the store; empty when it is.
    """

    values: Mapping[str, Sequence[Value]]
    reasons: Mapping[str, Sequence[Reason]]
    events: Mapping[str, Sequence[int | None]]
    ingested: Mapping[str, Sequence[int | None]]
    manifest: Manifest | None
    problem: str

    @property
    def stale(self) -> bool:
        """Whether anything here is older than it may be: a fallback, or a value past its time to live."""
        return bool(self.problem) or any(Reason.STALE in reasons for reasons in self.reasons.values())

    def cells(self, index: int) -> dict[str, dict[str, Any]]:
        """The features of one entity as JSON: value, reason and the times behind it."""
        return {
            name: {
                "value": values[index],
                "reason": str(self.reasons[name][index]),
                "event_ts": _shown(self.events[name][index]),
                "ingested_at": _shown(self.ingested[name][index]),
            }
            for name, values in self.values.items()
        }


@dataclass(frozen=True, slots=True)
class _View:
    """What is being read: a generation and its watermark or, without one, defaults only."""

    manifest: Manifest | None
    generation: Generation | None
    problem: str
    since: int = 0

    @classmethod
    def of(cls, manifest: Manifest, generation: Generation, problem: str) -> _View:
        return cls(manifest, generation, problem, microseconds(manifest.watermark))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One feature of a read, resolved: where its value is and when it is too old."""

    name: str
    position: int
    bit: int
    ttl: int
    default: Value


_EMPTY = _View(None, None, "Nothing has been materialised yet.")


class OnlineReader:
    """Reads one schema version; safe to share between threads, and usable in a forked child.

    Args:
        store: where generations are published.
        catalog: what is read; its schema version names the generations, so no other namespace is in reach.
        copy_in: a store on this machine that keeps the last good generation of a store elsewhere.

    Attributes:
        copy_problem: why there is no copy of the generation in use; empty when there is one, or none is kept.
    """

    def __init__(self, store: OnlineStore, catalog: Catalog, *, copy_in: OnlineStore | None = None) -> None:
        self.catalog = catalog
        self._store = store
        self._copy_in = copy_in
        self._groups = groups_of(catalog)
        self._resolved: dict[tuple[str, ...], tuple[tuple[Group, tuple[_Wanted, ...]], ...]] = {}
        self._lock = threading.Lock()
        self._view = _EMPTY
        self._process = os.getpid()
        self.copy_problem = ""

    @property
    def manifest(self) -> Manifest | None:
        """The generation in use."""
        return self._view.manifest

    @property
    def problem(self) -> str:
        """Why reads fall back at present; empty when they do not."""
        return self._view.problem

    def refresh(self) -> None:
        """Follow the current manifest; whatever fails leaves the last good generation in use."""
        with self._lock:
            self._process = os.getpid()
            try:
                manifest = self._store.current(self.catalog.version)
                if manifest is None:
                    self._view = _EMPTY
                    return
                view = self._view
                if view.problem or view.manifest is None or view.manifest.generation != manifest.generation:
                    self._view = _View.of(manifest, self._store.open(manifest), "")
                    self._keep_copy(manifest)
            except MangaAssistError as error:
                self._view = self._last_good(str(error))

    def read(self, entities: Mapping[str, Sequence[Key]], names: Sequence[str], *, at: datetime) -> Served:
        """The features ``names`` of ``entities`` as they serve at ``at``.

        Args:
            entities: entity column to one key per entity (text; None where unknown), all of one length.
                A column that is not given counts as unknown.
            at: now. An earlier moment than the generation's watermark, as clocks of two machines differ, is
                answered as of the watermark: what was superseded by then is not kept.

        Raises:
            InputError: for an unknown or repeated feature, or a time without a zone.
        """
        if self._process != os.getpid():  # a forked child uses nothing its parent opened
            self._view = _EMPTY
            self.refresh()
        plan = self._resolved.get(tuple(names)) or self._plan(tuple(names))
        moment = microseconds(utc(at, field="at"))
        view = self._view
        try:
            return _read(view, plan, entities, moment)
        except (Unavailable, IntegrityError) as error:
            with self._lock:
                if self._view is view:
                    self._view = view = self._last_good(str(error), without=view.generation)
        try:
            return _read(view, plan, entities, moment)
        except (Unavailable, IntegrityError) as error:
            return _read(_View(None, None, str(error)), plan, entities, moment)

    def _plan(self, names: tuple[str, ...]) -> tuple[tuple[Group, tuple[_Wanted, ...]], ...]:
        chosen = {feature.name: feature for feature in self.catalog.chosen(names)}
        plan = []
        for group in self._groups:
            wanted = tuple(
                _Wanted(
                    one.name,
                    _FIRST_VALUE + position,
                    1 << position,
                    one.ttl // _MICROSECOND,
                    one.default,
                )
                for position, one in enumerate(group.columns)
                if one.name in chosen and one.name in group.names
            )
            if wanted:
                plan.append((group, wanted))
        self._resolved[names] = tuple(plan)
        return self._resolved[names]

    def _keep_copy(self, manifest: Manifest) -> None:
        """The copy is for the day the store is away; that it cannot be made today stops nobody."""
        if self._copy_in is not None:
            try:
                copy(self._store, manifest, self._copy_in)
            except MangaAssistError as error:
                self.copy_problem = str(error)
            else:
                self.copy_problem = ""

    def _last_good(self, problem: str, *, without: Generation | None = None) -> _View:
        """The newest generation that can still be opened, other than ``without``."""
        view = self._view
        if view.generation is not None and view.generation is not without:
            return replace(view, problem=problem)
        for store in (self._copy_in, self._store):
            if store is None:
                continue
            try:
                known = store.manifests(self.catalog.version)
            except MangaAssistError:
                continue
            for manifest in reversed(known):
                try:
                    opened = store.open(manifest)
                except MangaAssistError:
                    continue
                if opened is not without:
                    return _View.of(manifest, opened, problem)
        return _View(None, None, problem)


def _read(
    view: _View,
    plan: Sequence[tuple[Group, Sequence[_Wanted]]],
    entities: Mapping[str, Sequence[Key]],
    moment: int,
) -> Served:
    values: dict[str, Sequence[Value]] = {}
    reasons: dict[str, Sequence[Reason]] = {}
    events: dict[str, Sequence[int | None]] = {}
    ingested: dict[str, Sequence[int | None]] = {}
    good = _FALLBACK if view.problem else _VALUE
    moment = max(moment, view.since)
    for group, wanted in plan:
        keys = entities.get(group.entity)
        if keys is None:
            keys = [None] * max(map(len, entities.values()), default=0)
        versions, happened, arrived = _versions(view, group, keys, moment)
        for one in wanted:
            name = one.name
            values[name], reasons[name] = _settle(one, keys, versions, moment, good)
            events[name], ingested[name] = happened, arrived
    return Served(values, reasons, events, ingested, view.manifest, view.problem)


def _versions(
    view: _View, group: Group, keys: Sequence[Key], moment: int
) -> tuple[list[Version | None], list[int | None], list[int | None]]:
    """The version that serves each key at ``moment``, when it happened and when it arrived; None for none."""
    nothing: list[Any] = [None] * len(keys)
    if view.generation is None:
        return nothing, nothing, nothing
    versions, happened, arrived = nothing, nothing.copy(), nothing.copy()
    visible = group.visible
    found = view.generation.get([group.key(key) if key is not None else group.prefix for key in keys])
    for place, record in enumerate(found):
        if record is not None and (version := visible(record, moment)) is not None:
            versions[place], happened[place], arrived[place] = version, version[1], version[2]
    return versions, happened, arrived


def _settle(
    wanted: _Wanted, keys: Sequence[Key], versions: Sequence[Version | None], moment: int, good: Reason
) -> tuple[list[Value], list[Reason]]:
    """Values and reasons of one feature, by the rules of point_in_time."""
    values: list[Value] = []
    reasons: list[Reason] = []
    position, bit, default, oldest = wanted.position, wanted.bit, wanted.default, moment - wanted.ttl
    for key, version in zip(keys, versions, strict=True):
        value = default
        if key is None:
            reason = _MISSING
        elif version is None:
            reason = _DEFAULT
        elif version[1] < oldest:
            reason = _STALE
        elif version[3] & bit:
            reason = _MISSING
        else:
            reason, value = good, version[position]
        values.append(value)
        reasons.append(reason)
    return values, reasons


def _shown(count: int | None) -> str | None:
    return None if count is None else isoformat(instant_of(count))
