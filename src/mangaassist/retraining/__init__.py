"""Retraining: when a story should be retrained, and why."""
