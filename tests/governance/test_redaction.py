"""GOV-2: what redaction finds, what it leaves alone, and that doing it twice changes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from mangaassist.governance.redaction import PLACEHOLDERS, Finding, PersonalData, Redacted, redact
from mangaassist.governance.redaction_folding import fold

FOLDER = Path(__file__).parent
MARK = re.compile(r"\{(?P<kind>[A-Z_]+)\|(?P<text>[^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of a sentence file: the text without its marks, and what the marks say."""

    text: str
    expected: frozenset[Finding]


@dataclass(frozen=True, slots=True)
class Score:
    """Exact matches (kind, start and end all equal), counted over one file."""

    hits: int
    wanted: int
    found: int

    @property
    def recall(self) -> float:
        return self.hits / self.wanted

    @property
    def precision(self) -> float:
        return self.hits / self.found


def parse(line: str) -> Sentence:
    text = ""
    expected = set()
    position = 0
    for mark in MARK.finditer(line):
        text += line[position : mark.start()]
        expected.add(Finding(PersonalData(mark["kind"]), len(text), len(text) + len(mark["text"])))
        text += mark["text"]
        position = mark.end()
    return Sentence(text + line[position:], frozenset(expected))


def sentences(name: str) -> list[Sentence]:
    lines = (FOLDER / f"redaction_{name}.txt").read_text(encoding="utf-8").splitlines()
    return [parse(line) for line in lines if not line.startswith("#")]


def scores(found: list[Sentence]) -> dict[PersonalData, Score]:
    hits, wanted, seen = Counter[PersonalData](), Counter[PersonalData](), Counter[PersonalData]()
    for sentence in found:
        result = set(redact(sentence.text).findings)
        hits.update(one.kind for one in result & sentence.expected)
        wanted.update(one.kind for one in sentence.expected)
        seen.update(one.kind for one in result)
    return {kind: Score(hits[kind], wanted[kind], seen[kind]) for kind in PersonalData}


def misses(found: list[Sentence]) -> Iterator[str]:
    for sentence in found:
        result = redact(sentence.text)
        if set(result.findings) != sentence.expected:
            shown = [(one.kind.value, sentence.text[one.start : one.end]) for one in result.findings]
            yield f"{sentence.text}   {shown}"


def characters() -> st.SearchStrategy[str]:
    """Text rich in what the rules look at, pieces of real personal data among it."""
    personal = """
        090-1234-5678 ０９０−１２３４−５６７８ taro@example.jp 4111-1111-1111-1111 1234-5678-9018 〒150-0001
        田中 様 さん 太郎 ﾔﾏﾀﾞ 東京都渋谷区神宮前1-2-3 Austin TX 78701 Mr. Smith 電話 市 丁目 TEL
    """
    around = "MA-783527 978-4-08-872509-3 1-20巻 ¥1,980 +81 ( ) [EMAIL] [NAME ] ー @ . ﾞ ① ½ ㍿"
    phrases = [" ", "\n", "\u3000", "\u200b", "か\u3099", "12 Main St", ", Austin, TX 78701", "Mr. "]
    pieces = [*personal.split(), *around.split(), *phrases]
    return st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=14).map("".join)


# The least that holds, by kind: (recall, precision) of exact matches. The tuned file is what the rules were
# adjusted against. The held-out file, by the same author, was written before the rules first ran on it and
# has not changed them (one missing mark was added); its counts are small (4 to 26 of a kind), so they bound
# nothing tightly. Names are the weak kind.
FLOORS = {
    "tuned": dict.fromkeys(PersonalData, (0.98, 0.98)) | {PersonalData.NAME: (0.95, 0.95)},
    "held_out": dict.fromkeys(PersonalData, (0.95, 0.95)) | {PersonalData.NAME: (0.75, 0.75)},
}


@pytest.mark.parametrize("name", FLOORS)
@pytest.mark.parametrize("kind", PersonalData)
def test_precision_and_recall_by_kind(
    name: str, kind: PersonalData, record_property: pytest.RecordProperty
) -> None:
    """GOV-2: the measured set, exact in kind and in both offsets."""
    found = sentences(name)
    score = scores(found)[kind]
    record_property(
        f"{name}.{kind}", f"recall {score.recall:.3f}, precision {score.precision:.3f}, n={score.wanted}"
    )
    recall, precision = FLOORS[name][kind]
    shown = "\n".join(misses(found))
    assert score.recall >= recall, f"{score}\n{shown}"
    assert score.precision >= precision, f"{score}\n{shown}"


def test_the_measured_set_is_what_it_claims() -> None:
    """At least 250 distinct sentences, every kind in both files, a third or more with nothing to find."""
    both = {name: sentences(name) for name in FLOORS}
    everything = [one for found in both.values() for one in found]
    assert len({one.text for one in everything}) == len(everything) >= 250
    for found in both.values():
        assert {one.kind for sentence in found for one in sentence.expected} == set(PersonalData)
    assert sum(not one.expected for one in everything) >= len(everything) / 3


def test_placeholders_and_offsets_in_the_original_text() -> None:
    """GOV-2: folding never shows: what is not personal data keeps its width."""
    text = "第３巻、ﾔﾏﾀﾞ様、０９０ー１２３４ー５６７８、ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ！"
    found = redact(text)
    assert found.text == "第３巻、[NAME]様、[PHONE]、[EMAIL]！"
    assert [text[one.start : one.end] for one in found.findings] == [
        "ﾔﾏﾀﾞ", "０９０ー１２３４ー５６７８", "ｔａｒｏ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    ]  # fmt: skip


@pytest.mark.parametrize("hyphen", "-‐‑‒–—―−ー－─﹣ｰ")
def test_hyphens_of_all_kinds(hyphen: str) -> None:
    number = f"090{hyphen}1234{hyphen}5678"
    assert redact(f"番号は{number}です").text == "番号は[PHONE]です"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("6214 9832 0257", "MY_NUMBER"),
        ("6214 9832 0258", None),
        ("4111 1111 1111 1111", "CARD"),
        ("4111 1111 1111 1112", None),
        ("9999 9999 9999 9995", None),
        ("080-1111-2222", "PHONE"),
        ("03-0000-0000", None),
        ("TEL 03-0000-0000", "PHONE"),
        ("555-0123", None),
        ("電話 4088725093", "PHONE"),
        ("4088725093", None),
    ],
)
def test_check_digits_plans_and_cues_decide(text: str, kind: str | None) -> None:
    """One digit off and a number is a number; a word for telephone makes a doubtful one a phone."""
    assert [one.kind for one in redact(text).findings] == ([kind] if kind else [])


def test_invisible_characters_hide_nothing() -> None:
    assert redact("taro\u200b@exam\u00adple.com").text == "[EMAIL]"
    assert redact("090\u200b-1234-\ufeff5678").text == "[PHONE]"


def test_numbers_in_circles_do_not_grow_onto_a_phone_number() -> None:
    """NFKC would make ①090 into 1090."""
    assert redact("①090-1234-5678②½").text == "①[PHONE]②½"


def test_what_becomes_recognisable_when_its_neighbour_goes_is_taken_too() -> None:
    """The reason for rounds: the second counts as part of a longer word until the first is gone."""
    once = redact("a@example.jp-b@example.jp、12 Main St.12 Main St")
    assert once.text == "[EMAIL]-[EMAIL]、[ADDRESS][ADDRESS]"
    assert redact(once.text) == Redacted(once.text, ())


@given(text=characters())
def test_findings_are_valid_and_never_overlap(text: str) -> None:
    """GOV-2: offsets of the original, in order; outside them every character is kept."""
    found = redact(text)
    position = 0
    rebuilt = ""
    for one in found.findings:
        assert position <= one.start < one.end <= len(text)
        rebuilt += text[position : one.start] + PLACEHOLDERS[one.kind]
        position = one.end
    assert found.text == rebuilt + text[position:]


@given(text=characters())
def test_redacting_twice_changes_nothing(text: str) -> None:
    """GOV-2: idempotent and deterministic."""
    once = redact(text)
    assert redact(once.text) == Redacted(once.text, ())
    assert redact(text) == once


@given(
    text=st.text(
        st.characters(exclude_characters="@★☆0123456789", exclude_categories=["Nd", "No"]), max_size=80
    )
)
def test_without_digits_signs_or_honorifics_text_is_unchanged(text: str) -> None:
    """No digit, no @, no honorific, no block number: nothing that a rule could start from."""
    starts = re.compile(
        r"様|さま|さん|氏|ちゃん|くん|君|[MmDdPp][rsx]|prof|\bat\b|\(a|[\[({<]|[一二三四五六七八九十百]",
        re.IGNORECASE,
    )
    folded = unicodedata.normalize("NFKC", text)
    if starts.search(folded) or re.search("[0-9@]", folded):
        reject()
    assert redact(text) == Redacted(text, ())


@given(text=st.text(max_size=60))
def test_folding_keeps_track_of_every_character(text: str) -> None:
    """The offset map names a span of the original for each folded character, in order."""
    folded = fold(text, tuple(PLACEHOLDERS.values()))
    assert len(folded.text) == len(folded.starts) == len(folded.ends)
    assert list(folded.starts) == sorted(folded.starts)
    assert list(folded.ends) == sorted(folded.ends)
    assert all(start < end for start, end in zip(folded.starts, folded.ends, strict=True))


def test_importing_redaction_is_light() -> None:
    """Numbering plans, check digits and word lists are loaded by the first text that needs them."""
    code = (
        "import sys, mangaassist.governance.redaction as r; "
        "assert r.redact('no digits here').findings == (); "
        "print(sorted({'phonenumbers', 'stdnum', 'yaml'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
