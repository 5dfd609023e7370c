"""The tree and grouping (INC-1, CC-Q2): as data, on evidence written by hand for each test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from mangaassist.core.errors import InputError
from mangaassist.core.verdict import Status
from mangaassist.incidents.grouping import dependencies, joined, shared, shipped
from mangaassist.incidents.rates import ROLL_BACK_FIRST
from mangaassist.incidents.records import Alarm, Change, Incident, Localisation, Occasion, Onset, Series
from mangaassist.incidents.tree import UNKNOWN, Tree, walk
from mangaassist.web.runbooks import runbooks

T0 = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
TICK = timedelta(minutes=5)
TREE = Tree.load()


def minute(value: float) -> datetime:
    return T0 + timedelta(minutes=value)


def alarm(
    name: str = "reranker.ndcg", panel: str = "quality", *, at: float = 15, cohort: str = "all"
) -> Alarm:
    return Alarm(panel, name, cohort, minute(at), 0.61, 0.78, False, Onset(minute(-5), minute(0), minute(5)))


def incident(*alarms: Alarm) -> Incident:
    changed, _ = joined([], alarms or (alarm(),), TREE.lineage)
    assert len(changed) == 1
    return changed[0]


def series(
    panel: str, name: str, *, limit: float | None = None, bad: float | None = None, cohort: str = "all"
) -> Series:
    """Two days at 0 (a little noise), from T0 on at ``bad``."""
    values = np.random.default_rng(3).normal(0.0, 0.001, 2 * 288)
    if bad is not None:
        values[-4:] = bad
    return Series(panel, name, cohort, minute(15) - (len(values) - 1) * TICK, TICK, values, limit, "high")


@dataclass
class Written:
    """Evidence as a test writes it."""

    found: dict[str, list[Series]] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    calendar: list[Occasion] = field(default_factory=list)
    now: datetime = T0 + timedelta(minutes=20)
    absent: dict[str, str] = field(default_factory=dict)

    def panels(self) -> Sequence[str]:
        return list(self.found)

    def series(self, panel: str) -> Sequence[Series]:
        return self.found.get(panel, [])

    def minutes(self, panel: str, since: datetime) -> Sequence[Series]:
        return []

    def changes(self, since: datetime, until: datetime) -> Sequence[Change]:
        return [one for one in self.log if since <= one.at <= until and one.known_at <= self.now]

    def occasions(self, since: datetime, until: datetime) -> Sequence[Occasion]:
        return [one for one in self.calendar if one.since <= until and one.until >= since]


def change(kind: str, *touches: str, at: float = -2, cohorts: tuple[str, ...] = ()) -> Change:
    subject = f"{kind}-{'-'.join(touches)}"
    return Change(kind, subject, minute(at), minute(at), "ci", "x", touches, cohorts, f"revert {subject}")


def healthy() -> dict[str, list[Series]]:
    return {
        "quality": [
            series("quality", f"{one}.q", bad=None) for one in ("reranker", "intent", "answers", "spam")
        ],
        "upstream": [series("upstream", "catalog_feed.mismatch", limit=0.1)],
        "shard_recall": [series("shard_recall", "catalog_index.shard_3", limit=0.1)],
        "feature_drift": [series("feature_drift", "reranker.score", limit=0.1)],
        "traffic_mix": [series("traffic_mix", "gateway.classes", limit=0.1)],
        "adjusted": [series("adjusted", "reranker.loss", limit=0.1, bad=1.0)],
    }


def with_failing(panel: str, name: str) -> dict[str, list[Series]]:
    return {**healthy(), panel: [series(panel, name, limit=0.1, bad=0.5)]}


@pytest.mark.parametrize(
    ("kind", "category"),
    [
        ("deploy", "code_deploy"),
        ("model", "model_version"),
        ("configuration", "configuration"),
        ("switch", "configuration"),
        ("prompt", "prompt"),
    ],
)
def test_a_change_just_before_is_rolled_back_first(kind: str, category: str) -> None:
    """AML-08: categories 1, 2, 3 and 8."""
    guilty = change(kind, "reranker")
    found = walk(TREE, incident(), Written(healthy(), [guilty, change(kind, "spam")]))
    assert found.category == category
    assert found.suspects[0].change == guilty.id
    assert found.mitigation.roll_back
    assert found.mitigation.command == guilty.revert
    assert TREE.categories[category].roll_back_first
    assert Localisation.from_dict(found.as_dict()) == found


def test_the_four_categories_that_are_rolled_back_first_are_the_sources() -> None:
    first = {one.name: one.number for one in TREE.categories.values() if one.roll_back_first}
    assert set(first.values()) == {1, 2, 3, 8}
    assert set(first) == ROLL_BACK_FIRST
    assert sorted(one.number for one in TREE.categories.values())[:10] == list(range(1, 11))


@pytest.mark.parametrize(
    ("panel", "name", "category"),
    [
        ("upstream", "catalog_feed.mismatch", "upstream_data"),
        ("shard_recall", "catalog_index.shard_3", "index"),
        ("feature_drift", "reranker.score", "feature_drift"),
    ],
)
def test_a_panel_beyond_its_limit_names_its_category(panel: str, name: str, category: str) -> None:
    found = walk(TREE, incident(), Written(with_failing(panel, name)))
    assert found.category == category
    assert found.suspects[0].subject == name
    assert not found.mitigation.roll_back


def test_nothing_is_named_when_nothing_speaks_for_it() -> None:
    found = walk(TREE, incident(), Written(healthy()))
    assert found.category == UNKNOWN
    assert found.mitigation.runbook == "unknown.md"
    assert all(one.status is Status.PASS for one in found.verdicts if one.name in ("code_deploy", "index"))


def test_a_change_that_came_after_or_reaches_something_else_is_not_blamed() -> None:
    log = [change("deploy", "reranker", at=12), change("deploy", "spam")]
    assert walk(TREE, incident(), Written(healthy(), log)).category == UNKNOWN


def test_of_two_changes_the_nearer_in_time_and_the_one_for_the_hurt_cohort_win() -> None:
    near, far = change("deploy", "reranker"), change("deploy", "intent", at=-100)
    found = walk(TREE, incident(), Written(healthy(), [far, near]))
    assert found.suspects[0].change == near.id
    assert found.suspects[0].probability > 5 * found.suspects[1].probability
    japanese = alarm(cohort="locale=ja")
    hurt = {
        **healthy(),
        "quality": [
            series("quality", "reranker.ndcg", bad=-0.2, cohort="locale=ja"),
            series("quality", "reranker.ndcg", cohort="locale=en"),
        ],
    }
    own, other = change("deploy", "reranker", cohorts=("locale=ja",)), change("configuration", "reranker")
    found = walk(TREE, incident(japanese), Written(hurt, [other, own]))
    assert found.suspects[0].change == own.id
    assert "who are hurt" in found.suspects[0].sentence


def test_a_season_is_never_rolled_back_although_a_deploy_stands_beside_it() -> None:
    evidence = Written(
        {
            **with_failing("traffic_mix", "gateway.classes"),
            "adjusted": [series("adjusted", "reranker.loss", limit=0.1)],
        },
        [change("deploy", "reranker", at=-20)],
        [Occasion("volume-release", minute(-600), minute(6000))],
    )
    found = walk(TREE, incident(), evidence)
    assert found.category == "query_shift"
    assert found.suspects[0].subject == "volume-release"
    assert not found.mitigation.roll_back
    assert found.mitigation.command is None
    # The same evening with answers worse on the usual traffic, too, and a deploy just before: another story.
    worse = replace_panel(evidence, "adjusted", [series("adjusted", "reranker.loss", limit=0.1, bad=1.0)])
    worse.found["traffic_mix"] = [series("traffic_mix", "gateway.classes", limit=0.1)]
    worse.log = [change("deploy", "reranker")]
    assert walk(TREE, incident(), worse).category == "code_deploy"


def replace_panel(evidence: Written, panel: str, found: list[Series]) -> Written:
    return Written({**evidence.found, panel: found}, list(evidence.log), evidence.calendar)


def test_a_plausible_roll_back_comes_before_a_likelier_slow_cure() -> None:
    """Bias for action: drift is likelier, the deploy plausible, so the deploy goes back first."""
    evidence = Written(
        with_failing("feature_drift", "reranker.score"), [change("deploy", "reranker", at=-21)]
    )
    found = walk(TREE, incident(), evidence)
    deploy = next(one for one in found.suspects if one.category == "code_deploy")
    weights = replace(TREE.weights, plausible=deploy.probability - 0.01)
    eager = walk(replace(TREE, weights=weights), incident(), evidence)
    assert found.category == eager.category == "feature_drift"
    assert eager.mitigation.roll_back
    patient = replace(TREE.weights, plausible=deploy.probability + 0.01)
    assert not walk(replace(TREE, weights=patient), incident(), evidence).mitigation.roll_back


def test_three_pages_are_one_incident_with_their_shared_dependency() -> None:
    """CC-Q2: reranker, recommendation and answers within ten minutes."""
    pages = (alarm(at=10), alarm("recommendation.ctr", "clicks", at=14), alarm("answers.resolved", at=19))
    one = incident(*pages)
    assert len(one.alarms) == 3
    assert set(one.shared) >= {"intent", "embedding", "catalog_index", "feature_store", "registry"}
    assert "language_model" not in one.shared, "only answers call it"
    guilty = change("model", "embedding")
    found = walk(TREE, one, Written(healthy(), [guilty, change("deploy", "answers")]))
    assert found.suspects[0].change == guilty.id


def test_alarms_join_by_time_then_by_what_they_depend_on() -> None:
    first = incident(alarm(at=0))
    _, untouched = joined([first], [alarm("spam.precision", at=30)], TREE.lineage)
    assert untouched == [first], "half an hour later and unrelated: another incident"
    changed, untouched = joined([first], [alarm("answers.resolved", at=30)], TREE.lineage)
    assert not untouched
    assert changed[0].id == first.id, "answers read the reranker"
    assert joined([first], [alarm("spam.precision", at=9)], TREE.lineage)[0][0].id == first.id
    assert shared(["intent", "spam"], TREE.lineage)[0] == "registry"


def test_nobody_measures_and_nothing_new_are_not_passes() -> None:
    silent = series("upstream", "catalog_feed.mismatch", limit=0.1)
    silent.values[-12:] = np.nan
    found = {one.name: one for one in walk(TREE, incident(), Written({"upstream": [silent]})).verdicts}
    assert found["upstream_data"].status is Status.STALE
    assert found["index"].status is Status.INSUFFICIENT


def test_a_new_category_needs_no_code(tmp_path: Path) -> None:
    """INC-4: what a retrospective adds is a few lines of YAML in the home."""
    own = {
        "categories": {"payment": {"number": 13, "title": "Payment provider"}},
        "nodes": [
            {
                "name": "payment_codes",
                "category": "payment",
                "query": "failing",
                "panels": ["decline_codes"],
                "explains": ["quality", "adjusted", "decline_codes"],
                "prior": 1.0,
                "mitigation": "Fail over from {component}.",
                "runbook": "managed_service",
            }
        ],
    }
    (tmp_path / "tree.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "dependencies.yaml").write_text(
        yaml.safe_dump({"components": {"psp": [], "answers": ["psp", "reranker"]}})
    )
    tree = Tree.load(tmp_path)
    evidence = Written(
        {**healthy(), "decline_codes": [series("decline_codes", "psp.declined", limit=0.1, bad=0.4)]}
    )
    page = incident(alarm("answers.resolved"))
    assert walk(TREE, page, evidence).category == UNKNOWN
    found = walk(tree, page, evidence)
    assert found.category == "payment"
    assert found.mitigation.sentence == "Fail over from psp."


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ({"query": "failling"}, "failing"),
        ({"category": "code_deplyo"}, "code_deploy"),
        ({"mitigation": "Do {something}."}, "shipped tree"),
        ({"prior": 0}, "above 0"),
        ({"colour": "red"}, "known key"),
    ],
)
def test_a_broken_node_is_one_clear_sentence(tmp_path: Path, broken: dict[str, object], match: str) -> None:
    node = {**shipped("tree.yaml")["nodes"][0], **broken}
    (tmp_path / "tree.yaml").write_text(yaml.safe_dump({"nodes": [node]}))
    with pytest.raises(InputError, match=match):
        Tree.load(tmp_path)


def test_every_node_has_a_runbook_and_the_map_knows_every_model() -> None:
    assert {node.runbook for node in TREE.nodes} <= set(runbooks())
    assert {node.category for node in TREE.nodes} == set(TREE.categories)
    assert set(dependencies().reads) >= {"intent", "reranker", "recommendation", "embedding", "sentiment"}
