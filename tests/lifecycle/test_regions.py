"""GOV-3: a copy in another region has the same bytes, that region's signature, and no damaged source."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.promotion.samples import add

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.errors import IntegrityError
from mangaassist.core.home import Home
from mangaassist.lifecycle.platform import Platform
from mangaassist.lifecycle.regions import copy
from mangaassist.storage.artifacts import ArtifactStore


def test_a_copy_is_the_same_artifact_under_its_own_signature(
    home: Home, clock: SimulatedClock, tmp_path: Path
) -> None:
    platform = Platform.open(home, clock)
    version = add(platform.registry, run="r1")
    there = tmp_path / "jp" / "artifacts"
    for _ in range(2):
        copied = copy(platform, "intent", 1, region="jp", to=there, actor="emi")
    assert set(copied.signatures) == {"us", "jp"}
    assert copied.signatures["us"] == version.signatures["us"]
    assert ArtifactStore(there).files(version.artifact) == platform.artifacts.files(version.artifact)


def test_nothing_damaged_is_copied(home: Home, clock: SimulatedClock, tmp_path: Path) -> None:
    platform = Platform.open(home, clock)
    version = add(platform.registry, run="r1")
    path = home.folder("artifacts") / version.artifact[:2] / version.artifact
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"files", b"filez"))
    with pytest.raises(IntegrityError):
        copy(platform, "intent", 1, region="jp", to=tmp_path / "jp", actor="emi")
    assert set(platform.registry.get("intent", 1).signatures) == {"us"}
    assert not (tmp_path / "jp").exists()
