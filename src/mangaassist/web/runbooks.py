"""The runbooks, as they ship: one short Markdown file per alarm kind and triage category."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from mangaassist.core.errors import InputError, nearest


@dataclass(frozen=True, slots=True)
class Runbook:
    """One runbook: its name in addresses, its first heading, its Markdown."""

    name: str
    title: str
    text: str

    def html(self) -> str:
        """The text as HTML; raw HTML in it stays text."""
        from markdown_it import MarkdownIt

        rendered: str = MarkdownIt("commonmark", {"html": False}).render(self.text)
        return rendered


@cache
def runbooks() -> dict[str, Runbook]:
    """Every runbook by its name, sorted."""
    found = {}
    folder = resources.files("mangaassist.incidents").joinpath("runbooks")
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".md"):
            name, text = file.name.removesuffix(".md"), file.read_text(encoding="utf-8")
            found[name] = Runbook(name, text.partition("\n")[0].lstrip("# "), text)
    return found


def runbook(name: str) -> Runbook:
    """The runbook ``name``, with or without ``.md``.

    Raises:
        InputError: there is none; the nearest is named.
    """
    known, name = runbooks(), name.removesuffix(".md")
    if name not in known:
        raise InputError("runbook", expected="a runbook", got=repr(name), next_step=nearest(name, known))
    return known[name]
