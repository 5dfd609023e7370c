"""GOV-3, GOV-4: an audit finds a signature that vouches for something else, and a bundle's damaged member."""

from __future__ import annotations

from tests.promotion.samples import AT, add

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.governance.signing import Signature
from mangaassist.lifecycle.auditing import audit_home
from mangaassist.lifecycle.platform import Platform


def test_a_signature_of_something_else_is_found(home: Home, clock: SimulatedClock) -> None:
    platform = Platform.open(home, clock)
    first = add(platform.registry, run="r1")
    add(platform.registry, run="r2")
    assert audit_home(platform).ok
    # A signature that is valid, but of the other version: appended the way a release with a bug might.
    wrong = Signature(**first.signatures["us"].as_dict())
    body = {"version": 2, "signature": wrong.as_dict()}
    platform.ledger.append(kind="registry.signed", subject="registry/intent", body=body, actor="x", at=AT)
    found = audit_home(platform)
    assert not found.ok
    assert "signature of intent/2" in found.sentence
    platform.keys.revoke("us", first.signatures["us"].key, reason="lost", actor="emi", at=AT)
    assert audit_home(platform).ok, "a revoked key is no damage; what it signed is not loaded"


def test_a_damaged_member_of_a_bundle_is_found(home: Home, clock: SimulatedClock) -> None:
    platform = Platform.open(home, clock)
    members = {role: platform.artifacts.put_files({"data": role.encode()}) for role in ("encoder", "index")}
    platform.bundles.register("search", members, evaluation=None, actor="mei", at=AT)
    assert audit_home(platform).ok
    blob = platform.artifacts.put(b"index")
    path = home.folder("artifacts") / blob[:2] / blob
    path.chmod(0o644)
    path.write_bytes(b"other")
    assert blob in audit_home(platform).sentence
