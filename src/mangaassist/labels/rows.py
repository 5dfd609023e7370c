"""Cells of a labelled file, checked and converted one meaning at a time, each complaint with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import InputError, nearest
from mangaassist.core.language import Language, detect_language
from mangaassist.labels.tabular import Cells, too_long

MAX_FIELD = 100_000
"""Longest accepted text or label, in characters: far above any message, far below what stalls a tokeniser."""

_LANGUAGES = {
    Language.EN: ("en", "eng", "english", "en-us", "en_us", "en-gb", "en_gb"),
    Language.JA: ("ja", "jp", "jpn", "japanese", "ja-jp", "ja_jp", "日本語"),
    Language.MIXED: ("mixed", "en-ja", "en/ja", "ja-en", "ja/en", "en-jp", "jp-en", "bilingual"),
}
_SPELLINGS = {spelling: language for language, known in _LANGUAGES.items() for spelling in known}
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One statement of a file: who said when that which text is what.

    Attributes:
        line: where it stands, in the file's own count (line, row or task).
        text, label, language: what was labelled, and as what.
        group_id: conversation or user; None where none is given.
        captured_at: when the text was captured; None where the file does not say.
        annotator_id: None where nobody is named.
        lot: agreement lot; None outside lots.
        labeled_at: when the label was given; None where the file does not say.
        escalation: a senior annotator settling the matter.
        metadata: further values as one JSON object.
        user_id: who wrote the text; None where the file does not say.
    """

    line: int
    text: str
    label: str
    language: str
    group_id: str | None = None
    captured_at: datetime | None = None
    annotator_id: str | None = None
    lot: str | None = None
    labeled_at: datetime | None = None
    escalation: bool = False
    metadata: str = "{}"
    user_id: str | None = None


def understand(cells: Cells, *, now: datetime, classes: Sequence[str] = ()) -> list[Row]:
    """Every cell checked and converted; the first column at fault is the one complained about.

    Args:
        now: the present; later times are refused.
        classes: the labels there are; empty accepts any.

    Raises:
        InputError: for empty or overlong cells, an unknown label or language, a time that cannot be read or
            lies in the future, or a label given before its text was captured.
    """
    for meaning in ("text", "label"):
        _refuse_overlong(cells, meaning)
        _refuse_empty(cells, meaning)
    captured, labeled = _times(cells, "time", now), _times(cells, "labeled", now)
    _refuse_disorder(cells, captured, labeled)
    columns = (
        cells.places,
        cells.values["text"],
        _labels(cells, classes),
        _languages(cells),
        _names(cells, "group"),
        captured,
        _names(cells, "annotator"),
        _names(cells, "lot"),
        labeled,
        _escalations(cells),
        cells.values.get("metadata") or ["{}"] * len(cells.places),
        _names(cells, "user"),
    )
    return [Row(*values) for values in zip(*columns, strict=True)]


def _refuse_overlong(cells: Cells, meaning: str) -> None:
    lengths = [len(cell) for cell in cells.values[meaning]]
    if max(lengths) > MAX_FIELD:
        longest = lengths.index(max(lengths))
        raise too_long(cells.name, cells.place([longest]), lengths[longest], MAX_FIELD)


def _refuse_empty(cells: Cells, meaning: str) -> None:
    empty = [index for index, cell in enumerate(cells.values[meaning]) if not cell or cell.isspace()]
    if empty:
        raise InputError(
            f"{cells.name}: {cells.place(empty)}",
            expected=f"a {meaning} in column '{cells.title(meaning)}' on every {cells.unit}",
            got="an empty one",
            next_step="Fill it in or remove the row.",
        )


def _labels(cells: Cells, classes: Sequence[str]) -> list[str]:
    labels = [" ".join(label.split()) for label in cells.values["label"]]
    known = set(classes)
    unknown = [index for index, label in enumerate(labels) if label not in known] if known else []
    if unknown:
        raise InputError(
            f"{cells.name}: {cells.place(unknown)}",
            expected=f"one of the story's {len(known)} labels in column '{cells.title('label')}'",
            got=repr(labels[unknown[0]]),
            next_step=nearest(labels[unknown[0]], known),
        )
    return labels


def _names(cells: Cells, meaning: str) -> list[str | None]:
    given = cells.values.get(meaning)
    return [None] * len(cells.places) if given is None else [" ".join(cell.split()) or None for cell in given]


def _languages(cells: Cells) -> list[str]:
    """The stated language of each row, detected by script where none is stated."""
    texts, given = cells.values["text"], cells.values.get("language")
    if given is None:
        return [str(detect_language(text)) for text in texts]
    stated = [cell.strip().lower() for cell in given]
    unknown = [index for index, cell in enumerate(stated) if cell and cell not in _SPELLINGS]
    if unknown:
        raise InputError(
            f"{cells.name}: {cells.place(unknown)}",
            expected=f"en, ja or mixed in column '{cells.title('language')}'",
            got=repr(given[unknown[0]]),
            next_step=f"{nearest(stated[unknown[0]], _SPELLINGS)} An empty cell is detected from the text.",
        )
    return [
        str(_SPELLINGS[cell] if cell else detect_language(text))
        for cell, text in zip(stated, texts, strict=True)
    ]


def _escalations(cells: Cells) -> list[bool]:
    given = cells.values.get("escalation")
    if given is None:
        return [False] * len(cells.places)
    stated = [cell.strip().lower() for cell in given]
    unknown = [index for index, cell in enumerate(stated) if cell not in (*_YES, *_NO)]
    if unknown:
        raise InputError(
            f"{cells.name}: {cells.place(unknown)}",
            expected=f"true or false in column '{cells.title('escalation')}'",
            got=repr(given[unknown[0]]),
            next_step="Write true where a senior annotator settled a disagreement.",
        )
    return [cell in _YES for cell in stated]


def _times(cells: Cells, meaning: str, now: datetime) -> list[datetime | None]:
    given, column = cells.values.get(meaning), cells.title(meaning)
    if given is None:
        return [None] * len(cells.places)
    times: list[datetime] = []
    for index, cell in enumerate(given):
        field = f"{cells.name}: {cells.place([index])}, column '{column}'"
        try:
            times.append(parse_instant(cell, field=field))
        except OverflowError as error:
            raise InputError(
                field, expected="a time within the calendar", got=repr(cell), next_step="Correct it."
            ) from error
    future = [index for index, instant in enumerate(times) if instant > now]
    if future:
        what = "capture" if meaning == "time" else "labelling"
        raise InputError(
            f"{cells.name}: {cells.place(future)}",
            expected=f"{what} times up to now ({isoformat(now)})",
            got=isoformat(times[future[0]]),
            next_step=f"Correct column '{column}', or this machine's clock; a time without offset means UTC.",
        )
    return list(times)


def _refuse_disorder(
    cells: Cells, captured: Sequence[datetime | None], labeled: Sequence[datetime | None]
) -> None:
    early = [
        index
        for index, (before, after) in enumerate(zip(captured, labeled, strict=True))
        if before is not None and after is not None and after < before
    ]
    if early:
        before, after = captured[early[0]], labeled[early[0]]
        raise InputError(
            f"{cells.name}: {cells.place(early)}",
            expected="a label given after its text was captured"
            + (f" ({isoformat(before)})" if before else ""),
            got=isoformat(after) if after else "none",
            next_step=f"Compare columns '{cells.title('time')}' and '{cells.title('labeled')}': "
            "one of the two clocks is wrong, or an offset is missing.",
        )
