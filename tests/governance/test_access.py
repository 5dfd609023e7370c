"""GOV-4: tokens name who acts, end, and never say which half of them was wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mangaassist.core.errors import Forbidden, InputError, Unauthenticated
from mangaassist.core.home import Home
from mangaassist.governance.access import ALLOWED, Access, Action, Role, require
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def access(home: Home) -> Access:
    return Access(Ledger.open(home))


def test_a_token_is_its_owner_until_it_ends(access: Access) -> None:
    token, text = access.issue("emi", "engineer", lasts=MONTH, actor="dai", at=AT)
    assert access.authenticate(text, at=AT) == token
    with pytest.raises(Unauthenticated, match="over since"):
        access.authenticate(text, at=AT + MONTH)
    access.revoke(token.id, reason="left", actor="dai", at=AT)
    with pytest.raises(Unauthenticated, match="revoked: left"):
        access.authenticate(text, at=AT)


@pytest.mark.parametrize(
    "change", [lambda t: None, lambda t: "", lambda t: t + "x", lambda t: t[:-1], lambda t: "ma__"]
)
def test_anything_else_is_nobody(access: Access, change: object) -> None:
    _, text = access.issue("emi", "engineer", lasts=MONTH, actor="dai", at=AT)
    with pytest.raises(Unauthenticated, match="authorization: expected"):
        access.authenticate(change(text), at=AT)  # type: ignore[operator]


def test_the_secret_is_nowhere_in_the_ledger(access: Access, home: Home) -> None:
    _, text = access.issue("emi", "engineer", lasts=MONTH, actor="dai", at=AT)
    secret = text.split("_", 2)[2].encode()
    assert not any(secret in path.read_bytes() for path in home.path.rglob("*") if path.is_file())


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_roles_do_what_the_table_says(access: Access, role: Role, action: Action) -> None:
    token, _ = access.issue("emi", role, lasts=MONTH, actor="dai", at=AT)
    if role in ALLOWED[action]:
        require(token, action)
    else:
        with pytest.raises(Forbidden, match=f"emi as {role}"):
            require(token, action)


def test_stopping_is_open_to_more_people_than_releasing() -> None:
    assert ALLOWED[Action.RELEASE] < ALLOWED[Action.FREEZE]
    assert not any(Role.VIEWER in roles for roles in ALLOWED.values())


@pytest.mark.parametrize(
    ("name", "role", "days"),
    [("", "viewer", 1), ("emi", "boss", 1), ("emi", "viewer", 0), ("emi", "viewer", 366)],
)
def test_a_token_needs_a_name_a_role_and_an_end(access: Access, name: str, role: str, days: int) -> None:
    with pytest.raises(InputError):
        access.issue(name, role, lasts=timedelta(days=days), actor="dai", at=AT)
