"""Files the portfolio's tests share: the shipped examples, and a smaller portfolio to bend."""

from __future__ import annotations

from importlib import resources

QUARTER = (
    resources.files("mangaassist.portfolio").joinpath("examples/quarter.yaml").read_text(encoding="utf-8")
)

_STATED = "team: search, metric: useful, impact: 1%, prior_evidence: 0.8, detectability: 0.5"
SMALL = f"""\
portfolio: q1
unit: points x sessions
metrics: {{useful: 1, images: unpriced}}
week_worth: 10
capacity:
  slots: 2
  teams: {{search: 20}}
  other_teams: [inventory]
candidates:
  - {{name: a, title: A, reach: 1000, {_STATED}, weeks: 8}}
  - {{name: b, title: B, reach: 900, {_STATED}, weeks: 8}}
  - {{name: c, title: C, reach: 500, {_STATED}, weeks: 4}}
"""


def replaced(old: str, new: str, text: str = SMALL) -> str:
    """``text`` with one passage changed; a passage that is not there is a mistake in the test."""
    if old not in text:
        raise LookupError(old)
    return text.replace(old, new, 1)


def line_of(passage: str, text: str = SMALL) -> int:
    """The line a passage stands on, from 1."""
    return text[: text.index(passage)].count("\n") + 1


FRAMING = (
    resources.files("mangaassist.portfolio").joinpath("examples/framing.yaml").read_text(encoding="utf-8")
)
