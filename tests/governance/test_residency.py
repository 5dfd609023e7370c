"""GOV-3: from another region every path to a story's customer data is refused, on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from tests.promotion.samples import registry, to_champion
from tests.serving.samples import load_toy

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import GateRefused
from mangaassist.core.home import Home
from mangaassist.core.identity import canonical_json, digest_bytes
from mangaassist.core.settings import Settings
from mangaassist.features.distributed import _tables as worker_tables
from mangaassist.features.online import Manifest
from mangaassist.governance.residency import MARK, REFUSED, STORY, resident
from mangaassist.lifecycle import rollout
from mangaassist.lifecycle.maintenance import maintain
from mangaassist.lifecycle.platform import Platform
from mangaassist.serving.app import create_app
from mangaassist.serving.model_server import ModelServer
from mangaassist.serving.service import Service
from mangaassist.stories.scaffold import create_story

JP = "tickets"
TEXTS = {"train.arrow": "返金してください".encode()}
# Content-addressed, so the same everywhere.
DIGEST = digest_bytes(
    canonical_json(
        {
            "files": {"train.arrow": {"digest": digest_bytes(TEXTS["train.arrow"]), "size": 24}},
            "marks": {MARK: "jp", STORY: JP},
        }
    )
)
MANIFEST = Manifest(f"{JP}@1", "g1", "f", {}, {}, datetime(2026, 1, 1, tzinfo=UTC), 0, 0, "d", "s")


@pytest.fixture
def home(tmp_path: Path, clock: SimulatedClock) -> Home:
    return made(tmp_path, clock)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which everything that is tried is refused, so that it stays as it is."""
    return made(tmp_path_factory.mktemp("shared"), SimulatedClock(datetime(2026, 10, 5, tzinfo=UTC)))


def made(folder: Path, clock: SimulatedClock) -> Home:
    """A home with a Japanese story and one prediction of it, made in Japan."""
    home = Home.open(folder / "home")
    folder = create_story(JP, "text-classification", home.path)
    story = folder / "story.py"
    story.write_text(story.read_text().replace('residency="us"', 'residency="jp"'))
    platform = there(home, clock)
    platform.tables.append(f"labels.{JP}", pa.table({"n": [1]}))
    platform.tables.append("drift.summaries", pa.table({"n": [1]}))
    platform.artifacts.put_files(TEXTS, marks=resident(JP, "jp"))
    platform.labels.cold.put_files(TEXTS, marks=resident(JP, "jp"))
    platform.online.write(MANIFEST.name, "g1", [])
    platform.online.publish(MANIFEST)
    return home


def there(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(Home(home.path, Settings(region="jp")), clock)


def here(home: Home, clock: SimulatedClock) -> Platform:
    return Platform.open(Home(home.path, Settings(region="us")), clock)


PATHS: dict[str, Callable[[Platform], object]] = {
    "table read": lambda one: one.tables.read(f"labels.{JP}"),
    "table read of a time": lambda one: one.tables.read(f"labels.{JP}", columns=["n"]),
    "commits since": lambda one: one.tables.since(f"labels.{JP}", 0),
    "fingerprint": lambda one: one.tables.fingerprint(f"labels.{JP}", one.tables.snapshot(f"labels.{JP}")),
    "append": lambda one: one.tables.append(f"labels.{JP}", pa.table({"n": [2]})),
    "first append": lambda one: one.tables.append(f"outcomes.{JP}", pa.table({"n": [2]})),
    "feature append": lambda one: one.tables.append(f"features.{JP}.shopper", pa.table({"n": [2]})),
    "label store": lambda one: one.labels.tables.read(f"labels.{JP}"),
    "feature store": lambda one: one.features.tables.read(f"features.{JP}.shopper"),
    "expiry": lambda one: one.tables.expire(
        f"labels.{JP}", older_than=one.clock.now(), keep=(), now=one.clock.now(), grace=timedelta(0)
    ),
    "artifact": lambda one: one.artifacts.files(DIGEST),
    "artifact file": lambda one: one.artifacts.read(DIGEST, "train.arrow"),
    "artifact write": lambda one: one.artifacts.put_files(TEXTS, marks=resident(JP, "jp")),
    "cold folder": lambda one: one.labels.cold.read(DIGEST, "train.arrow"),
    "online read": lambda one: one.online.open(MANIFEST),
    "online write": lambda one: one.online.write(MANIFEST.name, "g2", []),
    "online drop": lambda one: one.online.drop(MANIFEST.name),
    "serving": lambda one: one.residency.require(JP, "serving"),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_refused_from_another_region(shared: Home, clock: SimulatedClock, path: str) -> None:
    platform = here(shared, clock)
    told = len(platform.ledger.entries(kind=REFUSED))
    for _ in range(2):
        with pytest.raises(GateRefused, match="in region 'jp', where its customer data stay"):
            PATHS[path](platform)
    [refused] = platform.ledger.entries(kind=REFUSED)[told:]
    assert refused.subject == f"residency/{JP}", "told once"
    assert (refused.body["residency"], refused.body["region"]) == ("jp", "us")


def test_at_home_nothing_is_refused_and_the_platforms_own_tables_are_anybodys(
    home: Home, clock: SimulatedClock
) -> None:
    assert there(home, clock).tables.read(f"labels.{JP}")["n"].to_list() == [1]
    assert here(home, clock).tables.read("drift.summaries").height == 1
    assert there(home, clock).artifacts.files(DIGEST) == TEXTS
    assert there(home, clock).online.manifests(MANIFEST.name) == [MANIFEST]
    here(home, clock).artifacts.check(DIGEST)
    assert here(home, clock).artifacts.files(here(home, clock).artifacts.put_files({"model": b"m"}))
    assert there(home, clock).tables.marks(f"labels.{JP}")[MARK] == "jp"
    assert MARK not in there(home, clock).tables.marks("drift.summaries")


def test_a_worker_in_another_region_reads_nothing(
    home: Home, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a Ray worker opens: the asker is in Japan and admitted, the machine that reads is not."""
    asker = there(home, clock).home
    assert worker_tables(asker).read(f"labels.{JP}").height == 1
    monkeypatch.setenv("MANGAASSIST_REGION", "us")
    with pytest.raises(GateRefused, match="one in region 'us'"):
        worker_tables(asker).read(f"labels.{JP}")
    assert len(there(home, clock).ledger.entries(kind=REFUSED)) == 1


def test_editing_the_story_moves_no_data(home: Home, clock: SimulatedClock) -> None:
    """The table carries its region: a story that says "us" later does not open what was written in Japan."""
    story = home.path / "stories" / JP / "story.py"
    story.write_text(story.read_text().replace('residency="jp"', 'residency="us"'))
    with pytest.raises(GateRefused, match="'jp'"):
        here(home, clock).tables.read(f"labels.{JP}")
    with pytest.raises(GateRefused, match="'jp'"):
        here(home, clock).tables.append(f"labels.{JP}", pa.table({"n": [2]}))
    with pytest.raises(GateRefused, match="'jp'"):
        here(home, clock).artifacts.files(DIGEST)


def test_the_prediction_log_stays_where_it_was_written(home: Home, clock: SimulatedClock) -> None:
    """A spool written in Japan is drained there only; nothing is lost by the refusal."""
    target = registry(home)
    to_champion(target, JP, run="r1")
    service = Service(home, target, clock, server=ModelServer(target, load=load_toy))
    ask = {"text": "返金してください"}
    with TestClient(create_app(service)) as client:
        assert client.post(f"/v1/stories/{JP}/predict", json=ask).status_code == 200
    abroad = here(home, clock)
    with pytest.raises(GateRefused, match=r"predictions\.tickets"):
        rollout.drain(abroad, JP)
    assert rollout.drain(there(home, clock), JP) == 1
    with pytest.raises(GateRefused, match="read of table"):
        rollout.read_predictions(abroad, JP)


def test_serving_refuses_the_story(home: Home, clock: SimulatedClock) -> None:
    """A Japanese request that reaches an American server is refused before anything is written."""
    platform = here(home, clock)
    target = registry(home)
    to_champion(target, JP, run="r1")
    service = Service(
        home,
        target,
        clock,
        server=ModelServer(target, load=load_toy),
        admit=lambda story: platform.residency.require(story, "serving"),
    )
    with TestClient(create_app(service)) as client:
        answer = client.post(f"/v1/stories/{JP}/predict", json={"text": "返金"})
        assert answer.status_code == 409
        assert "customer data stay" in answer.json()["message"]
        outcome = {"request_id": "r", "story": JP, "resolved": True}
        assert client.post("/v1/outcomes", json={"outcomes": [outcome]}).status_code == 409
    assert not list((platform.home.path / "spool").glob(f"predictions.{JP}/*"))


def test_maintenance_leaves_other_regions_alone(home: Home, clock: SimulatedClock) -> None:
    found = {one.what for one in maintain(here(home, clock), dry_run=False)}
    assert "drift.summaries" in found
    assert f"labels.{JP}" not in found


def test_a_region_is_a_name_as_given(tmp_path: Path, clock: SimulatedClock) -> None:
    """``ap-northeast-1`` is what the contract calls Japan; names are compared, not translated."""
    home = Home.open(tmp_path / "home")
    folder = create_story(JP, "text-classification", home.path)
    story = folder / "story.py"
    story.write_text(story.read_text().replace('residency="us"', 'residency="ap-northeast-1"'))
    tokyo = Platform.open(Home(home.path, Settings(region="ap-northeast-1")), clock)
    tokyo.tables.append(f"labels.{JP}", pa.table({"n": [1]}))
    with pytest.raises(GateRefused, match="ap-northeast-1"):
        there(home, clock).tables.read(f"labels.{JP}")
