"""The features of a story: for its examples, in the online store, and as training and serving pin them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mangaassist.core.errors import InputError
from mangaassist.core.story import Story
from mangaassist.features.catalog import Catalog
from mangaassist.features.pinning import require_served
from mangaassist.features.publishing import publish, published
from mangaassist.labels.records import attribute
from mangaassist.lifecycle.platform import Platform

if TYPE_CHECKING:
    from mangaassist.core.verdict import Verdict
    from mangaassist.features.materialise import Materialised
    from mangaassist.promotion.versions import Version

MATERIALISED = "features.materialised"
NO_FEATURES = "none"
"""The schema version of a story without features, as its run tags say it."""
_UNUSED = timedelta(days=1)
"""How long a schema version nothing deployed pins any more stays in the online store."""


def subject(namespace: str) -> str:
    """The ledger subject of what happens to a namespace's online features."""
    return f"online/{namespace}"


def catalog_of(platform: Platform, story: Story) -> Catalog | None:
    """The story's feature catalog; None for a story without features.

    Raises:
        InputError: there is none though the story names features, it is broken, it lacks one of them, or it
            is another story's.
    """
    from mangaassist.stories.discovery import features_path

    if not story.features:
        return None
    path = features_path(story.name, platform.home.path)
    if not path.exists():
        raise InputError(
            f"features of '{story.name}'",
            expected=f"a catalog in {path}",
            got="none",
            next_step="Write it; 'mangaassist features catalog intent' shows one to begin with.",
        )
    catalog = Catalog.read(path)
    if catalog.namespace != story.name:
        raise InputError(
            f"{path}: namespace",
            expected=f"'{story.name}', as its story is called",
            got=f"'{catalog.namespace}'",
            next_step="A story reads and writes its own namespace only: correct it.",
        )
    catalog.chosen(story.features)
    return catalog


def required_catalog(platform: Platform, name: str) -> Catalog:
    """The catalog of a story that must have one.

    Raises:
        InputError: no such story, or one without features.
    """
    catalog = catalog_of(platform, platform.story(name))
    if catalog is None:
        raise InputError(
            f"features of '{name}'",
            expected="a story with features",
            got="none",
            next_step="Name them in its STORY and describe them in features.yaml beside its story.py.",
        )
    return catalog


def with_features(
    platform: Platform, story: Story, rows: pl.DataFrame, snapshots: Mapping[str, int | None] | None = None
) -> pl.DataFrame:
    """``rows`` with the story's features as of ``captured_at``.

    Args:
        rows: the columns of a labelled example; the entity is one of its attributes.
        snapshots: as :meth:`FeatureStore.snapshots` gave them, to repeat an earlier read.
    """
    catalog = catalog_of(platform, story)
    if catalog is None:
        return rows
    entities = dict.fromkeys(feature.entity for feature in catalog.chosen(story.features))
    return platform.features.read(
        catalog,
        rows.with_columns(attribute(entity) for entity in entities),
        story.features,
        as_of="captured_at",
        snapshots=snapshots,
    )


def feature_verdicts(
    platform: Platform,
    story: Story,
    catalog: Catalog,
    rows: pl.DataFrame,
    *,
    seed: int,
    snapshots: Mapping[str, int | None] | None = None,
) -> list[Verdict]:
    """FEA-3 on the training rows: does a feature learn the label, and do the rows hold what serving saw?

    Args:
        rows: as :func:`with_features` gave them at ``snapshots``.
    """
    from mangaassist.features.leaks import leak_verdicts
    from mangaassist.features.recomputation import recomputation_verdicts

    training = rows.filter(pl.col("role") == "train")
    return [
        verdict
        for judge in (leak_verdicts, recomputation_verdicts)
        for verdict in judge(
            platform.features,
            catalog,
            training,
            story.features,
            generator=np.random.default_rng(seed),
            snapshots=snapshots,
        )
    ]


def materialise_story(platform: Platform, name: str, *, rebuild: bool = False) -> list[Materialised]:
    """Bring the newest feature rows of a story online, for every schema version in use, the newest last.

    In use are the installed catalog and what the deployed versions were trained with; a schema version that
    has not been in use for a day leaves the online store.

    Raises:
        InputError: a story without features. Unavailable, IntegrityError: a store is away or damaged.
    """
    from mangaassist.features.materialise import materialise

    installed, now = required_catalog(platform, name), platform.clock.now()
    publish(platform.ledger, installed, actor="materialise", at=now)
    catalogs = {one.version: one for one in (*_deployed(platform, name), installed)}
    done = []
    for catalog in catalogs.values():
        one = materialise(platform.features, catalog, platform.online, at=now, rebuild=rebuild)
        if one.built:
            platform.ledger.append(
                kind=MATERIALISED, subject=subject(name), body=one.as_dict(), actor="materialise", at=now
            )
        done.append(one)
    for version in online_versions(platform, name):
        current = platform.online.current(version)
        if version not in catalogs and current is not None and current.watermark < now - _UNUSED:
            platform.online.drop(version)
    return done


def declared(platform: Platform, name: str) -> tuple[Catalog, ...]:
    """The schemas serving declares, the newest last: those online, or without any the installed one."""
    manifests = [platform.online.current(version) for version in online_versions(platform, name)]
    found = sorted((one for one in manifests if one is not None), key=lambda one: one.watermark)
    if found:
        return tuple(Catalog.from_dict(one.catalog, source=one.name) for one in found)
    catalog = catalog_of(platform, platform.story(name))
    return (catalog,) if catalog else ()


def require_declared(platform: Platform, version: Version) -> None:
    """Refuse to deploy ``version`` unless serving declares the feature schema it was trained with (FEA-4).

    Raises:
        GateRefused: naming every field that differs.
    """
    fingerprint = version.tags["feature_schema_version"]
    if fingerprint != NO_FEATURES:
        training = pinned(platform, version)
        serving = declared(platform, version.story)
        require_served(version.name, training, fingerprint, serving, story=version.story)


def pinned(platform: Platform, version: Version) -> Catalog | None:
    """The catalog ``version`` was trained with; None for one without features, or never published."""
    fingerprint = version.tags["feature_schema_version"]
    try:
        return published(platform.ledger, version.story, fingerprint=fingerprint).catalog
    except InputError:
        return None


def _deployed(platform: Platform, name: str) -> list[Catalog]:
    deployment = platform.registry.deployment(name)
    numbers = [one for one in (deployment.champion, deployment.challenger) if one is not None]
    catalogs = [pinned(platform, platform.registry.get(name, number)) for number in numbers]
    return [one for one in catalogs if one is not None]


def online_versions(platform: Platform, name: str) -> list[str]:
    """The schema versions of one namespace that are online."""
    return [one for one in platform.online.names() if one.partition("@")[0] == name]
