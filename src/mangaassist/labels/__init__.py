"""From raw signal to supervised examples: import, quality, consensus, pinned versions."""

from mangaassist.labels.records import EXAMPLE_COLUMNS

__all__ = ["EXAMPLE_COLUMNS"]
