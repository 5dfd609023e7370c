"""The deep text classifier: from `story new` through the ten steps, killed on the way, and by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from tests.cli.journeys import STORY, Shell, fill
from tests.training.examples import labelled_examples

from mangaassist.core.errors import InputError
from mangaassist.training import formats
from mangaassist.training.deep import extra
from mangaassist.training.deep.text import fit_examples
from mangaassist.training.deep.text_model import DeepTextModel
from mangaassist.training.deep.text_task import BUCKETS, HIDDEN, WIDTH, bag
from mangaassist.training.text.preprocessing import character_ngrams, normalise, word_ngrams

# The third batch of the second job (the second fold) is where the machine is taken away.
_KILL = """
import os, signal
from mangaassist.training.deep.text_task import TextTask

_loss, _seen = TextTask.loss, []

def _deadly(self, *arguments):
    _seen.append(self.data)
    if len(set(_seen)) == 2 and _seen.count(self.data) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return _loss(self, *arguments)

if "MANGAASSIST_TEST_KILL" in os.environ:
    TextTask.loss = _deadly
"""


@pytest.fixture(scope="module")
def model() -> DeepTextModel:
    return fit_examples(labelled_examples(), seed=7)


def test_a_deep_story_is_retrained_through_the_ten_steps_and_survives_a_kill(tmp_path: Path) -> None:
    """TRN-1, TRN-3: one folder from a template; killed in training, run again, remembered afterwards."""
    shell = Shell(tmp_path / "home")
    path = Path(shell.json("story", "new", STORY, "--kind", "deep-text-classification")["path"]) / "story.py"
    path.write_text(path.read_text(encoding="utf-8") + _KILL, encoding="utf-8")
    fill(shell, tmp_path)
    command = [sys.executable, "-m", "mangaassist", "--home", str(shell.home), "retrain", STORY]
    killed = subprocess.run(
        command, env={**os.environ, "MANGAASSIST_TEST_KILL": "1"}, capture_output=True, check=False
    )
    assert killed.returncode == -9
    found = shell.json("retrain", STORY)
    assert (found["version"], found["status"]) == (1, "shadow")
    journals = [
        [orjson.loads(line)["event"] for line in path.read_bytes().splitlines()]
        for path in (shell.home / "trainings" / STORY).glob("*/*/journal.jsonl")
    ]
    # Fold one was finished and only read, fold two was cut off and done again, two jobs saw nothing of it.
    assert sorted(journals) == [
        ["started", "finished"],
        ["started", "finished"],
        ["started", "finished", "started", "resumed", "finished"],
        ["started", "started", "finished"],
    ]
    again = shell.json("retrain", STORY)
    assert {step["status"] for step in again["steps"][:7]} == {"cached"}
    registry = shell.platform().registry
    files = shell.platform().artifacts.files(registry.versions(STORY)[0].artifact)
    served = {name.removeprefix("model/"): data for name, data in files.items()}
    assert any(name.endswith("weights.safetensors") for name in served)


def test_numpy_answers_what_pytorch_learnt(model: DeepTextModel) -> None:
    """TRN-6: the network that answers is the one that was trained, to float32."""
    from mangaassist.training.deep.text_network import Network

    network = Network(BUCKETS, WIDTH, HIDDEN, len(model.labels), dropout=0.5).eval()
    network.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in model.arrays.items() if name != "words"}
    )
    for text in ("where is my Naruto order", "呪術廻戦を返品したい", "x"):
        ids, weights = bag(text)
        with torch.no_grad():
            expected = network(torch.from_numpy(ids), torch.tensor([0]), torch.from_numpy(weights))[0]
        assert np.allclose(model.margins(text)[0], expected.numpy(), atol=1e-5)


def test_it_learns(model: DeepTextModel) -> None:
    accuracy = model.facts["out_of_fold"]["accuracy"]
    assert accuracy["value"] > 0.8, accuracy
    assert model.predict(["could you track my Akira parcel"])[0].label == "order_tracking"
    assert model.predict([""])[0].abstains


def test_a_bag_holds_every_n_gram_with_its_family_s_weight() -> None:
    text = "Where is 返品?"
    ids, weights = bag(text)
    words, characters = word_ngrams(normalise(text)), character_ngrams(normalise(text))
    assert len(ids) == len(words) + len(characters)
    assert 0 <= ids.min() <= ids.max() < BUCKETS
    assert np.isclose((weights[: len(words)] ** 2).sum(), 1)
    assert np.isclose((weights[len(words) :] ** 2).sum(), 1)


def test_it_tells_words_it_has_never_seen(model: DeepTextModel) -> None:
    """DRF-1."""
    assert model.unknown_share("where is my order") == 0.0
    assert model.unknown_share("where is my zeppelin") == 0.25
    assert model.unknown_share("") == 1.0


def test_artifacts_of_the_wrong_shape_never_load(model: DeepTextModel) -> None:
    """TRN-6: digests right, arrays not."""
    bad: dict[str, Any] = {**model.arrays, "output.bias": np.zeros(9, dtype=np.float32)}
    broken = DeepTextModel(model.labels, bad, 1.0, 0.0, None, model.facts)
    with pytest.raises(formats.IntegrityError, match=r"output\.bias: expected shape \(3,\)"):
        formats.load(broken.files())


def test_without_the_extra_fit_and_load_say_what_to_install(
    model: DeepTextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = model.files()
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mangaassist\[deep\]'"):
        fit_examples(labelled_examples(), seed=7)
    with pytest.raises(InputError, match="no safetensors"):
        formats.load(files)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    """A base installation has no PyTorch: neither serving's loader nor the story's file asks for it."""
    code = "import sys, mangaassist.training.formats; print({'torch', 'safetensors'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
