"""The stories of a home and the versions of each, as rows for people and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mangaassist.core.clock import isoformat
from mangaassist.lifecycle.platform import Platform
from mangaassist.stories import discovery, scaffold


def create_story(platform: Platform, name: str, kind: str) -> Path:
    """Write the folder of a new story into the home, as :func:`scaffold.create_story` does."""
    return scaffold.create_story(name, kind, platform.home.path)


def overview(platform: Platform) -> list[dict[str, Any]]:
    """One row per story: who answers, who is on trial."""
    rows = []
    for name in discovery.story_names(platform.home.path):
        deployment = platform.registry.deployment(name)
        rows.append(
            {
                "story": name,
                "kind": platform.story(name).kind,
                "champion": deployment.champion,
                "challenger": deployment.challenger,
                "stage": deployment.stage,
            }
        )
    return rows


def versions(platform: Platform, name: str) -> list[dict[str, Any]]:
    """Every version of a story, newest first, failed ones included."""
    platform.module(name)
    return [
        {
            "version": version.number,
            "status": str(version.status),
            "accuracy": version.metrics["accuracy"]["value"],
            "on": version.metrics["on"],
            "label_version": version.label_version,
            "code_revision": version.tags["code_revision"][:19],
            "registered_at": isoformat(version.registered_at),
            "capped": version.capped,
            "artifact": version.artifact,
            "run_id": version.run_id,
        }
        for version in reversed(platform.registry.versions(name))
    ]
