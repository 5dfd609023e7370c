"""Incidents: what changed, what alarms, which named cause, and the command that ends it."""
