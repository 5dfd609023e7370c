"""The features of a story's examples as serving saw them when each was captured."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mangaassist.core.story import Story
from mangaassist.features.catalog import Catalog
from mangaassist.labels.records import attribute
from mangaassist.lifecycle.platform import Platform


def catalog_of(story: Story) -> Catalog | None:
    """The story's feature catalog; None for a story without features."""
    return Catalog.load(story.name) if story.features else None


def with_features(
    platform: Platform, story: Story, rows: pl.DataFrame, snapshots: Mapping[str, int | None] | None = None
) -> pl.DataFrame:
    """``rows`` with the story's features as of ``captured_at``.

    Args:
        rows: the columns of a labelled example; the entity is one of its attributes.
        snapshots: as :meth:`FeatureStore.snapshots` gave them, to repeat an earlier read.
    """
    catalog = catalog_of(story)
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
