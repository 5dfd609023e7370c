"""GOV-2: personal data out of English and Japanese text before it is trained on, embedded or archived.

Rules with check digits and numbering plans, no model: the same text always gives the same result, and a
finding can be explained. What the rules do not claim: names without an honorific, phone numbers in kanji
digits, and a town with a number but no municipality.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mangaassist.governance import redaction_addresses, redaction_contacts, redaction_names, redaction_numbers
from mangaassist.governance.redaction_folding import fold


class PersonalData(StrEnum):
    """What is looked for. Where two findings overlap equally long, the earlier one here names both."""

    EMAIL = "EMAIL"
    CARD = "CARD"
    MY_NUMBER = "MY_NUMBER"
    PHONE = "PHONE"
    ADDRESS = "ADDRESS"
    NAME = "NAME"


PLACEHOLDERS: dict[PersonalData, str] = {kind: f"[{kind}]" for kind in PersonalData}
_MARKS = tuple(PLACEHOLDERS.values())
_RANK = {kind: rank for rank, kind in enumerate(PersonalData)}
_RULES = (
    redaction_contacts.emails,
    redaction_numbers.numbers,
    redaction_addresses.addresses,
    redaction_names.names,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data: characters ``start:end`` of the text as it was given."""

    kind: PersonalData
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """The text with a placeholder for each finding; ``findings`` in order, never overlapping."""

    text: str
    findings: tuple[Finding, ...]


def redact(text: str) -> Redacted:
    """Replace every piece of personal data by its placeholder and leave all other characters as they were.

    Redacting the result again changes nothing: taking one finding out can leave its neighbour recognisable (a
    number glued to an address), so the rules run until they find nothing more. Each round takes out at least
    one character and no rule matches a placeholder, so that ends.
    """
    findings: tuple[Finding, ...] = ()
    current = text
    while fresh := _find(current):
        findings = _merge([*findings, *_in_original(fresh, findings)])
        current = _render(text, findings)
    return Redacted(current, findings)


def _find(text: str) -> tuple[Finding, ...]:
    folded = fold(text, _MARKS)
    found = []
    for rule in _RULES:
        for kind, start, end in rule(folded.text):
            found.append(Finding(PersonalData(kind), *folded.original(start, end)))
    return _merge(found)


def _merge(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Overlapping findings become one that covers both, so that nothing either rule saw is left standing."""
    merged: list[Finding] = []
    for finding in sorted(findings, key=lambda one: (one.start, one.end)):
        if merged and finding.start < merged[-1].end:
            last = merged[-1]
            kind = max(last, finding, key=lambda one: (one.end - one.start, -_RANK[one.kind])).kind
            merged[-1] = Finding(kind, last.start, max(last.end, finding.end))
        else:
            merged.append(finding)
    return tuple(merged)


def _in_original(fresh: Sequence[Finding], earlier: Sequence[Finding]) -> list[Finding]:
    """``fresh``, found in the text rendered with ``earlier``, in offsets of the original text.

    No fresh finding touches the inside of a placeholder, so shifting both its ends by what the placeholders
    before it added or saved is exact.
    """
    moved = []
    for finding in fresh:
        shift = 0
        for known in earlier:
            if known.start + shift >= finding.start:
                break
            shift += len(PLACEHOLDERS[known.kind]) - (known.end - known.start)
        moved.append(Finding(finding.kind, finding.start - shift, finding.end - shift))
    return moved


def _render(text: str, findings: Sequence[Finding]) -> str:
    pieces: list[str] = []
    position = 0
    for finding in findings:
        pieces += (text[position : finding.start], PLACEHOLDERS[finding.kind])
        position = finding.end
    return "".join((*pieces, text[position:]))
