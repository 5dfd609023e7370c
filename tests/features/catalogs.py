"""The catalog of the intent story, as its folder has it."""

from __future__ import annotations

from pathlib import Path

from mangaassist.features.catalog import Catalog
from mangaassist.stories.discovery import features_path

INTENT_FILE = features_path("intent", Path())
INTENT = Catalog.read(INTENT_FILE)
