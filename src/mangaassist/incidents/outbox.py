"""The outbox: a notice is written down first and sent afterwards, until it has arrived (INC-6).

Delivery is at least once: a row is claimed, sent, then marked. A process that dies between the last two
leaves a claim that runs out, and the notice is sent again with the same key. A claim is taken in one
transaction, so several processes may deliver from one outbox at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.home import Home
from mangaassist.core.settings import NoticeRoutes
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.notices import Address, Notice, Sender, addresses, routed, row
from mangaassist.storage.database import STATE, connect, database_url, explained, take_advisory_lock

CLAIM = timedelta(minutes=2)
"""How long one attempt may take; Apprise gives up on a silent server after seconds."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
EXPIRES = timedelta(hours=72)
"""A page nobody could be reached with for this long stays visible and is not tried any more."""
_AT_ONCE = 200
_ADVISORY_KEY = 0x6D616E67615F6F62

_metadata = sa.MetaData()
_notices = sa.Table(
    "notices",
    _metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("at", sa.Text, nullable=False, index=True),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("incident", sa.Text, nullable=False),
    sa.Column("runbook", sa.Text, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False),
)
_deliveries = sa.Table(
    "notice_deliveries",
    _metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("shown", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Text, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("settled_at", sa.Text, nullable=False),
    sa.Index("notice_deliveries_state", "state", "due"),
)
PENDING, DELIVERED, EXPIRED, WITHDRAWN = "pending", "delivered", "expired", "withdrawn"


@dataclass(frozen=True, slots=True)
class Sent:
    """What one round of deliveries did: how many arrived, failed for now, or were given up."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counts as a JSON object."""
        return {"delivered": self.delivered, "failed": self.failed, "given_up": self.given_up}


@dataclass(frozen=True, slots=True)
class Standing:
    """How the outbox stands.

    Attributes:
        pending: deliveries still to be made; failing: those of them that were tried in vain.
        expired: deliveries given up in the last week; delivered: made in the last day.
        unrouted: notices of the last day that had nowhere to go.
        waiting_since: when the oldest failing notice was written; None for none.
        problem: why the newest failing delivery failed.
    """

    pending: int
    failing: int
    expired: int
    delivered: int
    unrouted: int
    waiting_since: datetime | None
    problem: str


class Outbox:
    """The notices of one home; safe to share between threads and processes.

    Every method raises IntegrityError for a damaged database and Unavailable for one that does not answer.
    """

    def __init__(self, engine: Engine, place: Path, routes: NoticeRoutes) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._place = place
        self._routes = routes

    @classmethod
    def open(cls, home: Home) -> Outbox:
        """The outbox of ``home``: in the ledger's database on a server, in the state file beside it else."""
        url = database_url(home.settings.ledger_url, field="ledger_url", default=home.path / STATE)
        outbox = cls(connect(url), home.path, home.settings.notices)
        with explained("outbox", home.path), home.lock("outbox"), outbox._writer.begin() as connection:
            take_advisory_lock(connection, _ADVISORY_KEY)
            _metadata.create_all(connection)
        return outbox

    def put(self, notice: Notice, *, at: datetime) -> bool:
        """Write ``notice`` down for everybody it is routed to.

        Returns:
            Whether it was new; a known key is counted and sent to nobody again.
        """
        known = sa.update(_notices).where(_notices.c.key == notice.key)
        with explained("outbox", self._place), self._writer.begin() as connection:
            take_advisory_lock(connection, _ADVISORY_KEY)
            if connection.execute(known.values(repeats=_notices.c.repeats + 1)).rowcount:
                return False
            values = {"key": notice.key, "at": isoformat(at), "repeats": 0, **row(notice)}
            connection.execute(_notices.insert(), values)
            for address in routed(notice, self._routes):
                connection.execute(_deliveries.insert(), _delivery(notice.key, address, at))
        return True

    def deliver(self, send: Sender, *, now: datetime) -> Sent:
        """Try every delivery that is due, each once.

        Args:
            send: reaches one address; must not raise for an address that does not answer.
        """
        found = addresses(self._routes)
        delivered = failed = given_up = 0
        for _ in range(_AT_ONCE):
            claimed = self._claim(now)
            if claimed is None:
                break
            delivery, notice = claimed
            state = self._attempt(delivery, notice, found.get(delivery.target), send, now)
            delivered += state == DELIVERED
            failed += state == PENDING
            given_up += state in (EXPIRED, WITHDRAWN)
        return Sent(delivered, failed, given_up)

    def standing(self, *, now: datetime) -> Standing:
        """How it stands at ``now``."""
        day, week = isoformat(now - timedelta(days=1)), isoformat(now - timedelta(days=7))
        tried = sa.and_(
            _deliveries.c.state == PENDING, _deliveries.c.attempts > 0, _deliveries.c.problem != ""
        )
        counts = sa.select(
            _count(_deliveries.c.state == PENDING),
            _count(tried),
            _count(sa.and_(_deliveries.c.state == EXPIRED, _deliveries.c.settled_at >= week)),
            _count(sa.and_(_deliveries.c.state == DELIVERED, _deliveries.c.settled_at >= day)),
        )
        routed_keys = sa.select(_deliveries.c.key)
        lost = sa.select(sa.func.count()).where(_notices.c.at >= day, _notices.c.key.not_in(routed_keys))
        oldest = (
            sa.select(_notices.c.at, _deliveries.c.problem)
            .join(_deliveries, _deliveries.c.key == _notices.c.key)
            .where(tried)
            .order_by(_notices.c.at)
            .limit(1)
        )
        with explained("outbox", self._place), self._engine.connect() as connection:
            pending, failing, expired, delivered = connection.execute(counts).one()
            unrouted = connection.execute(lost).scalar_one()
            first = connection.execute(oldest).first()
        since = parse_instant(first.at, field="notice at") if first else None
        return Standing(pending, failing, expired, delivered, unrouted, since, first.problem if first else "")

    def recent(self, n: int = 50) -> list[dict[str, Any]]:
        """The newest notices as JSON objects, each with its deliveries; addresses are masked."""
        newest = sa.select(_notices).order_by(_notices.c.at.desc(), _notices.c.key).limit(n)
        with explained("outbox", self._place), self._engine.connect() as connection:
            rows = [dict(one) for one in connection.execute(newest).mappings()]
            keys = [one["key"] for one in rows]
            found = connection.execute(sa.select(_deliveries).where(_deliveries.c.key.in_(keys))).mappings()
            by_key: dict[str, list[dict[str, Any]]] = {}
            for one in found:
                shown = {name: one[name] for name in ("shown", "state", "attempts", "problem", "settled_at")}
                by_key.setdefault(one["key"], []).append(shown)
        return [
            {**one, "roles": one["roles"].split(), "deliveries": by_key.get(one["key"], [])} for one in rows
        ]

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _claim(self, now: datetime) -> tuple[sa.Row[Any], Notice] | None:
        """The delivery that has been due longest, this process's alone until the claim runs out."""
        due = (
            sa.select(_deliveries)
            .where(_deliveries.c.state == PENDING, _deliveries.c.due <= isoformat(now))
            .order_by(_deliveries.c.due, _deliveries.c.attempts)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with explained("outbox", self._place), self._writer.begin() as connection:
            delivery = connection.execute(due).first()
            if delivery is None:
                return None
            connection.execute(
                _one(delivery).values(attempts=delivery.attempts + 1, due=isoformat(now + CLAIM))
            )
            found = connection.execute(sa.select(_notices).where(_notices.c.key == delivery.key)).one()
        return delivery, _notice(found)

    def _attempt(
        self, delivery: sa.Row[Any], notice: Notice, address: Address | None, send: Sender, now: datetime
    ) -> str:
        if address is None:
            return self._mark(delivery, WITHDRAWN, now, problem="The address is no longer in the settings.")
        problem = send(address, notice, notice.message(self._routes.site))
        if not problem:
            return self._mark(delivery, DELIVERED, now)
        pause = min(FIRST_PAUSE * 2 ** min(delivery.attempts, 10), LONGEST_PAUSE)
        if now + pause > self._written(delivery.key) + EXPIRES:
            return self._mark(delivery, EXPIRED, now, problem=problem)
        return self._mark(delivery, PENDING, now, problem=problem, due=now + pause)

    def _written(self, key: str) -> datetime:
        query = sa.select(_notices.c.at).where(_notices.c.key == key)
        with explained("outbox", self._place), self._engine.connect() as connection:
            return parse_instant(connection.execute(query).scalar_one(), field="notice at")

    def _mark(
        self,
        delivery: sa.Row[Any],
        state: str,
        now: datetime,
        *,
        problem: str = "",
        due: datetime | None = None,
    ) -> str:
        values = {"state": state, "problem": problem, "due": isoformat(due or now)}
        values["settled_at"] = "" if state == PENDING else isoformat(now)
        with explained("outbox", self._place), self._writer.begin() as connection:
            connection.execute(_one(delivery).values(**values))
        return state


def judge(standing: Standing, configured: int, *, now: datetime) -> Verdict:
    """Whether people are reached: a delivery that fails is a failure somebody must see.

    Args:
        configured: how many addresses the settings name.
    """
    name = "notices.delivery"
    if standing.failing or standing.expired:
        since = standing.waiting_since
        waiting = f"the oldest has waited {(now - since).total_seconds() / 60:.0f} min. " if since else ""
        said = (
            f"{standing.failing} deliveries fail and {standing.expired} were given up this week; "
            f"{waiting}{standing.problem}"
        )
        count = standing.failing + standing.expired
        return Verdict(name, Status.FAIL, said.rstrip("; "), float(count), threshold=0.0, n=count)
    if not configured:
        said = (
            f"No address is configured under [notices], so nobody is told; {standing.unrouted} notices today."
        )
        return Verdict(name, Status.INSUFFICIENT, said, n=standing.unrouted)
    said = f"{standing.delivered} deliveries today, {standing.pending} on their way, none failing."
    return Verdict(name, Status.PASS, said, 0.0, threshold=0.0, n=standing.delivered)


def _count(condition: Any) -> Any:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _one(delivery: sa.Row[Any]) -> sa.Update:
    return sa.update(_deliveries).where(
        _deliveries.c.key == delivery.key, _deliveries.c.target == delivery.target
    )


def _delivery(key: str, address: Address, at: datetime) -> dict[str, Any]:
    return {
        "key": key,
        "target": address.target,
        "shown": address.shown,
        "state": PENDING,
        "attempts": 0,
        "due": isoformat(at),
        "problem": "",
        "settled_at": "",
    }


def _notice(found: sa.Row[Any]) -> Notice:
    return Notice(
        found.key,
        found.severity,
        found.title,
        found.body,
        tuple(found.roles.split()),
        found.incident,
        found.runbook,
    )
