"""The router: which version answers whom, what happens when it fails, and the row that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from time import perf_counter

from mangaassist.core.identity import digest_bytes, user_digest
from mangaassist.core.language import Language, detect_language, japanese_share
from mangaassist.core.story import Prediction
from mangaassist.governance.redaction import redact
from mangaassist.promotion.versions import SHADOW, Deployment
from mangaassist.serving.live import Live, LivePointer
from mangaassist.serving.model_server import ModelFailed, ModelServer
from mangaassist.serving.prediction_log import PredictionRecord

NO_ANSWER = Prediction("", 0.0, True, ())
"""What is answered when no model can: abstaining is always safe."""


class Arm(StrEnum):
    """Which part of the traffic a row belongs to."""

    CHAMPION = "champion"
    CANARY = "canary"
    HOLDOUT = "holdout"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Request:
    """One question.

    Attributes:
        request_id: names it everywhere; also what an anonymous request is assigned by.
        at: when it arrived.
        user_id: whose it is; assignment sticks to it.
        cohort, device: slices that evidence and drift are broken down by.
    """

    text: str
    request_id: str
    at: datetime
    user_id: str | None = None
    cohort: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request got.

    Attributes:
        version: the version whose answer it is; None when nobody could answer.
        arm: the part of traffic the request was assigned to.
        reason: why nobody answered or somebody else did; empty in the ordinary case.
        records: the rows that must be durable before the answer is given.
    """

    request_id: str
    story: str
    prediction: Prediction
    version: int | None
    arm: Arm
    language: Language
    latency_ms: float
    epoch: int
    reason: str
    records: tuple[PredictionRecord, ...]

    def marked_stale(self) -> Answer:
        """The answer with rows that say a feature beside it was older than it may be."""
        return replace(self, records=tuple(replace(one, features_stale=True) for one in self.records))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of asking the routed version and, where it failed, the champion."""

    prediction: Prediction
    answered_by: int | None
    error: str | None
    reason: str


def bucket(salt: str, unit: str) -> float:
    """Where ``unit`` falls in [0, 1): uniform, the same in every process, unrelated between salts."""
    return int.from_bytes(blake2b(f"{salt}\x00{unit}".encode(), digest_size=8).digest()) / 2**64


def assign(deployment: Deployment, unit: str, *, challenger_traffic: bool = True) -> Arm:
    """The arm of ``unit`` (a user id, or the request id of an anonymous request).

    The canary takes the low end of the unit interval and the hold-out the high end, so a growing share only
    adds users to the canary, and no user of the hold-out ever meets the challenger.
    """
    if not deployment.in_canary or not challenger_traffic:
        return Arm.CHAMPION
    position = bucket(deployment.salt, unit)
    if position >= 1.0 - deployment.holdout:
        return Arm.HOLDOUT
    return Arm.CANARY if position < deployment.share else Arm.CHAMPION


def readable(request: Request) -> str:
    """The text as models are trained on it and get to read it: without personal data (GOV-2)."""
    return redact(request.text).text


class Router:
    """Answers requests of any story through the live pointer and the model server."""

    def __init__(
        self, pointer: LivePointer, server: ModelServer, *, timer: Callable[[], float] = perf_counter
    ) -> None:
        """
        Args:
            timer: seconds that latencies are measured in.
        """
        self._pointer = pointer
        self._server = server
        self._timer = timer

    def answer(self, story: str, request: Request) -> Answer:
        """Answer one request; a failing model never raises, it becomes a fallback and a logged error."""
        return self.answer_many(story, [request])[0]

    def answer_many(self, story: str, requests: Sequence[Request]) -> list[Answer]:
        """Answer several requests at once; each is assigned by itself and versions are asked in one batch.

        ``latency_ms`` of a request is its batch's time divided by the batch's size.
        """
        live = self._pointer.resolve(story)
        arms = [self._arm(live, request) for request in requests]
        answers: dict[int, Answer] = {}
        for arm in dict.fromkeys(arms):
            indices = [index for index, one in enumerate(arms) if one is arm]
            group = [requests[index] for index in indices]
            answers.update(zip(indices, self._answer_group(story, live, arm, group), strict=True))
        return [answers[index] for index in range(len(requests))]

    def shadow(self, story: str, request: Request) -> PredictionRecord | None:
        """Ask the version in shadow what it would have said; None when there is none to ask."""
        live = self._pointer.resolve(story)
        deployment = live.deployment
        number = deployment.challenger
        if number is None or deployment.stage != SHADOW or not live.permissions.challenger_traffic:
            return None
        started = self._timer()
        text = readable(request)
        attempt = self._attempt(story, number, None, [text])[0]
        latency = (self._timer() - started) * 1000.0
        return self._record(request, text, live, Arm.SHADOW, number, attempt=attempt, latency_ms=latency)

    def serve(self, story: str, request: Request) -> Answer:
        """:meth:`answer` with the shadow copy's row among the records, for callers without a background."""
        answer = self.answer(story, request)
        copy = self.shadow(story, request)
        if copy is None:
            return answer
        return replace(answer, records=(*answer.records, copy))

    def _arm(self, live: Live, request: Request) -> Arm:
        unit = request.request_id if request.user_id is None else request.user_id
        return assign(live.deployment, unit, challenger_traffic=live.permissions.challenger_traffic)

    def _answer_group(self, story: str, live: Live, arm: Arm, requests: Sequence[Request]) -> list[Answer]:
        deployment = live.deployment
        routed = deployment.challenger if arm is Arm.CANARY else deployment.champion
        fallback = deployment.champion if arm is Arm.CANARY else None
        started = self._timer()
        texts = [readable(request) for request in requests]
        attempts = self._attempt(story, routed, fallback, texts)
        latency = (self._timer() - started) * 1000.0 / len(requests)
        answers = []
        for request, text, attempt in zip(requests, texts, attempts, strict=True):
            record = self._record(request, text, live, arm, routed, attempt=attempt, latency_ms=latency)
            answers.append(
                Answer(
                    request.request_id,
                    story,
                    attempt.prediction,
                    attempt.answered_by,
                    arm,
                    Language(record.language),
                    latency,
                    deployment.epoch,
                    attempt.reason,
                    (record,),
                )
            )
        return answers

    def _attempt(
        self, story: str, routed: int | None, fallback: int | None, texts: Sequence[str]
    ) -> list[_Attempt]:
        if routed is None:
            return [_Attempt(NO_ANSWER, None, None, "No version answers users yet.")] * len(texts)
        try:
            predictions = self._server.predict(story, routed, texts)
            return [_Attempt(prediction, routed, None, "") for prediction in predictions]
        except ModelFailed as failure:
            if len(texts) > 1:  # one bad text must not cost the others their answer
                return [self._attempt(story, routed, fallback, [text])[0] for text in texts]
            return [self._fall_back(story, routed, fallback, texts[0], failure.kind)]

    def _fall_back(self, story: str, routed: int, fallback: int | None, text: str, kind: str) -> _Attempt:
        if fallback is not None:
            try:
                prediction = self._server.predict(story, fallback, [text])[0]
                return _Attempt(prediction, fallback, kind, f"Version {routed} failed ({kind}).")
            except ModelFailed as second:
                return _Attempt(
                    NO_ANSWER,
                    None,
                    kind,
                    f"Versions {routed} ({kind}) and {fallback} ({second.kind}) failed.",
                )
        return _Attempt(NO_ANSWER, None, kind, f"Version {routed} failed ({kind}).")

    def _record(
        self,
        request: Request,
        read: str,
        live: Live,
        arm: Arm,
        routed: int | None,
        *,
        attempt: _Attempt,
        latency_ms: float,
    ) -> PredictionRecord:
        """The row of one answer.

        Args:
            read: the text as the model read it. Its digest finds the stored example, and what a digest is of
                can be guessed where it is short, so it is never that of a phone number.
        """
        text, prediction, answered_by = request.text, attempt.prediction, attempt.answered_by
        story, shadow = live.deployment.story, arm is Arm.SHADOW
        return PredictionRecord(
            request_id=f"{request.request_id}:shadow" if shadow else request.request_id,
            at=request.at,
            story=story,
            version=routed,
            answered_by=answered_by,
            arm=str(arm),
            epoch=live.deployment.epoch,
            shadow_of=request.request_id if shadow else None,
            user=user_digest(request.user_id),
            language=str(detect_language(text)),
            cohort=request.cohort,
            device=request.device,
            input_digest=digest_bytes(read.encode("utf-8", "surrogatepass")),
            text_length=len(text),
            japanese_share=japanese_share(text),
            unknown_share=(
                None if answered_by is None else self._server.unknown_share(story, answered_by, read)
            ),
            label=prediction.label if answered_by is not None else None,
            confidence=prediction.confidence if answered_by is not None else None,
            abstains=prediction.abstains,
            latency_ms=latency_ms,
            error=attempt.error,
        )
