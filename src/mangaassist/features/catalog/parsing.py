"""Catalog YAML to values, strictly, with the line in every complaint."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

import yaml

from mangaassist.core.errors import InputError, nearest
from mangaassist.features.catalog.feature import Feature, Value

BATCH_LAG = timedelta(hours=1)
"""Shortest serving lag of a feature computed in batches; shorter ones are online and have none."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST = timedelta(days=36_500)
_TYPES: Mapping[str, type] = {"int": int, "float": float, "bool": bool, "string": str}
_SCALARS = ("int", "float", "bool", "str")
_RESERVED = ("event_ts", "ingested_at")
_FEATURE_FIELDS = ("dtype", "default", "serving_lag", "ttl", "freshness_sla", "recency_window", "description")

Fields = dict[str, tuple[yaml.Node, int]]
"""Key -> its value's node and the line of the key."""


def parse(text: str, source: str) -> tuple[str, dict[str, Feature]]:
    """The namespace and its features by name.

    Raises:
        InputError: with the line of ``source``, for anything missing, unknown, repeated or out of range.
    """
    top = _mapping(_compose(text, source), source, 1, known=("namespace", "views"))
    namespace = _name(*_required(top, "namespace", source, 1), source)
    views_node, line = _required(top, "views", source, 1)
    features: dict[str, Feature] = {}
    for view, (node, at) in _mapping(views_node, source, line).items():
        _check_name(view, source, at)
        for feature, where in _view(view, node, source, at):
            if feature.name in features:
                raise _wrong((source, where), feature.name, "a name used once", "a second one", "Rename one.")
            features[feature.name] = feature
    if not features:
        raise _wrong((source, line), "views", "at least one feature", "none", "Add one.")
    return namespace, features


def _view(view: str, node: yaml.Node, source: str, line: int) -> list[tuple[Feature, int]]:
    fields = _mapping(node, source, line, known=("entity", "owner", "features"))
    entity = _name(*_required(fields, "entity", source, line), source)
    owner = _text(*_required(fields, "owner", source, line), source, "owner")
    declared, at = _required(fields, "features", source, line)
    found = []
    for name, (body, where) in _mapping(declared, source, at).items():
        _check_name(name, source, where)
        if name in _RESERVED or name == entity or name.endswith("__reason"):
            raise _wrong((source, where), name, "a free column name", "a reserved one", "Rename the feature.")
        found.append((_feature(name, body, source, where, (view, entity, owner)), where))
    return found


def _feature(name: str, node: yaml.Node, source: str, line: int, context: tuple[str, str, str]) -> Feature:
    fields = _mapping(node, source, line, known=_FEATURE_FIELDS)
    durations = {
        field: _duration(*_required(fields, field, source, line), source, field)
        for field in ("serving_lag", "ttl", "freshness_sla", "recency_window")
    }
    lag, ttl = durations["serving_lag"], durations["ttl"]
    if timedelta(0) < lag < BATCH_LAG:
        where, step = (source, fields["serving_lag"][1]), "Count until serving sees the batch's result."
        raise _wrong(where, f"{name}.serving_lag", "0s (online) or at least 1h (batch)", str(lag), step)
    if ttl <= lag:
        where, step = (source, fields["ttl"][1]), "A value would be stale before anybody could read it."
        raise _wrong(where, f"{name}.ttl", f"more than the serving lag ({lag})", str(ttl), step)
    dtype = _dtype(*_required(fields, "dtype", source, line), source)
    view, entity, owner = context
    return Feature(
        name=name,
        view=view,
        entity=entity,
        dtype=dtype,
        default=_default(*_required(fields, "default", source, line), source, dtype),
        owner=owner,
        description=_text(*_required(fields, "description", source, line), source, "description"),
        **durations,
    )


def _compose(text: str, source: str) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _wrong((source, line), "catalog", "YAML", str(error.problem), "Correct the line.") from error
    except yaml.YAMLError as error:
        raise _wrong((source, 1), "catalog", "YAML", str(error), "Remove the character.") from error
    if node is None:
        step = "'mangaassist features catalog intent' shows one."
        raise _wrong((source, 1), "catalog", "a namespace and views", "an empty file", step)
    return node


def _mapping(node: yaml.Node, source: str, line: int, known: Sequence[str] = ()) -> Fields:
    """The keys of a mapping; unknown and repeated ones are refused."""
    if not isinstance(node, yaml.MappingNode):
        raise _wrong((source, line), "catalog", "key: value lines", _kind(node), "Indent the keys below it.")
    fields: Fields = {}
    for key, value in node.value:
        at, name = key.start_mark.line + 1, str(key.value)
        if name in fields:
            raise _wrong((source, at), name, "each key once", "a second one", "Remove one of them.")
        if known and name not in known:
            raise _wrong((source, at), name, "a known key", repr(name), nearest(name, known))
        fields[name] = (value, at)
    return fields


def _required(fields: Fields, key: str, source: str, line: int) -> tuple[yaml.Node, int]:
    if key not in fields:
        step = f"Add '{key}:'."
        raise _wrong((source, line), key, "it to be given", ", ".join(fields) or "nothing", step)
    return fields[key]


def _text(node: yaml.Node, line: int, source: str, field: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
        raise _wrong((source, line), field, "text", "nothing or a nested value", "Write it on one line.")
    return str(node.value).strip()


def _name(node: yaml.Node, line: int, source: str) -> str:
    return _check_name(_text(node, line, source, "name"), source, line)


def _check_name(name: str, source: str, line: int) -> str:
    if not _NAME.fullmatch(name):
        step = "Use lower case letters, digits and underscores."
        raise _wrong((source, line), "name", "a lower_case name", repr(name), step)
    return name


def _dtype(node: yaml.Node, line: int, source: str) -> str:
    text = _text(node, line, source, "dtype")
    if text not in _TYPES:
        raise _wrong((source, line), "dtype", " or ".join(_TYPES), repr(text), nearest(text, _TYPES))
    return text


def _duration(node: yaml.Node, line: int, source: str, field: str) -> timedelta:
    text = _text(node, line, source, field)
    match = _DURATION.fullmatch(text)
    if not match:
        step = "Write a number and s, m, h or d: 0s, 90m, 26h, 7d."
        raise _wrong((source, line), field, "a duration", repr(text), step)
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise _wrong((source, line), field, f"at most {_LONGEST.days} days", text, "Shorten it.")
    return timedelta(seconds=seconds)


def _default(node: yaml.Node, line: int, source: str, dtype: str) -> Value:
    value = _scalar(node)
    if dtype == "float" and type(value) is int:
        value = float(value)
    if type(value) is not _TYPES[dtype] or value is None:
        got = repr(node.value) if isinstance(node, yaml.ScalarNode) else _kind(node)
        step = "Write a value of the feature's dtype."
        raise _wrong((source, line), "default", f"a finite {dtype}", got, step)
    return value


def _scalar(node: yaml.Node) -> Value | None:
    """A plain value that fits its column; None for anything else."""
    if not isinstance(node, yaml.ScalarNode) or node.tag.rpartition(":")[2] not in _SCALARS:
        return None
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except ValueError:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None
    return value if isinstance(value, int | float | str | bool) else None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _wrong(where: tuple[str, int], field: str, expected: str, got: str, step: str) -> InputError:
    source, line = where
    return InputError(f"{source}: line {line}: {field}", expected=expected, got=got, next_step=step)
