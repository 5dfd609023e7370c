"""From a framing file to a :class:`Framing`: letter and break-even, each refusal with its line."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date

from mangaassist.core.document import Value
from mangaassist.portfolio.framing import (
    Bend,
    Framing,
    Labels,
    Letter,
    Observed,
    Option,
    Override,
    Review,
    Staging,
)
from mangaassist.portfolio.reading import at_least_one, document, interval, name_of, positive, share, text_or

SECTIONS = (
    "framing", "title", "since", "metric", "letter", "heuristic", "model", "labels", "bend", "staging",
    "override", "horizon_weeks", "experiment", "tenets", "risks", "questions",
)  # fmt: skip
COMPARING = ("metric", "heuristic", "model", "labels")
_LETTER = ("persona", "pain", "wish", "why_now", "measure")
_LEAST_WORDS = {"persona": 8, "pain": 8, "wish": 8, "why_now": 6, "measure": 6}
_MOST_WORDS = 500
_FIRST_PERSON = re.compile(r"\b(i|i'm|i've|my|me|we|our|us)\b|私|僕|俺|わたし|ぼく", re.IGNORECASE)
# "Week-2" names a metric; it is no amount.
_AMOUNT = re.compile(r"(?<![\w-])\d")
_JUSTIFIED_WORDS = 20


def read_framing(text: str, *, source: str, needs: Collection[str] = ()) -> Framing:
    """Read and check a framing file.

    Args:
        text: YAML.
        source: its name, for messages.
        needs: sections the caller cannot do without ("letter", or :data:`COMPARING`).

    Raises:
        InputError: for the first thing wrong, with its line, what was expected and the nearest known name.
    """
    top = document(text, source=source).mapping(known=SECTIONS, needs=("framing", "title", *needs))
    bend, because = _bend(top["bend"]) if "bend" in top else (Bend.NONE, "")
    heuristic, none_because = _heuristic(top["heuristic"]) if "heuristic" in top else (None, "")
    horizon = positive(top["horizon_weeks"], "weeks") if "horizon_weeks" in top else 52.0
    return Framing(
        name_of(top["framing"]),
        " ".join(top["title"].text().split()),
        text_or(top, "metric"),
        _letter(top["letter"]) if "letter" in top else None,
        heuristic,
        none_because,
        _option(top["model"]) if "model" in top else None,
        _labels(top["labels"]) if "labels" in top else Labels(0, 0, 0),
        bend,
        because,
        _staging(top["staging"]) if "staging" in top else None,
        _override(top["override"]) if "override" in top else None,
        horizon,
        text_or(top, "experiment"),
        tuple(" ".join(one.text().split()) for one in top["tenets"].items()) if "tenets" in top else (),
        _texts(top["risks"]) if "risks" in top else {},
        _texts(top["questions"]) if "questions" in top else {},
        _day(top["since"]) if "since" in top else None,
    )


def _letter(value: Value) -> Letter:
    fields = value.mapping(known=(*_LETTER, "reviews"), needs=_LETTER)
    for name in _LETTER:
        words = _words(fields[name].text())
        if words < _LEAST_WORDS[name]:
            raise fields[name].refuse(
                expected=f"at least {_LEAST_WORDS[name]} words that a reader can picture",
                got=f"{words}",
                next_step="Say who, what happened and when; 'retention dropped' is nobody's pain.",
            )
    if not _FIRST_PERSON.search(fields["pain"].text()):
        raise fields["pain"].refuse(
            expected="the customer's own words, in the first person",
            got="words about the customer",
            next_step="Write what the customer would say, starting with 'I'.",
        )
    if not _AMOUNT.search(fields["measure"].text()):
        raise fields["measure"].refuse(
            expected="a measure with a number that counts as success",
            got="none",
            next_step="For example: week-2 retention of new JP users, success is +4 points.",
        )
    total = sum(_words(fields[name].text()) for name in _LETTER)
    if total > _MOST_WORDS:
        raise value.refuse(
            expected=f"one page, {_MOST_WORDS} words", got=f"{total} words", next_step="Shorten it."
        )
    reviews = tuple(_review(one) for one in fields["reviews"].items()) if "reviews" in fields else ()
    said = {name: " ".join(fields[name].text().split()) for name in _LETTER}
    return Letter(said["persona"], said["pain"], said["wish"], said["why_now"], said["measure"], reviews)


def _words(text: str) -> int:
    """Words; Japanese has no spaces, so two of its characters count as one."""
    japanese = len(re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text))
    return len(re.findall(r"[^\W\u3040-\u30ff\u4e00-\u9fff]+", text)) + japanese // 2


def _review(value: Value) -> Review:
    fields = value.mapping(known=("role", "name", "believes", "remark"), needs=("role", "name", "believes"))
    return Review(
        fields["role"].text(), fields["name"].text(), fields["believes"].flag(), text_or(fields, "remark")
    )


def _heuristic(value: Value) -> tuple[Option | None, str]:
    if isinstance(value.raw, Mapping) and "none_because" in value.raw:
        fields = value.mapping(known=("none_because",))
        return None, " ".join(fields["none_because"].text().split())
    return _option(value), ""


def _option(value: Value) -> Option:
    needs = ("what", "lift", "probability", "weeks", "test_weeks")
    fields = value.mapping(known=(*needs, "engineers"), needs=needs)
    low, high = interval(fields["lift"], "an absolute lift")
    if high > 1:
        raise fields["lift"].refuse(expected="a lift of at most 1", next_step="Write points like 4%.")
    return Option(
        " ".join(fields["what"].text().split()),
        (low, high),
        share(fields["probability"], "a probability"),
        positive(fields["weeks"], "engineer-weeks"),
        at_least_one(fields["engineers"], "engineers") if "engineers" in fields else 1,
        positive(fields["test_weeks"], "weeks of testing", zero=True),
    )


def _labels(value: Value) -> Labels:
    names = ("count", "per_month", "dimensions")
    fields = value.mapping(known=names, needs=names)
    return Labels(*(fields[name].integer(at_least=0) for name in names))


def _bend(value: Value) -> tuple[Bend, str]:
    fields = value.mapping(known=("reason", "because"), needs=("reason", "because"))
    return Bend(fields["reason"].text(one_of=list(Bend))), _justified(fields["because"])


def _justified(value: Value) -> str:
    text = " ".join(value.text().split())
    if _words(text) < _JUSTIFIED_WORDS:
        raise value.refuse(
            expected=f"a justification of at least {_JUSTIFIED_WORDS} words",
            got=f"{_words(text)} words",
            next_step="Say what a rule cannot do here and what shows it.",
        )
    return text


def _staging(value: Value) -> Staging:
    needs = ("settle_weeks", "achievable", "per_week")
    fields = value.mapping(known=(*needs, "observed"), needs=needs)
    return Staging(
        positive(fields["settle_weeks"], "weeks"),
        share(fields["achievable"], "a lift"),
        positive(fields["per_week"], "a lift per engineer-week", zero=True),
        _observed(fields["observed"]) if "observed" in fields else None,
    )


def _observed(value: Value) -> Observed:
    fields = value.mapping(known=("weeks", "lift", "low", "high", "by_cohort"), needs=("weeks", "lift"))
    lift = fields["lift"].number()
    low = fields["low"].number() if "low" in fields else lift
    high = fields["high"].number() if "high" in fields else lift
    if not low <= lift <= high:
        raise value.refuse(
            expected="low <= lift <= high",
            got=f"{low:g}, {lift:g}, {high:g}",
            next_step="Correct the interval.",
        )
    cohorts = fields["by_cohort"].mapping() if "by_cohort" in fields else {}
    by_cohort = {name: one.number() for name, one in cohorts.items()}
    return Observed(positive(fields["weeks"], "weeks", zero=True), (lift, low, high), by_cohort)


def _override(value: Value) -> Override:
    names = ("role", "name", "justification")
    fields = value.mapping(known=names, needs=names)
    role = fields["role"].text()
    if role != "director":
        raise fields["role"].refuse(
            expected="the role 'director'",
            next_step="Only somebody outside the team goes straight to a model.",
        )
    return Override(role, fields["name"].text(), _justified(fields["justification"]))


def _texts(value: Value) -> dict[str, str]:
    return {name: " ".join(one.text().split()) for name, one in value.mapping().items()}


def _day(value: Value) -> date:
    try:
        return date.fromisoformat(value.text())
    except ValueError as error:
        raise value.refuse(expected="a date", next_step="Write it like 2026-07-01.") from error
