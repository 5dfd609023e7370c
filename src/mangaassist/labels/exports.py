"""Exports of Label Studio: its JSON, JSON-MIN, CSV and TSV, with who labelled and when.

Source: https://labelstud.io/guide/task_format and /guide/export. A vote is one annotation; predictions are no
labels and are ignored, cancelled and empty annotations are counted and left out. The last change of an
annotation (``updated_at``, else ``created_at``) is when its label was given; ``ground_truth`` marks the one a
reviewer settled on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_json
from mangaassist.labels.encoding import decode
from mangaassist.labels.tabular import Cells, Reader, as_text, read_csv, read_tsv

_CANCELLED = "cancelled annotations"
_EMPTY = "annotations without a choice"
_UNLABELLED = "tasks without an annotation"
_TITLES = {"annotator": "completed_by", "labeled": "updated_at", "escalation": "ground_truth"}
_FROM_DATA = ("language", "group", "lot")
_KINDS = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}

Record = dict[str, str]
"""One vote: meaning -> cell."""


def read_json(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """A project's tasks with their annotations (JSON), or one flat object per annotation (JSON-MIN).

    Args:
        columns: meaning -> key of the task's data; "label" names the choices (their ``from_name``).

    Raises:
        InputError: for truncated JSON or another shape, with the task; for several choices where one is
            expected; for a text, choices or annotator that are not there; for no annotation at all.
    """
    tasks = _tasks(data, name)
    places: list[int] = []
    records: list[Record] = []
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    for position, task in enumerate(tasks, start=1):
        place = _place(task, position, name)
        read = _full_task if "annotations" in task or isinstance(task.get("data"), dict) else _flat_task
        for record in read(task, columns, f"{name}: task {place}", left_out, seen):
            places.append(place)
            records.append(record)
    if not records:
        raise _nothing(name, columns["label"], seen, left_out)
    meanings = [meaning for meaning in records[0] if all(meaning in record for record in records)]
    values = {meaning: [record[meaning] for record in records] for meaning in meanings}
    return Cells(name, "task", places, values, {**columns, **_TITLES}, left_out)


def read_exported_csv(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """Its CSV: one line per annotation, with the columns annotator and updated_at.

    Raises:
        InputError: as :func:`mangaassist.labels.tabular.read_csv`, and for several choices.
    """
    return _exported(read_csv, data, columns, name)


def read_exported_tsv(data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    """Its TSV; see :func:`read_exported_csv`."""
    return _exported(read_tsv, data, columns, name)


EXPORT_READERS: Mapping[str, Reader] = {
    ".json": read_json,
    ".csv": read_exported_csv,
    ".tsv": read_exported_tsv,
}


def _exported(read: Reader, data: bytes, columns: Mapping[str, str], name: str) -> Cells:
    cells = read(data, {"annotator": "annotator", "labeled": "updated_at", **columns}, name)
    chosen = [
        _one_choice(_cell_choices(cell), f"{name}: line {place}")
        for cell, place in zip(cells.values["label"], cells.places, strict=True)
    ]
    kept = [index for index, label in enumerate(chosen) if label is not None]
    if not kept:
        raise _nothing(name, columns["label"], set(), Counter({_EMPTY: len(chosen)}))
    values = {meaning: [column[index] for index in kept] for meaning, column in cells.values.items()}
    values["label"] = [str(chosen[index]) for index in kept]
    places = [cells.places[index] for index in kept]
    return Cells(name, cells.unit, places, values, cells.titles, {_EMPTY: len(chosen) - len(kept)})


def _cell_choices(cell: str) -> Any:
    """One choice is written as it is, several as a JSON object with ``choices`` in it."""
    if not cell.strip():
        return []
    if cell.lstrip().startswith("{"):
        try:
            return orjson.loads(cell).get("choices", cell)
        except (orjson.JSONDecodeError, AttributeError):
            return cell
    return cell


def _tasks(data: bytes, name: str) -> list[dict[str, Any]]:
    text = decode(data, name=name)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(
            name,
            expected="a complete JSON file",
            got=str(error),
            next_step="Export it again; it may have been cut off in transfer.",
        ) from error
    # Cloud storage holds one file per task, with the task itself at the top.
    tasks = [found] if isinstance(found, dict) and "data" in found else found
    if not isinstance(tasks, list) or not tasks:
        raise InputError(
            name,
            expected="a list of tasks, as Label Studio exports JSON or JSON-MIN",
            got="an empty list" if tasks == [] else _kind(found),
            next_step="Export the project as JSON.",
        )
    return tasks


def _place(task: Any, position: int, name: str) -> int:
    """The task's own number where it has one, else its position."""
    if not isinstance(task, dict):
        raise _shape(f"{name}: task {position}", "a task (a JSON object)", task)
    number = task.get("id")
    return number if isinstance(number, int) and not isinstance(number, bool) else position


def _full_task(
    task: Mapping[str, Any], columns: Mapping[str, str], where: str, left_out: Counter[str], seen: set[str]
) -> Iterator[Record]:
    data, annotations = task.get("data"), task.get("annotations", [])
    if not isinstance(data, dict):
        raise _shape(f"{where}, 'data'", "the task's data (a JSON object)", data)
    if not isinstance(annotations, list):
        raise _shape(f"{where}, 'annotations'", "a list of annotations", annotations)
    if not annotations:
        left_out[_UNLABELLED] += 1
    for annotation in annotations:
        if not isinstance(annotation, dict):
            raise _shape(f"{where}, 'annotations'", "annotations (JSON objects)", annotation)
        if annotation.get("was_cancelled"):
            left_out[_CANCELLED] += 1
            continue
        label = _one_choice(_choices(annotation.get("result", []), columns["label"], where, seen), where)
        if label is None:
            left_out[_EMPTY] += 1
            continue
        about = {**annotation, "task": task.get("id"), "task_created_at": task.get("created_at")}
        yield _record(data, about, label, columns, where)


def _flat_task(
    task: Mapping[str, Any], columns: Mapping[str, str], where: str, left_out: Counter[str], seen: set[str]
) -> Iterator[Record]:
    seen.update(task)
    found = task.get(columns["label"], [])
    label = _one_choice(found.get("choices", found) if isinstance(found, dict) else found, where)
    if label is None:
        left_out[_EMPTY] += 1
        return
    if "annotator" not in task:
        raise InputError(
            f"{where}, 'annotator'",
            expected="who labelled it",
            got="no such key",
            next_step="Export the project as JSON, which names every annotator.",
        )
    about = {
        **{key: task.get(key) for key in ("created_at", "updated_at", "lead_time")},
        "id": task.get("annotation_id"),
        "task": task.get("id"),
        "completed_by": task["annotator"],
    }
    yield _record(task, about, label, columns, where)


def _choices(result: Any, control: str, where: str, seen: set[str]) -> list[Any]:
    """The choices made under ``control``, all regions together."""
    if not isinstance(result, list):
        raise _shape(f"{where}, 'result'", "a list of results", result)
    found: list[Any] = []
    for one in result:
        if not isinstance(one, dict):
            raise _shape(f"{where}, 'result'", "results (JSON objects)", one)
        seen.add(str(one.get("from_name")))
        if one.get("from_name") != control:
            continue
        value = one.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list):
            raise _shape(f"{where}, '{control}'", "a list in value.choices", value)
        found.extend(choices)
    return found


def _one_choice(choices: Any, where: str) -> str | None:
    """The one choice made; None for none."""
    options = choices if isinstance(choices, list) else [choices]
    if len(options) > 1:
        raise InputError(
            where,
            expected="one choice",
            got=f"{len(options)}: {', '.join(map(str, options))}"[:200],
            next_step='Settle on one, and set choice="single" in the labelling interface.',
        )
    if options and not isinstance(options[0], str):
        raise _shape(where, "a choice (text)", options[0])
    return options[0] if options and options[0].strip() else None


def _record(
    data: Mapping[str, Any], annotation: Mapping[str, Any], label: str, columns: Mapping[str, str], where: str
) -> Record:
    labeled = _labeled(annotation, where)
    record = {
        "text": _datum(data, columns["text"], where),
        "label": label,
        "annotator": _annotator(annotation.get("completed_by"), where),
        "labeled": labeled,
        "escalation": "true" if annotation.get("ground_truth") else "false",
        "metadata": canonical_json(_remarks(annotation)).decode(),
        **{meaning: _datum(data, columns[meaning], where) for meaning in _FROM_DATA if meaning in columns},
    }
    if "time" in columns:
        record["time"] = _datum(data, columns["time"], where)
    elif annotation.get("task_created_at") is not None:
        record["time"] = _captured(annotation["task_created_at"], labeled, where)
    return record


def _remarks(annotation: Mapping[str, Any]) -> dict[str, Any]:
    body = {"task": "task", "annotation": "id", "lead_time": "lead_time"}
    found = {name: annotation.get(key) for name, key in body.items()}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def _labeled(annotation: Mapping[str, Any], where: str) -> str:
    given = annotation.get("updated_at") or annotation.get("created_at")
    if not isinstance(given, str):
        raise _shape(f"{where}, 'updated_at'", "when it was annotated, ISO 8601", given)
    return given


def _captured(created: Any, labeled: str, where: str) -> str:
    """When the task came into the project; annotations brought along from elsewhere are older than that."""
    field = f"{where}, 'created_at'"
    if not isinstance(created, str):
        raise _shape(field, "when the task was made, ISO 8601", created)
    given = parse_instant(labeled, field=f"{where}, 'updated_at'")
    return isoformat(min(parse_instant(created, field=field), given))


def _annotator(completed_by: Any, where: str) -> str:
    """Their number in Label Studio, else their address; empty where nobody is named."""
    if isinstance(completed_by, dict):
        completed_by = next((completed_by[key] for key in ("id", "email") if completed_by.get(key)), None)
    if completed_by is None:
        return ""
    if isinstance(completed_by, bool) or not isinstance(completed_by, str | int):
        raise _shape(f"{where}, 'completed_by'", "a number or an object with an id", completed_by)
    return str(completed_by)


def _datum(data: Mapping[str, Any], key: str, where: str) -> str:
    if key not in data:
        raise InputError(
            f"{where}, data '{key}'",
            expected="one of " + (", ".join(list(data)[:30]) or "nothing"),
            got="no such key",
            next_step=nearest(key, data),
        )
    return as_text(data[key], f"{where}, data '{key}'")


def _nothing(name: str, control: str, seen: set[str], left_out: Mapping[str, int]) -> InputError:
    """Not one vote: the choices are called something else, or nobody has labelled yet."""
    if seen and control not in seen:
        return InputError(
            f"{name}: choices '{control}'",
            expected="choices of that name in the annotations",
            got=", ".join(sorted(seen)[:30]),
            next_step=nearest(control, seen),
        )
    counted = ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n) or "none"
    return InputError(
        name, expected="at least one annotation with a choice", got=counted, next_step="Check the export."
    )


def _shape(field: str, expected: str, got: Any) -> InputError:
    again = "Export the project again, as JSON."
    return InputError(field, expected=expected, got=_kind(got), next_step=again)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return _KINDS.get(type(value), type(value).__name__)
