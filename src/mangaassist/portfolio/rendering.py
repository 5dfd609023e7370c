"""A document as values, and the two forms it is written in: Markdown and a page that stands alone."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """Somebody's own words."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; every cell is text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Paragraph | Quote | Bullets | Table


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document.

    Attributes:
        title: of the document.
        status: one line under the title: what was decided, by whom, when.
        sections: in order.
    """

    title: str
    status: str
    sections: tuple[Section, ...]


def number(value: float | None, *, percent: bool = False, signed: bool = False) -> str:
    """A number as people read it; a dash for none."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    if percent:
        return f"{100 * value:{sign}.1f}%"
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown; text from files cannot become markup."""
    lines = [f"# {_plain(document.title)}", "", f"*{_plain(document.status)}*", ""]
    for at, section in enumerate(document.sections, start=1):
        lines += [f"## {at}. {_plain(section.title)}", ""]
        for block in section.blocks:
            lines += [*_markdown(block), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown(block: Block) -> list[str]:
    match block:
        case Paragraph(text):
            return [_line(text)]
        case Quote(text):
            return [f"> {_line(text)}"]
        case Bullets(items):
            return [f"- {_line(item)}" for item in items]
        case Table(columns, rows):
            head = f"| {' | '.join(_cell(one) for one in columns)} |"
            rule = f"|{'---|' * len(columns)}"
            return [head, rule, *(f"| {' | '.join(_cell(one) for one in row)} |" for row in rows)]


def _plain(text: str) -> str:
    """One line in which nothing starts a tag, a link or emphasis; an underscore inside a word is plain."""
    line = " ".join(text.split())
    return re.sub(r"[\\`*\[\]<>&~]|(?<!\w)_|_(?!\w)", lambda found: f"\\{found.group()}", line)


def _line(text: str) -> str:
    """The same where a line of its own could start a heading, a list or a rule."""
    line = re.sub(r"^([#+=|-])", r"\\\1", _plain(text))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|") or " "


def html(document: Document) -> str:
    """The document as one page without scripts or anything fetched."""
    body = [f"<h1>{_text(document.title)}</h1>", f"<p class=status>{_text(document.status)}</p>"]
    for at, section in enumerate(document.sections, start=1):
        body.append(f"<section><h2>{at}. {_text(section.title)}</h2>")
        body += [_html(block) for block in section.blocks]
        body.append("</section>")
    return _PAGE.format(title=_text(document.title), body="\n".join(body))


def _html(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Quote(text):
            return f"<blockquote>{_text(text)}</blockquote>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        case Table(columns, rows):
            head = _row(columns, "th scope=col", "th")
            inner = "".join(_row(row, "td", "td") for row in rows)
            return f"<div class=wide><table><thead>{head}</thead><tbody>{inner}</tbody></table></div>"


def _row(cells: Sequence[str], opening: str, closing: str) -> str:
    return f"<tr>{''.join(f'<{opening}>{_text(one)}</{closing}>' for one in cells)}</tr>"


def _text(text: str) -> str:
    return markup.escape(" ".join(text.split()))


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;
color:#1b1b1f;background:#fff}}
h1{{line-height:1.2}} h2{{margin-top:2rem}} .status{{color:#4a4a52}} .wide{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.9rem}} th,td{{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #d5d5da;vertical-align:top}}
blockquote{{border-left:3px solid #8a8a94;margin:0;padding-left:1rem}}
@media (prefers-color-scheme:dark){{body{{color:#e8e8ec;background:#16161a}} .status{{color:#b0b0ba}}
th,td{{border-color:#3a3a42}}}}
</style>
{body}
</html>
"""
