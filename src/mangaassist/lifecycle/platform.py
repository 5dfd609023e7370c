"""One home, wired: every store the product writes to, opened once and only when it is first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mangaassist.core.clock import Clock
from mangaassist.core.home import Home

if TYPE_CHECKING:
    from mangaassist.core.story import Story, StoryModule
    from mangaassist.features.online import OnlineStore
    from mangaassist.features.store import FeatureStore
    from mangaassist.governance.residency import Residency
    from mangaassist.governance.signing import KeyRing
    from mangaassist.governance.switches import Switches
    from mangaassist.incidents.outbox import Outbox
    from mangaassist.labels.intake import LabelStore
    from mangaassist.promotion.bundles import Bundles
    from mangaassist.promotion.registry import Registry
    from mangaassist.promotion.versions import Version
    from mangaassist.serving.model_server import ModelServer
    from mangaassist.storage.artifacts import ArtifactStore
    from mangaassist.storage.ledger import Ledger
    from mangaassist.storage.tables import Tables


class Platform:
    """The rooms of one home, sharing one ledger, one artifact store and one clock."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self.home = home
        self.clock = clock
        self._residencies: dict[str, str | None] = {}

    @classmethod
    def open(cls, home: Home, clock: Clock) -> Platform:
        """Wire ``home``; nothing is read until it is used."""
        return cls(home, clock)

    @cached_property
    def ledger(self) -> Ledger:
        from mangaassist.storage.ledger import Ledger

        return Ledger.open(self.home)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        from mangaassist.governance.residency import ResidentArtifacts

        return ResidentArtifacts(self.home.folder("artifacts"), self.residency)

    @cached_property
    def tables(self) -> Tables:
        from mangaassist.governance.residency import ResidentTables

        return ResidentTables.under(self.home, self.residency)

    @cached_property
    def residency(self) -> Residency:
        from mangaassist.governance.residency import Residency

        return Residency(self.home.settings.region, self._residency_of, lambda: self.ledger, self.clock)

    @cached_property
    def switches(self) -> Switches:
        if url := self.home.settings.switches_url:
            from mangaassist.governance.ssm import SsmSwitches

            return SsmSwitches.open(self.ledger, url)
        from mangaassist.governance.switches import Switches

        return Switches(self.ledger)

    @cached_property
    def keys(self) -> KeyRing:
        from mangaassist.governance.signing import KeyRing

        return KeyRing(self.ledger, self.home.folder("keys"), self.home.settings.region)

    @cached_property
    def registry(self) -> Registry:
        from mangaassist.promotion.registry import Registry

        return Registry(self.ledger, self.artifacts, self.keys, self.switches, deployable=self._deployable)

    @cached_property
    def bundles(self) -> Bundles:
        from mangaassist.promotion.bundles import Bundles
        from mangaassist.serving.live import Readers

        return Bundles(self.registry, readers=(Readers(self.home),))

    @cached_property
    def labels(self) -> LabelStore:
        from mangaassist.governance.residency import ResidentArtifacts
        from mangaassist.labels.intake import LabelStore

        cold = ResidentArtifacts(self.home.path / "cold", self.residency)
        return LabelStore(self.tables, self.ledger, self.clock, cold)

    @cached_property
    def features(self) -> FeatureStore:
        from mangaassist.features.store import FeatureStore

        return FeatureStore(self.tables)

    @cached_property
    def online(self) -> OnlineStore:
        from mangaassist.features.online import online_store
        from mangaassist.features.online_resident import ResidentOnline

        return ResidentOnline(online_store(self.home, self.home.settings.online_url), self.residency)

    @cached_property
    def models(self) -> ModelServer:
        from mangaassist.serving.model_server import ModelServer

        return ModelServer(self.registry)

    @cached_property
    def outbox(self) -> Outbox:
        from mangaassist.incidents.outbox import Outbox

        return Outbox.open(self.home)

    def _residency_of(self, name: str) -> str | None:
        """Where a story's data live; None for a name that is no story."""
        from mangaassist.stories.discovery import story_names

        if name not in self._residencies:
            known = name in story_names(self.home.path)
            self._residencies[name] = self.module(name).STORY.residency if known else None
        return self._residencies[name]

    def _deployable(self, version: Version) -> None:
        from mangaassist.lifecycle.features import require_declared

        require_declared(self, version)
        self.bundles.require_uncoupled(version)

    def module(self, name: str) -> StoryModule:
        """The story's folder, loaded; an unknown name is an InputError with the nearest one."""
        from mangaassist.stories.discovery import load_story

        return load_story(name, self.home.path)

    def story(self, name: str) -> Story:
        """The story's specification, judged by the home's ``gates/<story>.yaml`` where there is one.

        Raises:
            InputError: for an unknown story, or a policy document with a mistake in it.
        """
        story, path = self.module(name).STORY, self.home.path / "gates" / f"{name}.yaml"
        if not path.exists():
            return story
        from mangaassist.core.gate_policy import under_policy

        return under_policy(story, path.read_text(encoding="utf-8"), source=str(path))
