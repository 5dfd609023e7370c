"""Bad input: one clear sentence, the right exit code, and nothing written anywhere."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cli.journeys import MORE, STORY, TRAIN, Done, Shell, command, new_story, spawn, write
from tests.conftest import missing

HEADER = "text,label,conversation,at"
GOOD = "where is it,order,c1,2024-09-02T09:00:00Z"


def csv_of(*lines: str | bytes) -> bytes:
    return b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n"


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # noqa: TID251 - the command reads it, too

# What is wrong -> (file name, bytes, what the sentence has to name).
FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "wrong column": ("a.csv", csv_of("txt,label,conversation,at", GOOD), ("column 'text'", "'txt'")),
    "empty file": ("a.csv", b"", ("a.csv", "empty file (0 bytes)")),
    "header only": ("a.csv", csv_of(HEADER), ("a.csv", "at least one row")),
    "broken UTF-8": ("a.csv", csv_of(HEADER, GOOD, b"caf\xe9,order,c2,2024-09-02"), ("0xe9", "line 3")),
    "Shift_JIS": (
        "a.csv",
        csv_of(HEADER, "荷物はどこですか,order,c1,2024-09-02".encode("cp932")),
        ("Shift_JIS", "iconv"),
    ),
    "mixed encodings": (
        "a.csv",
        csv_of(
            HEADER,
            "荷物はどこですか,order,c1,2024-09-02",
            "返金してほしいです,refund,c2,2024-09-02".encode("cp932"),
        ),
        ("mixed encodings", "line 2 is UTF-8", "Shift_JIS"),
    ),
    "a field of 10 MB": (
        "a.csv",
        csv_of(HEADER, "x" * 10_000_000 + ",order,c1,2024-09-02"),
        ("line 2", "10,000,000 characters"),
    ),
    "a field of 10 MB in JSONL": (
        "a.jsonl",
        json.dumps(
            {"text": "x" * 10_000_000, "label": "a", "conversation": "c", "at": "2024-09-02"}
        ).encode(),
        ("line 1", "10,000,000 characters"),
    ),
    "an empty text": ("a.csv", csv_of(HEADER, GOOD, "  ,order,c2,2024-09-02"), ("line 3", "text")),
    "an empty label": ("a.csv", csv_of(HEADER, "hello,,c2,2024-09-02"), ("line 2", "label")),
    "a future time": ("a.csv", csv_of(HEADER, GOOD, f"later,order,c2,{TOMORROW}"), ("line 3", "up to now")),
    "no time": ("a.csv", csv_of(HEADER, "later,order,c2,yesterday"), ("line 2", "'yesterday'", "ISO 8601")),
    "ragged row": ("a.csv", csv_of(HEADER, "late, and torn,order,c2,2024-09-02"), ("line 2", "4 fields")),
    "open quote": ("a.csv", csv_of(HEADER, '"late,order,c2,2024-09-02'), ("line 2", "double quote")),
    "no JSON": ("a.jsonl", b'{"text": "a"\n', ("line 1", "JSON object")),
    "no Parquet": ("a.parquet", b"PAR1 no", ("a.parquet", "Parquet")),
    "unknown type": ("a.xlsx", b"PK", ("a.xlsx", ".csv", ".parquet")),
    "NUL": ("a.csv", csv_of(HEADER, "a\0b,order,c2,2024-09-02"), ("NUL", "line 2")),
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A home with labels already in it, so that 'nothing was written' means something."""
    folder = tmp_path_factory.mktemp("ready")
    shell = Shell(folder / "home")
    new_story(shell)
    shell.load(write(folder / "train.csv", TRAIN), "vendor")
    return shell


def refused(shell: Shell, path: Path, *options: str, source: str = "vendor", name: str = STORY) -> str:
    """The sentence of an import that must fail, after checking that it wrote nothing."""
    before = shell.written()
    arguments = ("--text-column", "text", "--label-column", "label", "--group-column", "conversation")
    error = shell.error(
        *("labels", "import", name, str(path), *arguments, "--time-column", "at", "--source", source),
        *options,
        code=2,
    )
    assert shell.written() == before
    message = str(error["message"])
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_as_it_is(ready: Shell, tmp_path: Path, case: str) -> None:
    """Issue, bad input and faults."""
    name, content, says = FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    message = refused(ready, path)
    for part in says:
        assert part in message, message


def test_a_missing_file_and_a_folder(ready: Shell, tmp_path: Path) -> None:
    assert "nothing there" in refused(ready, tmp_path / "nowhere.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "a folder" in refused(ready, folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--role", "goldn"], "golden"),
        (["--language-column", "lang"], "column 'lang'"),
    ],
)
def test_options_that_do_not_fit(ready: Shell, tmp_path: Path, options: list[str], says: str) -> None:
    assert says in refused(ready, write(tmp_path / "a.csv", MORE), *options)


def test_an_unknown_story_gets_the_nearest_name(ready: Shell, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", MORE)
    assert f"Did you mean '{STORY}'?" in refused(ready, path, name="triag")
    for line in ("retrain triag", "predict triag hello", "registry list triag", "rollback triag"):
        error = ready.error(*line.split(), code=2)
        assert f"Did you mean '{STORY}'?" in error["next_step"], line


def test_duplicate_rows_are_counted_and_conflicts_kept(shell: Shell, tmp_path: Path) -> None:
    """Issue, bad input: duplicate ids. An id is the text: repeats count once, other labels are votes."""
    again = [{**TRAIN[0], "text": TRAIN[0]["text"].upper() + "  "}, {**TRAIN[1], "label": "greeting"}]
    body = shell.load(write(tmp_path / "a.csv", [*TRAIN, TRAIN[0], *again]), "vendor", "--json").body
    assert (body["rows"], body["kept"], body["duplicates"], body["conflicts"]) == (147, 145, 2, 1)
    assert any("carry more than one label" in note for note in body["notes"])


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000"])
def test_an_empty_text_has_no_answer(trained: Shell, text: str) -> None:
    assert trained.error("predict", STORY, text, code=2)["field"] == "TEXT"


@pytest.mark.parametrize("text", ["qwrtzx", "🦑🦑", "\u200b", "x" * 20_000, "-1", "ﾊﾝｶｸ", "NULL"])
def test_an_odd_text_has_one(trained: Shell, text: str) -> None:
    """Unknown words abstain; nothing crashes."""
    body = trained("predict", STORY, "--json", "--", text).body
    assert 0.0 <= body["confidence"] <= 1.0
    if text in ("qwrtzx", "🦑🦑"):
        assert body["abstains"]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (f"predict {STORY} hello --version 9", "version"),
        (f"evaluate {STORY} --version 9", "version"),
        (f"evaluate {STORY} --on gold", "--on"),
        (f"explain {STORY} 9", "version"),
        (f"labels versions {STORY}x", "story"),
        (f"story new {STORY}", "story name"),
        ("story new Not-A-Name", "story name"),
        ("story new intent", "story name"),
        ("story new other --kind text-clasification", "--kind"),
    ],
)
def test_names_that_do_not_exist_or_may_not(trained: Shell, line: str, field: str) -> None:
    before = trained.written()
    assert field in trained.error(*line.split(), code=2)["field"]
    assert trained.written() == before


def test_evaluating_without_a_golden_set_says_how_to_get_one(shell: Shell, tmp_path: Path) -> None:
    shell.load(write(tmp_path / "train.csv", TRAIN), "vendor")
    assert "retrain" in shell.error("evaluate", STORY, code=2)["next_step"]
    assert "labels import" in shell.error("retrain", "intent", code=2)["next_step"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    labels=LabelPolicy(", "    labels=LabelPolicyy(", "LabelPolicyy"),
        ("def fit(examples", "def fit(examples:", "SyntaxError"),
        ("cadence=timedelta(days=7)", "cadence=timedelta(dais=7)", "dais"),
    ],
)
def test_a_broken_story_names_file_and_line(shell: Shell, old: str, new: str, says: str) -> None:
    path = shell.home / "stories" / STORY / "story.py"
    lines = path.read_text(encoding="utf-8").replace(old, new).splitlines()
    path.write_text("\n".join(lines), encoding="utf-8")
    error = shell.error("retrain", STORY, code=2)
    place, _, number = error["field"].rpartition(", line ")
    assert place == str(path)
    assert new in lines[int(number) - 1]
    assert says in error["got"]


# homes


def test_a_home_that_does_not_exist_is_not_made_by_looking(tmp_path: Path) -> None:
    nowhere = Shell(tmp_path / "nowhere")
    for line in (f"retrain {STORY}", "story list", "freeze on --reason x", "audit verify", "serve"):
        assert "existing home" in nowhere.error(*line.split(), code=2)["expected"], line
    assert not nowhere.home.exists()


def test_a_home_of_a_newer_version(shell: Shell) -> None:
    (shell.home / "home.json").write_text('{"format": 2}', encoding="utf-8")
    for line in (f"retrain {STORY}", "story new other", "audit verify", "freeze"):
        assert "newer release" in shell.error(*line.split(), code=2)["next_step"], line
    assert not shell.json("doctor", code=3)["ok"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "one"}', "\x00"])
def test_a_home_whose_marker_is_unreadable(shell: Shell, content: str) -> None:
    (shell.home / "home.json").write_text(content, encoding="utf-8")
    shell.error("story", "list", code=2)


def test_a_file_in_place_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "home", tmp_path / "home" / "inside"):
        assert "home" in Shell(path).error("story", "new", "first", code=2)["field"]
    assert (tmp_path / "home").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("line", ["colour = 'red'", "region = 7", "region ="])
def test_settings_that_make_no_sense(shell: Shell, line: str) -> None:
    (shell.home / "settings.toml").write_text(line, encoding="utf-8")
    assert "settings.toml" in shell.error("story", "list", code=2)["field"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` as another user's: readable, not writable."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def as_child(shell: Shell, *arguments: str, before: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that runs ``before`` first."""
    return subprocess.run(
        command("--home", str(shell.home), *arguments),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


def nobody() -> None:
    """Give up the right of root to write everywhere, for good (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE)."""
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0) != 0:
        os._exit(77)


def test_a_read_only_home_says_what_it_cannot(filled: Shell) -> None:
    """Issue, bad input: read-only home, as a user who may not write there."""
    head = filled.platform().ledger.head()
    with read_only(filled.home):
        for line in (f"retrain {STORY}", "freeze on --reason x", "story new other"):
            done = as_child(filled, *line.split(), before=nobody)
            if done.returncode == 77:
                missing("the right to give up CAP_DAC_OVERRIDE")
            assert done.returncode == 2, done.stderr
            assert "permission" in done.stderr.lower() or "read-only" in done.stderr.lower(), done.stderr
            assert "Traceback" not in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert filled.platform().ledger.head() == head
    assert filled.json("retrain", STORY)["version"] == 1


def full_disk_after(size: int) -> Callable[[], None]:
    """No file may grow past ``size`` bytes: what a full disk looks like to whoever writes the big ones."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [0, 3_000, 20_000])
def test_files_that_may_not_grow_stop_a_run_and_lose_nothing(filled: Shell, size: int) -> None:
    """Issue, bad input: disk full. The next run goes on and makes the version."""
    before = filled.platform().ledger.entries()
    done = as_child(filled, "retrain", STORY, before=full_disk_after(size))
    assert done.returncode == 3, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert "Something broke" not in said
    assert "Traceback" not in done.stderr
    assert said.startswith("disk: expected"), said
    ledger = filled.platform().ledger
    assert ledger.verify().ok
    assert ledger.entries()[: len(before)] == before
    assert filled.json("retrain", STORY)["version"] == 1
    assert filled.json("audit", "verify")["verified"]


_ON_A_SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77; shift 2; exec "$@"'


def on_a_small_disk(shell: Shell, part: str, size: str, *arguments: str) -> Done:
    """The command with ``part`` of its home on a file system of ``size`` that only it can see."""
    (shell.home / part).mkdir(exist_ok=True)
    prefix = ["unshare", "--mount", "sh", "-c", _ON_A_SMALL_DISK, "sh", size, str(shell.home / part)]
    done = spawn("--home", str(shell.home), *arguments, cwd=shell.home, prefix=prefix)
    if done.code == 77 or "unshare" in done.err:
        missing("the right to mount a file system of one's own")
    return done


def test_a_full_disk_under_the_artifacts(filled: Shell) -> None:
    done = on_a_small_disk(filled, "artifacts", "16k", "retrain", STORY)
    assert done.code == 3
    assert done.err.strip().splitlines()[-1].startswith("disk: expected free space under")
    assert "nothing acknowledged was lost" in done.err
    assert filled.json("retrain", STORY)["version"] == 1
    assert filled.json("audit", "verify")["verified"]


def test_a_full_disk_under_the_tables(shell: Shell, tmp_path: Path) -> None:
    """An import that found no room is no import; the same command afterwards is."""
    path = write(tmp_path / "train.csv", TRAIN)
    arguments = ["--text-column", "text", "--label-column", "label", "--source", "vendor", "--json"]
    done = on_a_small_disk(shell, "warehouse", "4k", "labels", "import", STORY, str(path), *arguments)
    assert (done.code, done.body["field"]) == (3, "disk")
    assert shell.written()[1] == {}
    assert shell.load(path, "vendor", "--json").body["kept"] == len(TRAIN)
    assert shell.platform().labels.labels(shell.platform().story(STORY)).height == len(TRAIN)
