"""Feature rows as the bytes an online store keeps: one record per entity and lag, decided as offline.

A record holds the row that decides at the watermark and, after it, the rows that are known by then and become
available later, oldest first. Whoever reads at a moment takes the last one available by then: exactly the row
:func:`mangaassist.features.point_in_time.point_in_time` would find in the same tables.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any

import polars as pl

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.point_in_time import DTYPES, EVENT, INGESTED, INSTANT

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct("<II")  # CRC-32 of what follows it, number of versions
_CRC_FROM = 4
_CODES = {"int": "q", "float": "d", "bool": "?", "string": "I"}
_MOST_FEATURES = 64
_LONGEST_KEY = 400  # LMDB keys end at 511 bytes; a group's name comes before it
_AVAILABLE, _NUMBER, _RANK = "__available", "__number", "__rank"
_KEY, _NULLS = "__key", "__nulls"

Version = tuple[Any, ...]
"""available, event, ingested (microseconds since the epoch), nulls (bit mask), then one value a feature."""


def microseconds(instant: datetime) -> int:
    """``instant`` as the stores count it: whole microseconds since 1970, UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_of(count: int) -> datetime:
    """The inverse of :func:`microseconds`."""
    return _EPOCH + count * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Group:
    """The features of one view that become visible together.

    Attributes:
        view, entity, lag: what they share.
        columns: every feature of the view by name; a record keeps them all, as they settle ties.
        names: those among them with this lag.
        prefix: what the keys of this group begin with.
        layout: the fixed part of one version.
        texts: positions in a version that hold the length of a text, which follows the fixed part.
    """

    view: str
    entity: str
    lag: timedelta
    columns: tuple[Feature, ...]
    names: tuple[str, ...]
    prefix: bytes
    layout: struct.Struct
    texts: tuple[int, ...]

    def key(self, entity: str) -> bytes:
        """Where the record of one entity lies."""
        raw = entity.encode("utf-8", "surrogatepass")
        if len(raw) > _LONGEST_KEY:  # 0xff is no byte of UTF-8, so no other entity has this key
            return self.prefix + b"\xff" + blake2b(raw, digest_size=32).digest()
        return self.prefix + raw

    def encode(self, versions: Sequence[Version]) -> bytes:
        """The record of one entity."""
        parts = [_HEAD.pack(0, len(versions))]
        for version in versions:
            if not self.texts:
                parts.append(self.layout.pack(*version))
                continue
            fields, tail = list(version), []
            for position in self.texts:
                text = fields[position].encode("utf-8")
                fields[position] = len(text)
                tail.append(text)
            parts += [self.layout.pack(*fields), *tail]
        body = b"".join(parts)
        return zlib.crc32(memoryview(body)[_CRC_FROM:]).to_bytes(4, "little") + body[_CRC_FROM:]

    def visible(self, record: bytes, moment: int) -> Version | None:
        """The version that serves at ``moment`` (microseconds); None when none is available yet.

        Raises:
            IntegrityError: the bytes are not those that were written.
        """
        try:
            at, found = _HEAD.size, None
            for _ in range(self.count(record)):
                version = self.layout.unpack_from(record, at)
                if version[0] > moment:
                    break
                found, at = version, at + self.layout.size
                if self.texts:
                    found, at = self._with_texts(version, record, at)
        except (struct.error, UnicodeDecodeError) as error:
            raise _damaged(self, str(error)) from error
        return found

    def count(self, record: bytes) -> int:
        """How many versions a record has.

        Raises:
            IntegrityError: the bytes are not those that were written.
        """
        try:
            checksum, count = _HEAD.unpack_from(record)
        except struct.error as error:
            raise _damaged(self, str(error)) from error
        if checksum != zlib.crc32(record[_CRC_FROM:]):  # to copy so little is cheaper than to view it
            raise _damaged(self, "another checksum")
        return int(count)

    def versions(self, record: bytes) -> list[Version]:
        """All versions of a record, oldest first; IntegrityError as :meth:`count`."""
        at, found = _HEAD.size, []
        for _ in range(self.count(record)):
            version = self.layout.unpack_from(record, at)
            at += self.layout.size
            if self.texts:
                version, at = self._with_texts(version, record, at)
            found.append(version)
        return found

    def _with_texts(self, version: Version, record: bytes, at: int) -> tuple[Version, int]:
        fields = list(version)
        for position in self.texts:
            end = at + fields[position]
            fields[position] = record[at:end].decode("utf-8")
            at = end
        return tuple(fields), at


def groups_of(catalog: Catalog) -> tuple[Group, ...]:
    """The groups of ``catalog``, in the order of their keys.

    Raises:
        InputError: for a view with more than 64 features.
    """
    found = {}
    for feature in catalog.features.values():
        # By name: the order in which a catalog lists its features says nothing, nor is it kept everywhere.
        columns = tuple(sorted(catalog.view(feature.view), key=lambda one: one.name))
        if len(columns) > _MOST_FEATURES:
            raise InputError(
                f"view '{feature.view}'",
                expected=f"at most {_MOST_FEATURES} features",
                got=str(len(columns)),
                next_step="Split it into two views.",
            )
        name = f"{feature.view}@{int(feature.serving_lag.total_seconds())}"
        found[name] = Group(
            view=feature.view,
            entity=feature.entity,
            lag=feature.serving_lag,
            columns=columns,
            names=tuple(one.name for one in columns if one.serving_lag == feature.serving_lag),
            prefix=name.encode() + b"\x00",
            layout=struct.Struct("<qqqQ" + "".join(_CODES[one.dtype] for one in columns)),
            texts=tuple(at for at, one in enumerate(columns, start=4) if one.dtype == "string"),
        )
    return tuple(sorted(found.values(), key=lambda group: group.prefix))


def records(
    catalog: Catalog, views: Mapping[str, pl.DataFrame], *, watermark: datetime
) -> Iterator[tuple[bytes, bytes]]:
    """Key and record of every entity, sorted by key.

    Args:
        views: rows by view, as the feature store gives them, in any order.
        watermark: from when on reads must be right; what was superseded by then is left out.
    """
    for group in groups_of(catalog):
        kept = _kept(views[group.view], group, watermark, group.entity)
        encoded = (
            (group.key(entity), group.encode(list(versions)))
            for entity, versions in _rows(kept, group, group.entity)
        )
        long: list[tuple[bytes, bytes]] = []
        for key, record in encoded:
            if key.startswith(group.prefix + b"\xff"):
                long.append((key, record))
            else:
                yield key, record
        yield from sorted(long)


def continued(
    catalog: Catalog,
    before: Callable[[], Iterator[tuple[bytes, bytes]]],
    added: Mapping[str, pl.DataFrame],
    *,
    watermark: datetime,
) -> Iterator[tuple[bytes, bytes]]:
    """What :func:`records` gives for all rows, from the records of an earlier watermark and the rows since.

    What a record leaves out never serves again, so it and the new rows settle an entity as all its rows
    would. Records without new rows are as they were, unless a version that was to come may have come.

    Args:
        before: every key and record, sorted by key, each time it is called.
        added: rows by view, also those that were there before, if that is simpler.

    Raises:
        IntegrityError: a record is not what was written.
    """
    groups = {group.prefix: group for group in groups_of(catalog)}
    new = {prefix: _keyed(added[group.view], group) for prefix, group in groups.items()}
    touched = {key for frame in new.values() for key in frame[_KEY].unique()}
    old: dict[bytes, list[tuple[Any, ...]]] = {prefix: [] for prefix in groups}
    for key, record in before():
        prefix = key[: key.index(b"\x00") + 1]
        if groups[prefix].count(record) > 1:
            touched.add(key)
        if key in touched:
            old[prefix] += [(key, *version) for version in groups[prefix].versions(record)]
    fresh = []
    for prefix, group in groups.items():
        rows = pl.concat([_frame(old[prefix], group), new[prefix]])
        kept = _rows(_kept(rows, group, watermark, _KEY), group, _KEY)
        fresh += [(key, group.encode(list(versions))) for key, versions in kept]
    untouched = ((key, record) for key, record in before() if key not in touched)
    yield from merge(untouched, fresh)


def _keyed(rows: pl.DataFrame, group: Group) -> pl.DataFrame:
    """``rows`` under the keys of their records."""
    entities = rows[group.entity].unique()
    keys = [group.key(entity) for entity in entities]
    known = pl.DataFrame({group.entity: entities, _KEY: pl.Series(keys, dtype=pl.Binary)})
    return rows.join(known, on=group.entity).select(_schema(group).names())


def _frame(versions: Sequence[tuple[Any, ...]], group: Group) -> pl.DataFrame:
    """Key and version as the rows they were made from."""
    schema = _schema(group)
    stored = pl.Schema({_KEY: pl.Binary(), _AVAILABLE: pl.Int64(), EVENT: pl.Int64(), INGESTED: pl.Int64()})
    stored |= {_NULLS: pl.UInt64(), **{one.name: schema[one.name] for one in group.columns}}
    frame = pl.DataFrame(versions, schema=stored, orient="row")
    values = []
    for position, feature in enumerate(group.columns):
        null = pl.col(_NULLS) & pl.lit(1 << position, dtype=pl.UInt64) != 0
        if feature.dtype == "float":
            null &= pl.col(feature.name).is_not_nan()
        values.append(pl.when(~null).then(feature.name))
    return frame.select(_KEY, pl.col(EVENT, INGESTED).cast(INSTANT), *values)


def _schema(group: Group) -> pl.Schema:
    columns: dict[str, pl.DataType] = {_KEY: pl.Binary(), EVENT: INSTANT, INGESTED: INSTANT}
    return pl.Schema(columns | {one.name: DTYPES[one.dtype] for one in group.columns})


def _kept(rows: pl.DataFrame, group: Group, watermark: datetime, entity: str) -> pl.DataFrame:
    """The rows that serve at the watermark or may serve later, by entity and then by when they take over.

    The order of an entity's rows is that of point_in_time: event, arrival, values. A row that arrives after a
    higher one never serves.
    """
    others = sorted(one.name for one in group.columns)
    available = pl.max_horizontal(INGESTED, pl.col(EVENT) + group.lag).alias(_AVAILABLE)
    arrivals = (
        rows.sort(entity, EVENT, INGESTED, *others, nulls_last=False)
        .with_row_index(_RANK)
        .with_columns(available)
        .sort(_AVAILABLE, _RANK)
        .filter(pl.col(_RANK) == pl.col(_RANK).cum_max().over(entity))
    )
    passed = (pl.col(_AVAILABLE) <= watermark).sum().over(entity)
    numbered = arrivals.with_columns(pl.col(_RANK).cum_count().over(entity).alias(_NUMBER))
    return numbered.filter(pl.col(_NUMBER) >= passed).sort(entity, _AVAILABLE, _RANK)


def _rows(kept: pl.DataFrame, group: Group, entity: str) -> Iterator[tuple[Any, Iterator[Version]]]:
    """Entity by entity, its versions."""
    nulls = pl.lit(0, dtype=pl.UInt64)
    values = []
    for position, feature in enumerate(group.columns):
        stored = pl.col(feature.name)
        # A missing number is marked, but kept as it came: null and NaN settle ties differently.
        null = (stored.fill_nan(None) if feature.dtype == "float" else stored).is_null()
        nulls += null.cast(pl.UInt64) * (1 << position)
        empty = {"int": 0, "float": 0.0, "bool": False, "string": ""}[feature.dtype]
        values.append(stored.fill_null(empty))
    times = [pl.col(name).to_physical() for name in (_AVAILABLE, EVENT, INGESTED)]
    frame = kept.select(pl.col(entity), *times, nulls.alias(_NULLS), *values)
    for one, rows in groupby(frame.iter_rows(), key=itemgetter(0)):
        yield one, map(itemgetter(slice(1, None)), rows)


def _damaged(group: Group, got: str) -> IntegrityError:
    return IntegrityError(
        f"online record of view '{group.view}'",
        expected="the bytes that were materialised",
        got=got,
        next_step="Materialise again: mangaassist features materialise NAME",
    )
