"""A small bilingual shop's labelled files, and the command line as a person drives it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from mangaassist.cli.main import run
from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.lifecycle.platform import Platform

STORY = "triage"
Row = dict[str, str]

_TITLES = (
    ("Akira", "アキラ"),
    ("Monster", "モンスター"),
    ("Nana", "ナナ"),
    ("Pluto", "プルートウ"),
    ("Berserk", "ベルセルク"),
    ("Kingdom", "キングダム"),
    ("Mushishi", "蟲師"),
    ("Dororo", "どろろ"),
    ("Haikyu", "ハイキュー"),
    ("Bleach", "ブリーチ"),
)
_SAYINGS = {
    "order": (
        ("where is my {} parcel", "{}の荷物はどこですか"),
        ("track the {} order please", "{}の注文を追跡したいです"),
        ("has the {} package shipped", "{}はもう発送されましたか"),
        ("my {} delivery is late today", "{}の配達が遅れています"),
    ),
    "refund": (
        ("i want my money back for {}", "{}の返金をお願いします"),
        ("refund the {} volume now", "{}を返品して返金してほしい"),
        ("return {} and pay me back", "{}のお金を返してください"),
        ("{} arrived torn, give a refund", "{}が破れていたので返金を"),
    ),
    "greeting": (
        ("hello there {} shop", "こんにちは{}のお店"),
        ("good morning {} team", "おはようございます{}さん"),
        ("hi {}, how are you", "{}さん、元気ですか"),
        ("hey {}, nice to meet you", "はじめまして{}さん"),
    ),
}
_SINCE = datetime(2024, 9, 2, 9, 0, tzinfo=UTC)
_COLUMNS = "--text-column text --label-column label"

# Minutes instead of weeks, so that a rollout passes on the system's own clock, and no limit that a busy
# machine would miss.
_ROLLOUT = """
    rollout=RolloutPolicy(
        shadow=timedelta(0),
        shadow_minimum_n=20,
        stages=(CanaryStage("canary_half", 0.5, timedelta(0), 20),),
        margin=0.9,
    ),
"""


def rows(first: int, last: int) -> list[Row]:
    """Labelled texts about the titles ``first`` to ``last``; one conversation and one day per title."""
    return [
        {
            "text": saying.format(title),
            "label": label,
            "conversation": f"c{number}",
            "at": (_SINCE + timedelta(days=number)).isoformat(),
        }
        for number in range(first, last)
        for label, sayings in _SAYINGS.items()
        for pair in sayings
        for saying, title in zip(pair, _TITLES[number], strict=True)
    ]


TRAIN, MORE, GOLDEN, HOSTILE = rows(0, 6), rows(4, 8), rows(8, 10), rows(9, 10)


def write(path: Path, content: Sequence[Mapping[str, str]]) -> Path:
    """``content`` in the format that the name's ending says."""
    if path.suffix == ".parquet":
        pl.DataFrame(content).write_parquet(path)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) for row in content)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(content[0]), delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(content)
    return path


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def body(self) -> dict[str, Any]:
        """Standard output, all of it, as one JSON object."""
        return dict(json.loads(self.out))


@dataclass(frozen=True)
class Shell:
    """`mangaassist` on one home; in this process unless a test needs another one."""

    home: Path

    def __call__(self, *arguments: str, code: int | None = 0) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = run(["--home", str(self.home), *arguments])
        done = Done(found, out.getvalue(), err.getvalue())
        assert code in (None, found), f"{arguments} left {found}: {done.out}{done.err}"
        return done

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The command's answer with ``--json``."""
        return self(*arguments, "--json", code=code).body

    def error(self, *arguments: str, code: int) -> dict[str, Any]:
        """The refusal as fields, after checking that the terminal says the same in one sentence."""
        said = self(*arguments, code=code)
        body = self.json(*arguments, code=code)
        assert said.out == ""
        # A message may quote the present, so the two are compared by their ends.
        line = said.err.strip().splitlines()[-1]
        assert line.startswith(body["field"])
        assert line.endswith(body["next_step"])
        assert body["exit_code"] == code
        assert all(str(body[part]).strip() for part in ("field", "expected", "got", "next_step"))
        return body

    def load(self, path: Path, source: str, *options: str, name: str = STORY, code: int = 0) -> Done:
        """Import ``path`` with the usual columns."""
        whole = ("--group-column", "conversation", "--time-column", "at", *options)
        return self(*importing(path, source, name=name), *whole, code=code)

    def platform(self) -> Platform:
        return Platform.open(Home.open(self.home, create=False), SystemClock())

    def written(self) -> tuple[int, dict[str, int | None]]:
        """Ledger head and table snapshots: equal before and after means that nothing was written."""
        platform = self.platform()
        found = {name: platform.tables.snapshot(name) for name in platform.tables.names()}
        return platform.ledger.head(), found


def importing(path: Path, source: str, *, name: str = STORY) -> tuple[str, ...]:
    """The command that imports ``path`` by text and label alone."""
    return ("labels", "import", name, str(path), *_COLUMNS.split(), "--source", source)


def new_story(shell: Shell, name: str = STORY, *, quick: bool = False) -> Path:
    """A story from the template; ``quick`` gives it a rollout of minutes."""
    folder = Path(shell.json("story", "new", name)["path"])
    if quick:
        path = folder / "story.py"
        text = path.read_text(encoding="utf-8")
        text = text.replace("import LabelPolicy,", "import CanaryStage, LabelPolicy, RolloutPolicy,")
        text = text.replace('    residency="us",\n', f'    residency="us",{_ROLLOUT}')
        slow = 'Threshold("latency.p95_ms", minimum=1000.0),'
        path.write_text(text.replace("    thresholds=(\n", f"    thresholds=(\n        {slow}\n"), "utf-8")
    return folder


def fill(shell: Shell, folder: Path, *, name: str = STORY) -> None:
    """Two sources and a golden set."""
    shell.load(write(folder / "train.csv", TRAIN), "vendor", name=name)
    shell.load(write(folder / "more.csv", MORE), "crowd", name=name)
    shell.load(write(folder / "golden.csv", GOLDEN), "vendor", "--role", "golden", name=name)


def trained_home(folder: Path, *, quick: bool = False) -> Shell:
    """A home with version 1 in shadow."""
    shell = Shell(folder / "home")
    new_story(shell, quick=quick)
    fill(shell, folder)
    shell("retrain", STORY)
    return shell


def traffic(shell: Shell, n: int = 150, *, name: str = STORY, failing: str = "") -> None:
    """``n`` shoppers through the real router and model server, logged with their outcomes.

    Every answer of the arm ``failing`` is written down as an exception.

    Their latencies are written down as one and the same, because a busy machine would fail the canary.
    """
    from mangaassist.serving.live import LivePointer
    from mangaassist.serving.prediction_log import Outcome, PredictionLog
    from mangaassist.serving.router import Request, Router

    platform = shell.platform()
    router = Router(LivePointer(platform.registry), platform.models)
    log, now = PredictionLog.open(platform.home, name), platform.clock.now()
    epoch = platform.registry.deployment(name).epoch
    requests = [
        Request(row["text"], f"{epoch}-{index}", now, f"user-{index}")
        for index, row in zip(range(n), _endless(GOLDEN), strict=False)
    ]
    answers = [router.serve(name, request) for request in requests]
    log.write(
        [
            replace(record, latency_ms=1.0, error="ValueError" if record.arm == failing else record.error)
            for answer in answers
            for record in answer.records
        ]
    )
    log.write_outcomes([Outcome(request.request_id, name, True, now) for request in requests])
    log.close()


def _endless(content: Sequence[Row]) -> Iterable[Row]:
    while True:
        yield from content


def to_champion(shell: Shell, *, name: str = STORY) -> int:
    """Shadow, canary, full, by `promote` alone; the new champion's number."""
    for _ in range(2):
        traffic(shell, name=name)
        judged = shell.json("promote", name)
        assert judged["action"] == "promote", judged["reason"]
    champion = shell.platform().registry.deployment(name).champion
    assert champion is not None
    return champion


def command(*arguments: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-c", "from mangaassist.cli.main import main; main()", *arguments]


def spawn(
    *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Done:
    """One real process in ``cwd``, the way a shell runs it."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MANGAASSIST_")}
    done = subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=cwd,
        env={**inherited, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
