"""The same read on many machines: rows travel once, to whoever joins their entities (Ray).

Every worker opens a share of each view's files and cuts its rows at the same entities; then each range of
entities is joined by one worker with the function that one machine uses. Workers open the tables themselves,
so the catalog and the warehouse must be reachable from all of them (PostgreSQL and S3, or a shared folder).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from mangaassist.core.clock import SystemClock
from mangaassist.core.errors import InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.point_in_time import moments_of, point_in_time, reason_column
from mangaassist.features.store import FeatureStore
from mangaassist.governance.residency import Residency, ResidentTables
from mangaassist.storage.ledger import Ledger

_CONNECT_SECONDS = 5.0
_ROW, _AS_OF, _PART = "__row", "__moment", "__part"


@dataclass(frozen=True, slots=True)
class _Share:
    """Which rows one worker reads: the i-th of n parts of a view, at a snapshot."""

    home: Home
    catalog: Catalog
    view: str
    snapshots: Mapping[str, int | None]
    part: tuple[int, int]


def read(
    store: FeatureStore,
    catalog: Catalog,
    entities: pl.DataFrame,
    names: Sequence[str],
    *,
    as_of: str | datetime,
    snapshots: Mapping[str, int | None] | None = None,
    address: str = "",
    partitions: int | None = None,
) -> pl.DataFrame:
    """As :meth:`FeatureStore.read`, on the cluster at ``address``.

    Args:
        address: as ray.init takes it ("auto", "HOST:PORT", "ray://HOST:PORT"); of no account when this
            process is connected already.
        partitions: ranges of entities, and shares of files; the cluster's cores unless given.

    Raises:
        InputError: as the read on one machine, and when Ray is not installed.
        GateRefused: a worker stands in another region than the data.
        Unavailable: the cluster cannot be reached, or lost a worker for good.
    """
    features = catalog.chosen(names)
    moments = moments_of(entities, features, as_of).alias(_AS_OF)
    ray = _connected(address)
    count = partitions or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # Pinned once, so that every worker reads the same rows whatever is appended meanwhile.
    pinned = store.snapshots(catalog) if snapshots is None else snapshots
    pending: dict[str, list[Any]] = {}
    for entity in dict.fromkeys(feature.entity for feature in features):
        own = [feature for feature in features if feature.entity == entity]
        shares = {
            view: [_Share(store.tables.home, catalog, view, pinned, (n, count)) for n in range(count)]
            for view in dict.fromkeys(feature.view for feature in own)
        }
        asked = entities.select(pl.col(entity).cast(pl.String)).with_columns(moments).with_row_index(_ROW)
        pending[entity] = _submit(ray, own, asked, shares)
    found = [pl.concat(_got(ray, one) for one in parts).sort(_ROW).drop(_ROW) for parts in pending.values()]
    by_name = {column.name: column for part in found for column in part}
    wanted = [name for one in features for name in (one.name, reason_column(one.name))]
    return entities.with_columns(by_name[name] for name in wanted)


def _submit(
    ray: Any, features: Sequence[Feature], asked: pl.DataFrame, shares: Mapping[str, Sequence[_Share]]
) -> list[Any]:
    """References to the joined ranges of one entity; only ranges that somebody asked for are joined."""
    entity = features[0].entity
    readers = len(next(iter(shares.values())))
    bounds = _bounds(asked[entity], readers)
    ranges = len(bounds) + 1
    split = ray.remote(_split).options(num_returns=ranges, scheduling_strategy="SPREAD")
    join = ray.remote(_join).options(scheduling_strategy="SPREAD")
    made = [split.remote(share, bounds) for view in shares.values() for share in view]
    rows = [one if ranges > 1 else [one] for one in made]
    return [
        join.remote(features, requests, list(shares), readers, *(one[number] for one in rows))
        for number, requests in enumerate(_cut(asked, entity, bounds))
        if requests.height or number == 0
    ]


def _bounds(values: pl.Series, count: int) -> pl.Series:
    """At most ``count`` - 1 entities that cut the requests into ranges of about one size."""
    known = values.drop_nulls().sort()
    places = [len(known) * number // count for number in range(1, count)]
    return known.gather(places).unique().sort() if len(known) else known


def _cut(rows: pl.DataFrame, entity: str, bounds: pl.Series) -> list[pl.DataFrame]:
    """``rows`` by range of entities, nulls first: the n-th holds those from bound n - 1 to below bound n."""
    place = bounds.search_sorted(rows[entity].fill_null(""), side="right")
    cut = rows.with_columns(place.alias(_PART)).partition_by(_PART, as_dict=True, include_key=False)
    return [cut.get((number,), rows.clear()) for number in range(len(bounds) + 1)]


def _split(share: _Share, bounds: pl.Series) -> list[pl.DataFrame] | pl.DataFrame:
    """On a worker: its rows of one view, by range of entities."""
    tables = _tables(share.home)
    try:
        # All columns travel: what settles rows that share entity, event and arrival may be any of them.
        rows = FeatureStore(tables).rows(share.catalog, share.view, share.snapshots, share=share.part)
    finally:
        tables.close()
    parts = _cut(rows, rows.columns[0], bounds)
    return parts if len(parts) > 1 else parts[0]


def _tables(home: Home) -> ResidentTables:
    """On a worker: the tables, for the region that ``MANGAASSIST_REGION`` says this machine is in (GOV-3).

    Whoever asked was admitted, so the data live in its region; a machine that says nothing is taken for one
    of the same.
    """
    lives = home.settings.region
    here = os.environ.get("MANGAASSIST_REGION", lives)
    residency = Residency(here, lambda _: lives, lambda: Ledger.open(home), SystemClock())
    return ResidentTables.under(home, residency)


def _join(
    features: Sequence[Feature],
    requests: pl.DataFrame,
    views: Sequence[str],
    readers: int,
    *rows: pl.DataFrame,
) -> pl.DataFrame:
    """On a worker: one range of entities; ``rows`` by view and, within a view, by reader."""
    whole = {view: pl.concat(rows[n * readers : (n + 1) * readers]) for n, view in enumerate(views)}
    joined = point_in_time(whole, features, requests, as_of=_AS_OF)
    return joined.drop(_AS_OF, features[0].entity)


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "ray_address",
            expected="the extra 'ray' to be installed",
            got=str(error),
            next_step="Run: pip install 'mangaassist[ray]', or leave the setting empty.",
        ) from error
    if not ray.is_initialized():
        try:
            _knock(address)
            ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise _unavailable(error) from error
    return ray


def _knock(address: str) -> None:
    """Ray itself tries for minutes before it gives up a server that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _got(ray: Any, reference: Any) -> pl.DataFrame:
    """The result behind ``reference``; what a worker raised on purpose is raised here."""
    try:
        found: pl.DataFrame = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise _unavailable(error) from error
    return found


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        "Ray cluster",
        expected="workers that answer",
        got=" ".join(str(error).split())[:300],
        next_step="Check the cluster and the setting ray_address; nothing was written.",
    )
