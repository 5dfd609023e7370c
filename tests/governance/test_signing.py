"""GOV-3: a signature says one thing about one artifact, for one region, while its key is trusted."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mangaassist.core.errors import GateRefused, InputError, IntegrityError
from mangaassist.core.home import Home
from mangaassist.governance.signing import KeyRing, Signature
from mangaassist.storage.ledger import Ledger

AT = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
ARTIFACT, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger.open(home)


@pytest.fixture
def ring(ledger: Ledger, tmp_path: Path) -> Callable[[str], KeyRing]:
    return lambda region: KeyRing(ledger, tmp_path / "keys", region)


def signed(ring: KeyRing, artifact: str = ARTIFACT, *, region: str | None = None) -> dict[str, Signature]:
    found = ring.sign(artifact, name="intent/1", region=region, actor="release", at=AT)
    return {found.region: found}


def test_what_was_signed_verifies_and_nothing_else(ring: Callable[[str], KeyRing]) -> None:
    us = ring("us")
    signatures = signed(us)
    us.verify(signatures, ARTIFACT, name="intent/1")
    with pytest.raises(IntegrityError, match="on something else"):
        us.verify(signatures, OTHER, name="intent/1")
    with pytest.raises(IntegrityError, match="on something else"):
        us.verify(signatures, ARTIFACT, name="intent/2")


def test_one_region_does_not_load_what_another_signed(ring: Callable[[str], KeyRing]) -> None:
    """GOV-3: never one signature for several regions, not even under another region's name."""
    signatures = signed(ring("us"))
    with pytest.raises(IntegrityError, match="a copy signed for us"):
        ring("jp").verify(signatures, ARTIFACT, name="intent/1")
    ring("jp").rotate("jp", actor="emi", at=AT)
    moved = {"jp": Signature("jp", signatures["us"].key, signatures["us"].value)}
    with pytest.raises(IntegrityError, match="the unknown key"):
        ring("jp").verify(moved, ARTIFACT, name="intent/1")
    ring("jp").verify(signed(ring("us"), region="jp"), ARTIFACT, name="intent/1")


def test_rotation_keeps_trust_and_revocation_ends_it(ring: Callable[[str], KeyRing]) -> None:
    us = ring("us")
    before = signed(us)
    us.rotate("us", actor="emi", at=AT)
    after = signed(us)
    assert before["us"].key != after["us"].key
    us.verify(before, ARTIFACT, name="intent/1")
    us.revoke("us", before["us"].key, reason="laptop lost", actor="emi", at=AT)
    with pytest.raises(IntegrityError, match="revoked: laptop lost"):
        us.verify(before, ARTIFACT, name="intent/1")
    us.verify(after, ARTIFACT, name="intent/1")
    with pytest.raises(InputError, match="a key of region 'us'"):
        us.revoke("us", "0" * 16, reason="typo", actor="emi", at=AT)


def test_a_forged_key_beside_the_ledger_is_worth_nothing(
    ring: Callable[[str], KeyRing], home: Home, tmp_path: Path
) -> None:
    """An attacker with a key of their own and no entry in the chain stays unknown."""
    signed(ring("us"))
    elsewhere = Ledger.open(Home.open(tmp_path / "elsewhere"))
    forged = signed(KeyRing(elsewhere, tmp_path / "forged", "us"))
    with pytest.raises(IntegrityError, match="the unknown key"):
        ring("us").verify(forged, ARTIFACT, name="intent/1")


def test_private_keys_are_the_owners_alone_and_missing_ones_are_named(
    ring: Callable[[str], KeyRing], ledger: Ledger, tmp_path: Path
) -> None:
    signed(ring("us"))
    path = next((tmp_path / "keys" / "us").iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(GateRefused, match="no file"):
        signed(KeyRing(ledger, tmp_path / "another machine", "us"))
    path.write_bytes(b"not a key")
    with pytest.raises(GateRefused, match="an unreadable file"):
        signed(ring("us"))


@pytest.mark.parametrize("region", ["", "US", "../us", "j" * 40])
def test_a_region_is_a_plain_name(ring: Callable[[str], KeyRing], region: str) -> None:
    with pytest.raises(InputError, match="region"):
        ring(region)
