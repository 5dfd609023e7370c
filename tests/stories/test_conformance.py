"""Every story there is keeps the contract: found by its folder, judged by what it exports.

A new story, built in or from a template, is tested here without a line being added.
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from mangaassist.core.errors import IntegrityError, MangaAssistError
from mangaassist.core.identity import canonical_json, canonical_text, example_id
from mangaassist.core.language import detect_language
from mangaassist.core.story import Model, Story, StoryModule
from mangaassist.features.catalog import Catalog
from mangaassist.labels.records import EXAMPLE_COLUMNS
from mangaassist.stories.discovery import built_in_names, features_path, load_story
from mangaassist.stories.scaffold import create_story, kinds
from mangaassist.training.formats import load as load_model
from mangaassist.training.splits import split

BUILT_IN = built_in_names()
TEMPLATES = tuple(f"new-{kind}" for kind in kinds())
_SINCE = datetime(2024, 9, 2, 9, 0, tzinfo=UTC)
_PHRASES = (
    ("where is my {} parcel", "{}の荷物はどこですか"),
    ("i want my money back for {}", "{}の返金をお願いします"),
    ("hello there {} shop", "こんにちは{}のお店"),
    ("let me speak to a person about {}", "{}について担当者と話したいです"),
)
_NAMES = ("Akira", "アキラ", "Nana", "ナナ", "Pluto", "プルートウ", "Dororo", "どろろ", "Bleach", "ブリーチ")
_NOISE = ("zxcv qwer", "天気はどう", "2 + 2", "歌って")
TEXTS = (
    "where is my Monster parcel",
    "蟲師の返金をお願いします",
    "hello Kingdom の店",
    "qzx",
    "ﾊﾝｶｸ",
    "🦑",
    "a" * 500,
)


@pytest.fixture(scope="module", params=[*BUILT_IN, *TEMPLATES])
def module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoryModule:
    home = tmp_path_factory.mktemp("home")
    name: str = request.param
    if name in TEMPLATES:
        create_story("conforming", name.removeprefix("new-"), home)
        name = "conforming"
    return load_story(name, home)


def labels_of(story: Story) -> list[str]:
    """Four classes the story would recognise where it names any."""
    named = list(story.safety_critical)
    return [*named, "first", "second", "third", "fourth"][: len(_PHRASES)]


def examples(story: Story) -> pl.DataFrame:
    """Labelled examples with the columns a story is promised, attributes and features included."""
    drawn = [
        (phrase.format(name), label, number)
        for number, name in enumerate(_NAMES)
        for label, pair in zip(labels_of(story), _PHRASES, strict=True)
        for phrase in pair
    ]
    if story.out_of_scope_label:
        drawn += [
            (f"{noise} {n}", story.out_of_scope_label, n) for noise in _NOISE for n in range(len(_NAMES))
        ]
    attributes = {"user_id": "u1", "device": "ios", "turn": 1}
    rows = [
        {
            "example_id": example_id(text, story.name),
            "text": text,
            "language": str(detect_language(text)),
            "label": label,
            "group_id": f"g{number}",
            "captured_at": _SINCE + timedelta(days=number, minutes=minute),
            "role": "train",
            "attributes": json.dumps(attributes if minute % 2 else {}),
            "votes": 2,
            "agreement": 1.0,
            "source": "vendor",
            "sources": "vendor,programmatic",
            "resolved_by": "priority",
            "holdout_eligible": True,
        }
        for minute, (text, label, number) in enumerate(drawn)
    ]
    frame = pl.DataFrame(rows).with_columns(pl.col("captured_at").dt.cast_time_unit("us"))
    assert tuple(frame.columns) == EXAMPLE_COLUMNS
    if not story.features:
        return frame
    chosen = Catalog.read(features_path(story.name, Path())).chosen(story.features)
    return frame.with_columns(pl.lit(feature.default).alias(feature.name) for feature in chosen)


@pytest.fixture(scope="module")
def frame(module: StoryModule) -> pl.DataFrame:
    return module.load(examples(module.STORY))


@pytest.fixture(scope="module")
def model(module: StoryModule, frame: pl.DataFrame) -> Model:
    return module.fit(frame, seed=7)


def test_the_specification_is_whole(module: StoryModule) -> None:
    """A story is a frozen value that every policy can be read from."""
    story = module.STORY
    assert isinstance(story, Story)
    assert story.predicts.strip().endswith(".")
    assert story.residency
    assert story.cadence > timedelta(0)
    assert len(story.labels.sources) >= 2, "LAB-3"
    assert story.labels.maturity >= timedelta(0)
    assert 0 < story.labels.agreement_floor <= story.labels.holdout_floor <= 1
    assert (story.window.days is not None) == (story.window.kind == "sliding")
    with pytest.raises(FrozenInstanceError):
        story.name = "another"
    assert json.loads(canonical_json(story.as_dict()))["name"] == story.name


def test_its_rollout_only_grows_and_ends_with_a_hold_out(module: StoryModule) -> None:
    """PRO-2, PRO-4."""
    rollout = module.STORY.rollout
    shares = [stage.share for stage in rollout.stages]
    assert shares == sorted(set(shares))
    assert 0 < shares[0] <= shares[-1] < 1
    assert len({stage.name for stage in rollout.stages}) == len(shares)
    assert rollout.rollback_within <= timedelta(seconds=60)
    assert all(stage.minimum_n > 0 for stage in rollout.stages)


def test_its_gate_asks_for_something(module: StoryModule) -> None:
    for threshold in module.STORY.thresholds:
        assert threshold.metric.split(".")[0] in ("golden", "slice", "adversarial", "latency")
        assert threshold.minimum is not None or threshold.regression is not None
    assert any(one.blocking and one.minimum is not None for one in module.STORY.thresholds)


def test_its_features_are_in_its_catalog(module: StoryModule) -> None:
    """FEA-2, FEA-7."""
    story = module.STORY
    if story.features:
        catalog = Catalog.read(features_path(story.name, Path()))
        assert {feature.name for feature in catalog.chosen(story.features)} == set(story.features)


def test_load_derives_its_slices_and_leaves_its_input_alone(module: StoryModule) -> None:
    """EVA-2: every slice is a column; the platform's own columns are still there for the split."""
    given = examples(module.STORY)
    before = given.clone()
    loaded = module.load(given)
    assert given.equals(before)
    assert set(module.STORY.slices) <= set(loaded.columns)
    needed = {
        "example_id",
        "text",
        "label",
        "language",
        "group_id",
        "captured_at",
        "role",
        "holdout_eligible",
    }
    assert needed <= set(loaded.columns)
    assert 0 < loaded.height <= given.height
    assert loaded.equals(module.load(given))
    assert split(loaded, seed=7, has_golden=False).train.height > 0


def test_the_model_answers_as_the_platform_expects(module: StoryModule, model: Model) -> None:
    """TRN-6: one code path for one text and for many; probabilities of a known label, best first."""
    answers = model.predict(TEXTS)
    assert len(answers) == len(TEXTS)
    assert module.STORY.out_of_scope_label not in model.labels
    assert set(labels_of(module.STORY)) == set(model.labels)
    for text, answer in zip(TEXTS, answers, strict=True):
        assert model.predict([text]) == [answer]
        assert answer.label in model.labels
        chances = [chance for _, chance in answer.probabilities]
        assert chances == sorted(chances, reverse=True)
        assert answer.probabilities[0] == (answer.label, answer.confidence)
        assert all(0 <= chance <= 1 for chance in chances)
        assert sum(chances) <= 1 + 1e-9
    assert model.predict([]) == []


def test_the_artifact_is_the_model(model: Model) -> None:
    """TRN-6: what serving loads answers like what training fitted, to the last bit."""
    files = dict(model.files())
    loaded = load_model(files)
    assert loaded.labels == model.labels
    assert loaded.predict(TEXTS) == model.predict(TEXTS)
    assert dict(loaded.files()) == files


def test_the_same_rows_and_seed_make_the_same_bytes(
    module: StoryModule, frame: pl.DataFrame, model: Model
) -> None:
    assert dict(module.fit(frame, seed=7).files()) == dict(model.files())


def test_the_artifact_says_what_it_is(model: Model) -> None:
    """TRN-6: manifest with format, signature, preprocessing and digests; a model card; facts."""
    files = model.files()
    manifest = orjson.loads(files["manifest.json"])
    assert set(manifest) >= {"format", "signature", "preprocessing_digest", "files", "labels", "facts"}
    assert set(manifest["signature"]) == {"input", "output"}
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    assert any(name.lower().startswith("model_card") for name in files)


def test_no_file_is_or_holds_a_pickle(model: Model) -> None:
    """Architecture, a story: no pickles, also not inside archives."""
    inner = {}
    for name, data in model.files().items():
        assert not name.endswith((".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin")), name
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inner |= {f"{name}/{one}": archive.read(one) for one in archive.namelist()}
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                assert all(arrays[one].dtype != object for one in arrays.files)
        inner[name] = data
    assert not [name for name, data in inner.items() if is_pickle(data)]


def is_pickle(data: bytes) -> bool:
    try:
        return sum(1 for _ in pickletools.genops(data)) > 1
    except ValueError:
        return False


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_flipped_byte_never_loads(model: Model, position: float) -> None:
    for name, data in model.files().items():
        damaged = bytearray(data)
        damaged[int(position * len(data))] ^= 0x15
        files = {**model.files(), name: bytes(damaged)}
        if name == "manifest.json":
            # Its own digest is its name in the artifact store, which is checked before it gets here.
            with suppress(MangaAssistError):
                load_model(files)
            continue
        with pytest.raises(IntegrityError):
            load_model(files)


_ELSEWHERE = """
import json, sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] in (["mangaassist", "stories"], ["mangaassist", "lifecycle"], ["sklearn"]):
            raise ImportError(f"{name} has no place in serving")

sys.meta_path.insert(0, Refuse())
from mangaassist.training.formats import load

folder = Path(sys.argv[1])
model = load({path.name: path.read_bytes() for path in folder.iterdir()})
answers = model.predict(json.loads(sys.argv[2]))
print(json.dumps([[one.label, one.confidence, one.abstains] for one in answers]))
"""


def test_serving_needs_no_story_code(model: Model, tmp_path: Path) -> None:
    """Architecture: serving runs artifacts, never story code; in a fresh process with other hash seeds."""
    for name, data in model.files().items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(tmp_path), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "4242"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == [[one.label, one.confidence, one.abstains] for one in model.predict(TEXTS)]


def test_the_examples_of_this_file_are_what_stories_get(module: StoryModule) -> None:
    """Guards the fixture itself: unique texts, all labels, both scripts."""
    given = examples(module.STORY)
    assert given["text"].map_elements(canonical_text, return_dtype=pl.String).is_unique().all()
    assert {"en", "ja"} <= set(given["language"])
    assert set(labels_of(module.STORY)) <= set(given["label"])
