"""MangaAssist: from labels to a promoted, monitored, revocable model version."""

__version__ = "0.1.0"
