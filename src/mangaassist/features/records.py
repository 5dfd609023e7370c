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
from itertools import groupby
from operator import itemgetter
from typing import Any

import polars as pl

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.features.catalog import Catalog, Feature
from mangaassist.features.point_in_time import EVENT, INGESTED

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = struct.Struct("<II")  # CRC-32 of what follows it, number of versions
_CRC_FROM = 4
_CODES = {"int": "q", "float": "d", "bool": "?", "string": "I"}
_MOST_FEATURES = 64
_LONGEST_KEY = 400  # LMDB keys end at 511 bytes; a group's name comes before it
_AVAILABLE, _NUMBER, _RANK = "__available", "__number", "__rank"

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
        columns: every feature of the view in catalog order; a record keeps them all, as they settle ties.
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
            checksum, count = _HEAD.unpack_from(record)
            if checksum != zlib.crc32(memoryview(record)[_CRC_FROM:]):
                raise _damaged(self, "another checksum")
            at, found = _HEAD.size, None
            for _ in range(count):
                version = self.layout.unpack_from(record, at)
                if version[0] > moment:
                    break
                found, at = version, at + self.layout.size
                if self.texts:
                    found, at = self._with_texts(version, record, at)
        except (struct.error, UnicodeDecodeError) as error:
            raise _damaged(self, str(error)) from error
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
        columns = tuple(catalog.view(feature.view))
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
        kept = _kept(views[group.view], group, watermark)
        encoded = (
            (group.key(entity), group.encode(list(versions))) for entity, versions in _rows(kept, group)
        )
        long: list[tuple[bytes, bytes]] = []
        for key, record in encoded:
            if key.startswith(group.prefix + b"\xff"):
                long.append((key, record))
            else:
                yield key, record
        yield from sorted(long)


def _kept(rows: pl.DataFrame, group: Group, watermark: datetime) -> pl.DataFrame:
    """The rows that serve at the watermark or may serve later, by entity and then by when they take over.

    The order of an entity's rows is that of point_in_time: event, arrival, values. A row that arrives after a
    higher one never serves.
    """
    others = sorted(one.name for one in group.columns)
    available = pl.max_horizontal(INGESTED, pl.col(EVENT) + group.lag).alias(_AVAILABLE)
    arrivals = (
        rows.sort(group.entity, EVENT, INGESTED, *others, nulls_last=False)
        .with_row_index(_RANK)
        .with_columns(available)
        .sort(_AVAILABLE, _RANK)
        .filter(pl.col(_RANK) == pl.col(_RANK).cum_max().over(group.entity))
    )
    passed = (pl.col(_AVAILABLE) <= watermark).sum().over(group.entity)
    numbered = arrivals.with_columns(pl.col(_RANK).cum_count().over(group.entity).alias(_NUMBER))
    return numbered.filter(pl.col(_NUMBER) >= passed).sort(group.entity, _AVAILABLE, _RANK)


def _rows(kept: pl.DataFrame, group: Group) -> Iterator[tuple[str, Iterator[Version]]]:
    """Entity by entity, its versions."""
    nulls = pl.lit(0, dtype=pl.UInt64)
    values = []
    for position, feature in enumerate(group.columns):
        stored = pl.col(feature.name).fill_nan(None) if feature.dtype == "float" else pl.col(feature.name)
        nulls += stored.is_null().cast(pl.UInt64) * (1 << position)
        empty = {"int": 0, "float": 0.0, "bool": False, "string": ""}[feature.dtype]
        values.append(stored.fill_null(empty))
    times = [pl.col(name).to_physical() for name in (_AVAILABLE, EVENT, INGESTED)]
    frame = kept.select(pl.col(group.entity), *times, nulls.alias("__nulls"), *values)
    rest: Callable[[tuple[Any, ...]], Version] = lambda row: row[1:]  # noqa: E731 - a name for map below
    for entity, rows in groupby(frame.iter_rows(), key=itemgetter(0)):
        yield entity, map(rest, rows)


def _damaged(group: Group, got: str) -> IntegrityError:
    return IntegrityError(
        f"online record of view '{group.view}'",
        expected="the bytes that were materialised",
        got=got,
        next_step="Materialise again: mangaassist features materialise NAME",
    )
