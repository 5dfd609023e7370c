"""Small labelled texts in both languages, made of fixed parts, for the tests of this room."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import polars as pl
from tests.conftest import START

from mangaassist.core.identity import example_id
from mangaassist.core.language import detect_language

_TITLES = ("Naruto", "One Piece", "Bleach", "呪術廻戦", "鬼滅の刃", "Akira")
_PHRASES = {
    "order_tracking": (
        "where is my {} order",
        "track the parcel with {}",
        "has {} shipped yet",
        "{}の配送状況を知りたい",
        "注文した{}はいつ届きますか",
    ),
    "return_request": (
        "i want to return {}",
        "{} came damaged, send it back",
        "refund for {} please",
        "{}を返品したいです",
        "届いた{}が破れているので返金してください",
    ),
    "recommendation": (
        "something similar to {}",
        "what should i read after {}",
        "recommend a series like {}",
        "{}に似た漫画を教えて",
        "{}の次に読むおすすめは",
    ),
}


def labelled_examples() -> pl.DataFrame:
    """90 rows, three labels, one group per title, captured one an hour."""
    rows = [
        (phrase.format(title), label, title)
        for (label, phrases), title in product(_PHRASES.items(), _TITLES)
        for phrase in phrases
    ]
    return pl.DataFrame(
        [
            {
                "example_id": example_id(text, "intent"),
                "text": text,
                "language": str(detect_language(text)),
                "label": label,
                "group_id": f"conversation-{group}",
                "captured_at": START + timedelta(hours=hour),
            }
            for hour, (text, label, group) in enumerate(rows)
        ],
        schema_overrides={"captured_at": pl.Datetime("us", "UTC")},
    )
