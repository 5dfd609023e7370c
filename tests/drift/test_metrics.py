"""What leaves the hub: Prometheus text and CloudWatch lines.

The schema is the one that AWS publishes with the Embedded Metric Format (root with ``_aws``, a timestamp, and
metric directives whose dimension and metric names are members of the root), typed in from its specification:
docs.aws.amazon.com, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mangaassist.core.errors import IntegrityError
from mangaassist.drift.history import Kind, Standing, State
from mangaassist.drift.hub import DriftReport
from mangaassist.drift.metrics import (
    NAMESPACE,
    emf_line,
    latest_file,
    read_latest,
    samples,
    write_emf,
    write_latest,
)
from mangaassist.serving.metrics import ServingMetrics

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
_NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
EMF = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 0},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "additionalProperties": False,
                        "properties": {
                            "Namespace": _NAME,
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "Name": _NAME,
                                        "Unit": {"enum": ["None", "Seconds", "Count", "Percent"]},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


def report(story: str = "intent", state: State = State.FIRED, value: float = 0.31) -> DriftReport:
    kinds: dict[Kind, Standing | None] = dict.fromkeys(Kind)
    since = NOW - timedelta(hours=30) if state in (State.FIRED, State.RISING) else None
    kinds[Kind.INPUT] = Standing("drift.input.language", Kind.INPUT, state, since, NOW, value, 0.2)
    return DriftReport(story, 4, NOW, (), kinds)


@pytest.mark.parametrize("state", list(State))
def test_lines_are_embedded_metric_format(state: State) -> None:
    """DRF-2: valid by the published schema, and every named dimension and metric is there with its type."""
    for sample in samples(report(state=state)):
        line = emf_line(sample)
        assert b"\n" not in line
        assert len(line) < 256 * 1024
        body = json.loads(line)
        jsonschema.validate(body, EMF)
        (directive,) = body["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == NAMESPACE == "MangaAssist/MLDrift"
        assert directive["Dimensions"] == [["model_target", "kind"]]
        assert all(isinstance(body[name], str) for names in directive["Dimensions"] for name in names)
        assert all(isinstance(body[one["Name"]], int | float) for one in directive["Metrics"])
        assert body["_aws"]["Timestamp"] == 1_774_008_000_000


def test_the_schema_can_refuse() -> None:
    """The oracle bites: no namespace, an empty name, another member."""
    body = json.loads(emf_line(samples(report())[0]))
    for spoil in ({"Namespace": ""}, {"Extra": 1}, {"Metrics": [{"Name": "x", "Unit": "Furlongs"}]}):
        directive = {**body["_aws"]["CloudWatchMetrics"][0], **spoil}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"_aws": {**body["_aws"], "CloudWatchMetrics": [directive]}}, EMF)


def test_lines_go_where_the_setting_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DRF-2: a file that grows, standard output, or nowhere."""
    found = samples(report())
    write_emf("", found)
    assert capsys.readouterr().out == ""
    write_emf("-", found)
    assert len(capsys.readouterr().out.splitlines()) == 4
    for _ in range(2):
        write_emf(str(tmp_path / "emf.log"), found)
    lines = (tmp_path / "emf.log").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [str(kind) for kind in Kind] * 2


def test_the_newest_look_of_every_model_is_exposed(tmp_path: Path) -> None:
    """DRF-2: /metrics tells every model, whichever process looked, and forgets what no longer holds."""
    metrics = ServingMetrics(tmp_path)
    assert read_latest(tmp_path) == []
    write_latest(tmp_path, samples(report()))
    write_latest(tmp_path, samples(report("spam", State.QUIET, 0.01)))
    write_latest(tmp_path, samples(report("spam", State.RISING, 0.4)))
    found = {
        (one.name, one.labels.get("model_target"), one.labels.get("kind")): one.value
        for family in text_string_to_metric_families(metrics.expose({}).decode())
        for one in family.samples
    }
    assert found["mangaassist_mldrift_state", "intent", "input"] == 2
    assert found["mangaassist_mldrift_state", "intent", "concept"] == -1
    assert found["mangaassist_mldrift_value", "spam", "input"] == 0.4
    assert found["mangaassist_mldrift_threshold", "intent", "input"] == 0.2
    assert found["mangaassist_mldrift_sustained_seconds", "intent", "input"] == 30 * 3600
    assert found["mangaassist_mldrift_unreadable", None, None] == 0
    assert ("mangaassist_mldrift_value", "intent", "concept") not in found


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """DRF-2: an unreadable look is no healthy look."""
    write_latest(tmp_path, samples(report()))
    latest_file(tmp_path).write_bytes(b"[{}]")
    with pytest.raises(IntegrityError):
        read_latest(tmp_path)
    text = ServingMetrics(tmp_path).expose({}).decode()
    assert "mangaassist_mldrift_unreadable 1.0" in text
    assert "mangaassist_mldrift_state{" not in text
