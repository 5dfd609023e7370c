"""Template of a text classification story."""
