"""Somebody's labelled file into a story's label tables, and the label versions that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mangaassist.labels import versions as label_versions_of
from mangaassist.labels.importing import Columns, Form, read_file
from mangaassist.lifecycle.platform import Platform


def import_file(
    platform: Platform,
    name: str,
    path: Path,
    columns: Columns,
    *,
    source: str,
    role: str,
    form: Form = "table",
    lot: str | None = None,
) -> dict[str, Any]:
    """Read ``path`` completely, then add all of it or nothing.

    Args:
        form: a table, or an export of Label Studio.
        lot: the agreement lot of the whole file; its labels wait as drafts until the lot is reviewed.

    Raises:
        InputError: for an unknown story, source, role or column, and for everything wrong inside the file.
    """
    story = platform.story(name)
    now = platform.clock.now()
    file = read_file(path, columns, now=now, form=form, lot=lot, classes=story.labels.classes)
    batch = platform.labels.import_file(story, file, source=source, role=role)
    report = file.report.as_dict()
    known = report["kept"] - batch.labels
    report["notes"] = [
        *report["notes"],
        *_said_before(known),
        *_odd(report, columns),
        *_left_out(platform, name),
    ]
    return {
        "story": name,
        "file": file.name,
        "role": role,
        "source": source,
        "repeated": batch.repeated,
        "label_versions": dict(batch.label_versions),
        "added": 0 if batch.repeated else batch.labels,
        "known": known,
        **report,
    }


def _said_before(known: int) -> list[str]:
    """Labels of an earlier export that this one holds again."""
    if not known:
        return []
    return [f"{known:,} labels were known, or their annotators have changed them since: not added again."]


def _odd(report: dict[str, Any], columns: Columns) -> list[str]:
    """What looks like the wrong column without being an error."""
    classes, kept = len(report["classes"]), report["kept"]
    if kept >= 50 and classes > kept // 4:
        return [f"{classes:,} classes in {kept:,} rows: is '{columns.label}' the label column?"]
    return []


def _left_out(platform: Platform, name: str) -> list[str]:
    """What the story's rules now leave out of training or judging, so that no row is missed silently."""
    selection = select_now(platform, name)
    notes = []
    if overlap := selection.counts["overlap"]:
        notes.append(
            f"{overlap:,} training texts are also golden or adversarial: they judge and do not teach."
        )
    doubtful = selection.rows.filter(
        (selection.rows["role"] != "train") & ~selection.rows["holdout_eligible"]
    )
    if doubtful.height:
        notes.append(
            f"{doubtful.height:,} texts for judging have labels in doubt and are left out of judging."
        )
    return notes


def select_now(platform: Platform, name: str) -> label_versions_of.Selection:
    """The labelled rows of a story as its tables hold them now, under its policy; nothing is pinned."""
    story, store = platform.story(name), platform.labels
    return label_versions_of.select(
        store.examples(story), store.labels(story), story.labels, story.window, at=platform.clock.now()
    )


def label_versions(platform: Platform, name: str) -> list[dict[str, Any]]:
    """Every finalised label version of a story, oldest first."""
    story = platform.story(name)
    return [version.as_dict() for version in label_versions_of.versions(platform.labels, story)]
