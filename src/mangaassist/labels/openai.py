"""A language model behind an OpenAI-compatible server, asked for one label at a time over HTTP.

Source: the chat completions interface with a JSON schema as response format, as OpenAI, vLLM, llama.cpp and
others serve it. Only an answer that names one of the labels is a label; anything else is a counted silence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mangaassist.core.clock import Clock
from mangaassist.core.errors import InputError, MangaAssistError, Unavailable
from mangaassist.labels.distillation import Answer, Prompt, Question

if TYPE_CHECKING:
    import httpx

ABSTAIN = "abstain"
"""The choice offered beside the labels."""

_ABOUT_THE_TEXT = ("content_filter", "context_length_exceeded")
_AGAIN = (408, 409, 425, 429)
_SAID = 80
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is and how patiently it is asked.

    Attributes:
        url: base URL, up to and without ``/chat/completions``.
        model: its id there.
        key: API key; empty for none. Never shown.
        timeout: seconds until a silent server counts as away.
        attempts: most requests for one question.
        concurrency: most questions asked at once.
        backoff: seconds before the second attempt; doubled from then on, up to a minute, drawn from the upper
            half of that so that many clients do not return together.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 30.0
    attempts: int = 5
    concurrency: int = 8
    backoff: float = 0.5


class OpenAiProvider:
    """The model at an endpoint, as a label provider."""

    def __init__(self, endpoint: Endpoint, *, clock: Clock, generator: np.random.Generator) -> None:
        """Nothing is asked yet.

        Args:
            clock: for dates in Retry-After.
            generator: for the jitter between attempts.

        Raises:
            InputError: for an address that is none, or no model.
        """
        if not endpoint.url.startswith(("http://", "https://")) or not endpoint.model:
            raise InputError(
                "llm_url" if endpoint.model else "llm_model",
                expected="the address and the model of an OpenAI-compatible server",
                got=repr(endpoint.url if endpoint.model else endpoint.model),
                next_step="Set llm_url and llm_model in settings.toml or as MANGAASSIST_LLM_URL and "
                "MANGAASSIST_LLM_MODEL.",
            )
        self._endpoint = endpoint
        self._clock = clock
        self._generator = generator
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        return self._endpoint.model

    def answer(
        self, prompt: Prompt, classes: Sequence[str], questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Answer]]:
        """Each question with its answer, in the order they come in.

        Raises:
            InputError: the server refuses the request itself: key, model or address.
            Unavailable: it cannot be reached, or stays broken or busy through all attempts.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        stop = threading.Event()

        def ask(question: Question) -> Answer:
            body = _request(self._endpoint.model, prompt, classes, question)
            return self._ask(client, body, classes, stop)

        with (
            httpx.Client(timeout=self._endpoint.timeout, headers=headers) as client,
            ThreadPoolExecutor(self._endpoint.concurrency) as pool,
        ):
            try:
                yield from _abreast(pool, ask, questions, stop, self._endpoint.concurrency)
            finally:
                stop.set()

    def _ask(
        self, client: httpx.Client, body: Mapping[str, Any], classes: Sequence[str], stop: threading.Event
    ) -> Answer:
        """One question, asked until it is answered or patience ends."""
        import httpx

        problem = "no answer"
        for attempt in range(self._endpoint.attempts):
            pause = self._pause(attempt)
            try:
                response = client.post(f"{self._endpoint.url.rstrip('/')}/chat/completions", json=body)
            except httpx.RequestError as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.is_success:
                    found = _completion(response.content)
                    if found is not None:
                        return parse(found, classes)
                    problem = "an answer that is no chat completion"
                else:
                    problem = f"HTTP {response.status_code}"
                    if (code := _unwelcome(response)) is not None:
                        return Answer(None, silence="refused", said=code)
                    _refuse_for_good(response, self._endpoint)
                    pause = max(pause, self._told_to_wait(response))
            if attempt + 1 < self._endpoint.attempts and stop.wait(pause):
                break
        raise _away(self._endpoint, f"{problem} after {self._endpoint.attempts} attempts")

    def _pause(self, attempt: int) -> float:
        with self._lock:  # generators are not safe between threads
            share = 0.5 + 0.5 * float(self._generator.random())
        return min(_LONGEST_WAIT, self._endpoint.backoff * 2.0**attempt) * share

    def _told_to_wait(self, response: httpx.Response) -> float:
        """Seconds the server asks for in Retry-After, as a number or a date."""
        given = response.headers.get("Retry-After", "").strip()
        if not given:
            return 0.0
        try:
            seconds = float(given)
        except ValueError:
            try:
                until = parsedate_to_datetime(given)
            except ValueError:
                return 0.0
            until = until if until.tzinfo else until.replace(tzinfo=UTC)
            seconds = (until - self._clock.now()).total_seconds()
        if seconds > _LONGEST_WAIT:
            raise _away(self._endpoint, f"a request to come back in {seconds:,.0f} seconds")
        return max(0.0, seconds) if np.isfinite(seconds) else 0.0


def _abreast(
    pool: ThreadPoolExecutor,
    ask: Callable[[Question], Answer],
    questions: Sequence[Question],
    stop: threading.Event,
    most: int,
) -> Iterator[tuple[Question, Answer]]:
    """Ask ``most`` questions at once; after a failure hand over what is on its way, it is paid for."""
    waiting = iter(questions)
    running: dict[Future[Answer], Question] = {}
    failed: BaseException | None = None
    while True:
        room = 0 if failed else most - len(running)
        running |= {pool.submit(ask, one): one for one in islice(waiting, room)}
        if not running:
            break
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            question = running.pop(done)
            if (error := done.exception()) is None:
                yield question, done.result()
            else:
                failed = failed or error
                stop.set()
    if failed is not None:
        raise failed


def _request(model: str, prompt: Prompt, classes: Sequence[str], question: Question) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": [*classes, ABSTAIN]},
            "confidence": {"type": "number"},
        },
        "required": ["label", "confidence"],
        "additionalProperties": False,
    }
    return {
        "model": model,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": prompt.written_for([*classes, ABSTAIN])},
            {"role": "user", "content": question.text},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "label", "strict": True, "schema": schema},
        },
    }


def _completion(content: bytes) -> Mapping[str, Any] | None:
    """The body as a chat completion with a message; None for anything else."""
    try:
        body = orjson.loads(content)
        message = body["choices"][0]["message"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return body if isinstance(message, dict) else None


def parse(completion: Mapping[str, Any], classes: Sequence[str]) -> Answer:
    """The label in a chat completion: exactly one of ``classes`` with a confidence, else silence and why."""
    message = completion["choices"][0]["message"]
    used = completion.get("usage")
    spent = Answer(
        None,
        tokens_in=_count(used, "prompt_tokens"),
        tokens_out=_count(used, "completion_tokens"),
    )
    content = message.get("content")
    if message.get("refusal"):
        return replace(spent, silence="refused", said=str(message["refusal"])[:_SAID])
    said = content if isinstance(content, str) else ""
    try:
        body = orjson.loads(said)
    except orjson.JSONDecodeError:
        body = None
    label, sure = (body.get("label"), body.get("confidence")) if isinstance(body, dict) else (None, None)
    if label == ABSTAIN and ABSTAIN not in classes:
        return replace(spent, silence="abstained")
    sure = _share(sure)
    if not isinstance(label, str) or sure is None:
        return replace(spent, silence="unreadable", said=said[:_SAID])
    if label not in classes:
        return replace(spent, silence="outside", said=label[:_SAID])
    return replace(spent, label=label, confidence=sure)


def _share(value: Any) -> float | None:
    """``value`` as a number in 0..1; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0.0 <= value <= 1.0 else None


def _count(used: Any, name: str) -> int:
    value = used.get(name) if isinstance(used, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _unwelcome(response: httpx.Response) -> str | None:
    """The error code of a server that refuses this one text, whoever asks."""
    try:
        code = orjson.loads(response.content)["error"]["code"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return code if response.status_code == 400 and code in _ABOUT_THE_TEXT else None


def _refuse_for_good(response: httpx.Response, endpoint: Endpoint) -> None:
    """Raise for a status that another attempt will not change."""
    status = response.status_code
    if status in _AGAIN or status >= 500:
        return
    hints = {
        401: "Check the API key in the variable that llm_key_variable names.",
        403: "Check what the API key in the variable that llm_key_variable names may do.",
        404: "Check llm_url and llm_model.",
    }
    raise InputError(
        f"language model '{endpoint.model}' at {endpoint.url}",
        expected="a request the server accepts",
        got=f"HTTP {status}: {' '.join(response.text.split())[:200]}",
        next_step=hints.get(status, "Correct llm_url, llm_model or the prompt."),
    )


def _away(endpoint: Endpoint, got: str) -> MangaAssistError:
    return Unavailable(
        f"language model '{endpoint.model}' at {endpoint.url}",
        expected="an answer",
        got=got,
        next_step="Run the command again later; what was answered is kept and not asked again.",
    )
