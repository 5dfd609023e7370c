"""The HTTP provider against a real server that is busy, broken, slow, talkative or wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from time import perf_counter

import numpy as np
import pytest
from tests.labels.rows import NOW
from tests.labels.servers import Reply, Server, chosen, said, serving

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError, Unavailable
from mangaassist.labels.distillation import Answer, Prompt, Question
from mangaassist.labels.openai import ABSTAIN, Endpoint, OpenAiProvider, parse

CLASSES = ("order", "return")
PROMPT = Prompt("p-v1", "Choose one of\n{labels}")
HASTY = {"backoff": 0.001, "timeout": 5.0}


def questions(*texts: str) -> list[Question]:
    return [Question(f"id-{text}", text, "en") for text in texts]


def provider(url: str, **changes: object) -> OpenAiProvider:
    endpoint = replace(Endpoint(url, "small-1", key="k-123"), **{**HASTY, **changes})  # type: ignore[arg-type]
    return OpenAiProvider(endpoint, clock=SimulatedClock(NOW), generator=np.random.default_rng(1))


@contextmanager
def model(answer: Callable[[str, int], Reply], **changes: object) -> Iterator[tuple[Server, OpenAiProvider]]:
    with serving(answer) as server:
        yield server, provider(server.url, **changes)


def answers(asked: OpenAiProvider, *texts: str) -> dict[str, Answer]:
    found = list(asked.answer(PROMPT, CLASSES, questions(*texts)))
    assert sorted(question.text for question, _ in found) == sorted(texts)
    return {question.text: answer for question, answer in found}


def test_a_question_is_asked_with_its_prompt_labels_and_key() -> None:
    """The schema offers the labels and silence, nothing else."""
    with model(lambda text, _: chosen("order", 0.75)) as (server, asked):
        assert answers(asked, "where") == {"where": Answer("order", 0.75, tokens_in=100, tokens_out=7)}
    (headers, body), *rest = server.requests
    assert not rest
    assert headers["Authorization"] == "Bearer k-123"
    assert body["model"] == "small-1"
    system, user = body["messages"]
    assert system["content"] == "Choose one of\n- order\n- return\n- abstain"
    assert user == {"role": "user", "content": "where"}
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["label"]["enum"] == ["order", "return", ABSTAIN]


@pytest.mark.parametrize(
    ("reply", "silence", "words"),
    [
        (chosen(ABSTAIN), "abstained", ""),
        (chosen("refund"), "outside", "refund"),
        (chosen("Order"), "outside", "Order"),
        (chosen("order", "very"), "unreadable", '{"label": "order"'),
        (chosen("order", 1.5), "unreadable", '{"label": "order"'),
        (chosen("order", True), "unreadable", '{"label": "order"'),
        (said("order"), "unreadable", "order"),
        (said('```json\n{"label": "order", "confidence": 1}\n```'), "unreadable", "```json"),
        (said(None), "unreadable", ""),
        (said('["order"]'), "unreadable", '["order"]'),
        (said("", refusal="I will not"), "refused", "I will not"),
        (Reply(400, {"error": {"code": "content_filter"}}), "refused", "content_filter"),
    ],
)
def test_what_is_no_label_is_silence_and_never_guessed(reply: Reply, silence: str, words: str) -> None:
    """An answer outside the label set is a counted abstention."""
    with model(lambda text, _: reply) as (server, asked):
        found = answers(asked, "where")["where"]
    assert (found.label, found.confidence, found.silence) == (None, None, silence)
    assert found.said.startswith(words)
    assert len(found.said) <= 80
    assert server.asked["where"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        Reply(429, {"error": "busy"}),
        Reply(429, {"error": "busy"}, {"Retry-After": "0.01"}),
        Reply(500, b"oops"),
        Reply(503, b""),
        Reply(200, b"<html>garbage"),
        Reply(200, {"choices": []}),
        Reply(200, {"choices": [{"message": "text"}]}),
        Reply(200, b"{}", {"Content-Encoding": "gzip"}),
    ],
)
def test_trouble_passes_within_the_attempts(bad: Reply) -> None:
    """Busy, broken or garbled twice, then well: one answer, three requests."""
    with model(lambda text, before: bad if before < 2 else chosen("order")) as (server, asked):
        assert answers(asked, "where")["where"].label == "order"
    assert server.asked["where"] == 3


def test_attempts_are_bounded_and_what_was_answered_is_handed_over() -> None:
    """One text breaks the server for good; the others' answers are not lost with it."""
    started = threading.Barrier(4, timeout=10)

    def answer(text: str, before: int) -> Reply:
        if before == 0:
            started.wait()
        return Reply(500, b"") if text == "bad" else chosen("order")

    found: list[str] = []
    with model(answer, attempts=3, concurrency=4) as (server, asked):
        stream = asked.answer(PROMPT, CLASSES, questions("a", "b", "bad", "c"))
        with pytest.raises(Unavailable, match="HTTP 500 after 3 attempts"):
            found.extend(question.text for question, _ in stream)
    assert sorted(found) == ["a", "b", "c"]
    assert server.asked["bad"] == 3


def test_a_slow_server_is_away() -> None:
    """A timeout is an attempt like any other."""
    never = threading.Event()
    with model(lambda text, _: Reply(after=never), attempts=2, timeout=0.05) as (server, asked):
        with pytest.raises(Unavailable, match="Timeout"):
            answers(asked, "where")
        never.set()
    assert server.asked["where"] == 2


def test_nobody_there_is_unavailable() -> None:
    with serving(lambda text, _: chosen("order")) as server:
        gone = server.url
    with pytest.raises(Unavailable, match="what was answered is kept"):
        answers(provider(gone, attempts=2), "where")


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "API key"), (403, "API key"), (404, "llm_url"), (400, "prompt"), (302, "llm_url")],
)
def test_a_request_that_is_wrong_is_not_repeated(status: int, hint: str) -> None:
    """Another attempt would not make the key right."""
    with (
        model(lambda text, _: Reply(status, {"error": "no such key"})) as (server, asked),
        pytest.raises(InputError, match=hint) as caught,
    ):
        answers(asked, "where")
    assert server.asked["where"] == 1
    assert "k-123" not in str(caught.value)
    assert "no such key" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0.3", 0.3), (format_datetime(NOW + timedelta(seconds=1), usegmt=True), 1.0)],
)
def test_retry_after_is_honoured(header: str, seconds: float) -> None:
    """As a number of seconds, or as a date on the clock that is passed in."""
    busy = Reply(429, {}, {"Retry-After": header})
    with model(lambda text, before: busy if before == 0 else chosen("order")) as (server, asked):
        started = perf_counter()
        answers(asked, "where")
        assert perf_counter() - started >= seconds
    assert server.asked["where"] == 2


def test_a_server_that_wants_an_hour_is_not_waited_for() -> None:
    with (
        model(lambda text, _: Reply(429, {}, {"Retry-After": "3600"})) as (server, asked),
        pytest.raises(Unavailable, match="3,600 seconds"),
    ):
        answers(asked, "where")
    assert server.asked["where"] == 1


def test_no_more_questions_are_open_than_allowed() -> None:
    """Three at a time, and three indeed: the barrier lets nobody through alone."""
    together = threading.Barrier(3, timeout=10)

    def answer(text: str, before: int) -> Reply:
        together.wait()
        return chosen("order")

    with model(answer, concurrency=3) as (server, asked):
        answers(asked, *map(str, range(12)))
    assert server.most == 3


def test_stopping_early_asks_no_more() -> None:
    with model(lambda text, _: chosen("order"), concurrency=2) as (server, asked):
        stream = asked.answer(PROMPT, CLASSES, questions(*map(str, range(50))))
        next(iter(stream))
        stream.close()  # type: ignore[attr-defined]
    assert server.asked.total() <= 4


def test_an_address_and_a_model_are_needed() -> None:
    for url, name in (("", "m"), ("ftp://x", "m"), ("http://x", "")):
        with pytest.raises(InputError, match="llm_url and llm_model"):
            provider(url, model=name)
    assert "k-123" not in repr(Endpoint("http://x", "m", key="k-123"))


def test_tokens_nobody_counted_are_none_spent() -> None:
    """Servers that leave usage out, or write nonsense there."""
    for usage in (None, [], {"prompt_tokens": "many", "completion_tokens": -1}):
        completion = {
            "choices": [{"message": {"content": '{"label": "order", "confidence": 1}'}}],
            "usage": usage,
        }
        assert parse(completion, CLASSES) == Answer("order", 1.0)
