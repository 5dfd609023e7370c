"""The ledger: a chain that only grows, compare-and-swap that never loses, on both engines (issue item 2)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.storage.processes import AT, count_up, run

from mangaassist.core.errors import Conflict, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.storage.ledger import GENESIS, Entry, Ledger

EPOCH = AT.replace(year=1970, tzinfo=None)
BODIES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def engine_home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home whose ledger is on each engine in turn."""
    home = Home.open(tmp_path / "home")
    if request.param == "sqlite":
        return home
    return replace(home, settings=Settings(ledger_url=request.getfixturevalue("postgres_url")))


@pytest.fixture
def ledger(engine_home: Home) -> Iterator[Ledger]:
    opened = Ledger.open(engine_home)
    yield opened
    opened.close()


def add(ledger: Ledger, subject: str = "registry/intent", **body: Any) -> Entry:
    return ledger.append(kind="test.done", subject=subject, body=body, actor="ada", at=AT)


def by_hand(entry: Entry) -> str:
    """The digest as the standard library computes it: the slow, obvious twin."""
    covered = {
        "sequence": entry.sequence,
        "at": entry.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "actor": entry.actor,
        "kind": entry.kind,
        "subject": entry.subject,
        "body": entry.body,
        "previous": entry.previous,
    }
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_chain_grows_without_gaps_and_reads_back(ledger: Ledger) -> None:
    first = add(ledger, title="ワンピース", n=1)
    second = add(ledger, "freeze", on=True)
    assert (first.sequence, first.previous) == (1, GENESIS)
    assert (second.sequence, second.previous) == (2, first.digest)
    assert [by_hand(first), by_hand(second)] == [first.digest, second.digest]
    assert ledger.entries() == [first, second]
    assert ledger.verify() == type(ledger.verify())(True, 2, "", None, second.digest)


def test_queries(ledger: Ledger) -> None:
    one, two, three = add(ledger, "a"), add(ledger, "b"), add(ledger, "a")
    other = ledger.append(kind="test.other", subject="b", body={}, actor="ada", at=AT)
    assert ledger.entries(subject="a") == [one, three]
    assert ledger.entries(kind="test.other") == [other]
    assert ledger.entries(after=1, limit=2) == [two, three]
    assert ledger.tail(2) == [three, other]
    assert (ledger.head(), ledger.head("a"), ledger.head("nothing")) == (4, 3, 0)


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert (ledger.head(), ledger.version(), ledger.tail(5), ledger.entries()) == (0, 0, [], [])
    assert ledger.verify().ok
    assert ledger.verify().head == GENESIS


def test_a_stale_expectation_is_a_conflict_and_writes_nothing(ledger: Ledger) -> None:
    """PRO-4: a second process promoting at the same moment gets one clear sentence."""
    add(ledger, "registry/intent")
    add(ledger, "registry/other")
    append = {"kind": "test.done", "subject": "registry/intent", "body": {}, "actor": "bo", "at": AT}
    for stale in (0, 2, 7):
        with pytest.raises(Conflict, match=r"registry/intent.*expected its last entry to be .*got 1"):
            ledger.append(**append, expected=stale)
    assert ledger.head() == 2
    assert ledger.append(**append, expected=1).sequence == 3
    with pytest.raises(Conflict):
        ledger.append(**append, expected=1)
    assert ledger.append(**{**append, "subject": "new"}, expected=0).sequence == 4


def test_what_is_returned_is_what_is_read(ledger: Ledger) -> None:
    """Instants, tuples and sets take their JSON form at once, not only after a restart."""
    tokyo = timezone(timedelta(hours=9))
    entry = ledger.append(
        kind="test.done",
        subject="s",
        body={"when": AT, "pair": (1, 2)},
        actor="ada",
        at=AT.astimezone(tokyo),
    )
    assert entry.body == {"when": "2026-10-05T09:00:00.000000Z", "pair": [1, 2]}
    assert entry.at == AT
    assert ledger.tail(1) == [entry]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, at=st.datetimes(timezones=st.just(UTC), min_value=EPOCH))
def test_any_json_body_survives_and_verifies(ledger: Ledger, body: dict[str, Any], at: datetime) -> None:
    entry = ledger.append(kind="test.done", subject="s", body=body, actor="ada", at=at)
    assert entry.body == body
    assert ledger.tail(1) == [entry]
    assert ledger.verify().ok


@pytest.mark.parametrize("field", ["kind", "subject", "actor"])
@pytest.mark.parametrize("text", ["", "a\x00b", "a\nb"])
def test_names_are_printable(ledger: Ledger, field: str, text: str) -> None:
    call: dict[str, Any] = {"kind": "k", "subject": "s", "actor": "a", "body": {}, "at": AT, field: text}
    with pytest.raises(InputError, match=field):
        ledger.append(**call)
    assert ledger.head() == 0


def test_version_follows_appends_made_elsewhere(engine_home: Home, ledger: Ledger) -> None:
    """A reader sees another process's transition on its next look."""
    other = Ledger.open(engine_home)
    seen = [ledger.version()]
    for _ in range(3):
        add(other)
        seen.append(ledger.version())
    other.close()
    assert seen == [0, 1, 2, 3]


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    def work(number: int) -> None:
        for step in range(10):
            add(ledger, f"thread/{number}", step=step)
            ledger.version()
            ledger.head(f"thread/{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify().entries == 80
    for number in range(8):
        steps = [entry.body["step"] for entry in ledger.entries(subject=f"thread/{number}")]
        assert steps == list(range(10))


def _count(home: Home, steps: int) -> None:
    workers = [(home.path, home.settings.ledger_url, worker, steps) for worker in range(8)]
    written = run(8, count_up, workers)
    ledger = Ledger.open(home)
    values = [entry.body["value"] for entry in ledger.entries(subject="counter")]
    found = ledger.verify()
    ledger.close()
    assert values == list(range(1, 8 * steps + 1))
    assert sorted(value for one in written for value in one) == values
    assert (found.ok, found.entries) == (True, 8 * steps)


def test_eight_processes_lose_and_double_nothing(engine_home: Home) -> None:
    """Issue item 2: compare-and-swap on SQLite and Postgres."""
    _count(engine_home, 10)


@pytest.mark.soak
def test_ten_thousand_transitions_from_eight_processes(engine_home: Home) -> None:
    """Issue, numbers: the long form, every one of them a compare-and-swap on the same subject."""
    _count(engine_home, 1250)


@pytest.mark.parametrize("url", ["mysql://x", "not a url", "oracle+nothing://x"])
def test_a_wrong_url_is_one_sentence(home: Home, url: str) -> None:
    with pytest.raises(InputError, match="ledger_url"):
        Ledger.open(replace(home, settings=Settings(ledger_url=url)))


def test_a_server_that_is_away_is_one_sentence(home: Home) -> None:
    url = "postgresql+psycopg://postgres@127.0.0.1:1/postgres"
    with pytest.raises(Unavailable, match="expected a database that answers"):
        Ledger.open(replace(home, settings=Settings(ledger_url=url)))
