"""Values of a portfolio or framing file with the ranges this room needs, each refusal with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mangaassist.core.document import Value, read
from mangaassist.core.errors import InputError, nearest

_LEAST, _MOST = 1e-9, 1e15
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def document(text: str, *, source: str) -> Value:
    """The file as values that know their line.

    Raises:
        InputError: for an empty file or one that is not YAML.
    """
    plain = text.removeprefix("\ufeff")
    if not plain.strip():
        raise InputError(
            f"{source}, line 1",
            expected="a portfolio or a framing",
            got="an empty file",
            next_step="Start from 'mangaassist portfolio example'.",
        )
    return read(plain, source=source)


def name_of(value: Value) -> str:
    """A lower-case name."""
    if not NAME.fullmatch(value.text()):
        raise value.refuse(
            expected="a lower-case name of letters, digits, dots, dashes and underscores",
            next_step="For example reranker-l12.",
        )
    return value.text()


def positive(value: Value, what: str, *, zero: bool = False) -> float:
    """A finite number above 0, or from 0 on.

    Args:
        what: the quantity with its unit, for the refusal ("engineer-weeks").
    """
    number = value.number()
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise value.refuse(
            expected=f"{what}, {'0 or more' if zero else 'more than 0'}", next_step="Correct the number."
        )
    if number and not _LEAST <= number <= _MOST:
        raise value.refuse(
            expected=f"{what} between {_LEAST:g} and {_MOST:g}", next_step="Check the exponent."
        )
    return number


def share(value: Value, what: str) -> float:
    """A share above 0, at most 1."""
    number = value.number()
    if not 0.0 < number <= 1.0:
        raise value.refuse(expected=f"{what} above 0 and at most 1", next_step="Write it like 0.6 or 60%.")
    return number


def at_least_one(value: Value, what: str) -> int:
    """A whole number from 1 on."""
    number = value.number()
    if not math.isfinite(number) or number != int(number) or number < 1:
        raise value.refuse(
            expected=f"{what}: a whole number, 1 or more", next_step="Without any there is nothing to choose."
        )
    return int(number)


def known_name(value: Value, known: Mapping[str, object] | tuple[str, ...], what: str) -> str:
    """A name out of ``known``."""
    if value.text() not in known:
        raise value.refuse(expected=what, next_step=nearest(value.text(), known))
    return value.text()


def text_or(fields: Mapping[str, Value], name: str) -> str:
    """The text under ``name``, empty when it is not there."""
    return " ".join(fields[name].text().split()) if name in fields else ""


def interval(value: Value, what: str) -> tuple[float, float]:
    """``[low, high]``, or one number for both."""
    if not isinstance(value.raw, tuple):
        number = positive(value, what, zero=True)
        return number, number
    ends = [positive(one, what, zero=True) for one in value.items()]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise value.refuse(
            expected=f"{what} as [low, high]", got=str(ends), next_step="For example [4%, 6%]."
        )
    return ends[0], ends[1]
