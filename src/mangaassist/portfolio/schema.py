"""From a portfolio file to a :class:`Portfolio`: the rules of the intake form, refusals with their line."""

from __future__ import annotations

from collections.abc import Mapping

from mangaassist.core.document import Value
from mangaassist.core.errors import nearest
from mangaassist.portfolio.candidates import COST_RISKS, Candidate, Kind, Learning, Past, Portfolio, Premortem
from mangaassist.portfolio.graph import circle
from mangaassist.portfolio.reading import (
    at_least_one,
    document,
    known_name,
    name_of,
    positive,
    share,
    text_or,
)
from mangaassist.stats.sizing import power_means

SECTIONS = (
    "portfolio", "unit", "metrics", "week_worth", "capacity", "candidates", "done", "history", "gut_feel",
)  # fmt: skip
_NEEDED = ("portfolio", "unit", "metrics", "week_worth", "capacity", "candidates")
_CAPACITY = ("slots", "swing_slots", "teams", "team_slots", "other_teams", "traffic")
_CANDIDATE = (
    "name", "title", "kind", "team", "metric", "reach", "impact", "prior_evidence", "detectability", "weeks",
    "cost_class", "after", "needs", "excludes", "traffic", "learning", "premortem", "framing", "experiment",
    "required", "restores", "hold", "note",
)  # fmt: skip
_COMPETES = ("metric", "reach", "impact", "prior_evidence", "detectability")
UNPRICED = "unpriced"
_MOST = 200


def read_portfolio(text: str, *, source: str) -> Portfolio:
    """Read and check a portfolio file.

    Args:
        text: YAML.
        source: its name, for messages.

    Raises:
        InputError: for the first thing wrong, with its line, what was expected and the nearest known name.
    """
    top = document(text, source=source).mapping(known=SECTIONS, needs=_NEEDED)
    capacity = top["capacity"].mapping(known=_CAPACITY, needs=("slots", "teams"))
    slots = at_least_one(capacity["slots"], "slots")
    teams = {name: positive(one, "engineer-weeks") for name, one in capacity["teams"].mapping().items()}
    if not teams:
        raise capacity["teams"].refuse(
            expected="at least one team with engineer-weeks", got="none", next_step="Write 'search: 48'."
        )
    metrics = {name: _worth(one) for name, one in top["metrics"].mapping().items()}
    others = capacity["other_teams"].texts() if "other_teams" in capacity else ()
    traffic = _shares(capacity["traffic"]) if "traffic" in capacity else {}
    reader = _Reader(metrics, (*teams, *others), traffic)
    candidates = tuple(reader.candidate(one) for one in top["candidates"].items())
    done = top["done"].texts() if "done" in top else ()
    _check_names(top["candidates"], candidates)
    _check_edges(top["candidates"], candidates, done)
    return Portfolio(
        name_of(top["portfolio"]),
        top["unit"].text(),
        metrics,
        positive(top["week_worth"], "the worth of an engineer-week", zero=True),
        slots,
        _swing_slots(capacity, slots),
        teams,
        candidates,
        _team_slots(capacity, teams),
        others,
        traffic,
        done,
        tuple(_past(one) for one in top["history"].items()) if "history" in top else (),
        _gut_feel(top, candidates),
    )


class _Reader:
    """Reads candidates against the names the portfolio declares."""

    def __init__(
        self, metrics: Mapping[str, float | None], teams: tuple[str, ...], traffic: Mapping[str, float]
    ) -> None:
        self.metrics, self.teams, self.traffic = metrics, teams, traffic

    def candidate(self, value: Value) -> Candidate:
        fields = value.mapping(known=_CANDIDATE, needs=("name", "title", "team", "weeks"))
        kind = Kind(fields["kind"].text(one_of=list(Kind))) if "kind" in fields else Kind.EXPERIMENT
        if kind is Kind.EXPERIMENT:
            fields = value.mapping(needs=_COMPETES)
        metric = ""
        if "metric" in fields:
            metric = known_name(fields["metric"], self.metrics, "a metric of this portfolio")
        return Candidate(
            name=name_of(fields["name"]),
            title=" ".join(fields["title"].text().split()),
            kind=kind,
            team=known_name(fields["team"], self.teams, "a team of capacity.teams or capacity.other_teams"),
            weeks=positive(fields["weeks"], "engineer-weeks"),
            metric=metric,
            reach=positive(fields["reach"], "units reached in a quarter") if "reach" in fields else 0.0,
            impact=share(fields["impact"], "an absolute change") if "impact" in fields else 0.0,
            evidence=share(fields["prior_evidence"], "a probability") if "prior_evidence" in fields else 1.0,
            detectability=_detectability(fields["detectability"]) if "detectability" in fields else 1.0,
            cost_class=text_or(fields, "cost_class"),
            after=fields["after"].texts() if "after" in fields else (),
            needs=fields["needs"].texts() if "needs" in fields else (),
            excludes=fields["excludes"].texts() if "excludes" in fields else (),
            traffic=self._traffic(fields["traffic"]) if "traffic" in fields else {},
            learning=_learning(fields["learning"]) if "learning" in fields else None,
            premortem=_premortem(fields["premortem"]) if "premortem" in fields else None,
            framing=text_or(fields, "framing"),
            experiment=text_or(fields, "experiment"),
            required=text_or(fields, "required"),
            restores=text_or(fields, "restores"),
            hold=text_or(fields, "hold"),
            note=text_or(fields, "note"),
            line=value.line,
        )

    def _traffic(self, value: Value) -> dict[str, float]:
        taken = _shares(value)
        for name, one in value.mapping().items():
            if name not in self.traffic:
                step = nearest(name, self.traffic)
                raise one.refuse(expected="a class of capacity.traffic", got=repr(name), next_step=step)
        return taken


def _worth(value: Value) -> float | None:
    if value.raw == UNPRICED:
        return None
    return positive(value, f"the worth of one point, or '{UNPRICED}'")


def _shares(value: Value) -> dict[str, float]:
    return {name: share(one, "a share of the users") for name, one in value.mapping().items()}


def _swing_slots(capacity: Mapping[str, Value], slots: int) -> int:
    if "swing_slots" not in capacity:
        return 0
    found = capacity["swing_slots"].integer(at_least=0)
    if found > slots:
        raise capacity["swing_slots"].refuse(
            expected=f"at most the {slots} slots there are", next_step="Lower it or raise slots."
        )
    return found


def _team_slots(capacity: Mapping[str, Value], teams: Mapping[str, float]) -> dict[str, int]:
    if "team_slots" not in capacity:
        return {}
    found = {}
    for name, value in capacity["team_slots"].mapping().items():
        if name not in teams:
            raise value.refuse(
                expected="a team of capacity.teams", got=repr(name), next_step=nearest(name, teams)
            )
        found[name] = at_least_one(value, "slots")
    return found


def _detectability(value: Value) -> float:
    """A probability, or the test it follows from: its power for the stated effect."""
    if not isinstance(value.raw, Mapping):
        return share(value, "a probability")
    fields = value.mapping(
        known=("effect", "sigma", "per_arm", "alpha"), needs=("effect", "sigma", "per_arm")
    )
    alpha = fields["alpha"].number(above=0, below=1) if "alpha" in fields else 0.05
    return power_means(
        positive(fields["effect"], "an absolute change"),
        positive(fields["sigma"], "a standard deviation"),
        at_least_one(fields["per_arm"], "users per arm"),
        alpha=alpha,
    )


def _learning(value: Value) -> Learning:
    needs = ("question", "if_it_wins", "if_it_loses", "gain", "weeks_at_stake")
    fields = value.mapping(known=(*needs, "false_alarm"), needs=needs)
    wins, loses = (" ".join(fields[name].text().split()) for name in ("if_it_wins", "if_it_loses"))
    if wins.casefold() == loses.casefold():
        raise fields["if_it_loses"].refuse(
            expected="something else than after a win",
            next_step="A result that changes nothing teaches nothing: leave the learning target out.",
        )
    return Learning(
        " ".join(fields["question"].text().split()),
        wins,
        loses,
        positive(fields["gain"], "the worth of a right direction"),
        positive(fields["weeks_at_stake"], "engineer-weeks"),
        fields["false_alarm"].number(above=0, below=1) if "false_alarm" in fields else 0.05,
    )


def _premortem(value: Value) -> Premortem:
    fields = value.mapping(known=("risks", "contingency", "owner"), needs=("risks", "contingency", "owner"))
    risks = fields["risks"].mapping(known=COST_RISKS, needs=COST_RISKS)
    named = {name: " ".join(one.text().split()) for name, one in risks.items()}
    return Premortem(named, " ".join(fields["contingency"].text().split()), fields["owner"].text())


def _past(value: Value) -> Past:
    fields = value.mapping(
        known=("name", "confidence", "won", "weeks", "actual_weeks", "cost_class"),
        needs=("name", "confidence", "weeks"),
    )
    actual = fields.get("actual_weeks")
    return Past(
        name_of(fields["name"]),
        share(fields["confidence"], "a probability"),
        fields["won"].flag() if "won" in fields else None,
        positive(fields["weeks"], "engineer-weeks"),
        positive(actual, "engineer-weeks") if actual is not None else None,
        text_or(fields, "cost_class"),
    )


def _check_names(value: Value, candidates: tuple[Candidate, ...]) -> None:
    if not 0 < len(candidates) <= _MOST:
        step = "Split it by team." if candidates else "Add one."
        raise value.refuse(expected=f"1 to {_MOST} candidates", got=str(len(candidates)), next_step=step)
    seen: dict[str, int] = {}
    for one, at in zip(candidates, value.items(), strict=True):
        if one.name in seen:
            raise at.mapping()["name"].refuse(
                expected="each candidate once",
                got=f"'{one.name}' again (first on line {seen[one.name]})",
                next_step="Rename or remove one.",
            )
        seen[one.name] = one.line


def _check_edges(value: Value, candidates: tuple[Candidate, ...], done: tuple[str, ...]) -> None:
    names = [one.name for one in candidates]
    for one, at in zip(candidates, value.items(), strict=True):
        fields = at.mapping()
        for edge in ("after", "needs", "excludes"):
            # Something that is done moves nobody's baseline any more.
            others = [name for name in (*names, *(() if edge == "excludes" else done)) if name != one.name]
            for other in getattr(one, edge):
                if other not in others:
                    step = nearest(other, others)
                    expected = "another candidate, or one that is done"
                    raise fields[edge].refuse(expected=expected, got=repr(other), next_step=step)
    waits = {one.name: (*one.after, *one.needs) for one in candidates}
    found = circle(waits)
    if found:
        at = value.items()[names.index(found[0])]
        raise at.refuse(
            expected="dependencies that end somewhere",
            got=f"a circle: {' waits for '.join(found)}",
            next_step="Remove one of them.",
        )


def _gut_feel(top: Mapping[str, Value], candidates: tuple[Candidate, ...]) -> tuple[str, ...]:
    if "gut_feel" not in top:
        return ()
    named = top["gut_feel"].texts()
    names = tuple(one.name for one in candidates)
    for one in named:
        if one not in names:
            raise top["gut_feel"].refuse(
                expected="names of candidates", got=repr(one), next_step=nearest(one, names)
            )
    return tuple(dict.fromkeys(named))
