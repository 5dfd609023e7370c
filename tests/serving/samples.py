"""A serving stack over toy models: each answers with the words in its manifest, or raises one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.promotion.samples import AT, registry

from mangaassist.core.errors import IntegrityError
from mangaassist.core.home import Home
from mangaassist.core.story import Prediction
from mangaassist.promotion.registry import Registry
from mangaassist.serving.live import LivePointer
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.prediction_log import PredictionLog
from mangaassist.serving.router import Request, Router


@dataclass(frozen=True)
class Toy:
    """Answers with its own name; ``raise X`` raises X, ``raise X on Y`` only for texts with Y."""

    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.name,)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        if self.name.startswith("raise "):
            _, kind, *on = self.name.split()
            if not on or any(on[-1] in text for text in texts):
                raise {"KeyError": KeyError, "MemoryError": MemoryError, "ValueError": ValueError}[kind]
        return [Prediction(self.name, 0.9, False, ((self.name, 0.9),)) for _ in texts]

    def files(self) -> Mapping[str, bytes]:
        return {"manifest.json": self.name.encode()}

    def unknown_share(self, text: str) -> float:
        return 0.25


def load_toy(files: Mapping[str, bytes]) -> Toy:
    name = files["manifest.json"].decode()
    if name == "skewed":
        raise IntegrityError("preprocessing_digest", expected="a", got="b", next_step="Retrain.")
    return Toy(name)


@dataclass(frozen=True)
class Stack:
    registry: Registry
    server: ModelServer
    pointer: LivePointer
    router: Router
    log: PredictionLog

    def ask(self, text: str = "hello", *, request_id: str = "r", user: str | None = None) -> object:
        return self.router.serve("intent", Request(text, request_id, AT, user))


def stack(home: Home, *, capacity: int = 8) -> Stack:
    target = registry(home)
    server = ModelServer(target, capacity=capacity, load=load_toy)
    pointer = LivePointer(target, prepare=server.warm, home=home)
    return Stack(target, server, pointer, Router(pointer, server), PredictionLog.open(home, "intent"))
