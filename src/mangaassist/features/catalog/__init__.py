"""The feature catalog: everything about a feature that code must not hold (FEA-2)."""

from mangaassist.features.catalog.feature import Feature
from mangaassist.features.catalog.model import Catalog, Change, diff

__all__ = ["Catalog", "Change", "Feature", "diff"]
