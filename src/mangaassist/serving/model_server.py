"""The model server: artifacts from the registry become models that answer, verified before they load.

It is also the fault boundary: a model is foreign code that may raise anything, and nothing it raises passes
this file under its own type.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from mangaassist.core.errors import IntegrityError
from mangaassist.core.story import Model, Prediction
from mangaassist.promotion.registry import Registry
from mangaassist.training.formats import load as load_format

Load = Callable[[Mapping[str, bytes]], Model]
_WARMING = ("warming up", "準備中")


class ModelFailed(Exception):
    """A model could not be loaded, raised, or did not return one prediction per text.

    Attributes:
        kind: type name of what it raised; the only thing about it that is kept, as messages may quote input.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class ModelServer:
    """Models by story and version, the most recently used ones kept; safe to share between threads.

    Args:
        capacity: how many models stay in memory.
        load: from artifact files to a model.
    """

    def __init__(self, registry: Registry, *, capacity: int = 8, load: Load = load_format) -> None:
        self._registry = registry
        self._capacity = capacity
        self._load = load
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._models: OrderedDict[tuple[str, int], Model] = OrderedDict()
        self._damaged: dict[tuple[str, int], IntegrityError] = {}

    def model(self, story: str, number: int) -> Model:
        """The loaded model of a version; a damaged one is not read again until :meth:`warm`.

        Raises:
            IntegrityError: no trusted signature, a changed byte, or preprocessing that serving does not have.
            InputError: no such version.
        """
        key = (story, number)
        with self._lock:
            if key in self._damaged:
                raise self._damaged[key]
            found = self._models.get(key)
            if found is not None:
                self._models.move_to_end(key)
                return found
        # One load at a time, beside the lock: a version being read never holds up those in memory.
        with self._loading:
            return self._models.get(key) or self._read(key)

    def warm(self, story: str, number: int) -> str:
        """Load a version before users meet it, and give a damaged one another try.

        It answers once in each script, so that what a model loads only when it needs it is there, too.

        Returns:
            What went wrong, as an exception's type name; empty when it is loaded. The router will meet the
            same failure, fall back and log it, so it is no reason to stop here.
        """
        with self._lock:
            self._damaged.pop((story, number), None)
        try:
            self.model(story, number).predict(_WARMING)
        except Exception as error:  # foreign code, as in predict
            return type(error).__name__
        return ""

    def predict(self, story: str, number: int, texts: Sequence[str]) -> list[Prediction]:
        """One answer per text.

        Raises:
            ModelFailed: whatever went wrong.
        """
        try:
            answers = self.model(story, number).predict(texts)
        except Exception as error:  # a model may raise anything; whoever asked it must survive
            raise ModelFailed(type(error).__name__) from error
        if len(answers) != len(texts):
            raise ModelFailed("WrongNumberOfAnswers")
        return answers

    def unknown_share(self, story: str, number: int, text: str) -> float | None:
        """How much of ``text`` the version has never seen, in [0, 1]; None when it does not tell."""
        tell: Callable[[str], float] | None = getattr(
            self._models.get((story, number)), "unknown_share", None
        )
        if tell is None:
            return None
        try:
            return tell(text)
        except Exception:  # foreign code; the answer stands, its row merely knows less
            return None

    def loaded(self) -> list[tuple[str, int]]:
        """The versions in memory, least recently used first."""
        with self._lock:
            return list(self._models)

    def _read(self, key: tuple[str, int]) -> Model:
        try:
            version = self._registry.verified(*key)
            model = self._load(self._registry.artifacts.files(version.artifact))
        except IntegrityError as error:
            with self._lock:
                self._damaged[key] = error
            raise
        with self._lock:
            self._models[key] = model
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
        return model
