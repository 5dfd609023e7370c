"""Probable label errors: planted ones are found, and found once (confident learning)."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.labels.changes import edit
from mangaassist.labels.records import Example, Label, examples_frame, labels_frame
from mangaassist.lifecycle.label_errors import suspects
from mangaassist.lifecycle.label_impact import impact
from mangaassist.lifecycle.label_quality import withdraw
from mangaassist.lifecycle.platform import Platform

PHRASES = {
    "order_status": ("where is my parcel number {}", "has order {} shipped yet", "track delivery {}"),
    "return_request": ("i want my money back for {}", "please refund purchase {}", "send item {} back"),
    "greeting_chitchat": ("hello dear shop {}", "good morning {}", "nice to meet you {}"),
}


@pytest.fixture
def planted(home: Home, clock: SimulatedClock) -> tuple[Platform, dict[str, str]]:
    """240 texts, 12 of them with a wrong label; gives the true label of those."""
    platform, generator = Platform.open(home, clock), np.random.default_rng(3)
    story, at = platform.story("intent"), clock.now() - timedelta(days=2)
    texts, votes, wrong = [], [], {}
    names = list(PHRASES)
    for n in range(240):
        truth = names[n % 3]
        row = Example(PHRASES[truth][n // 3 % 3].format(int(generator.integers(1000))) + f" {n}", at)
        texts.append(row)
        frame = examples_frame([row], model_target=story.name, ingested_at=at)
        identity = str(frame["example_id"][0])
        said = truth
        if n % 20 == 7:
            said = names[(names.index(truth) + 1) % 3]
            wrong[identity] = truth
        votes.append(Label(identity, said, "vendor", at, at, annotator_id="ann"))
    platform.labels.add_examples(
        story, examples_frame(texts, model_target=story.name, ingested_at=clock.now())
    )
    platform.labels.add_labels(story, labels_frame(votes, model_target=story.name))
    return platform, wrong


def test_planted_errors_are_found_and_little_else(planted: tuple[Platform, dict[str, str]]) -> None:
    platform, wrong = planted
    found = suspects(platform, "intent", compute=True)
    assert {one.example_id: one.suggested for one in found.found} == wrong
    assert found.noise is not None
    assert found.noise.low <= len(wrong) / 240 <= found.noise.high


def test_they_are_computed_once_for_the_same_labels(planted: tuple[Platform, dict[str, str]]) -> None:
    """And what somebody has corrected since is no suspect any more, without computing anything."""
    platform, wrong = planted
    nothing = suspects(platform, "intent", compute=False)
    assert (nothing.noise, nothing.found) == (None, ())
    first = suspects(platform, "intent", compute=True)
    assert suspects(platform, "intent", compute=True) == first
    assert len(platform.ledger.entries(kind="labels.errors_suspected")) == 1
    story, (identity, truth) = platform.story("intent"), next(iter(wrong.items()))
    at = platform.clock.now()
    vote = Label(identity, truth, "vendor", at - timedelta(days=2), at, annotator_id="ann")
    edit(platform.labels, story, vote, actor="ana", reason="it is that")
    later = suspects(platform, "intent", compute=False)
    assert (later.fresh, len(later.found)) == (False, len(wrong) - 1)
    assert suspects(platform, "intent", compute=True).fresh


def test_too_little_says_so(home: Home, clock: SimulatedClock) -> None:
    found = suspects(Platform.open(home, clock), "intent", compute=True)
    assert found.reason == "0 training examples of 0 classes; 50 of two or more are needed."


def test_impact_without_a_version_and_after_a_withdrawal(planted: tuple[Platform, dict[str, str]]) -> None:
    """No version was finalised, so no model can have seen it; archived versions are asked as well."""
    from mangaassist.labels.archive import archive
    from mangaassist.labels.versions import finalise

    platform, wrong = planted
    identity, story = next(iter(wrong)), platform.story("intent")
    assert impact(platform, identity)["label_versions"] == []
    finalise(platform.labels, story, actor="retrain")
    archive(platform.labels, story, 1, actor="ana")
    withdraw(platform, "intent", identity, user=None, actor="ana", reason="asked for it")
    finalise(platform.labels, story, actor="retrain")
    (only,) = impact(platform, identity)["label_versions"]
    assert (only["label_version"], only["archived"], only["models"]) == (1, True, [])
    assert impact(platform, identity)["withdrawn"] == [identity]
