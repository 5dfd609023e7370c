"""What one retrain works on: pinned before the first step runs, so that every step is a function of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist.core.errors import InputError
from mangaassist.labels.versions import LabelVersion
from mangaassist.labels.waivers import Waiver
from mangaassist.lifecycle.features import NO_FEATURES
from mangaassist.lifecycle.platform import Platform
from mangaassist.training.code import code_digest, folder_digests
from mangaassist.training.tags import RunTags, code_revision

if TYPE_CHECKING:
    from mangaassist.core.story import Story, StoryModule
    from mangaassist.features.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Job:
    """One retrain of one story.

    Attributes:
        module: the story's folder, loaded.
        story: its specification under the home's gate policy.
        label_version: the finalised labels it learns from.
        waivers: rules set aside for that label version.
        catalog: the story's feature catalog; None for a story without features.
        feature_snapshots: feature view to pinned snapshot; None for a view without rows.
        champion: version the candidate is compared with; None for a first one.
        seed: of everything random.
        again: somebody asked for steps to be repeated, so a withdrawn model may be registered anew.
    """

    platform: Platform
    module: StoryModule
    story: Story
    label_version: LabelVersion
    waivers: tuple[Waiver, ...]
    catalog: Catalog | None
    feature_snapshots: Mapping[str, int | None]
    champion: int | None
    seed: int
    again: bool = False

    @property
    def tags(self) -> RunTags:
        """The six mandatory tags (TRN-4), none of them typed in by anybody."""
        version = self.label_version
        return RunTags.of(
            {
                "model_target": self.story.name,
                "code_revision": code_revision(),
                "data_snapshot_id": f"{version.snapshot_examples}+{version.snapshot_labels}",
                "label_version": str(version.number),
                "feature_schema_version": self.catalog.fingerprint if self.catalog else NO_FEATURES,
                "seed": str(self.seed),
            }
        )

    @property
    def story_code(self) -> Mapping[str, str]:
        """The digests of the story's own sources, built in or in a home."""
        origin = getattr(self.module, "__file__", None)
        if origin is None:
            raise InputError(
                f"story '{self.story.name}'", expected="a file", got="none", next_step="Load it by its name."
            )
        return folder_digests(Path(origin).parent)

    def code(self, *rooms: str) -> str:
        """The digest of the code a step runs: ``rooms`` of the project beside the values all share."""
        return code_digest("mangaassist.core", "mangaassist.lifecycle.steps", *rooms)

    def config(self) -> dict[str, Any]:
        """The training configuration, a required artifact of a release (TRN-6)."""
        return {
            "story": self.story.as_dict(),
            "tags": self.tags.as_dict(),
            "label_version": self.label_version.as_dict(),
            "feature_snapshots": dict(self.feature_snapshots),
            "waivers": [waiver.rule for waiver in self.waivers],
        }
