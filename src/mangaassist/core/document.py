"""A YAML file as values that know the line they stand on, so that every refusal can name it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mangaassist.core.errors import InputError, nearest

_NULL = "tag:yaml.org,2002:null"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document.

    Attributes:
        path: where it stands, dotted ("primary.mde").
        line: the line it starts on, from 1.
        raw: text, or a mapping of names to values, or a tuple of values; None where the file says null.
        source: name of the file, for messages.
    """

    path: str
    line: int
    raw: str | Mapping[str, Value] | tuple[Value, ...] | None
    source: str

    def refuse(self, *, expected: str, got: str | None = None, next_step: str) -> InputError:
        """The error about this value, with file, line and path."""
        found = got or self._shown()
        return refusal(self.source, self.line, self.path, expected=expected, got=found, next_step=next_step)

    def _shown(self) -> str:
        if isinstance(self.raw, Mapping):
            return "a mapping"
        return "a list" if isinstance(self.raw, tuple) else "nothing" if self.raw is None else repr(self.raw)

    def text(self, *, one_of: Collection[str] = ()) -> str:
        """Plain text, one of ``one_of`` when given."""
        if not isinstance(self.raw, str) or not self.raw.strip():
            raise self.refuse(expected="text", next_step="Write one line of text here.")
        if one_of and self.raw not in one_of:
            raise self.refuse(
                expected=f"one of {', '.join(sorted(one_of))}", next_step=nearest(self.raw, one_of)
            )
        return self.raw

    def number(self, *, above: float | None = None, below: float | None = None) -> float:
        """A number; "3%" is read as 0.03 and "1/3" as a quotient.

        Args:
            above, below: open limits.
        """
        number = _number(self.raw) if isinstance(self.raw, str) else None
        if number is None:
            raise self.refuse(expected="a number", next_step="Write it like 0.03, 3% or 1/3.")
        if (above is not None and number <= above) or (below is not None and number >= below):
            limits = [
                f"above {above:g}" if above is not None else "",
                f"below {below:g}" if below is not None else "",
            ]
            raise self.refuse(
                expected=f"a number {' and '.join(filter(None, limits))}",
                next_step="Shares and rates are written like 0.05 or 5%.",
            )
        return number

    def integer(self, *, at_least: int) -> int:
        """A whole number no smaller than ``at_least``."""
        number = self.number()
        if number != int(number) or number < at_least:
            raise self.refuse(expected=f"a whole number, {at_least} or more", next_step="Correct it.")
        return int(number)

    def flag(self) -> bool:
        """true or false."""
        return self.text(one_of=("true", "false")) == "true"

    def items(self) -> tuple[Value, ...]:
        """A list."""
        if not isinstance(self.raw, tuple):
            raise self.refuse(expected="a list", next_step="Start each entry with '- '.")
        return self.raw

    def texts(self) -> tuple[str, ...]:
        """A list of text; one text stands for a list of one."""
        return (
            (self.raw,) if isinstance(self.raw, str) and self.raw else tuple(v.text() for v in self.items())
        )

    def mapping(self, *, known: Collection[str] = (), needs: Collection[str] = ()) -> Mapping[str, Value]:
        """Named values: only ``known`` names when given, and all of ``needs``.

        Raises:
            InputError: for an unknown name, at its own line and with the nearest known one, or a missing one.
        """
        if not isinstance(self.raw, Mapping):
            raise self.refuse(expected="names with values", next_step="Write 'name: value' lines, indented.")
        for name, value in self.raw.items():
            if known and name not in known:
                raise value.refuse(expected="a known name", got=repr(name), next_step=nearest(name, known))
        for name in needs:
            if name not in self.raw or self.raw[name].raw is None:
                missing = f"{self.path}.{name}".lstrip(".")
                here = Value(missing, self.line, None, self.source)
                step = f"Add '{name}:' under {self.path or 'the top'}."
                raise here.refuse(expected="a value", next_step=step)
        return {name: value for name, value in self.raw.items() if value.raw is not None}

    def plain(self) -> Any:
        """The value without lines, as JSON would hold it; scalars stay text."""
        if isinstance(self.raw, Mapping):
            return {name: value.plain() for name, value in self.raw.items()}
        return [value.plain() for value in self.raw] if isinstance(self.raw, tuple) else self.raw


def _number(text: str) -> float | None:
    above, slash, below = (part.strip() for part in text.partition("/"))
    percent = above.endswith("%") and not slash
    if not all(_NUMBER.fullmatch(part) for part in (above.removesuffix("%").strip(), below or "1")):
        return None
    bottom = float(below) if slash and below else 100.0 if percent else 1.0
    return float(above.removesuffix("%")) / bottom if bottom and not (slash and not below) else None


def refusal(source: str, line: int, path: str, *, expected: str, got: str, next_step: str) -> InputError:
    """An error about ``path`` on ``line`` of ``source``."""
    return InputError(
        f"{source}, line {line}: {path or 'document'}", expected=expected, got=got, next_step=next_step
    )


def read(text: str, *, source: str) -> Value:
    """Parse YAML text. Scalars stay as written: their meaning is the reader's, not YAML's.

    Raises:
        InputError: for text that is not YAML, a name given twice, an anchor, or an empty file.
    """
    try:
        _refuse_aliases(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = str(getattr(error, "problem", None) or "something else")
        step = "Check the indentation and quotes there."
        raise refusal(source, line, "", expected="YAML", got=problem, next_step=step) from error
    if node is None:
        step = "Start from the example in the guide."
        raise refusal(source, 1, "", expected="a document", got="an empty file", next_step=step)
    return _value(node, "", source)


def _refuse_aliases(text: str, source: str) -> None:
    """An alias lets one line mean many places (or itself); a registration says everything where it holds."""
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            line = token.start_mark.line + 1
            step = "Write the values out."
            raise refusal(
                source, line, "", expected="plain YAML", got=f"an alias *{token.value}", next_step=step
            )


def _value(node: yaml.Node, path: str, source: str, line: int | None = None) -> Value:
    line = line or node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Value(path, line, dict(_members(node, path, source)), source)
    if isinstance(node, yaml.SequenceNode):
        entries = [_value(one, f"{path}[{index}]", source) for index, one in enumerate(node.value)]
        return Value(path, line, tuple(entries), source)
    return Value(path, line, None if node.tag == _NULL else str(node.value), source)


def _members(node: yaml.MappingNode, path: str, source: str) -> Iterator[tuple[str, Value]]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        where = f"{path}.{name}".lstrip(".")
        if name in seen:
            got = f"a second one (first on line {seen[name]})"
            raise refusal(source, line, where, expected="each name once", got=got, next_step="Remove one.")
        seen[name] = line
        yield name, _value(value, where, source, line)
