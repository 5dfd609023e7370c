"""MLflow as a projection: made once, repaired to the ledger, by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.promotion.samples import add, failing, registry, to_canary, to_champion

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import InputError
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.lifecycle.mlflow_projection import STATUS, TAG, project
from mangaassist.lifecycle.platform import Platform


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def platform(home: Home, clock: SimulatedClock, url: str) -> Platform:
    """Two champions one after the other, and a third version in its canary."""
    target = registry(home)
    to_champion(target, run="r1")
    to_champion(target, run="r2")
    add(target, run="r3")
    to_canary(target, "intent", 3)
    return Platform.open(Home(home.path, Settings(mlflow_url=url)), clock)


def said(platform: Platform, *, check: bool = False) -> dict[str, tuple[str | None, str | None, bool]]:
    found = project(platform, "intent", check=check)
    return {one.what: (one.ledger, one.mlflow, one.repaired) for one in found}


def test_the_ledger_wins(platform: Platform, url: str) -> None:
    """PRO-1: runs, versions, aliases; a moved alias is said and put right; foreign ones are named."""
    before = said(platform, check=True)
    assert before["version 1"] == ("retired", None, False)
    assert said(platform)["alias champion"] == ("version 2", None, True)
    assert said(platform) == {}
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url, registry_uri=url)
    assert client.get_model_version_by_alias("intent", "champion").tags[TAG] == "2"
    shadow = client.get_model_version_by_alias("intent", "challenger")
    assert (shadow.tags[TAG], shadow.tags[STATUS]) == ("3", "canary")
    run = client.get_run(shadow.run_id)
    assert run.data.metrics == {"accuracy": 0.95}
    assert run.data.params["label_version"] == "3"

    client.set_registered_model_alias("intent", "champion", "1")
    client.delete_registered_model_alias("intent", "challenger")
    client.set_model_version_tag("intent", "1", STATUS, "champion")
    foreign = str(client.create_model_version("intent", "s3://elsewhere/model").version)
    expected = {
        "status of version 1": ("retired", "champion"),
        f"foreign version {foreign}": (None, f"MLflow version {foreign}"),
        "alias champion": ("version 2", "version 1"),
        "alias challenger": ("version 3", None),
    }
    assert {what: pair[:2] for what, pair in said(platform, check=True).items()} == expected
    assert {what: pair[:2] for what, pair in said(platform).items()} == expected
    assert list(said(platform)) == [f"foreign version {foreign}"], "only what is not ours is left"
    client.set_registered_model_alias("intent", "champion", foreign)
    assert said(platform)["alias champion"] == ("version 2", f"foreign version {foreign}", True)

    platform.registry.fail("intent", 3, decision=failing("intent/3"))
    after = said(platform)
    assert after["alias challenger"] == (None, "version 3", True)
    assert after["status of version 3"] == ("failed_promotion", "canary", True)
    client.delete_model_version("intent", "2")
    assert said(platform)["version 2"] == ("champion", None, True)
    assert client.get_model_version_by_alias("intent", "champion").tags[TAG] == "2"
    assert len(client.search_runs([run.info.experiment_id])) == 3, "a run is used again"


_PROJECT = """
import sys
from pathlib import Path
from mangaassist.core.clock import SystemClock
from mangaassist.core.home import Home
from mangaassist.core.settings import Settings
from mangaassist.lifecycle.mlflow_projection import project
from mangaassist.lifecycle.platform import Platform
home = Home(Path(sys.argv[1]), Settings(mlflow_url=sys.argv[2]))
print(len(project(Platform.open(home, SystemClock()), "intent", check=False)))
"""


@pytest.mark.soak
def test_two_first_projections_at_once_make_one(platform: Platform, url: str) -> None:
    """The database is made and migrated by whoever comes first; the other finds everything done."""
    command = [sys.executable, "-c", _PROJECT, str(platform.home.path), url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    found = sorted(int(one.communicate(timeout=120)[0]) for one in both)
    assert found == [0, 5]


def test_without_a_store_it_says_what_to_set(home: Home, clock: SimulatedClock) -> None:
    with pytest.raises(InputError, match="mlflow_url"):
        project(Platform.open(home, clock), "intent", check=True)
