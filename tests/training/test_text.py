"""The text classifier: its preprocessing, its features, what it answers and the files it becomes."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.examples import labelled_examples

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.core.identity import canonical_json, digest_bytes
from mangaassist.training import formats
from mangaassist.training.archive import pack_arrays, unpack_arrays
from mangaassist.training.text import preprocessing
from mangaassist.training.text.classifier import Fit, fit, fit_examples
from mangaassist.training.text.features import Vocabulary, read_corpus
from mangaassist.training.text.linear import fit_linear
from mangaassist.training.text.model import TextModel
from mangaassist.training.text.preprocessing import character_ngrams, normalise, word_ngrams, words

# float32 sums in another order differ in the last bits.
CLOSE = 1e-5
TEXTS = st.text(
    alphabet=st.one_of(
        st.characters(codec="utf-8"), st.sampled_from(list("order 返品したい ガンダム half ｆｕ\u200b"))
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def model() -> TextModel:
    return fit_examples(labelled_examples(), seed=7)


def test_japanese_words_are_normal_forms() -> None:
    """STO-1: spelling variants of one word meet, Latin words and numbers stay."""
    assert words(normalise("引越し")) == words(normalise("引っ越し"))
    assert words(normalise("ワンピースの12巻をrefundしたい"))[:6] == [
        "ワンピース",
        "の",
        "12",
        "巻",
        "を",
        "refund",
    ]
    assert words(normalise("Where's my order #12?")) == ["where", "s", "my", "order", "12"]


def test_sudachi_is_not_loaded_for_english() -> None:
    """STO-1: an English-only process never pays for the Japanese dictionary."""
    code = (
        "import sys; from mangaassist.training.text.preprocessing import word_ngrams, normalise; "
        "word_ngrams(normalise('where is my order')); print('sudachipy' in sys.modules); "
        "word_ngrams(normalise('返品')); print('sudachipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("ＲＥＴＵＲＮ　ｏｒｄｅｒ", "return order"),
        ("re\u200btu\u200drn or\ufeffder", "return order"),
        ("rеturn оrdеr", "return order"),
        ("  Return\n\tORDER ", "return order"),
        ("ｷｬﾝｾﾙ", "キャンセル"),
        ("straße", "strasse"),
    ],
)
def test_spellings_that_mean_the_same_are_the_same(spelled: str, plain: str) -> None:
    """STO-1: width, case, invisible characters and look-alike letters do not change the input."""
    assert normalise(spelled) == plain


def test_katakana_and_hiragana_share_character_ngrams() -> None:
    assert character_ngrams(normalise("マンガ")) == character_ngrams(normalise("まんが"))


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_preprocessing_takes_any_text(text: str) -> None:
    """STO-1: no input breaks it, normalising twice changes nothing more, n-grams are never empty strings."""
    once = normalise(text)
    assert normalise(once) == once
    assert all(word_ngrams(once))
    assert all(2 <= len(gram) <= 5 for gram in character_ngrams(once))


def test_a_pasted_novel_is_cut() -> None:
    """STO-1: ten megabytes in one field cost no more than the first part of them."""
    assert len(normalise("返品したい" * 2_000_000)) == preprocessing.MAX_CHARACTERS
    assert word_ngrams(normalise("あ" * 100_000))


def test_character_ngrams_equal_the_obvious_loop() -> None:
    """The published char_wb rule, spelled out: per padded word, orders 2 to 5, short words once."""
    expected = []
    for word in ["the", "cat"]:
        padded = f" {word} "
        for order in (2, 3, 4, 5):
            expected += [padded[i : i + order] for i in range(len(padded) - order + 1)]
    assert Counter(character_ngrams("the cat")) == Counter(expected)
    assert character_ngrams("i") == [" i", "i ", " i "]


def test_weights_equal_the_written_formula() -> None:
    """(1 + ln tf) * (ln((1+n)/(1+df)) + 1), each block scaled to length 1."""
    texts = ["order order manga", "manga", "return manga"]
    vocabulary = read_corpus(texts).vocabulary()
    columns, values = vocabulary.word.row(word_ngrams("order order manga"))
    got = {vocabulary.word.terms[c]: v for c, v in zip(columns, values, strict=True)}
    idf = {
        "order": math.log(4 / 2) + 1,
        "manga": 1.0,
        "order order": math.log(2) + 1,
        "order manga": math.log(2) + 1,
    }
    raw = {
        "order": (1 + math.log(2)) * idf["order"],
        **{k: idf[k] for k in ("manga", "order order", "order manga")},
    }
    length = math.sqrt(sum(value**2 for value in raw.values()))
    assert got == pytest.approx({term: value / length for term, value in raw.items()}, abs=CLOSE)


@given(texts=st.lists(TEXTS, min_size=1, max_size=12), seen=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_training_rows_are_serving_rows(texts: list[str], seen: int) -> None:
    """TRN-6: the vectorised rows a machine is trained on are bit for bit those one text gets when served."""
    corpus = read_corpus(texts)
    vocabulary = corpus.vocabulary(np.arange(min(seen, len(texts))))
    matrix = corpus.matrix(vocabulary)
    other = read_corpus([*texts, "words of others"]).matrix(vocabulary)
    for row, text in enumerate(texts):
        columns, weights = vocabulary.row(text)
        for made in (matrix[[row]], other[[row]]):
            assert made.indices.tolist() == columns.tolist()
            assert made.data.tobytes() == weights.tobytes()


def test_features_equal_sklearn_on_english() -> None:
    """The featuriser against an independent one, block by block, on texts without one-letter words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for text in labelled_examples()["text"] if text.isascii()]
    vocabulary = read_corpus(texts).vocabulary()
    peers = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"[a-z0-9]+"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, token_pattern=None),
    ]
    start = 0
    mine = read_corpus(texts).matrix(vocabulary).toarray()
    for block, peer in zip((vocabulary.word, vocabulary.character), peers, strict=True):
        theirs = peer.fit_transform(texts).toarray()
        assert list(peer.get_feature_names_out()) == list(block.terms)
        assert np.abs(mine[:, start : start + len(block.terms)] - theirs).max() < CLOSE
        start += len(block.terms)


def test_it_learns_both_languages(model: TextModel) -> None:
    """STO-1: unseen sentences in English, Japanese and a mix of both."""
    texts = [
        "where is my Bleach order?",
        "破れているので返品したい",
        "Akiraのrefundお願いします",
        "呪術廻戦に似た漫画",
    ]
    expected = ["order_tracking", "return_request", "return_request", "recommendation"]
    assert [answer.label for answer in model.predict(texts)] == expected


def test_batch_and_single_are_the_same(model: TextModel) -> None:
    """STO-1: an answer does not depend on its company, to the last bit."""
    texts = labelled_examples()["text"].to_list()
    assert model.predict(texts) == [model.predict([text])[0] for text in texts]


def test_answers_are_probabilities(model: TextModel) -> None:
    for answer in model.predict(["refund please", "注文はどこ", ""]):
        assert sum(p for _, p in answer.probabilities) == pytest.approx(1)
        assert answer.probabilities[0] == (answer.label, answer.confidence)
        assert list(answer.probabilities) == sorted(answer.probabilities, key=lambda pair: -pair[1])


@pytest.mark.parametrize("text", ["", "   ", "\u200b", "☃☃☃", "ქართული"])
def test_a_text_of_which_nothing_is_known_abstains(model: TextModel, text: str) -> None:
    assert model.predict([text])[0].abstains


def test_unknown_words_are_counted(model: TextModel) -> None:
    """DRF-1: what the prediction log calls the unknown share."""
    assert model.unknown_share("return Akira") == 0
    assert model.unknown_share("return quokka") == 0.5
    assert model.unknown_share("返品 を zebra zebra") == 0.5
    assert model.unknown_share("☃") == 1


def test_threads_share_one_model(model: TextModel) -> None:
    """STO-1: a Sudachi tokenizer is not thread-safe; each thread has its own."""
    texts = labelled_examples()["text"].to_list()
    expected = model.predict(texts)
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(model.predict(texts) == expected for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 20


def test_same_data_and_seed_same_bytes(model: TextModel) -> None:
    """TRN-1: in another process, with another hash seed, every artifact file is byte-identical."""
    code = (
        "from tests.training.examples import labelled_examples as e; "
        "from mangaassist.training.text.classifier import fit_examples as f; "
        "from mangaassist.core.identity import digest_bytes as d; "
        "print({n: d(b) for n, b in f(e(), seed=7).files().items()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "123"},
    )
    assert done.stdout.strip() == str({name: digest_bytes(data) for name, data in model.files().items()})


def test_files_round_trip(model: TextModel) -> None:
    """TRN-6: what is loaded answers exactly as what was stored, and stores the same bytes again."""
    loaded = formats.load(model.files())
    texts = labelled_examples()["text"].to_list()
    assert loaded.predict(texts) == model.predict(texts)
    assert loaded.files() == model.files()
    assert loaded.labels == ("order_tracking", "recommendation", "return_request")


def test_serving_does_not_import_sklearn(model: TextModel, tmp_path) -> None:
    """STO-1: loading and predicting needs numpy alone."""
    for name, data in model.files().items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys; from pathlib import Path; from mangaassist.training import formats; "
        f"m = formats.load({{p.name: p.read_bytes() for p in Path({str(tmp_path)!r}).iterdir()}}); "
        "m.predict(['refund', '返品']); print([n for n in ('sklearn', 'polars') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def resealed(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """The artifact with its manifest changed and its digests made right again."""
    manifest = {**orjson.loads(files["manifest.json"]), **changes}
    manifest["files"] = {n: digest_bytes(d) for n, d in files.items() if n != "manifest.json"}
    return {**files, "manifest.json": canonical_json(manifest)}


def test_other_preprocessing_is_refused(model: TextModel) -> None:
    """TRN-6: train/serve skew is one clear sentence."""
    with pytest.raises(IntegrityError, match=r"preprocessing_digest.*trained with.*retrain it here"):
        formats.load(resealed(model.files(), preprocessing_digest="0" * 64))


def test_the_encoder_of_another_fit_is_refused(model: TextModel) -> None:
    """FEA-4: model and encoder are one artifact, also when the other encoder fits in shape."""
    words = model.vocabulary.word.terms
    terms = {"word": [*words[1:], words[0]], "character": list(model.vocabulary.character.terms)}
    other = {**model.files(), "vocabulary.json": canonical_json(terms)}
    with pytest.raises(IntegrityError, match=r"vocabulary\.json: expected the bytes with digest"):
        formats.load(other)
    manifest = orjson.loads(other["manifest.json"])
    del manifest["files"]["vocabulary.json"]
    with pytest.raises(IntegrityError, match=r"vocabulary\.json: expected a digest in the manifest"):
        formats.load({**other, "manifest.json": canonical_json(manifest)})


def test_preprocessing_digest_notices_behaviour(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRN-6: a change of what the code does to text changes the digest."""
    before = preprocessing.preprocessing_digest()
    monkeypatch.setattr(preprocessing, "_KATAKANA_TO_HIRAGANA", {})
    assert preprocessing.preprocessing_digest.__wrapped__() != before


@pytest.mark.parametrize("name", ["manifest.json", "vocabulary.json", "weights.npz", "MODEL_CARD.md"])
def test_damage_is_refused(model: TextModel, name: str) -> None:
    """TRN-6: a missing, emptied or flipped file never becomes a model."""
    files = model.files()
    flipped = bytearray(files[name])
    flipped[len(flipped) // 2] ^= 4
    missing = {other: data for other, data in files.items() if other != name}
    for bad in (missing, {**files, name: b""}, {**files, name: bytes(flipped)}):
        if name == "manifest.json" and bad.get(name) == bytes(flipped):
            continue  # the store's digest guards the manifest itself
        with pytest.raises(IntegrityError):
            formats.load(bad)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "ngram-linear/9"}, "format"),
        ({"labels": ["only"]}, "weights"),
        ({"temperature": "warm"}, "ngram-linear/1"),
        ({"labels": None}, "ngram-linear/1"),
    ],
)
def test_a_malformed_artifact_is_refused(model: TextModel, changes: dict[str, object], says: str) -> None:
    """TRN-6: fields that do not fit are an IntegrityError that names them."""
    with pytest.raises(IntegrityError, match=says):
        formats.load(resealed(model.files(), **changes))


def test_weights_that_are_no_arrays_are_refused(model: TextModel) -> None:
    for body in (b"", b"PK\x03\x04", b"not a zip", pack_arrays({"weights": np.zeros((2, 2))})):
        with pytest.raises(IntegrityError):
            formats.load(resealed({**model.files(), "weights.npz": body}))


def test_arrays_round_trip_without_the_time_of_day() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([], dtype=np.int64)}
    packed = pack_arrays(arrays)
    assert packed == pack_arrays(dict(reversed(arrays.items())))
    read = unpack_arrays(packed, field="x")
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    with pytest.raises(ValueError):
        pack_arrays({"objects": np.array([object()])})


def test_one_label_needs_no_model() -> None:
    """Bad input: one class only."""
    with pytest.raises(InputError, match="only 'a'"):
        fit(["x", "y"], ["a", "a"], ["1", "2"], seed=0)
    with pytest.raises(InputError, match="only 'a'"):
        fit(["x", "y"], ["a", "oos"], ["1", "2"], seed=0, out_of_scope_label="oos")


def test_a_label_with_one_example_is_learnt() -> None:
    """Bad input: a class with one example; it is answered, and left out of calibration where unseen."""
    frame = labelled_examples()
    texts, labels = [*frame["text"], "do you sell gift cards"], [*frame["label"], "gift_card"]
    groups = [*frame["group_id"], "conversation-gift"]
    fitted = fit(texts, labels, groups, seed=0)
    assert fitted.model.predict(["do you sell gift cards"])[0].label == "gift_card"
    assert fitted.model.facts["out_of_fold"]["labels_unseen_in_fold"] == 1
    assert fitted.model.temperature < 1


def test_two_labels_are_a_mirror() -> None:
    frame = labelled_examples().filter(labelled_examples()["label"] != "recommendation")
    fitted = fit_examples(frame, seed=0)
    assert fitted.weights.shape[1] == 2
    assert np.array_equal(fitted.weights[:, 0], -fitted.weights[:, 1])
    assert [a.label for a in fitted.predict(["refund please", "いつ届きますか"])] == [
        "return_request",
        "order_tracking",
    ]


def test_one_group_cannot_be_calibrated_and_says_so() -> None:
    frame = labelled_examples()
    fitted = fit(frame["text"].to_list(), frame["label"].to_list(), ["same"] * frame.height, seed=0)
    assert fitted.model.facts["out_of_fold"] is None
    assert "not calibrated" in fitted.model.files()["MODEL_CARD.md"].decode()
    assert np.isnan(fitted.probabilities).all()


def with_outsiders(count: int) -> Fit:
    frame = labelled_examples()
    topics = [
        "weather in osaka",
        "boil an egg",
        "football score",
        "capital of peru",
        "膝が痛い",
        "明日の天気",
    ]
    outside = [f"{topics[i % len(topics)]} {i}" for i in range(count)]
    return fit(
        [*frame["text"], *outside],
        [*frame["label"], *["none"] * count],
        [*frame["group_id"], *(f"outside-{i}" for i in range(count))],
        seed=0,
        out_of_scope_label="none",
    )


def test_out_of_scope_examples_place_the_threshold() -> None:
    """STO-1: such rows are not a class; they are turned away, and in-scope questions are not."""
    model = with_outsiders(60).model
    assert "none" not in model.labels
    assert "turns away" in model.facts["threshold_rule"]
    strangers = model.predict(["what is the weather in tokyo", "how do i boil rice", "天気は"])
    assert all(answer.abstains for answer in strangers)
    kept = model.predict(["i want to return Akira", "where is my Naruto order", "Bleachを返品したいです"])
    assert not any(answer.abstains for answer in kept)
    again = formats.load(model.files())
    assert again.predict(["boil an egg"]) == model.predict(["boil an egg"])


def test_too_few_out_of_scope_examples_do_not_place_it() -> None:
    rule = with_outsiders(5).model.facts["threshold_rule"]
    assert "of held-out in-scope rows." in rule
    assert "turns away" not in rule


def test_the_threshold_keeps_in_scope_traffic() -> None:
    """STO-1: without out-of-scope examples at least 97% of held-out rows are answered, and a row whose
    label's own machine says yes always is."""
    model = fit_examples(labelled_examples(), seed=7)
    assert model.threshold <= 0
    assert float(model.facts["threshold_rule"].split("keeps ")[1].split("%")[0]) >= 96


def test_out_of_fold_rows_are_unseen() -> None:
    """TRN-2: a text repeated in every group is never scored by a machine that saw it."""
    frame = labelled_examples()
    marker = "zzqx"
    texts = [*frame["text"], *[marker] * 6]
    labels = [*frame["label"], *["recommendation"] * 6]
    groups = [*frame["group_id"], *(f"g{i}" for i in range(6))]
    fitted = fit(texts, labels, groups, seed=0)
    assert fitted.probabilities[-6:].max() < 0.9
    assert fitted.model.predict([marker])[0].confidence > 0.95


def test_linear_machine_handles_missing_classes() -> None:
    """A class without rows gets no weights and a sure no; a single class gets a sure yes."""
    vocabulary: Vocabulary = read_corpus(["a b", "c d", "e f"]).vocabulary()
    rows = read_corpus(["a b", "c d", "e f"]).matrix(vocabulary)
    weights, biases = fit_linear(rows, np.array([0, 2, 2]), 3, seed=0)
    assert not weights[:, 1].any()
    assert biases[1] == -1
    weights, biases = fit_linear(rows, np.array([1, 1, 1]), 3, seed=0)
    assert not weights.any()
    assert biases.tolist() == [-1, 1, -1]


def test_the_model_card_says_what_it_stands_on(model: TextModel) -> None:
    card = model.files()["MODEL_CARD.md"].decode()
    assert "90 rows in 6 groups (en 36, ja" in card
    assert "| return_request | 30 |" in card
    assert "It saw no out-of-scope examples" in card
