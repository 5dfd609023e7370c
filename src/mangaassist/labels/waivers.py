"""Rules a person may set aside for one label version, at a price that is written down (LAB-3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.story import Story
from mangaassist.core.verdict import Status, Verdict
from mangaassist.labels.intake import LabelStore, subject
from mangaassist.labels.versions import LabelVersion

SINGLE_SOURCE = "single-source"
CAPS: Mapping[str, str] = {SINGLE_SOURCE: "shadow"}
"""Rule that may be waived -> the last stage a model trained under the waiver may reach."""

_GRANTED = "waiver.granted"


@dataclass(frozen=True, slots=True)
class Waiver:
    """A rule set aside.

    Attributes:
        rule: a key of CAPS.
        label_version: the one version it holds for.
        reason, actor, at: why, by whom, when.
        cap: the last stage a model trained on that version may reach.
    """

    rule: str
    label_version: int
    reason: str
    actor: str
    at: datetime
    cap: str


def check_waiver(rule: str, reason: str) -> None:
    """Refuse a waiver of no known rule or without a reason, before anything else is done.

    Raises:
        InputError: naming the option.
    """
    if rule not in CAPS:
        raise InputError(
            "--waive", expected="a rule that can be waived", got=repr(rule), next_step=nearest(rule, CAPS)
        )
    if not reason.strip():
        raise InputError(
            "--reason",
            expected="why the rule is waived",
            got="nothing",
            next_step="Add --reason TEXT; it stays in the ledger.",
        )


def waive(
    store: LabelStore, story: Story, version: LabelVersion, rule: str, *, reason: str, actor: str
) -> Waiver:
    """Set ``rule`` aside for ``version`` and record it; the same waiver twice is recorded once.

    Raises:
        InputError: as :func:`check_waiver`.
    """
    check_waiver(rule, reason)
    for earlier in waivers(store, story, version.number):
        if (earlier.rule, earlier.reason, earlier.actor) == (rule, reason, actor):
            return earlier
    entry = store.ledger.append(
        kind=_GRANTED,
        subject=subject(story),
        body={"rule": rule, "label_version": version.number, "reason": reason, "cap": CAPS[rule]},
        actor=actor,
        at=store.clock.now(),
    )
    return Waiver(rule, version.number, reason, actor, entry.at, CAPS[rule])


def waivers(store: LabelStore, story: Story, number: int) -> tuple[Waiver, ...]:
    """The waivers granted for one label version, oldest first."""
    return tuple(
        Waiver(entry.body["rule"], number, entry.body["reason"], entry.actor, entry.at, entry.body["cap"])
        for entry in store.ledger.entries(subject=subject(story), kind=_GRANTED)
        if entry.body["label_version"] == number
    )


def sources_verdict(version: LabelVersion, granted: Sequence[Waiver] = ()) -> Verdict:
    """LAB-3: training labels come from two sources or more, so that each checks the others.

    A waiver leaves the finding as it is and takes away its power to block; :func:`cap` is the price.
    """
    families = ", ".join(f"{name} ({count})" for name, count in version.sources.items()) or "nobody"
    waived = next((one for one in granted if one.rule == SINGLE_SOURCE), None)
    passed = len(version.sources) >= 2
    if passed:
        sentence = f"Training labels come from {families}."
    elif waived:
        sentence = (
            f"Training labels come from {families} alone; "
            f"waived by {waived.actor}: {waived.reason.rstrip('.')}. "
            f"The model may go no further than {waived.cap}."
        )
    else:
        sentence = (
            f"Training labels come from {families} alone, and at least two sources are required: "
            f"import labels of another source, or pass --waive {SINGLE_SOURCE} --reason TEXT."
        )
    return Verdict(
        "labels.sources",
        Status.PASS if passed else Status.FAIL,
        sentence,
        value=float(len(version.sources)),
        threshold=2.0,
        n=version.counts["train"],
        evidence=(version.content_hash,),
        blocking=passed or waived is None,
    )


def cap(granted: Sequence[Waiver]) -> str | None:
    """The last stage a model may reach under ``granted``; None for no limit."""
    return granted[0].cap if granted else None
