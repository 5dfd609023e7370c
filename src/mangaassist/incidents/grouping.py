"""Alarms that fire within ten minutes of each other are one incident until proven otherwise (CC-Q2).

What they share comes first: the components that everything in alarm depends on, from a map that is data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mangaassist.core.identity import digest
from mangaassist.incidents.records import Alarm, Incident
from mangaassist.retraining.documents import of_home
from mangaassist.retraining.lineage import Lineage, lineage

FILE = "dependencies.yaml"
TOGETHER = timedelta(minutes=10)


@lru_cache(maxsize=8)
def shipped(name: str) -> Mapping[str, Any]:
    """A document of this room, parsed once; not to be changed."""
    text = resources.files("mangaassist.incidents").joinpath(name).read_text(encoding="utf-8")
    body: dict[str, Any] = yaml.safe_load(text)
    return body


def dependencies(home: Path | None = None) -> Lineage:
    """The shipped map with what the home's own says.

    Raises:
        InputError: no mapping of lists, an undeclared name, or components that depend on each other.
    """
    own = of_home(home, FILE).get("components") or {}
    return lineage({**shipped(FILE)["components"], **own}, source=FILE)


def reach(lineage: Lineage, component: str) -> frozenset[str]:
    """A component and everything that depends on it."""
    return frozenset({component, *lineage.downstream(component)} if lineage.knows(component) else {component})


def shared(components: Iterable[str], lineage: Lineage) -> tuple[str, ...]:
    """What all of ``components`` depend on or are, nearest to the first first."""
    names = sorted(set(components))
    if not names:
        return ()
    above = [(one, *lineage.upstream(one)) for one in names]
    return tuple(name for name in above[0] if all(name in other for other in above[1:]))


def joined(
    running: Sequence[Incident], alarms: Iterable[Alarm], lineage: Lineage
) -> tuple[list[Incident], list[Incident]]:
    """Put new alarms into running incidents, or open one.

    An alarm joins the incident whose last alarm is at most ten minutes old; later, one in which its component
    already is or on which it depends: a slow cohort of a running incident is no second page.

    Returns:
        The incidents that changed or were opened now, and those that did not, each in its order.
    """
    found, touched = list(running), set[int]()
    for alarm in sorted(alarms, key=lambda one: (one.at, one.name, one.cohort)):
        place = next((i for i, one in enumerate(found) if _belongs(one, alarm, lineage)), None)
        if place is None:
            found.append(_opened(alarm, lineage))
            place = len(found) - 1
        else:
            found[place] = _with(found[place], alarm, lineage)
        touched.add(place)
    return [found[i] for i in sorted(touched)], [one for i, one in enumerate(found) if i not in touched]


def _belongs(incident: Incident, alarm: Alarm, lineage: Lineage) -> bool:
    if alarm.at - incident.alarms[-1].at <= TOGETHER:
        return True
    above = {alarm.component, *(lineage.upstream(alarm.component) if lineage.knows(alarm.component) else ())}
    return bool(above & set(incident.components))


def _opened(alarm: Alarm, lineage: Lineage) -> Incident:
    key = digest([alarm.name, alarm.cohort, alarm.at])[:4]
    return Incident(
        f"{alarm.at:%Y%m%d-%H%M}-{key}", alarm.at, (alarm,), shared([alarm.component], _all(lineage, [alarm]))
    )


def _with(incident: Incident, alarm: Alarm, lineage: Lineage) -> Incident:
    alarms = (*incident.alarms, alarm)
    names = {one.component for one in alarms}
    return replace(incident, alarms=alarms, shared=shared(names, _all(lineage, alarms)))


def _all(known: Lineage, alarms: Sequence[Alarm]) -> Lineage:
    """The map, with components it does not know as such that depend on nothing."""
    return Lineage({**{one.component: () for one in alarms}, **known.reads})
