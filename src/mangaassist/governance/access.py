"""Who may do what over HTTP: four roles, tokens that end, and every use of one by name (GOV-4).

The ledger keeps the SHA-256 of a token's secret, never the secret. A secret has 256 random bits, so a fast
hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from mangaassist.core.clock import isoformat, parse_instant
from mangaassist.core.errors import Forbidden, InputError, Unauthenticated, nearest
from mangaassist.storage.ledger import Ledger

ISSUED: Final = "access.token_issued"
REVOKED: Final = "access.token_revoked"
READ: Final = "access.customer_data_read"
SUBJECT: Final = "access/tokens"
LONGEST = timedelta(days=365)
_PREFIX = "ma"


class Role(StrEnum):
    """Whom a token speaks for."""

    VIEWER = "viewer"
    ENGINEER = "engineer"
    DIRECTOR = "director"
    INCIDENT_COMMANDER = "incident_commander"


class Action(StrEnum):
    """What a control endpoint does. Stopping harm is open to more people than allowing change."""

    RECORD_CHANGE = "record_change"
    ROLL_BACK = "roll_back"
    FREEZE = "freeze"
    RELEASE = "release"
    REVIEW = "review"
    REENABLE = "reenable"
    READ_CUSTOMER_DATA = "read_customer_data"


_ON_DUTY = frozenset({Role.ENGINEER, Role.DIRECTOR, Role.INCIDENT_COMMANDER})
_ANSWERING = frozenset({Role.DIRECTOR, Role.INCIDENT_COMMANDER})
ALLOWED: Mapping[Action, frozenset[Role]] = {
    Action.RECORD_CHANGE: _ON_DUTY,
    Action.ROLL_BACK: _ON_DUTY,
    Action.FREEZE: _ON_DUTY,
    Action.RELEASE: _ANSWERING,
    Action.REVIEW: _ON_DUTY,
    Action.REENABLE: _ANSWERING,
    Action.READ_CUSTOMER_DATA: _ON_DUTY,
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token as the ledger knows it.

    Attributes:
        id: its public half.
        name: the person or system it was issued to; the actor of what is done with it.
        digest: SHA-256 of its secret half.
        revoked: why it ended early; None while it stands.
    """

    id: str
    name: str
    role: Role
    digest: str
    expires_at: datetime
    revoked: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The token as a JSON object, without its digest."""
        return {
            "id": self.id,
            "name": self.name,
            "role": str(self.role),
            "expires_at": isoformat(self.expires_at),
            "revoked": self.revoked,
        }


class Access:
    """The tokens of one ledger; safe to share between threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def issue(self, name: str, role: str, *, lasts: timedelta, actor: str, at: datetime) -> tuple[Token, str]:
        """A new token and its text, which is shown this once and kept nowhere.

        Raises:
            InputError: for an empty name, an unknown role, or a duration of none or over a year.
        """
        if not name.strip():
            raise InputError("name", expected="a person or system", got="nothing", next_step="Name one.")
        if not timedelta(0) < lasts <= LONGEST:
            raise InputError(
                "days",
                expected=f"1 to {LONGEST.days}",
                got=f"{lasts.days}",
                next_step="Issue a new one then.",
            )
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        token = Token(identity, name.strip(), _role(role), _digest(secret), at + lasts)
        body = {**token.as_dict(), "digest": token.digest}
        self._ledger.append(kind=ISSUED, subject=SUBJECT, body=body, actor=actor, at=at)
        return token, f"{_PREFIX}_{identity}_{secret}"

    def revoke(self, identity: str, *, reason: str, actor: str, at: datetime) -> None:
        """End a token now.

        Raises:
            InputError: there is none of that id.
        """
        known = self.tokens()
        if identity not in known:
            raise InputError(
                "token", expected="the id of a token", got=repr(identity), next_step=nearest(identity, known)
            )
        body = {"id": identity, "reason": reason}
        self._ledger.append(kind=REVOKED, subject=SUBJECT, body=body, actor=actor, at=at)

    def tokens(self) -> dict[str, Token]:
        """Every token ever issued by id, oldest first."""
        found: dict[str, Token] = {}
        for entry in self._ledger.entries(subject=SUBJECT):
            body = entry.body
            if entry.kind == ISSUED:
                expires = parse_instant(body["expires_at"], field="expires_at")
                role = Role(body["role"])
                found[body["id"]] = Token(body["id"], body["name"], role, body["digest"], expires)
            elif entry.kind == REVOKED:
                one = found[body["id"]]
                found[one.id] = Token(one.id, one.name, one.role, one.digest, one.expires_at, body["reason"])
        return found

    def authenticate(self, text: str | None, *, at: datetime) -> Token:
        """Whose token ``text`` is.

        Raises:
            Unauthenticated: it is missing, unknown, revoked or over. Which secret was wrong is never said.
        """
        prefix, _, rest = (text or "").partition("_")
        identity, _, secret = rest.partition("_")
        token = self.tokens().get(identity) if prefix == _PREFIX else None
        # Compared even when there is no such token, so that the time taken does not tell.
        right = hmac.compare_digest(token.digest if token else "", _digest(secret))
        if token is None or not right:
            raise _unauthenticated("no token" if not text else "a token nobody issued")
        if token.revoked is not None:
            raise _unauthenticated(f"token {token.id}, revoked: {token.revoked}")
        if at >= token.expires_at:
            raise _unauthenticated(f"token {token.id}, over since {isoformat(token.expires_at)}")
        return token

    def record_read(self, what: str, *, rows: int, actor: str, at: datetime) -> None:
        """Write down that somebody read customer data: what, how much, who, when; never the data."""
        body = {"what": what, "rows": rows}
        self._ledger.append(kind=READ, subject="access/reads", body=body, actor=actor, at=at)


def require(token: Token, action: Action) -> None:
    """Refuse what the token's role does not allow.

    Raises:
        Forbidden: naming the roles that may.
    """
    check_role(token.name, token.role, action)


def check_role(name: str, role: str, action: Action) -> None:
    """Refuse what ``name`` may not do in ``role``.

    Raises:
        InputError: there is no such role. Forbidden: naming the roles that may.
    """
    if _role(role) not in ALLOWED[action]:
        may = " or ".join(sorted(ALLOWED[action]))
        raise Forbidden(
            str(action),
            expected=f"the role {may}",
            got=f"{name} as {role}",
            next_step="Ask somebody who has it.",
        )


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError as error:
        raise InputError(
            "role", expected="one of " + ", ".join(Role), got=repr(role), next_step=nearest(role, Role)
        ) from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _unauthenticated(got: str) -> Unauthenticated:
    return Unauthenticated(
        "authorization",
        expected="'Authorization: Bearer TOKEN' with a token that stands",
        got=got,
        next_step="Ask for one: 'mangaassist token issue NAME --role ROLE'.",
    )
