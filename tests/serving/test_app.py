"""The HTTP surface: answers, refusals in one shape, durability before the answer, health, metrics."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from tests.promotion.samples import AT, add, registry, to_champion
from tests.serving.samples import load_toy
from tests.serving.test_live import flip_a_byte

from mangaassist.core.clock import SimulatedClock, isoformat
from mangaassist.core.errors import Unavailable
from mangaassist.core.home import Home
from mangaassist.core.identity import user_digest
from mangaassist.labels.event_intake import EventIntake
from mangaassist.serving.app import create_app
from mangaassist.serving.commit import GroupCommit
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.prediction_log import PredictionLog
from mangaassist.serving.service import Service
from mangaassist.storage.tables import Tables

PREDICT = "/v1/stories/intent/predict"


@pytest.fixture
def service(home: Home, clock: SimulatedClock) -> Service:
    target = registry(home)
    to_champion(target, run="old")
    return Service(home, target, clock, server=ModelServer(target, load=load_toy))


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service)) as client:
        yield client


def refused(response: httpx.Response, status: int) -> dict[str, object]:
    """The body of a refusal, checked to have the one shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "field", "expected", "got", "next_step", "message", "exit_code"}
    assert all(body[key] for key in ("field", "expected", "got", "next_step"))
    return dict(body)


def test_an_answer(client: TestClient) -> None:
    """GOV-1: request id, version, arm and language in every answer."""
    body = client.post(PREDICT, json={"text": "返品したい", "user_id": "u1", "request_id": "r1"}).json()
    assert body.pop("latency_ms") > 0
    assert body == {
        "request_id": "r1",
        "story": "intent",
        "label": "old",
        "confidence": 0.9,
        "abstains": False,
        "probabilities": {"old": 0.9},
        "version": 1,
        "arm": "champion",
        "language": "ja",
        "reason": "",
    }
    assert len(client.post(PREDICT, json={"text": "hello"}).json()["request_id"]) == 36


def test_an_answer_is_durable_before_it_is_given(client: TestClient, service: Service, home: Home) -> None:
    """GOV-1: at the moment a client has its answer, another process finds the row on disk."""
    for n in range(5):
        client.post(PREDICT, json={"text": "hello", "request_id": f"r{n}"})
        assert PredictionLog.open(home, "intent").pending() == n + 1
    tables = Tables.open(home)
    assert service.drain(tables) == 5
    assert sorted(tables.read("predictions.intent")["request_id"]) == [f"r{n}" for n in range(5)]


def test_without_a_log_there_is_no_answer(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOV-1: a full disk is a 503 that says so; health tells; it heals by itself."""

    def full(*_: object) -> None:
        raise Unavailable("disk", expected="free space", got="No space left", next_step="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(PredictionLog, "write", full)
        assert refused(client.post(PREDICT, json={"text": "hello"}), 503)["field"] == "disk"
        health = client.get("/health")
        assert health.status_code == 503
        assert "No space left" in health.json()["reasons"][0]
    assert client.post(PREDICT, json={"text": "hello"}).status_code == 200
    assert client.get("/health").status_code == 200


def test_a_batch(client: TestClient, home: Home) -> None:
    requests = [{"text": f"text {n}", "request_id": f"b{n}"} for n in range(7)]
    body = client.post(f"{PREDICT}/batch", json={"requests": requests}).json()
    assert [one["request_id"] for one in body["predictions"]] == [f"b{n}" for n in range(7)]
    assert PredictionLog.open(home, "intent").pending() == 7


def test_a_long_text_is_answered_like_a_short_one(client: TestClient) -> None:
    assert client.post(PREDICT, json={"text": "long " * 1000}).json()["label"] == "old"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "text"),
        ({"text": ""}, 422, "text"),
        ({"text": "x" * 10_001}, 422, "text"),
        ({"text": 7}, 422, "text"),
        ({"text": "hello", "usr_id": "u"}, 422, "usr_id"),
        ({"text": "hello", "user_id": ""}, 422, "user_id"),
        ([1], 422, "body"),
    ],
)
def test_bad_bodies(client: TestClient, body: object, status: int, field: str) -> None:
    """Each bad input gets one clear sentence with its field."""
    assert refused(client.post(PREDICT, json=body), status)["field"] == field


def test_text_that_is_not_json(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    assert refused(client.post(PREDICT, content=b"{text: hello}", headers=json_type), 400)["field"] == "body"
    assert "application/json" in str(
        refused(client.post(PREDICT, content=b'{"text": "hello"}'), 400)["expected"]
    )
    refused(client.post(PREDICT, content=b'{"text": "\xff\xfe"}', headers=json_type), 400)
    refused(client.post(PREDICT, content=b'{"text": "\\ud800"}', headers=json_type), 422)


def test_an_unknown_story_names_the_nearest(client: TestClient) -> None:
    body = refused(client.post("/v1/stories/intnet/predict", json={"text": "hello"}), 404)
    assert "Did you mean 'intent'?" in str(body["next_step"])
    refused(client.post("/v1/nowhere", json={}), 404)
    refused(client.get(PREDICT), 405)


def test_a_large_body_is_refused_announced_or_streamed(service: Service) -> None:
    """A limit before parsing: 413 in the same shape."""
    with TestClient(create_app(service, most_bytes=1000)) as client:
        assert refused(client.post(PREDICT, json={"text": "x" * 2000}), 413)["field"] == "body"
        stream = (b'{"text": "' if n == 0 else b"x" * 300 for n in range(20))
        refused(client.post(PREDICT, content=stream, headers={"content-type": "application/json"}), 413)
        assert client.post(PREDICT, json={"text": "x" * 500}).status_code == 200


def test_outcomes_are_recorded_all_or_none(client: TestClient, service: Service, home: Home) -> None:
    """PRO-2: feedback enters with the time it became known; a future or unknown one spoils the lot."""
    good = {"story": "intent", "request_id": "r1", "resolved": True, "known_at": isoformat(AT)}
    late = {**good, "request_id": "r2", "known_at": isoformat(AT + timedelta(days=2))}
    unnamed = {"story": "intent", "request_id": "r3", "resolved": False}
    assert refused(client.post("/v1/outcomes", json={"outcomes": [good, late]}), 400)["field"] == "known_at"
    assert refused(client.post("/v1/outcomes", json={"outcomes": [good, {**good, "story": "x"}]}), 404)
    assert PredictionLog.open(home, "intent").pending() == 0
    response = client.post("/v1/outcomes", json={"outcomes": [good, unnamed]})
    assert (response.status_code, response.json()) == (202, {"recorded": 2})
    tables = Tables.open(home)
    service.drain(tables)
    rows = tables.read("outcomes.intent").sort("request_id").to_dicts()
    assert [row["known_at"] for row in rows] == [AT, service.clock.now()]


def test_health_names_what_is_wrong(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = client.get("/health").json()
    assert found["live"]
    assert found["ready"]
    assert found["stories"]["intent"]["champion"] == 1

    def down() -> int:
        raise Unavailable("ledger", expected="an answer", got="silence", next_step="Look at it.")

    with monkeypatch.context() as patch:
        patch.setattr(service.registry.ledger, "version", down)
        service.pointer.refresh()
        response = client.get("/health")
        assert response.status_code == 503
        assert response.json()["live"]
        assert "champions stay as they are" in response.json()["reasons"][0]
        assert client.post(PREDICT, json={"text": "hello"}).json()["version"] == 1
    service.pointer.refresh()
    assert client.get("/health").status_code == 200


def test_a_damaged_champion_is_not_ready(home: Home, clock: SimulatedClock) -> None:
    """TRN-6: a flipped byte in the artifact: not ready, and requests abstain."""
    target = registry(home)
    version = to_champion(target, run="old")
    flip_a_byte(home, version.artifact)
    service = Service(home, target, clock, server=ModelServer(target, load=load_toy))
    with TestClient(create_app(service)) as client:
        assert "IntegrityError" in client.get("/health").json()["reasons"][0]
        body = client.post(PREDICT, json={"text": "hello"}).json()
        assert (body["label"], body["abstains"], body["version"]) == (None, True, None)


def test_shadow_copies_are_made_beside_the_answer(client: TestClient, service: Service, home: Home) -> None:
    """PRO-2: the user does not wait for the copy; both rows are in the log when the server has stopped."""
    add(service.registry, run="new")
    service.registry.start_shadow("intent", 2, actor="p", at=AT)
    service.pointer.refresh()
    for n in range(10):
        assert client.post(PREDICT, json={"text": "hello", "request_id": f"r{n}"}).json()["version"] == 1
    service.stop()
    tables = Tables.open(home)
    PredictionLog.open(home, "intent").drain(tables)
    rows = tables.read("predictions.intent").to_dicts()
    copies = {row["shadow_of"] for row in rows if row["arm"] == "shadow"}
    assert copies == {f"r{n}" for n in range(10)}
    assert len(rows) == 20


def test_metrics(client: TestClient, service: Service) -> None:
    """GOV-1: language in every metric; one registry per server."""
    for text in ("hello", "返品したい"):
        client.post(PREDICT, json={"text": text})
    text = client.get("/metrics").text
    assert 'mangaassist_requests_total{arm="champion",language="ja",story="intent",version="1"} 1.0' in text
    assert "mangaassist_log_rows_total 2.0" in text
    epoch = service.registry.deployment("intent").epoch
    assert f'mangaassist_live_epoch{{story="intent"}} {epoch:.1f}' in text


def test_two_servers_in_one_process_stay_apart(home: Home, clock: SimulatedClock) -> None:
    target = registry(home)
    to_champion(target, run="old")
    services = [Service(home, target, clock, server=ModelServer(target, load=load_toy)) for _ in range(2)]
    with TestClient(create_app(services[0])) as one, TestClient(create_app(services[1])) as two:
        one.post(PREDICT, json={"text": "hello"})
        assert "mangaassist_log_rows_total 1.0" in one.get("/metrics").text
        assert "mangaassist_log_rows_total 0.0" in two.get("/metrics").text


def test_the_description_has_examples(client: TestClient) -> None:
    """OpenAPI: every body and answer with an example, and the shape of refusals."""
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    for name in ("PredictBody", "BatchBody", "PredictAnswer", "OutcomesBody", "ErrorAnswer"):
        assert schemas[name]["examples"], name
    responses = described["paths"]["/v1/stories/{story}/predict"]["post"]["responses"]
    assert {"200", "404", "413", "422", "503"} <= set(responses)
    example = schemas["PredictBody"]["examples"][0]
    assert client.post(PREDICT, json=example).status_code == 200
    assert client.get("/docs").status_code == 404, "it would fetch scripts from elsewhere"


def test_further_routes_can_be_mounted(service: Service) -> None:
    router = APIRouter()

    @router.get("/")
    async def page() -> dict[str, str]:
        return {"page": "status"}

    with TestClient(create_app(service, routers=[router])) as client:
        assert client.get("/").json() == {"page": "status"}


def test_a_declared_story_without_versions_answers_that_it_has_none(
    home: Home, clock: SimulatedClock
) -> None:
    target = registry(home)
    service = Service(home, target, clock, stories=lambda: ["spam"])
    with TestClient(create_app(service)) as client:
        body = client.post("/v1/stories/spam/predict", json={"text": "hello"}).json()
    assert body["abstains"]
    assert "No version answers" in body["reason"]


def test_many_answers_share_a_commit_and_keep_their_order(home: Home) -> None:
    """500 rps: what gathers during one fsync is written by the next, in the order of submission."""
    log, writes, blocked = PredictionLog.open(home, "intent"), [], threading.Event()
    release = threading.Event()

    class Slow:
        def write(self, records: list[str]) -> None:
            if not writes:
                blocked.set()
                release.wait(30)
            writes.append(list(records))

        def write_outcomes(self, outcomes: list[str]) -> None:
            assert not outcomes

    commits = GroupCommit(lambda _: Slow())  # type: ignore[arg-type,return-value]  # the two methods it uses
    commits.start()

    async def ask() -> None:
        first = asyncio.ensure_future(commits.durable("intent", ["r0"]))  # type: ignore[list-item]  # opaque here
        await asyncio.to_thread(blocked.wait, 30)
        rest = [asyncio.ensure_future(commits.durable("intent", [f"r{n}"])) for n in range(1, 50)]  # type: ignore[list-item]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *rest)

    asyncio.run(ask())
    commits.stop()
    log.close()
    assert writes[0] == ["r0"]
    assert [name for group in writes for name in group] == [f"r{n}" for n in range(50)]
    assert len(writes) <= 3


def test_a_failing_commit_leaves_nobody_waiting(home: Home) -> None:
    """Whatever a write raises reaches those who wait for it, and the next write is tried again."""
    failures = [OSError("gone"), None]

    class Failing:
        def write(self, _: list[str]) -> None:
            if (failure := failures.pop(0)) is not None:
                raise failure

        def write_outcomes(self, _: list[str]) -> None:
            return

    commits = GroupCommit(lambda _: Failing())  # type: ignore[arg-type,return-value]  # the two methods it uses
    commits.start()
    with pytest.raises(OSError, match="gone"):
        commits.submit("intent").result(30)
    assert commits.problem == "gone"
    assert commits.submit("intent").result(30) is None
    assert commits.problem == ""
    commits.stop()


def test_a_stopped_log_refuses(service: Service) -> None:
    """Nothing is accepted that nobody will write."""
    with pytest.raises(Unavailable, match="shutting down"):
        asyncio.run(service.commits.durable("intent"))


def test_answers_survive_json(client: TestClient) -> None:
    assert json.loads(client.post(PREDICT, json={"text": "\u0000 null and 漫画"}).text)["version"] == 1


EVENTS = "/v1/stories/intent/events"


def test_events_are_durable_when_they_are_acknowledged(
    client: TestClient, service: Service, home: Home, clock: SimulatedClock
) -> None:
    event = {"event_id": "e1", "kind": "click", "request_id": "r1", "at": isoformat(clock.now())}
    event |= {"item": "m1", "position": 1, "user_id": "alice", "known_at": "2020-01-01T00:00:00Z"}
    answer = client.post(EVENTS, json={"events": [event, event, {**event, "event_id": "e2", "position": 0}]})
    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 1,
        "duplicates": 1,
        "refused": [
            {
                "event_id": "e2",
                "reason": "position_out_of_range",
                "sentence": "position: expected 1 to 200, got 0.",
            }
        ],
    }
    tables = Tables.open(home)
    other = EventIntake.open(home, "intent", clock)
    assert other.drain(tables).stored == 1
    row = tables.read("events.intent").row(0, named=True)
    assert row["user"] == user_digest("alice")
    assert row["known_at"] == clock.now()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"events": []}, 422, "events"),
        ({"events": [7]}, 422, "events.0"),
        ({"events": [{}] * 1_001}, 422, "events"),
        ({}, 422, "events"),
    ],
)
def test_bodies_that_are_no_events(client: TestClient, body: object, status: int, field: str) -> None:
    assert refused(client.post(EVENTS, json=body), status)["field"] == field


def test_events_of_an_unknown_story(client: TestClient) -> None:
    refused(client.post("/v1/stories/intnet/events", json={"events": [{}]}), 404)
