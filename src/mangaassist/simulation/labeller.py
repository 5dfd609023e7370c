"""Two more label sources: a language model that is only simulated, and somebody's labelling functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.language import Language
from mangaassist.labels.distillation import Answer, Prompt, Question
from mangaassist.labels.records import Example, Label
from mangaassist.simulation.annotators import RELATED, mistake
from mangaassist.simulation.samples import Sample

LabellingRules = Callable[[Example], tuple[str, str] | None]
"""Example to (label, name of the function that gave it), or None to abstain."""


@dataclass(frozen=True, slots=True)
class SimulatedLlm:
    """The errors of a language model labelling by prompt; no model is called.

    Attributes:
        prompt: version of the prompt.
        error: probability of a wrong label in English; other languages err ``foreign`` times as often.
        bias: share of wrong answers that are its favourite label, whatever the truth.
        favourite: that label.
    """

    prompt: str
    error: float
    foreign: float = 1.5
    bias: float = 0.4
    favourite: str = "order_status"
    name: str = "simulated-llm"

    @property
    def identity(self) -> str:
        return f"{self.name}/{self.prompt}"


PROMPTS = {
    "intent-v3": SimulatedLlm("intent-v3", 0.03),
    "intent-v4": SimulatedLlm("intent-v4", 0.15),
}
"""The prompt in use, and a later one that is worse (LAB-6 exists to catch it)."""


def llm_labels(
    samples: Iterable[Sample], model: SimulatedLlm, *, keyed: Callable[[str], np.random.Generator]
) -> list[Label]:
    """One label per sample, minutes after capture, with the confidence of a model too sure of itself."""
    return [_answer(sample, model, keyed(sample.example_id)) for sample in samples]


def reply(
    intent: str, language: Language, model: SimulatedLlm, generator: np.random.Generator
) -> tuple[str, float]:
    """What the model says about a text that means ``intent``, and how sure it is of it."""
    error = model.error * (1.0 if language is Language.EN else model.foreign)
    wrong = generator.random() < error
    label = intent
    if wrong and generator.random() < model.bias and intent != model.favourite:
        label = model.favourite
    elif wrong:
        label = mistake(intent, generator)
    sure = generator.beta(6.0, 2.0) if wrong else generator.beta(18.0, 1.5)
    return label, round(float(sure), 4)


@dataclass(frozen=True, slots=True)
class SimulatedProvider:
    """The simulated model as a label provider.

    Attributes:
        truths: example id -> what it means. Of other texts the model knows nothing and abstains.
    """

    truths: Mapping[str, str]
    model: str = "simulated-llm"

    def answer(
        self, prompt: Prompt, classes: Sequence[str], questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Answer]]:
        """Each question with its answer, in order; the same question always gets the same one.

        Raises:
            InputError: for a prompt that is not simulated.
        """
        if prompt.name not in PROMPTS:
            raise InputError(
                "--prompt",
                expected="a simulated prompt",
                got=repr(prompt.name),
                next_step=nearest(prompt.name, PROMPTS),
            )
        for question in questions:
            intent = self.truths.get(question.example_id)
            if intent not in RELATED:
                yield question, Answer(None, silence="abstained")
                continue
            generator = np.random.default_rng(int(question.example_id[:16], 16))
            label, sure = reply(intent, Language(question.language), PROMPTS[prompt.name], generator)
            known = label in classes
            yield question, Answer(label, sure) if known else Answer(None, silence="outside", said=label)


def _answer(sample: Sample, model: SimulatedLlm, generator: np.random.Generator) -> Label:
    label, sure = reply(sample.intent, sample.language, model, generator)
    return Label(
        example_id=sample.example_id,
        label=label,
        source="llm",
        captured_at=sample.captured_at,
        labeled_at=sample.captured_at + timedelta(minutes=2.0 + 30.0 * generator.random()),
        confidence=sure,
        annotator_id=model.identity,
        metadata={"prompt": model.prompt, "simulated": True},
    )


def programmatic_labels(samples: Iterable[Sample], rules: LabellingRules, *, version: str) -> list[Label]:
    """What ``rules`` say about each sample, a minute after capture; nothing where they abstain."""
    found = []
    for sample in samples:
        answer = rules(sample.example)
        if answer is not None:
            label, function = answer
            found.append(
                Label(
                    example_id=sample.example_id,
                    label=label,
                    source="programmatic",
                    captured_at=sample.captured_at,
                    labeled_at=sample.captured_at + timedelta(minutes=1),
                    annotator_id=version,
                    metadata={"function": function},
                )
            )
    return found
