"""From a home to what its guardrail page shows. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from mangaassist.core.document import Value
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.verdict import Verdict
from mangaassist.experiments import catalog, governance, overrides, registry
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.intervals import wilson
from mangaassist.storage.ledger import Ledger
from mangaassist.web.guardrail_view import (
    CatalogRow,
    GuardrailsView,
    OverrideRate,
    ThresholdChange,
    TrackedOverride,
)
from mangaassist.web.look_view import Span
from mangaassist.web.view import SERVICE

_TRACKING = ("overdue", "tracked", "ended")


def guardrails_view(platform: Platform) -> GuardrailsView:
    """The catalog in force, its governed changes, override rates and what is still tracked."""
    now = platform.clock.now()
    ledger = platform.ledger
    try:
        rates = overrides.override_rates(ledger)
        return GuardrailsView(
            now,
            tuple(_rows(ledger)),
            tuple(_changes(ledger)),
            tuple(_rate(one) for one in rates),
            rates[0].threshold or 0.0 if rates else GuardrailsView(now).allowed,
            tuple(_tracked(ledger, now)),
            SERVICE,
        )
    except MangaAssistError as error:
        return GuardrailsView(now, links=SERVICE, problem=str(error))


def _rows(ledger: Ledger) -> Iterable[CatalogRow]:
    shipped, in_force = catalog.load().guardrails, governance.in_force(ledger).guardrails
    used = Counter(
        rail.name for known in registry.everything(ledger) if not known.over for rail in known.plan.guardrails
    )
    for name, entry in in_force.items():
        body = entry.mapping()
        yield CatalogRow(
            name,
            _text(body, "why"),
            _text(body, "rule"),
            _measured(body),
            _limit(entry),
            _limit(shipped[name]),
            "ceiling" not in body,
            _text(body, "better"),
            body["surfaces"].texts() if "surfaces" in body else (),
            used[name],
        )


def _text(body: Mapping[str, Value], name: str) -> str:
    return body[name].text() if name in body else ""


def _limit(entry: Value) -> float:
    return entry.mapping()[catalog.limit_name(entry)].number()


def _measured(body: Mapping[str, Value]) -> str:
    if "column" not in body:
        return "the primary metric in every registered cohort"
    kind, column = _text(body, "kind"), _text(body, "column")
    if "denominator" in body:
        return f"{column} per {_text(body, 'denominator').removesuffix('s')}"
    if "quantile" in body:
        return f"{body['quantile'].number():.0%} quantile of {column}"
    return f"{kind} of {column}"


def _changes(ledger: Ledger) -> Iterable[ThresholdChange]:
    relative = {name: "ceiling" not in one.mapping() for name, one in catalog.load().guardrails.items()}
    for one in reversed(governance.changes(ledger)):
        yield ThresholdChange(
            one.at,
            one.guardrail,
            one.before,
            one.after,
            relative.get(one.guardrail, True),
            one.loosened,
            one.reason,
            one.actor,
            one.role,
        )


def _rate(verdict: Verdict) -> OverrideRate:
    """A team's rate with Wilson's interval: one override in two launches says little about a team."""
    count = round((verdict.value or 0.0) * verdict.n)
    found = wilson(count, verdict.n)
    team = verdict.name.removeprefix("guardrail.override_rate.")
    return OverrideRate(team, count, verdict.n, Span(found.value, found.low, found.high), verdict)


def _tracked(ledger: Ledger, now: datetime) -> Iterable[TrackedOverride]:
    found = [
        TrackedOverride(
            one.experiment,
            one.until,
            one.follow_ups,
            "overdue" if one.overdue else "tracked" if now < one.until else "ended",
        )
        for one in overrides.tracked(ledger, now=now)
    ]
    return sorted(found, key=lambda one: (_TRACKING.index(one.state), one.until))
