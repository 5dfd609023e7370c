"""What a person asks about a story's features: values, leaks, parity, freshness, what changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status, Verdict, worst
from mangaassist.features.catalog import Catalog, diff
from mangaassist.features.files import read_feature_rows
from mangaassist.features.online import Manifest
from mangaassist.features.online_embedded import EmbeddedStore
from mangaassist.features.point_in_time import INGESTED, reason_column
from mangaassist.features.publishing import history
from mangaassist.lifecycle.features import (
    catalog_of,
    declared,
    feature_verdicts,
    online_versions,
    pinned,
    required_catalog,
    with_features,
)
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.rollout import drain, read_feature_reads

if TYPE_CHECKING:
    from mangaassist.serving.feature_reads import FeatureReads

NEWEST_READS = 30_000
"""How many of the newest served cells a parity report recomputes."""


def feature_reads(platform: Platform) -> FeatureReads:
    """The online features of a serving process: of the schema each champion was trained with."""
    from mangaassist.serving.feature_reads import FeatureReads

    elsewhere = bool(platform.home.settings.online_url)
    return FeatureReads(
        platform.home,
        platform.online,
        pinned=partial(champion_schema, platform),
        copy_in=EmbeddedStore(platform.home) if elsewhere else None,
    )


def champion_schema(platform: Platform, name: str) -> Catalog | None:
    """The schema the present champion was trained with; None where there is none."""
    champion = platform.registry.deployment(name).champion
    return None if champion is None else pinned(platform, platform.registry.get(name, champion))


def listing(platform: Platform) -> list[dict[str, Any]]:
    """Every feature of every story that has some."""
    from mangaassist.stories.discovery import story_names

    catalogs = [catalog_of(platform, platform.story(name)) for name in story_names(platform.home.path)]
    return [
        {
            "namespace": catalog.namespace,
            "name": feature.name,
            "schema": catalog.version,
            **feature.as_dict(),
        }
        for catalog in catalogs
        if catalog is not None
        for feature in catalog.features.values()
    ]


def catalog_text(platform: Platform, name: str) -> dict[str, Any]:
    """The catalog of a story as it is written, and where.

    Raises:
        InputError: an unknown story, one without features, or a broken catalog.
    """
    from mangaassist.stories.discovery import features_path

    catalog, path = required_catalog(platform, name), features_path(name, platform.home.path)
    return {
        "story": name,
        "schema": catalog.version,
        "path": str(path),
        "text": path.read_text(encoding="utf-8"),
    }


def append_features(platform: Platform, name: str, view: str, path: Path) -> dict[str, Any]:
    """The rows of a file into a view's table; the same rows twice change no read.

    Args:
        path: CSV, Parquet or JSONL with the view's entity, event_ts, one column per feature and, where the
            pipeline says when it knew, ingested_at; without that, they are known from now on.

    Raises:
        InputError: for an unknown view, a file that cannot be read, and what the catalog does not describe.
    """
    catalog, now = required_catalog(platform, name), platform.clock.now()
    rows = read_feature_rows(path, catalog, view)
    known = None if INGESTED in rows.columns else now
    snapshot = platform.features.append(catalog, view, rows, ingested_at=known)
    return {
        "story": name,
        "view": view,
        "file": path.name,
        "rows": rows.height,
        "schema": catalog.version,
        "snapshot": snapshot,
    }


def read_features(
    platform: Platform,
    name: str,
    entities: Sequence[str],
    *,
    as_of: str | None,
    names: Sequence[str] = (),
    online: bool = False,
) -> dict[str, Any]:
    """The features of ``entities`` as serving saw them at ``as_of``, from the tables or the online store.

    Args:
        entities: keys; with more than one kind of entity in the catalog "ENTITY=KEY".
        as_of: an ISO 8601 moment, not in the future.
        names: which features; all without any.

    Raises:
        InputError: no moment, an unknown story or feature, or an online read of the past.
    """
    catalog, moment = required_catalog(platform, name), required_moment(platform, as_of)
    chosen = [one.name for one in catalog.chosen(names)] or list(catalog.features)
    asked = _asked(catalog, chosen, entities)
    if online:
        rows, manifest, problem = _read_online(platform, catalog, asked, chosen, moment)
    else:
        found = platform.features.read(catalog, asked, chosen, as_of=moment)
        rows, manifest, problem = list(_rows(found, asked.columns, chosen)), None, ""
    return {
        "story": name,
        "schema": catalog.version,
        "as_of": isoformat(moment),
        "from": "online" if online else "offline",
        "generation": manifest.generation if manifest else None,
        "watermark": isoformat(manifest.watermark) if manifest else None,
        "problem": problem,
        "rows": rows,
    }


def required_moment(platform: Platform, as_of: str | None) -> datetime:
    """``as_of`` as a moment; "now", too, has to be said.

    Raises:
        InputError: when it is missing, no moment, or still to come.
    """
    if as_of is None:
        raise InputError(
            "--as-of",
            expected="the moment the values were needed, for example 2026-11-20T09:30:00Z, or now",
            got="nothing",
            next_step="Say it; there is no default, because today's values know what came after.",
        )
    if as_of == "now":
        return platform.clock.now()
    moment = parse_instant(as_of, field="--as-of")
    if moment > platform.clock.now():
        raise InputError(
            "--as-of", expected="a moment that has come", got=as_of, next_step="Nobody has seen it yet."
        )
    return moment


def _asked(catalog: Catalog, chosen: Sequence[str], entities: Sequence[str]) -> pl.DataFrame:
    """One row per key: the entity column it belongs to, the others empty."""
    columns = list(dict.fromkeys(feature.entity for feature in catalog.chosen(chosen)))
    if not entities:
        raise InputError(
            "--entity",
            expected="at least one key",
            got="none",
            next_step="Pass --entity ID or --entities FILE.",
        )
    rows = []
    for given in entities:
        entity, equals, key = given.partition("=")
        if entity not in columns or not equals:
            if len(columns) > 1:
                step = f"Write ENTITY=KEY; entities here: {', '.join(columns)}."
                raise InputError("--entity", expected="ENTITY=KEY", got=repr(given), next_step=step)
            entity, key = columns[0], given
        rows.append({column: key if column == entity else None for column in columns})
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _rows(found: pl.DataFrame, keys: Sequence[str], names: Sequence[str]) -> Any:
    for row in found.iter_rows(named=True):
        yield {
            **{key: row[key] for key in keys if row[key] is not None},
            "features": {name: {"value": row[name], "reason": row[reason_column(name)]} for name in names},
        }


def _read_online(
    platform: Platform, catalog: Catalog, asked: pl.DataFrame, names: Sequence[str], moment: datetime
) -> tuple[list[dict[str, Any]], Manifest | None, str]:
    from mangaassist.features.reader import OnlineReader

    # Here, because a reader takes a store that refuses for one that is away, and goes on with its own copy.
    platform.residency.require(catalog.namespace, "read of online features")
    elsewhere = bool(platform.home.settings.online_url)
    copy_in = EmbeddedStore(platform.home) if elsewhere else None
    reader = OnlineReader(platform.online, catalog, copy_in=copy_in)
    reader.refresh()
    manifest = reader.manifest
    if manifest is not None and moment < manifest.watermark:
        raise InputError(
            "--as-of",
            expected=f"a moment from {isoformat(manifest.watermark)} on, when it was materialised",
            got=isoformat(moment),
            next_step="The online store keeps no history: leave --online out to read the tables.",
        )
    served = reader.read({one: asked[one].to_list() for one in asked.columns}, names, at=moment)
    rows = [
        {**{key: value for key, value in row.items() if value is not None}, "features": served.cells(index)}
        for index, row in enumerate(asked.iter_rows(named=True))
    ]
    return rows, served.manifest, served.problem


def leak_report(platform: Platform, name: str, *, seed: int) -> dict[str, Any]:
    """The leak detector over the training rows of the newest label version (FEA-3).

    Raises:
        InputError: a story without features, or no finalised label version.
    """
    from mangaassist.labels import versions as label_versions

    catalog, story = required_catalog(platform, name), platform.story(name)
    known = label_versions.versions(platform.labels, story)
    if not known:
        raise InputError(
            f"label versions of '{name}'",
            expected="a finalised one",
            got="none",
            next_step=f"Run 'mangaassist retrain {name}' first.",
        )
    snapshots = platform.features.snapshots(catalog)
    labelled = label_versions.read(platform.labels, story, known[-1].number)
    rows = with_features(platform, story, labelled, snapshots)
    found = feature_verdicts(platform, story, catalog, rows, seed=seed, snapshots=snapshots)
    return {"story": name, "label_version": known[-1].number, **_judged(found)}


def parity_report(platform: Platform, name: str) -> dict[str, Any]:
    """Served values against what the champion's training would read, over the newest samples (FEA-6)."""
    from mangaassist.features.parity import parity

    catalog = champion_schema(platform, name) or required_catalog(platform, name)
    drain(platform, name)
    reads = read_feature_reads(platform, name).sort("at").tail(NEWEST_READS)
    found = parity(platform.features, catalog, reads, _manifests(platform, name))
    span: list[datetime] = [reads["at"][0], reads["at"][-1]] if reads.height else []
    return {
        "story": name,
        "schema": catalog.version,
        "cells": reads.height,
        "reads": reads["request_id"].n_unique(),
        "between": [isoformat(one) for one in span],
        "features": [one.as_dict() for one in found],
        **_judged([verdict for one in found for verdict in one.verdicts]),
    }


def status_report(platform: Platform, name: str) -> dict[str, Any]:
    """How fresh and how recent every feature is, and what is online (FEA-5)."""
    from mangaassist.features.freshness import ages

    catalog, now = required_catalog(platform, name), platform.clock.now()
    drain(platform, name)
    reads = read_feature_reads(platform, name).sort("at").tail(NEWEST_READS)
    manifest = platform.online.current(catalog.version)
    found = ages(platform.features, catalog, reads, manifest=manifest, now=now)
    served = [platform.online.current(one) for one in online_versions(platform, name)]
    return {
        "story": name,
        "schema": catalog.version,
        "at": isoformat(now),
        "declared": [one.version for one in declared(platform, name)],
        "online": [_shown(one) for one in served if one is not None],
        "features": [one.as_dict() for one in found],
        **_judged([verdict for one in found for verdict in one.verdicts]),
    }


def difference(platform: Platform, name: str, against: Path | None) -> dict[str, Any]:
    """What the installed catalog changes: against a file, else against the newest published version."""
    catalog = required_catalog(platform, name)
    published = history(platform.ledger, name)
    if against is not None:
        before, label = Catalog.read(against), against.name
    elif published:
        before, label = published[-1].catalog, published[-1].name
    else:
        before, label = catalog, "nothing published yet"
    changes = diff(before, catalog)
    return {
        "story": name,
        "before": {"name": label, "schema": before.version},
        "after": {"name": catalog.source, "schema": catalog.version},
        "changes": [
            {
                "feature": one.feature,
                "field": one.field,
                "before": str(one.before),
                "after": str(one.after),
                "served": one.served,
                "sentence": str(one),
            }
            for one in changes
        ],
        "published": [one.as_dict() for one in published],
    }


def alarms(platform: Platform, name: str) -> list[Verdict]:
    """What of a story's features needs somebody: parity, freshness and recency, each by itself."""
    bodies = [*parity_report(platform, name)["verdicts"], *status_report(platform, name)["verdicts"]]
    verdicts = [Verdict.from_dict(one) for one in bodies]
    return [one for one in verdicts if one.status is Status.FAIL and one.blocking]


def _judged(found: Sequence[Verdict]) -> dict[str, Any]:
    return {"status": str(worst(found)), "verdicts": [one.as_dict() for one in found]}


def _manifests(platform: Platform, name: str) -> dict[str, Manifest]:
    """Every generation that was ever published, by its id: the ledger keeps what the store has dropped."""
    from mangaassist.lifecycle.features import MATERIALISED, subject

    catalogs = {one.catalog.version: one.catalog.as_dict() for one in history(platform.ledger, name)}
    found = {}
    for entry in platform.ledger.entries(subject=subject(name), kind=MATERIALISED):
        body = {key: value for key, value in entry.body.items() if key not in ("built", "collected")}
        if body["name"] in catalogs:
            found[body["generation"]] = Manifest.from_dict({**body, "catalog": catalogs[body["name"]]})
    return found


def _shown(manifest: Manifest) -> dict[str, Any]:
    body = manifest.as_dict()
    return {key: body[key] for key in ("name", "generation", "watermark", "rows", "keys", "digest")}
