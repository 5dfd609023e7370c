"""A gate policy as a document (PRO-6): thresholds, what blocks, and the plan and numbers of a rollout.

Shape (every part may be left out and is then the story's own)::

    gate: intent
    thresholds:
      golden.accuracy: {minimum: 90%, regression: 0.2%}
    verdicts:                  # block, flag or off; * stands for any text, the last that fits counts
      bias.jp_parity: block
    rollout:
      shadow: 24h
      always_extended: false
      stages:
        - {name: canary_1, share: 1%, lasts: 7d, minimum_n: 30}
      rules: {error_ratio: 2}

A policy is applied to a story and makes a story: whatever judges by a story judges by the document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

import yaml

from mangaassist.core.document import Value, read
from mangaassist.core.story import (
    CanaryStage,
    Enforced,
    Enforcement,
    RolloutPolicy,
    Rules,
    Story,
    Threshold,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)([smhd])")
_TOP = ("gate", "thresholds", "verdicts", "rollout")
_THRESHOLD = ("minimum", "regression", "blocking")
_STAGE = ("name", "share", "lasts", "minimum_n")
_METRIC = re.compile(r"[a-z][a-z0-9_]*(\.[^\s.][^.]*)+")


def under_policy(story: Story, text: str, *, source: str) -> Story:
    """``story`` judged by the policy document ``text``.

    Raises:
        InputError: the first thing wrong with the document, with its line, or a policy for another story.
    """
    top = read(text, source=source).mapping(known=_TOP, needs=("gate",))
    top["gate"].text(one_of=(story.name,))
    changes: dict[str, Any] = {}
    if "thresholds" in top:
        changes["thresholds"] = tuple(_threshold(*one) for one in top["thresholds"].mapping().items())
    if "verdicts" in top:
        verdicts = top["verdicts"].mapping().items()
        changes["enforced"] = tuple(Enforced(name, _mode(value)) for name, value in verdicts)
    if "rollout" in top:
        changes["rollout"] = _rollout(story.rollout, top["rollout"])
    return replace(story, **changes)


def policy_document(story: Story) -> dict[str, Any]:
    """The policy a story has, in the shape :func:`under_policy` reads."""
    rollout = _shown(asdict(story.rollout))
    return {
        "gate": story.name,
        "thresholds": {
            one.metric: {key: value for key, value in asdict(one).items() if key in _THRESHOLD}
            for one in story.thresholds
        },
        "verdicts": {one.verdict: one.mode for one in story.enforced},
        "rollout": rollout,
    }


def _shown(value: Any) -> Any:
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


def duration_text(duration: timedelta) -> str:
    """A duration in the largest unit that keeps it whole ("7d", "90m")."""
    seconds = int(duration.total_seconds())
    unit = next(one for one in reversed(_UNITS) if seconds % _UNITS[one] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _threshold(metric: str, value: Value) -> Threshold:
    if not _METRIC.fullmatch(metric):
        step = "Write a dotted name like golden.accuracy, slice.language=ja or latency.p95_ms."
        raise value.refuse(expected="the name of a metric", got=repr(metric), next_step=step)
    known = value.mapping(known=_THRESHOLD)
    if not {"minimum", "regression"} & known.keys():
        step = "Add 'minimum:' or 'regression:'; to make it inform only, add 'blocking: false' as well."
        raise value.refuse(expected="a minimum or a regression", got="neither", next_step=step)
    return Threshold(
        metric,
        minimum=known["minimum"].number() if "minimum" in known else None,
        regression=known["regression"].number(above=-1e-300) if "regression" in known else None,
        blocking=known["blocking"].flag() if "blocking" in known else True,
    )


def _mode(value: Value) -> Enforcement:
    modes: dict[str, Enforcement] = {one: one for one in get_args(Enforcement)}
    return modes[value.text(one_of=tuple(modes))]


def _rollout(own: RolloutPolicy, value: Value) -> RolloutPolicy:
    given = value.mapping(known=[one.name for one in fields(RolloutPolicy)])
    changes = {
        name: _like(getattr(own, name), one)
        for name, one in given.items()
        if name not in ("stages", "extended", "rules")
    }
    if "stages" in given:
        changes["stages"] = _stages(given["stages"])
    if "extended" in given:
        changes["extended"] = _stage(given["extended"])
    if "rules" in given:
        rules = given["rules"].mapping(known=[one.name for one in fields(Rules)])
        changed = {name: _like(getattr(own.rules, name), one) for name, one in rules.items()}
        changes["rules"] = replace(own.rules, **changed)
    return replace(own, **changes)


def _stages(value: Value) -> tuple[CanaryStage, ...]:
    made = tuple(_stage(one) for one in value.items())
    if not made:
        raise value.refuse(expected="at least one stage", got="none", next_step="Add '- {name: ...}'.")
    for index, (before, after) in enumerate(pairwise(made), start=1):
        if after.share <= before.share or after.name in {one.name for one in made[:index]}:
            step = "Order the stages by their share, each under a name of its own."
            got = f"{after.name} with {after.share:g} after {before.name} with {before.share:g}"
            raise value.items()[index].refuse(expected="a larger share", got=got, next_step=step)
    return made


def _stage(value: Value) -> CanaryStage:
    known = value.mapping(known=_STAGE, needs=_STAGE)
    return CanaryStage(
        known["name"].text(),
        known["share"].number(above=0.0, below=1.0),
        _duration(known["lasts"]),
        known["minimum_n"].integer(at_least=1),
    )


def _like(default: object, value: Value) -> Any:
    """The value as the kind of thing it stands instead of."""
    if isinstance(default, bool):
        return value.flag()
    if isinstance(default, timedelta):
        return _duration(value)
    if isinstance(default, int):
        return value.integer(at_least=0)
    return value.number(above=-1e-300)


def _duration(value: Value) -> timedelta:
    found = _DURATION.fullmatch(value.text())
    if found is None:
        raise value.refuse(expected="a duration", next_step="Write a number and s, m, h or d: 90m, 24h, 7d.")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def plain(document: Mapping[str, Any]) -> str:
    """A policy document as YAML text."""
    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text
