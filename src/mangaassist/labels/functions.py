"""Labelling functions: rules written by people, run over the examples, one label or silence each (LAB-3).

A rule set is a tuple of functions with a way to combine them. Its version changes with any function's name,
version or code, so that a label says exactly which rules gave it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import canonical_text, digest, digest_bytes
from mangaassist.labels.records import Example
from mangaassist.stats.label_model import ABSTAIN, one_coin

Rule = Callable[[Example], str | None]
Combining = Literal["unanimous", "weighted", "model"]
COMBINING: tuple[Combining, ...] = ("unanimous", "weighted", "model")

_TIED = 1e-9


class LabellingFunction(Protocol):
    """One rule: a label for an example, or None to abstain."""

    @property
    def name(self) -> str:
        """Unique in its rule set."""

    @property
    def version(self) -> str:
        """What its author calls this state of it."""

    @property
    def weight(self) -> float:
        """Its say where votes are weighted."""

    @property
    def code(self) -> str:
        """Digest of what it does."""

    def __call__(self, example: Example) -> str | None: ...


@dataclass(frozen=True, slots=True)
class PatternFunction:
    """A rule a person can read: a pattern that says what a text is about, and when to stay silent.

    Attributes:
        name, version, weight: as every labelling function has them.
        label: what it says.
        pattern: regular expression over the canonical text (NFKC, casefolded, single spaces).
        unless: where this matches too, the function is silent; empty for never.
    """

    name: str
    label: str
    pattern: str
    unless: str = ""
    version: str = "1"
    weight: float = 1.0

    @property
    def code(self) -> str:
        return digest([self.label, self.pattern, self.unless])

    def __call__(self, example: Example) -> str | None:
        text = _canonical(example.text)
        if not _compiled(self.pattern).search(text):
            return None
        return None if self.unless and _compiled(self.unless).search(text) else self.label


# Every pattern of a set reads the same text one after the other.
_canonical = lru_cache(maxsize=4)(canonical_text)
_compiled = cache(re.compile)


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """A rule written as a Python function.

    Attributes:
        name, version, weight: as every labelling function has them.
        rule: the function.
        code: digest of the file it stands in: helpers and constants change what a rule does, too.
    """

    name: str
    rule: Rule
    code: str
    version: str = "1"
    weight: float = 1.0

    def __call__(self, example: Example) -> str | None:
        return self.rule(example)


def labelling_function(
    *, name: str | None = None, version: str = "1", weight: float = 1.0
) -> Callable[[Rule], PythonFunction]:
    """Make a labelling function of a Python function; ``name`` is the function's own unless given.

    Raises:
        InputError: for a function without a source file.
    """

    def made(rule: Rule) -> PythonFunction:
        called = name or str(getattr(rule, "__name__", "unnamed"))
        return PythonFunction(called, rule, _file_digest(rule, called), version, weight)

    return made


def _file_digest(rule: Rule, name: str) -> str:
    file = inspect.getsourcefile(rule)
    if file is None or not Path(file).is_file():
        raise InputError(
            f"labelling function '{name}'",
            expected="a function in a file",
            got="one without a source",
            next_step="Write it into the story's folder.",
        )
    return digest_bytes(Path(file).read_bytes())


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Labelling functions and how they become one label.

    Attributes:
        functions: in the order of their columns in a ballot.
        combining: "unanimous" labels what all that speak agree on; "weighted" adds the functions' weights;
            "model" weighs each by the accuracy that their agreement implies
            (:func:`mangaassist.stats.label_model.one_coin`). A tie is silence in all three.
    """

    functions: tuple[LabellingFunction, ...]
    combining: Combining = "unanimous"

    def __post_init__(self) -> None:
        names = [one.name for one in self.functions]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not names or repeated:
            raise InputError(
                "rule set",
                expected="functions, each with a name of its own",
                got=f"two called '{repeated[0]}'" if repeated else "none",
                next_step="Rename one." if repeated else "Write a labelling function.",
            )
        light = next((one for one in self.functions if not one.weight > 0), None)
        if light is not None:
            raise InputError(
                f"labelling function '{light.name}': weight",
                expected="a number above 0",
                got=repr(light.weight),
                next_step="Remove a function that is to have no say.",
            )
        if self.combining not in COMBINING:
            raise InputError(
                "rule set: combining",
                expected=", ".join(COMBINING),
                got=repr(self.combining),
                next_step=nearest(self.combining, COMBINING),
            )

    @property
    def version(self) -> str:
        """Identity of the rules and how they are combined: the annotator of every label they give."""
        parts = [[one.name, one.version, one.code, one.weight] for one in self.functions]
        return "rules-" + digest([self.combining, parts])[:12]


def speaking(rules: RuleSet, example: Example) -> list[tuple[str, str]]:
    """(function, label) of the functions that do not abstain on ``example``, in order."""
    said = [(one.name, one(example)) for one in rules.functions]
    return [(name, label) for name, label in said if label is not None]


def agreed(rules: RuleSet, example: Example) -> tuple[str, str] | None:
    """The label that all functions that speak give, and the first of them; None without one."""
    said = speaking(rules, example)
    return (said[0][1], said[0][0]) if len({label for _, label in said}) == 1 else None


@dataclass(frozen=True, slots=True, eq=False)
class Ballot:
    """What every function said about every example.

    Attributes:
        functions: names, shape (functions,).
        classes: labels, sorted; shape (classes,).
        votes: class codes, -1 for silence, shape (examples, functions).
    """

    functions: tuple[str, ...]
    classes: tuple[str, ...]
    votes: NDArray[np.int32]


def poll(
    rules: RuleSet, examples: Sequence[Example], identities: Sequence[str], *, classes: Sequence[str] = ()
) -> Ballot:
    """Ask every function about every example.

    Args:
        identities: example id of each example, for complaints.
        classes: the labels there are; empty accepts any.

    Raises:
        InputError: naming function and example, for a function that raises, or answers with anything but one
            of ``classes`` or None.
    """
    allowed = frozenset(classes)
    said = [
        [_ask(one, example, identity, allowed) for one in rules.functions]
        for example, identity in zip(examples, identities, strict=True)
    ]
    known = tuple(sorted({answer for row in said for answer in row if answer is not None}))
    code: dict[str | None, int] = {None: ABSTAIN, **{label: index for index, label in enumerate(known)}}
    votes = np.array([[code[answer] for answer in row] for row in said], dtype=np.int32)
    shape = (len(said), len(rules.functions))
    return Ballot(tuple(one.name for one in rules.functions), known, votes.reshape(shape))


def _ask(one: LabellingFunction, example: Example, identity: str, classes: frozenset[str]) -> str | None:
    try:
        answer = one(example)
    except Exception as error:  # a labelling function is anybody's code and may raise anything
        raise _fault(one, identity, "a label or None", f"{type(error).__name__}: {error}") from error
    if answer is None:
        return None
    if not isinstance(answer, str):
        raise _fault(one, identity, "a label or None", repr(answer))
    if classes and answer not in classes:
        raise _fault(one, identity, "a label of the story or None", repr(answer), nearest(answer, classes))
    return answer


def _fault(one: LabellingFunction, identity: str, expected: str, got: str, hint: str = "") -> InputError:
    return InputError(
        f"labelling function '{one.name}' on example {identity[:12]}",
        expected=expected,
        got=got,
        next_step=hint or "Correct the function; no label was added.",
    )


def combine(rules: RuleSet, ballot: Ballot) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One label for each example.

    Returns:
        Class codes, -1 where nobody spoke or the vote is tied, and the confidence in them: the share of the
        weight, or the model's posterior. Both of shape (examples,).
    """
    spoken = ballot.votes != ABSTAIN
    silent = ~spoken.any(axis=1)
    if not len(ballot.classes):
        return np.full(len(ballot.votes), ABSTAIN), np.zeros(len(ballot.votes))
    if rules.combining == "model" and len(ballot.classes) > 1:
        shares = one_coin(ballot.votes, n_classes=len(ballot.classes)).posterior
    else:
        shares = _weight_shares(rules, ballot)
    ranked = np.sort(shares, axis=1)
    best = ranked[:, -1]
    doubtful = best < 1.0 - _TIED if rules.combining == "unanimous" else _tied(ranked)
    return np.where(silent | doubtful, ABSTAIN, shares.argmax(axis=1)), np.where(silent, 0.0, best)


def _weight_shares(rules: RuleSet, ballot: Ballot) -> NDArray[np.float64]:
    totals = np.zeros((len(ballot.votes), len(ballot.classes)))
    for column, one in enumerate(rules.functions):
        rows = np.flatnonzero(ballot.votes[:, column] != ABSTAIN)
        totals[rows, ballot.votes[rows, column]] += 1.0 if rules.combining == "unanimous" else one.weight
    sums = totals.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(totals, sums, out=np.zeros_like(totals), where=sums > 0)
    return shares


def _tied(ranked: NDArray[np.float64]) -> NDArray[np.bool_]:
    if ranked.shape[1] == 1:
        return np.zeros(len(ranked), dtype=bool)
    return np.asarray(ranked[:, -1] - ranked[:, -2] < _TIED, dtype=bool)
