"""What the status page shows, as one frozen value: no page code reads a store, and no store knows a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mangaassist.core.verdict import Status, Verdict

DriftState = Literal["fired", "rising", "quiet", "insufficient"]
StageState = Literal["done", "current", "ahead", "failed"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its interval and n; low and high are None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True)
class VersionView:
    """One row of the versions table.

    Attributes:
        number: the version.
        status: its registry status in one word ("champion", "failed_promotion").
        registered_at: when.
        accuracy: golden accuracy, None if never evaluated.
        labels: the label version it was trained on, as shown ("7").
        artifact: digest of the artifact.
        note: one sentence on why it is where it is; may be empty.
    """

    number: int
    status: str
    registered_at: datetime
    accuracy: Measure | None = None
    labels: str = ""
    artifact: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class StageView:
    """One step of a rollout.

    Attributes:
        title: as people call it ("Shadow", "1%").
        state: done, current, ahead or failed.
        progress: 0 to 1 of its planned time, for the current one.
        detail: what is behind the progress ("2 d of 7 d, 1,204 of 50 requests").
    """

    title: str
    state: StageState
    progress: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChampionView:
    """The version that answers users, since when, for which share (0 to 1) of them."""

    number: int
    since: datetime
    share: float = 1.0
    accuracy: Measure | None = None


@dataclass(frozen=True, slots=True)
class ChallengerView:
    """The version on trial.

    Attributes:
        number: the version.
        since: start of its current stage.
        stages: the whole plan, in order.
        reason: the last decision on it in one sentence.
        deadline: until when it may stay undecided.
    """

    number: int
    since: datetime
    stages: tuple[StageView, ...]
    reason: str = ""
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class VerdictGroup:
    """The last verdicts of one primitive.

    Attributes:
        primitive: "labels", "features", "training", "evaluation", "promotion", "drift", "retraining".
        subject: what they are about ("intent/5").
        at: when they were reached.
        verdicts: in the order they were reached.
    """

    primitive: str
    subject: str
    at: datetime
    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Status:
        """The status a reader should see first; a verdict that only informs never fails a group."""
        deciding = {verdict.status for verdict in self.verdicts if verdict.blocking}
        found = deciding or ({Status.PASS} if self.verdicts else set())
        for status in (Status.FAIL, Status.STALE, Status.INSUFFICIENT):
            if status in found:
                return status
        return Status.PASS if found else Status.INSUFFICIENT


@dataclass(frozen=True, slots=True)
class DriftView:
    """One kind of drift.

    Attributes:
        kind: "input", "prediction", "label" or "concept".
        state: fired, rising (not for long enough yet), quiet or insufficient.
        finding: the leading verdict's name.
        value, threshold: its latest value and limit.
        since: start of the unbroken run; None when it does not fail.
        points: (time, value) of the leading finding, oldest first; None where nothing could be said.
    """

    kind: str
    state: DriftState
    finding: str = ""
    value: float | None = None
    threshold: float | None = None
    since: datetime | None = None
    points: tuple[tuple[datetime, float | None], ...] = ()


@dataclass(frozen=True, slots=True)
class LanguageView:
    """Accuracy in one traffic language ("en", "ja", "mixed") beside its floor and ceiling, all 0 to 1."""

    language: str
    accuracy: Measure
    floor: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class StoryView:
    """Everything about one story.

    Attributes:
        name, predicts: from the story's specification.
        champion, challenger: None where there is none.
        verdicts: the last ones by primitive, in the order of the pipeline.
        drift: one per kind.
        languages: per traffic language.
        versions: newest first.
        next_retrain: when the cadence is due; None when unknown.
        proposal: an open retraining proposal in one sentence; may be empty.
        last_trial: how the newest trial that is over ended, in one sentence; may be empty.
    """

    name: str
    predicts: str
    champion: ChampionView | None = None
    challenger: ChallengerView | None = None
    verdicts: tuple[VerdictGroup, ...] = ()
    drift: tuple[DriftView, ...] = ()
    languages: tuple[LanguageView, ...] = ()
    versions: tuple[VersionView, ...] = ()
    next_retrain: datetime | None = None
    proposal: str = ""
    last_trial: str = ""


@dataclass(frozen=True, slots=True)
class SwitchView:
    """A kill switch.

    Attributes:
        title: as people call it ("Global freeze").
        on: its position.
        usual: the position that needs no one's attention.
        detail: who set it, when and why; may be empty.
    """

    title: str
    on: bool
    usual: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One entry of the ledger's tail; ``summary`` is one sentence."""

    sequence: int
    at: datetime
    actor: str
    kind: str
    subject: str
    summary: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The ledger's tail, newest first, and whether its chain was verified (None: not checked here)."""

    entries: tuple[LedgerRow, ...] = ()
    total: int = 0
    verified: bool | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the page head, local to this server."""

    text: str
    href: str


PAGES = (
    Link("Status", "/"),
    Link("On call", "/oncall"),
    Link("Experiments", "/experiments"),
    Link("Guardrails", "/guardrails"),
    Link("Calibration", "/calibration"),
)
"""The pages of every server, in the order of their navigation."""

SERVICE = (Link("API", "/openapi.json"), Link("Health", "/health"), Link("Metrics", "/metrics"))
"""What a server offers to programs."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A page that cannot be shown: why in one sentence, and ``back`` to the list it belongs to."""

    at: datetime
    sentence: str
    back: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusView:
    """The whole page.

    Attributes:
        at: when the view was taken; every relative time counts from here.
        stories: in the order they are shown.
        switches: the kill switches.
        ledger: its tail.
        links: other pages of this server.
        problem: set when part of the state could not be read, as one sentence with the next step.
    """

    at: datetime
    stories: tuple[StoryView, ...] = ()
    switches: tuple[SwitchView, ...] = ()
    ledger: LedgerView = LedgerView()
    links: tuple[Link, ...] = ()
    problem: str = ""


def concerns(story: StoryView) -> tuple[str, ...]:
    """What someone should look at, one short phrase each, most pressing first."""
    found = [f"{one.kind} drift has fired" for one in story.drift if one.state == "fired"]
    for group in story.verdicts:
        failed = sum(one.status is Status.FAIL and one.blocking for one in group.verdicts)
        if failed and group.primitive != "drift":
            found.append(f"{failed} {group.primitive} {'verdict fails' if failed == 1 else 'verdicts fail'}")
    found += [
        f"accuracy in {one.language} is under its floor"
        for one in story.languages
        if one.floor is not None and one.accuracy.value < one.floor
    ]
    if story.proposal:
        found.append("a retraining proposal is open")
    return tuple(found)


def headline(view: StatusView) -> tuple[bool, str]:
    """(calm, one sentence) for the whole page."""
    if view.problem:
        return False, view.problem
    if view.ledger.verified is False:
        return False, f"The ledger's chain is broken: {view.ledger.problem}"
    unusual = [switch.title for switch in view.switches if switch.on != switch.usual]
    troubled = [(story.name, concerns(story)) for story in view.stories]
    parts = [f"{name}: {', '.join(found)}" for name, found in troubled if found]
    if unusual:
        parts.insert(
            0, f"{' and '.join(unusual)} {'is' if len(unusual) == 1 else 'are'} not in the usual position"
        )
    if parts:
        return False, f"{'; '.join(parts)}."
    return True, "Nothing needs anyone right now."
