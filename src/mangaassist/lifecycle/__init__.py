"""The only wiring: which rooms a story's pipeline, rollout and monitoring run through."""
