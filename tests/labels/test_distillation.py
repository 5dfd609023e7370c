"""Labels by a language model: versioned prompts, nothing personal sent, nothing asked or labelled twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from tests.labels.distil_victim import work
from tests.labels.rows import BEFORE, STORY, example, examples, identity, vote
from tests.labels.rows import labels as label_rows
from tests.labels.servers import Reply, chosen, serving

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import Conflict, GateRefused, InputError, Unavailable
from mangaassist.core.home import Home
from mangaassist.labels.changes import roll_back_source
from mangaassist.labels.distillation import Answer, Distilled, Prompt, Question, distil
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.labellers import ROLLED_BACK, in_force
from mangaassist.labels.records import EXAMPLES_TABLE, arrow_schema
from mangaassist.labels.votes import current_votes
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables

CLASSES = ("order", "return")
V1, V2 = Prompt("p-v1", "One of\n{labels}"), Prompt("p-v2", "Exactly one of\n{labels}")


@dataclass(slots=True)
class Scripted:
    """A provider that says what it is told, and fails at a given question."""

    said: dict[str, Answer] = field(default_factory=dict)
    fails_after: int | None = None
    model: str = "m"
    asked: list[Question] = field(default_factory=list)

    def answer(
        self, prompt: Prompt, classes: Sequence[str], questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Answer]]:
        for number, question in enumerate(questions):
            if number == self.fails_after:
                raise Unavailable("model", expected="an answer", got="none", next_step="Wait.")
            self.asked.append(question)
            yield question, self.said.get(question.text, Answer("order", 0.8, tokens_in=10, tokens_out=2))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "home" / "spool" / "answers.intent")
    yield spool
    spool.close()


def fill(store: LabelStore, *texts: str) -> None:
    rows = [example(text, captured_at=BEFORE - timedelta(hours=hour)) for hour, text in enumerate(texts)]
    store.add_examples(STORY, examples(*rows))


def run(
    store: LabelStore, spool: Spool, provider: Scripted, prompt: Prompt = V1, limit: int | None = None
) -> Distilled:
    return distil(store, STORY, provider, prompt, classes=CLASSES, answers=spool, limit=limit)


def standing(store: LabelStore) -> dict[str, tuple[str, str]]:
    rows = current_votes(store.labels(STORY))
    by = dict(zip(rows["example_id"], zip(rows["annotator_id"], rows["label"], strict=True), strict=True))
    assert len(by) == rows.height
    return by


def test_each_example_is_asked_once_newest_first(store: LabelStore, spool: Spool) -> None:
    """Silence counts as asked; tokens and reasons are in the ledger."""
    fill(store, "new", "middle", "old")
    said = {"middle": Answer(None, silence="outside", said="oder", tokens_in=10, tokens_out=1)}
    provider = Scripted(said)
    first = run(store, spool, provider, limit=2)
    assert [one.text for one in provider.asked] == ["new", "middle"]
    assert (first.asked, first.labelled, first.silent, first.remaining) == (2, 1, {"outside": 1}, 1)
    assert (first.tokens_in, first.tokens_out) == (20, 3)
    second = run(store, spool, provider)
    assert [one.text for one in provider.asked] == ["new", "middle", "old"]
    third = run(store, spool, provider)
    assert (second.asked, third.asked, third.remaining) == (1, 0, 0)
    assert standing(store) == {identity(text): ("m/p-v1", "order") for text in ("new", "old")}
    row = store.labels(STORY).row(0, named=True)
    assert (row["label_source"], row["confidence"]) == ("llm", 0.8)
    settled = [entry.body for entry in store.ledger.entries(kind="labels.answers_settled")]
    assert [one["labelled"] for one in settled] == [1, 1]
    assert settled[0]["silent"] == {"outside": 1}
    kept = store.tables.read("answers.intent")
    assert sorted(kept["said"]) == ["", "", "oder"]


def test_personal_data_does_not_leave(store: LabelStore, spool: Spool) -> None:
    """GOV-2, for rows of before intake redacted; the label belongs to the text as it was."""
    text = "refund to taro@example.com please"
    fill(store, "plain")
    raw = examples(example(text, captured_at=BEFORE)).to_arrow().cast(arrow_schema(EXAMPLES_TABLE))
    store.tables.append("examples.intent", raw)
    provider = Scripted()
    done = run(store, spool, provider)
    assert {one.text for one in provider.asked} == {"refund to [EMAIL] please", "plain"}
    assert done.redacted == 1
    assert identity(text) in standing(store)


def test_only_training_examples_are_asked_about(store: LabelStore, spool: Spool) -> None:
    """What judges models is labelled by people."""
    store.add_examples(STORY, examples(example("taught"), example("judged", role="golden")))
    provider = Scripted()
    run(store, spool, provider)
    assert [one.text for one in provider.asked] == ["taught"]


def test_a_prompt_is_its_text_for_ever(store: LabelStore, spool: Spool) -> None:
    """The digest is in the ledger, and a changed text needs a new name."""
    fill(store, "a")
    run(store, spool, Scripted())
    body = store.ledger.entries(kind="labels.labeller_registered")[0].body
    assert (body["labeller"], body["about"]["prompt_digest"]) == ("m/p-v1", V1.digest)
    with pytest.raises(Conflict, match="a name of its own"):
        run(store, spool, Scripted(), Prompt("p-v1", "Another\n{labels}"))
    with pytest.raises(InputError, match="where the labels go"):
        run(store, spool, Scripted(), Prompt("p-v9", "no place"))


def test_a_new_prompt_replaces_and_can_be_taken_back(
    store: LabelStore, spool: Spool, clock: SimulatedClock
) -> None:
    """LAB-6: many batches of one prompt go back together, to what the prompt before had said."""
    fill(store, "a", "b", "c")
    run(store, spool, Scripted())
    clock.advance(timedelta(days=1))
    silent = {"b": Answer(None, silence="abstained")}
    worse = Scripted({"a": Answer("return", 0.9), "c": Answer("return", 0.9), **silent})
    run(store, spool, worse, V2, limit=2)
    run(store, spool, worse, V2)
    assert standing(store) == {identity(text): ("m/p-v2", "return") for text in "ac"}
    assert in_force(store.labels(STORY)) == {"llm": "m/p-v2"}
    batch = roll_back_source(store, STORY, "llm", labeller="m/p-v2", actor="ops", reason="precision 0.8")
    assert standing(store) == {identity(text): ("m/p-v1", "order") for text in "abc"}
    body = store.ledger.entries(kind="labels.batch_reserved")[-1].body
    assert (batch.labels, body["restored"], body["withdrawn"]) == (5, 3, 2)
    with pytest.raises(InputError, match="the last word"):
        roll_back_source(store, STORY, "llm", labeller="m/p-v2", actor="ops", reason="again")


def test_what_somebody_said_since_is_left_alone(
    store: LabelStore, spool: Spool, clock: SimulatedClock
) -> None:
    """Rolling back an old prompt does not undo a newer one; asking the old one on does not bring it back."""
    fill(store, "a", "b")
    run(store, spool, Scripted())
    clock.advance(timedelta(days=1))
    run(store, spool, Scripted({"a": Answer("return", 0.9), "b": Answer("return", 0.9)}), V2)
    clock.advance(timedelta(days=1))
    store.add_examples(STORY, examples(example("c", captured_at=BEFORE)))
    run(store, spool, Scripted())
    found = standing(store)
    labelled = {text: found[identity(text)][1] for text in "abc"}
    assert labelled == {"a": "return", "b": "return", "c": "order"}


def test_a_rolled_back_prompt_is_refused(store: LabelStore, spool: Spool) -> None:
    fill(store, "a")
    body = {"source": "llm", "labeller": "m/p-v1", "reason": "precision 0.7"}
    store.ledger.append(kind=ROLLED_BACK, subject="labels/intent", body=body, actor="t", at=BEFORE)
    provider = Scripted()
    with pytest.raises(GateRefused, match="rolled back"):
        run(store, spool, provider)
    assert provider.asked == []


def test_answers_before_a_failure_become_labels(store: LabelStore, spool: Spool) -> None:
    """And the next run asks for the rest."""
    fill(store, "a", "b", "c")
    with pytest.raises(Unavailable):
        run(store, spool, Scripted(fails_after=2))
    assert set(standing(store)) == {identity("a"), identity("b")}
    rest = Scripted()
    run(store, spool, rest)
    assert [one.text for one in rest.asked] == ["c"]


def test_other_sources_are_left_alone(store: LabelStore, spool: Spool) -> None:
    fill(store, "a")
    store.add_labels(STORY, label_rows(vote("a", "return", "vendor", "ann")))
    run(store, spool, Scripted())
    assert current_votes(store.labels(STORY)).select("label_source", "label").sort("label_source").rows() == [
        ("llm", "order"),
        ("vendor", "return"),
    ]


def test_killed_in_the_middle_nothing_is_lost_or_labelled_twice(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    """A real process, kill -9 while two questions are open: those two are asked again, no other."""
    home = Home.open(tmp_path / "home")
    tables, ledger = Tables.open(home), Ledger.open(home)
    store = LabelStore(tables, ledger, clock)
    texts = [f"text {number}" for number in range(24)]
    fill(store, *texts)
    reached, never = threading.Event(), threading.Event()
    hold = threading.Event()
    hold.set()

    def answer(text: str, before: int) -> Reply:
        if server.asked.total() > 12 and hold.is_set():
            reached.set()
            return Reply(200, b"", after=never)
        return chosen("order" if int(text.split()[1]) % 2 else "return")

    victim = [sys.executable, "-m", "tests.labels.distil_victim", str(tmp_path / "home")]
    with serving(answer) as server:
        first = subprocess.Popen([*victim, server.url])
        try:
            assert reached.wait(60)
        finally:
            first.kill()
            first.wait()
            never.set()
        hold.clear()
        asked, recovered, remaining = work(str(tmp_path / "home"), server.url)
        idle = work(str(tmp_path / "home"), server.url)
    assert recovered >= 10
    assert (asked + recovered, remaining) == (24, 0)
    assert idle == (0, 0, 0)
    assert sum(count - 1 for count in server.asked.values()) <= 2
    fresh = LabelStore(Tables.open(home), ledger, clock)
    expected = {identity(text): ("return", "order")[int(text.split()[1]) % 2] for text in texts}
    assert {key: label for key, (_, label) in standing(fresh).items()} == expected
    assert fresh.labels(STORY).height == 24
    tables.close()
    ledger.close()
