"""Registration, assignment, sizing, analysis, guardrails, cohorts and offline-online correlation."""
