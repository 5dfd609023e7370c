"""Tables, verdict lines and progress for people. JSON never passes through here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mangaassist.core.verdict import Verdict

# Word and shape carry the meaning; colour only repeats it.
_MARKS = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "insufficient": ("…", "yellow"),
    "stale": ("◷", "yellow"),
    "done": ("✓", "green"),
    "cached": ("=", "cyan"),
    "refused": ("✗", "red"),
    "failed": ("✗", "red"),
    "waiting": ("…", "yellow"),
    "skipped": ("-", "dim"),
}


# A pipe has no width; a line broken at column 80 is one that grep does not find.
_WIDE = 4_000


def console() -> Console:
    """A console on standard output; where that is no terminal, lines as long as they need to be."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, highlight=False, width=width)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under a title; numbers are right-aligned by their look."""
    from rich.table import Table
    from rich.text import Text

    cells = [[value if isinstance(value, Text) else Text(_cell(value)) for value in row] for row in rows]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = all(_is_number(row[index].plain) for row in cells)
        drawn.add_column(name, justify="right" if numeric and cells else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*row)
    out = console()
    out.print(Text(title, style="italic"))  # a title of the table would be broken at the table's width
    out.print(drawn)


def verdicts(found: Iterable[Verdict], *, title: str = "Verdicts") -> None:
    """One line per verdict: mark, name, number against threshold, n, sentence."""
    rows = [
        (mark(verdict.status), verdict.name, verdict.value, verdict.threshold, verdict.n, verdict.sentence)
        for verdict in found
    ]
    if rows:
        table(title, ("", "verdict", "value", "threshold", "n", ""), rows)


def fields(title: str, body: Mapping[str, Any]) -> None:
    """A short two-column list."""
    table(title, ("", ""), [(name, value) for name, value in body.items() if value is not None])


def minute(instant: str) -> str:
    """An ISO instant for a table: date and minute, UTC."""
    return instant[:16].replace("T", " ")


def short(text: str, length: int = 88) -> str:
    """``text`` cut at a word, with an ellipsis where something was left out."""
    if len(text) <= length:
        return text
    return text[:length].rpartition(" ")[0] + " …"


def mark(status: str) -> Text:
    """A status as shape and word, coloured where colours are shown."""
    from rich.text import Text

    sign, colour = _MARKS.get(str(status), ("•", "default"))
    return Text(f"{sign} {status}", style=colour)


def _cell(value: Any) -> str:
    """The value as a person writes it. Text from users stays text: no markup is interpreted."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()
