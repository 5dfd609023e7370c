"""Notices leave the platform at least once, in the right hands, and a failure to do so is seen (INC-6)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tests.incidents.receiver import Receiver

from mangaassist.core.clock import SimulatedClock, isoformat
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.settings import NoticeRoutes, Settings
from mangaassist.core.verdict import Status
from mangaassist.incidents.notices import Address, Notice, misspelt, routed, send
from mangaassist.incidents.outbox import CLAIM, EXPIRES, LONGEST_PAUSE, Outbox, judge

PAGE = Notice(
    "inc-1/opened", "SEV-2", "intent accuracy fell", "0.91 to 0.74 in JP.", ("em",), "inc-1", "cusum"
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("postgres_url")) if request.param == "postgres" else ""


def outbox_of(home: Home, *urls: str, ledger_url: str = "") -> Outbox:
    settings = Settings(ledger_url=ledger_url, notices=NoticeRoutes(urls=urls))
    return Outbox.open(replace(home, settings=settings))


def test_a_notice_arrives_with_severity_links_and_key(
    home: Home, clock: SimulatedClock, receiver: Receiver, ledger_url: str
) -> None:
    """INC-6: what the pager gets, on SQLite and on PostgreSQL."""
    outbox = outbox_of(home, receiver.url, ledger_url=ledger_url)
    assert outbox.put(PAGE, at=clock.now())
    assert outbox.deliver(send, now=clock.now()).delivered == 1
    (message,) = receiver.messages
    assert message["title"] == "[SEV-2] intent accuracy fell"
    assert message["type"] == "failure"
    for part in ("0.91 to 0.74", "/oncall#inc-1", "/runbooks/cusum", "Notice key: inc-1/opened"):
        assert part in message["message"]


def test_a_known_key_is_counted_and_sent_once(
    home: Home, clock: SimulatedClock, receiver: Receiver, ledger_url: str
) -> None:
    """INC-6: deduplicated, and quiet for duplicates, in any process."""
    outbox = outbox_of(home, receiver.url, ledger_url=ledger_url)
    assert [outbox.put(PAGE, at=clock.now()) for _ in range(5)] == [True, False, False, False, False]
    other = outbox_of(home, receiver.url, ledger_url=ledger_url)
    assert [box.deliver(send, now=clock.now()).delivered for box in (other, outbox)] == [1, 0]
    assert len(receiver.messages) == 1
    assert outbox.recent()[0]["repeats"] == 4


def test_a_server_that_is_down_gets_it_when_it_is_back(
    home: Home, clock: SimulatedClock, receiver: Receiver
) -> None:
    """INC-6: at least once, over a restart of both sides; while it fails the verdict says so."""
    port, url = receiver.port, receiver.url
    receiver.stop()
    outbox = outbox_of(home, url)
    outbox.put(PAGE, at=clock.now())
    assert outbox.deliver(send, now=clock.now()).failed == 1
    assert outbox.deliver(send, now=clock.now()).failed == 0  # it waits before the next try
    clock.advance(timedelta(minutes=7))
    found = judge(outbox.standing(now=clock.now()), 1, now=clock.now())
    assert found.status is Status.FAIL
    assert "waited 7 min" in found.sentence
    outbox.close()
    back, again = Receiver(port), outbox_of(home, url)
    try:
        assert again.deliver(send, now=clock.now()).delivered == 1
    finally:
        back.stop()
    assert len(back.messages) == 1
    assert judge(again.standing(now=clock.now()), 1, now=clock.now()).status is Status.PASS


def test_killed_between_send_and_mark_it_is_sent_again(
    home: Home, clock: SimulatedClock, receiver: Receiver
) -> None:
    """INC-6: kill -9 after the message left: the claim runs out and the same key goes out again."""
    (home.path / "settings.toml").write_text(f'[notices]\nurls = ["{receiver.url}"]\n')
    outbox = Outbox.open(Home.open(home.path))
    outbox.put(PAGE, at=clock.now())
    victim = [sys.executable, "-m", "tests.incidents.outbox_victim", str(home.path), isoformat(clock.now())]
    killed = subprocess.run(victim, cwd=Path(__file__).parents[2], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert outbox.deliver(send, now=clock.now()).delivered == 0  # still claimed by the dead
    clock.advance(CLAIM)
    assert outbox.deliver(send, now=clock.now()).delivered == 1
    keys = {one["message"].rpartition("Notice key: ")[2].strip() for one in receiver.messages}
    assert (len(receiver.messages), keys) == (2, {PAGE.key})


def test_pauses_grow_to_a_limit_and_end(home: Home, clock: SimulatedClock) -> None:
    """INC-6: retries back off, and after three days it stays visible instead of being tried for ever."""
    outbox, tries = outbox_of(home, "json://127.0.0.1:9"), []

    def refuse(_address: Address, _notice: Notice, _message: str) -> str:
        tries.append(clock.now())
        return "It did not answer."

    outbox.put(PAGE, at=clock.now())
    end = clock.now() + EXPIRES + timedelta(hours=1)
    while clock.now() < end:
        outbox.deliver(refuse, now=clock.now())
        clock.advance(timedelta(seconds=15) if len(tries) < 6 else timedelta(minutes=5))
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:4] == [timedelta(seconds=15 * 2**k) for k in range(4)]
    assert max(pauses) == LONGEST_PAUSE
    standing = outbox.standing(now=clock.now())
    assert (standing.pending, standing.expired) == (0, 1)
    assert judge(standing, 1, now=clock.now()).status is Status.FAIL


def test_routes_by_severity_and_role() -> None:
    """INC-6, INC-4: the manager hears of it when the clock says so, and nobody twice."""
    routes = NoticeRoutes(
        ("json://all",),
        {"SEV-2": ("json://two", "json://all")},
        {"em": ("json://em",), "director": ("json://d",)},
    )
    assert [one.url for one in routed(PAGE, routes)] == ["json://all", "json://two", "json://em"]
    assert [one.url for one in routed(replace(PAGE, severity="SEV-4", roles=()), routes)] == ["json://all"]


def test_no_secret_is_stored_or_shown(home: Home, clock: SimulatedClock, receiver: Receiver) -> None:
    """INC-6: neither the database nor a verdict nor an error has a piece of the address."""
    receiver.status = 500
    (home.path / "settings.toml").write_text(f'[notices]\nurls = ["{receiver.url}", "slak://T0PS3CRET"]\n')
    opened = Home.open(home.path)
    outbox = Outbox.open(opened)
    outbox.put(PAGE, at=clock.now())
    assert outbox.deliver(send, now=clock.now()).failed == 2
    assert len(misspelt(opened.settings.notices)) == 1
    shown = [repr(opened), str(outbox.recent()), str(outbox.standing(now=clock.now()))]
    outbox.close()
    shown += [path.read_bytes().decode("latin-1") for path in home.path.glob("state.db*")]
    for secret in ("hunter2secret", "T0PS3CRET", str(receiver.port)):
        assert not any(secret in text for text in shown), secret


def test_without_an_address_it_says_that_nobody_is_told(home: Home, clock: SimulatedClock) -> None:
    """INC-6: silence is not a pass."""
    outbox = outbox_of(home)
    outbox.put(PAGE, at=clock.now())
    found = judge(outbox.standing(now=clock.now()), 0, now=clock.now())
    assert (found.status, found.n) == (Status.INSUFFICIENT, 1)


def test_settings_of_notices(tmp_path: Path) -> None:
    """Issue 5, incidents 6: addresses by severity and role; a mistake is named and never quoted."""
    settings = tmp_path / "settings.toml"
    settings.write_text(
        '[notices]\nurls = ["json://a"]\nsite = "https://shop.example/"\n'
        '[notices.severities]\nSEV-1 = ["json://b"]\n[notices.roles]\nem = ["json://c"]\n'
    )
    found = Settings.load(tmp_path, {}).notices
    assert (found.urls, found.severities["SEV-1"], found.roles["em"]) == (
        ("json://a",),
        ("json://b",),
        ("json://c",),
    )
    assert found.site == "https://shop.example"
    assert Settings.load(tmp_path, {"MANGAASSIST_NOTICES_URLS": "json://x json://y"}).notices.urls == (
        "json://x",
        "json://y",
    )
    for bad in (
        "notices = 3",
        '[notices]\nurls = "json://s3cr3t"',
        "[notices]\nroles = 3",
        "[notices]\nurl = []",
    ):
        settings.write_text(bad)
        with pytest.raises(InputError) as caught:
            Settings.load(tmp_path, {})
        assert "s3cr3t" not in str(caught.value)


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(InputError, match="SEV-2"):
        replace(PAGE, severity="sev-2")
