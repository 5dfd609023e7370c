"""The values every room speaks in."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist.core.clock import SimulatedClock, isoformat, parse_instant, utc
from mangaassist.core.errors import InputError, Unavailable, nearest
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json, canonical_text, digest, example_id
from mangaassist.core.language import Language, detect_language
from mangaassist.core.settings import Settings
from mangaassist.core.verdict import Action, Decision, Status, Verdict, decide, worst

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EARLIEST = datetime(2, 1, 1)  # noqa: DTZ001 - Hypothesis wants a naive bound; year 1 leaves no room for an offset


def verdict(status: Status, *, blocking: bool = True) -> Verdict:
    return Verdict("golden.accuracy", status, f"It is {status}.", value=0.9, n=10, blocking=blocking)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("where is my order", Language.EN),
        ("注文はどこですか", Language.JA),
        ("ワンピースのvol 3ある？", Language.MIXED),
        ("第3巻ください", Language.JA),
        ("B面の曲", Language.JA),
        ("ﾜﾝﾋﾟｰｽ", Language.JA),
        ("ＯＮＥ　ＰＩＥＣＥの新刊", Language.MIXED),
        ("12345 !!", Language.EN),
        ("", Language.EN),
    ],
)
def test_language_is_decided_by_script(text: str, language: Language) -> None:
    """GOV-1: EN, JP and mixed are told apart in every metric."""
    assert detect_language(text) is language


@given(st.lists(st.sampled_from(list(Status)), max_size=6))
def test_only_a_pass_without_a_blocking_exception_promotes(statuses: list[Status]) -> None:
    decision = decide("intent/2", map(verdict, statuses), actor="policy", at=NOW)
    promotes = bool(statuses) and set(statuses) == {Status.PASS}
    assert (decision.action is Action.PROMOTE) == promotes
    assert (decision.action is Action.ROLL_BACK) == (Status.FAIL in statuses)


def test_a_hold_rolls_back_at_its_deadline_and_never_promotes() -> None:
    held = [verdict(Status.PASS), verdict(Status.INSUFFICIENT)]
    deadline = NOW + timedelta(days=1)
    before = decide("intent/2", held, actor="policy", at=NOW, deadline=deadline)
    after = decide("intent/2", held, actor="policy", at=deadline, deadline=deadline)
    assert (before.action, after.action) == (Action.HOLD, Action.ROLL_BACK)


def test_flags_inform_without_deciding() -> None:
    assert worst([verdict(Status.PASS), verdict(Status.FAIL, blocking=False)]) is Status.PASS
    assert worst([verdict(Status.FAIL, blocking=False)]) is Status.INSUFFICIENT


def test_a_decision_survives_the_ledger_byte_for_byte() -> None:
    decision = decide("intent/2", [verdict(Status.STALE)], actor="aki", at=NOW, deadline=NOW)
    assert Decision.from_dict(json.loads(canonical_json(decision.as_dict()))) == decision


def test_identity_ignores_width_case_and_spacing_but_not_the_model() -> None:
    """LAB-1: example_id is SHA-256 of (canonical input, model_target)."""
    assert canonical_text(" ＯＮＥ  Piece ") == "one piece"
    assert example_id("ＯＮＥ Piece", "intent") == example_id("one piece", "intent")
    assert example_id("one piece", "intent") != example_id("one piece", "spam")
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


@given(st.datetimes(min_value=EARLIEST, timezones=st.just(timezone(timedelta(hours=9)))))
def test_instants_have_one_spelling(instant: datetime) -> None:
    assert parse_instant(isoformat(instant), field="t") == instant


def test_naive_times_and_backward_steps_are_refused() -> None:
    with pytest.raises(InputError, match="timezone-aware"):
        utc(datetime(2026, 1, 1), field="captured_at")  # noqa: DTZ001 - a naive time is the point
    with pytest.raises(InputError, match="step forward"):
        SimulatedClock(NOW).advance(timedelta(seconds=-1))
    with pytest.raises(InputError, match="ISO 8601"):
        parse_instant("last tuesday", field="captured_at")


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert nearest("intnet", ["intent", "spam"]) == "Did you mean 'intent'?"
    assert nearest("zzz", ["intent", "spam"]) == "Known: intent, spam."


def test_a_home_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    Home.open(tmp_path)
    (tmp_path / "home.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="newer release"):
        Home.open(tmp_path)


def test_a_missing_home_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mangaassist demo"):
        Home.open(tmp_path / "nowhere", create=False)


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file where the folder should be stands in for read-only media, which root can write anyway."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(InputError, match="writable directory"):
        Home.open(tmp_path / "home" / "inner")


def test_settings_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('ledger_ulr = "x"')
    with pytest.raises(InputError, match="Did you mean 'ledger_url'"):
        Settings.load(tmp_path, {})
    (tmp_path / "settings.toml").write_text("ledger_url = 3")
    with pytest.raises(InputError, match="quotes"):
        Settings.load(tmp_path, {})
    (tmp_path / "settings.toml").write_text('region = "eu"')
    assert Settings.load(tmp_path, {}).region == "eu"
    assert Settings.load(tmp_path, {"MANGAASSIST_REGION": "jp"}).region == "jp"


def test_a_lock_is_exclusive_across_processes_and_dies_with_its_holder(home: Home) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from mangaassist.core.home import Home\n"
            "with Home.open(Path(sys.argv[1])).lock('intent'):\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(home.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Unavailable, match="another process"), home.lock("intent", wait=False):
        pass
    holder.kill()
    holder.communicate()
    with home.lock("intent", wait=False):
        pass


def test_eight_first_starts_on_an_empty_home_all_succeed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mangaassist.core.home import Home\n"
        "Home.open(Path(sys.argv[1]))"
    )
    starts = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "new")]) for _ in range(8)]
    assert [start.wait() for start in starts] == [0] * 8
    assert not list((tmp_path / "new").glob("home.json.*"))
    assert stat.S_ISREG((tmp_path / "new" / "home.json").stat().st_mode)


def test_an_error_survives_the_way_back_from_a_worker_process() -> None:
    error = InputError("label", expected="a label", got="nothing", next_step="Add one.")
    again = ForkingPickler.loads(bytes(ForkingPickler.dumps(error)))
    assert isinstance(again, InputError)
    assert again.as_dict() == error.as_dict()


def test_an_instant_outside_the_calendar_is_one_sentence() -> None:
    with pytest.raises(InputError, match="years 1 to 9999"):
        parse_instant("0001-01-01T00:00:00+14:00", field="captured_at")
