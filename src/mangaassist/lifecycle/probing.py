"""Which dependencies a home has, and what each is asked (INC-5). What a home does not have is not asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from mangaassist.core.clock import isoformat
from mangaassist.core.errors import MangaAssistError
from mangaassist.core.identity import digest
from mangaassist.core.verdict import Status, Verdict
from mangaassist.incidents.notices import addresses, misspelt
from mangaassist.incidents.outbox import judge
from mangaassist.incidents.probes import Probe, Wrong, look
from mangaassist.lifecycle.platform import Platform

_ROOM = 1 << 30
# The first question after a start loads a model, a catalog or a library; a shopper's timeout is longer still.
_COLD = timedelta(seconds=3)
# A hosted language model takes seconds; beyond this an answer is late for anybody.
_SLOW = timedelta(seconds=8)
_BLOB = b"mangaassist probe"
GOLDEN = ("Where is my order? It should have come on Monday.", "注文した漫画がまだ届きません。")
"""One request in each language, sent to every live model; the same version must always answer the same."""
_RIGHT = "order_delivery"


def probes(platform: Platform) -> list[Probe]:
    """One probe per dependency of this home that exists."""
    found = [
        Probe("ledger", lambda: _ledger(platform)),
        Probe("registry", lambda: _registry(platform)),
        Probe("tables", lambda: _tables(platform), _COLD),
        Probe("artifacts", lambda: _artifacts(platform)),
        Probe("disk", lambda: _disk(platform)),
        Probe("notices", lambda: _notices(platform), _COLD),
    ]
    if platform.home.settings.online_url or (platform.home.path / "online").exists():
        found.append(Probe("online", lambda: _online(platform)))
    if platform.home.settings.llm_url:
        found.append(Probe("language_model", lambda: _language_model(platform), _SLOW))
    return [*found, *_models(platform)]


def probe(platform: Platform) -> list[Verdict]:
    """Ask every dependency now."""
    return look(probes(platform))


def _ledger(platform: Platform) -> str:
    tail = platform.ledger.tail(1)
    if not tail:
        return "The ledger is empty."
    return f"Entry {tail[0].sequence} of {isoformat(tail[0].at)} is intact."


def _registry(platform: Platform) -> str:
    stories = platform.registry.stories()
    live = [name for name in stories if platform.registry.deployment(name).champion is not None]
    return f"{len(stories)} stories, {len(live)} with a champion."


def _tables(platform: Platform) -> str:
    names = platform.tables.names()
    return f"{len(names)} tables."


def _artifacts(platform: Platform) -> str:
    """Write and read: the blob is the same every time, so nothing piles up."""
    if platform.artifacts.get(platform.artifacts.put(_BLOB)) != _BLOB:
        raise Wrong("What was read is not what was written.")
    return "Wrote and read an artifact."


def _disk(platform: Platform) -> str:
    free = shutil.disk_usage(platform.home.path).free
    if free < _ROOM:
        raise Wrong(f"{free / _ROOM:.2f} GiB free, less than 1 GiB.")
    return f"{free / _ROOM:.1f} GiB free."


def notices(platform: Platform) -> tuple[bool, str]:
    """Whether nothing keeps notices from being delivered, and what was found."""
    routes, now = platform.home.settings.notices, platform.clock.now()
    if wrong := misspelt(routes):
        return False, f"Apprise does not understand {', '.join(wrong)}."
    found = judge(platform.outbox.standing(now=now), len(addresses(routes)), now=now)
    return found.status is not Status.FAIL, found.sentence


def _notices(platform: Platform) -> str:
    ok, said = notices(platform)
    if not ok:
        raise Wrong(said)
    return said


def _online(platform: Platform) -> str:
    """Every published generation opens, and a key that is there is found."""
    versions = platform.online.names()
    read = 0
    for version in versions:
        current = platform.online.current(version)
        if current is None:
            raise Wrong(f"{version} has no generation to read from.")
        generation = platform.online.open(current)
        first = next(iter(generation.items()), None)
        if first is not None:
            if generation.get([first[0]])[0] != first[1]:
                raise Wrong(f"{version} does not return what it holds.")
            read += 1
    return f"{read} of {len(versions)} schema versions answer."


def _language_model(platform: Platform) -> str:
    """One question with an answer nobody can miss; it is no customer's, so it may leave any region."""
    from mangaassist.labels.distillation import LABELS_PLACE, Prompt, Question
    from mangaassist.lifecycle.labelling import language_model

    prompt = Prompt("probe", f"Which of these is the message about?\n{LABELS_PLACE}")
    asked = language_model(platform, seed_of="probe", timeout=_SLOW.total_seconds(), attempts=1)
    question = Question("probe", GOLDEN[0], "en")
    ((_, answer),) = asked.answer(prompt, (_RIGHT, "greeting"), [question])
    if answer.label != _RIGHT:
        raise Wrong(f"{asked.model} says {answer.label or answer.silence!r} of a late order.")
    return f"{asked.model} answers as it should."


def _models(platform: Platform) -> Iterator[Probe]:
    try:
        stories = platform.registry.stories()
    except MangaAssistError:
        return  # the registry's own probe says so
    for name in stories:
        champion = platform.registry.deployment(name).champion
        if champion is not None:
            yield Probe(f"model.{name}", Golden(platform, name, champion), _COLD)


class Golden:
    """The golden requests to one version. It remembers the answers: they may not change while it does not."""

    def __init__(self, platform: Platform, story: str, number: int) -> None:
        self._platform, self._story, self._number = platform, story, number

    def __call__(self) -> str:
        answers = self._platform.models.predict(self._story, self._number, GOLDEN)
        strange = [one.label for one in answers if not 0.0 <= one.confidence <= 1.0 or not one.label]
        if strange:
            raise Wrong(f"Version {self._number} answers outside its range.")
        said = digest([[one.label, round(one.confidence, 6)] for one in answers])[:16]
        kept = self._platform.home.folder("probes") / f"{self._story}-{self._number}"
        if not kept.exists():
            draft = kept.with_suffix(".draft")
            draft.write_text(said, encoding="utf-8")
            draft.replace(kept)
        if kept.read_text(encoding="utf-8") != said:
            raise Wrong(f"Version {self._number} answers the golden requests otherwise than before.")
        return f"Version {self._number} answers {', '.join(repr(one.label) for one in answers)}."
