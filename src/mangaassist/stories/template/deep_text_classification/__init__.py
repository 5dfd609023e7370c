"""Template of a deep text classification story."""
