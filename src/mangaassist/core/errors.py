"""Errors a person can act on: one sentence with the field, the expectation, what came, the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a command leaves behind for the shell."""

    DONE = 0
    REFUSED = 1
    BAD_INPUT = 2
    BROKEN = 3


class MangaAssistError(Exception):
    """Base of every error the product raises on purpose.

    The four parts are kept apart so that ``--json`` can show them as fields and a terminal as one sentence.
    """

    exit_code: ExitCode = ExitCode.BROKEN

    def __init__(self, field: str, *, expected: str, got: str, next_step: str) -> None:
        self.field = field
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(f"{field}: expected {expected}, got {got.rstrip('.')}. {next_step}")

    def __reduce__(self) -> tuple[Any, ...]:
        # An error raised in a worker process has to survive the way back.
        return _rebuild, (type(self), self.field, self.expected, self.got, self.next_step)

    def as_dict(self) -> dict[str, str | int]:
        """The error as a flat JSON object."""
        return {
            "error": type(self).__name__,
            "field": self.field,
            "expected": self.expected,
            "got": self.got,
            "next_step": self.next_step,
            "message": str(self),
            "exit_code": int(self.exit_code),
        }


def _rebuild(
    kind: type[MangaAssistError], field: str, expected: str, got: str, next_step: str
) -> MangaAssistError:
    error = kind.__new__(kind)
    MangaAssistError.__init__(error, field, expected=expected, got=got, next_step=next_step)
    return error


class InputError(MangaAssistError):
    """What the user gave cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class GateRefused(MangaAssistError):
    """A rule said no: the input was understood and the answer is still no."""

    exit_code = ExitCode.REFUSED


class Conflict(GateRefused):
    """Somebody else moved the same thing first; nothing was written."""


class Unauthenticated(GateRefused):
    """Nobody known is asking."""


class Forbidden(GateRefused):
    """Somebody known is asking for more than their role allows."""


class TooMany(GateRefused):
    """Somebody is asking faster than anybody should."""


class IntegrityError(MangaAssistError):
    """Stored bytes are not the bytes that were written."""


class Unavailable(MangaAssistError):
    """Something outside the program failed: disk, database, network."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A next-step sentence for an unknown name: the nearest known one, else all of them."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(options)}." if options else "None exists yet."
