"""The prediction log: durable before the answer, complete, exactly once in the tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from tests.promotion.samples import AT, to_champion
from tests.serving.samples import stack

from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.serving.prediction_log import (
    OUTCOME_SCHEMA,
    PREDICTION_SCHEMA,
    Outcome,
    PredictionLog,
    PredictionRecord,
)
from mangaassist.storage.tables import Tables


def test_every_answer_has_its_row(home: Home) -> None:
    """GOV-1: what was answered equals what the table says, column by column."""
    served = stack(home)
    to_champion(served.registry, run="r1")
    answers = [served.ask(f"テキスト {n}", request_id=f"r{n}", user=f"u{n % 3}") for n in range(20)]
    for answer in answers:
        served.log.write(answer.records)
    served.log.write_outcomes([Outcome("r0", "intent", True, AT + timedelta(hours=1))])
    assert served.log.pending() == 21
    tables = Tables.open(home)
    assert served.log.drain(tables) == 21
    assert served.log.drain(tables) == 0
    rows = tables.read("predictions.intent").sort("request_id").to_dicts()
    expected = sorted((answer.records[0].as_row() for answer in answers), key=lambda row: row["request_id"])
    assert rows == expected
    assert tables.read("outcomes.intent").to_dicts() == [
        {"request_id": "r0", "story": "intent", "resolved": True, "known_at": AT + timedelta(hours=1)}
    ]


def test_the_schema_is_the_record() -> None:
    """One definition of the columns: a record field without a column would be lost in silence."""
    assert set(PREDICTION_SCHEMA.names) == set(PredictionRecord.__slots__)
    assert set(OUTCOME_SCHEMA.names) == set(Outcome.__slots__)


def test_an_outcome_of_another_story_is_refused(home: Home) -> None:
    log = PredictionLog.open(home, "intent")
    with pytest.raises(InputError, match=r"outcome\.story"):
        log.write_outcomes([Outcome("r0", "spam", True, AT)])


_WRITER = """
import sys
from pathlib import Path
from mangaassist.core.home import Home
from tests.promotion.samples import AT
from tests.serving.samples import stack
served = stack(Home.open(Path(sys.argv[1])))
for n in range(10_000):
    served.log.write(served.ask(request_id=f"r{n}").records)
    print(n, flush=True)
"""


def test_a_killed_server_loses_no_acknowledged_row(home: Home) -> None:
    """GOV-1: kill -9 between answers; every answer that was given has exactly one row."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(home.path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split() if line.isdigit()]
    writer.wait(30)
    tables = Tables.open(home)
    PredictionLog.open(home, "intent").drain(tables)
    found = sorted(int(name[1:]) for name in tables.read("predictions.intent")["request_id"])
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) - len(acknowledged) <= 1, "at most the row whose answer was not given yet"
