"""Which label versions and which models an example went into: what a deletion request makes one ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mangaassist.labels import versions as label_versions
from mangaassist.labels.votes import erased, one_example
from mangaassist.labels.withdrawals import examples_of
from mangaassist.lifecycle.platform import Platform
from mangaassist.stories.discovery import story_names

if TYPE_CHECKING:
    from mangaassist.core.story import Story


@dataclass(frozen=True, slots=True)
class Impact:
    """One label version an example went into.

    Attributes:
        story, label_version: which.
        archived: whether it was read from the cold folder.
        examples: example id to its role in that version ("train" was learnt from, others judged).
        models: versions registered on it, with their status.
    """

    story: str
    label_version: int
    archived: bool
    examples: dict[str, str]
    models: tuple[tuple[int, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {
            "story": self.story,
            "label_version": self.label_version,
            "archived": self.archived,
            "examples": [{"example_id": one, "role": role} for one, role in self.examples.items()],
            "models": [{"version": number, "status": status} for number, status in self.models],
        }


def impact(platform: Platform, given: str = "", *, user: str | None = None) -> dict[str, Any]:
    """Every label version and every model version that an example, or any example of a user, went into.

    Args:
        given: an example id or enough of its first characters, of any story; unused with ``user``.

    Raises:
        InputError: when no story holds it. IntegrityError: a label version is damaged.
    """
    found, wanted, gone = [], {}, set()
    for story, ids in _wanted(platform, given, user):
        wanted[story.name] = list(ids)
        gone |= set(erased(platform.labels.labels(story))) & set(ids)
        found += list(_versions(platform, story, ids))
    models = sorted({(one.story, number) for one in found for number, _ in one.models})
    return {
        "examples": wanted,
        "withdrawn": sorted(gone),
        "label_versions": [one.as_dict() for one in found],
        "models": [f"{story}/{number}" for story, number in models],
        "sentence": _sentence(found, models),
    }


def _wanted(platform: Platform, given: str, user: str | None) -> list[tuple[Story, Sequence[str]]]:
    """Stories that hold what is asked for, with its ids there; the last refusal when none does."""
    from mangaassist.core.errors import InputError

    found: list[tuple[Story, Sequence[str]]] = []
    refused: InputError | None = None
    for name in story_names(platform.home.path):
        story = platform.story(name)
        try:
            if user is not None:
                found.append((story, examples_of(platform.labels, story, user)))
            else:
                found.append((story, [one_example(platform.labels.examples(story)["example_id"], given)]))
        except InputError as error:
            refused = refused or error
    if not found and refused is not None:
        raise refused
    return found


def _versions(platform: Platform, story: Story, ids: Sequence[str]) -> Iterator[Impact]:
    store = platform.labels
    first = _first_ingested(platform, story, ids)
    cold = label_versions.archived(store, story)
    registered = platform.registry.versions(story.name)
    for version in label_versions.versions(store, story):
        if first is None or version.finalised_at < first:
            continue  # nobody had the example yet, so the version need not be read
        rows = label_versions.read(store, story, version.number)
        held = rows.filter(pl.col("example_id").is_in(list(ids))).select("example_id", "role")
        if held.height:
            models = tuple(
                (one.number, str(one.status))
                for one in registered
                if str(one.label_version) == str(version.number)
            )
            yield Impact(
                story.name, version.number, version.number in cold, dict(held.sort("role").rows()), models
            )


def _first_ingested(platform: Platform, story: Story, ids: Sequence[str]) -> datetime | None:
    own = platform.labels.examples(story).filter(pl.col("example_id").is_in(list(ids)))
    first = own["ingested_at"].min()
    return first if isinstance(first, datetime) else None


def _sentence(found: Sequence[Impact], models: Sequence[tuple[str, int]]) -> str:
    if not found:
        return "It went into no label version, so no model has seen it."
    versions = ", ".join(f"{one.story} {one.label_version}" for one in found)
    named = ", ".join(f"{story}/{number}" for story, number in models) or "no registered model"
    return f"It is in label versions {versions}; models of them: {named}."
