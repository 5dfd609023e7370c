"""Signed artifacts (GOV-3): Ed25519 keys, a pair per region; serving loads what its own region vouches for.

Public keys live in the ledger, where the chain protects them; private keys in a folder only the owner reads.
Rotation adds a key and keeps trusting the older ones; revoking one ends trust in everything it signed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mangaassist.core.errors import Conflict, GateRefused, InputError, IntegrityError, nearest
from mangaassist.core.home import unwritable
from mangaassist.core.identity import canonical_json, digest_bytes
from mangaassist.storage.ledger import Ledger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ADDED: Final = "signing.key_added"
REVOKED: Final = "signing.key_revoked"
_REGION = re.compile(r"[a-z][a-z0-9-]{0,31}")
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Signature:
    """One region's word for one artifact.

    Attributes:
        region: whose copy it is ("us", "jp", "eu").
        key: id of the key that signed: the first 16 digits of the public key's SHA-256.
        value: the Ed25519 signature, 128 hexadecimal digits.
    """

    region: str
    key: str
    value: str

    def as_dict(self) -> dict[str, str]:
        """The signature as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key as the ledger knows it; ``public`` is 64 hexadecimal digits."""

    key: str
    public: str
    added_at: datetime
    revoked: str | None


class KeyRing:
    """The keys of all regions: public halves from ``ledger``, private halves under ``folder``.

    Args:
        region: the region this process signs and loads for.
    """

    def __init__(self, ledger: Ledger, folder: Path, region: str) -> None:
        self._ledger = ledger
        self._folder = folder
        self.region = _checked(region)
        self._held: dict[str, Ed25519PrivateKey] = {}

    def keys(self, region: str) -> dict[str, PublicKey]:
        """Every key the region ever had by id, oldest first."""
        found: dict[str, PublicKey] = {}
        for entry in self._ledger.entries(subject=_subject(region)):
            body = entry.body
            if entry.kind == ADDED:
                found[body["key"]] = PublicKey(body["key"], body["public"], entry.at, None)
            elif entry.kind == REVOKED:
                known = found[body["key"]]
                found[body["key"]] = PublicKey(known.key, known.public, known.added_at, body["reason"])
        return found

    def rotate(self, region: str, *, actor: str, at: datetime) -> str:
        """Add a key, which signs from now on; what older keys signed stays valid. Returns its id."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        head = self._ledger.head(_subject(_checked(region)))
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        key = digest_bytes(public)[:16]
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # The private half first: a key in the ledger that nobody holds could not sign.
        self._store(self._path(region, key), pem)
        body = {"key": key, "public": public.hex()}
        self._ledger.append(
            kind=ADDED, subject=_subject(region), body=body, actor=actor, at=at, expected=head
        )
        return key

    def revoke(self, region: str, key: str, *, reason: str, actor: str, at: datetime) -> None:
        """End trust in everything ``key`` signed; those versions load again once another key signed them.

        Raises:
            InputError: the region has no such key.
        """
        head, known = self._ledger.head(_subject(region)), self.keys(region)
        if key not in known:
            raise InputError(
                "key", expected=f"a key of region '{region}'", got=repr(key), next_step=nearest(key, known)
            )
        body = {"key": key, "reason": reason}
        self._ledger.append(
            kind=REVOKED, subject=_subject(region), body=body, actor=actor, at=at, expected=head
        )

    def sign(
        self, artifact: str, *, name: str, region: str | None = None, actor: str, at: datetime
    ) -> Signature:
        """Vouch for ``artifact`` as version ``name``; a region without a key gets its first one.

        Raises:
            GateRefused: this machine does not hold the region's signing key.
        """
        region = _checked(region or self.region)
        key = self._signing_key(region) or self._first_key(region, actor=actor, at=at)
        if key not in self._held:
            self._held[key] = self._private(region, key)
        return Signature(region, key, self._held[key].sign(_message(artifact, name, region)).hex())

    def verify(self, signatures: Mapping[str, Signature], artifact: str, *, name: str) -> None:
        """Check that this region vouches for ``artifact`` as version ``name``.

        Raises:
            IntegrityError: it does not: no signature, an unknown or revoked key, or not what was signed.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signature = signatures.get(self.region)
        if signature is None:
            signed = ", ".join(sorted(signatures)) or "no region"
            raise self._untrusted(name, f"a copy signed for {signed}")
        known = self.keys(self.region).get(signature.key)
        if known is None:
            raise self._untrusted(name, f"a signature by the unknown key {signature.key}")
        if known.revoked is not None:
            raise self._untrusted(name, f"a signature by key {signature.key}, revoked: {known.revoked}")
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(known.public))
            public.verify(bytes.fromhex(signature.value), _message(artifact, name, self.region))
        except (InvalidSignature, ValueError) as error:
            raise self._untrusted(name, f"a signature of key {signature.key} on something else") from error

    def _signing_key(self, region: str) -> str | None:
        valid = [one.key for one in self.keys(region).values() if one.revoked is None]
        return valid[-1] if valid else None

    def _first_key(self, region: str, *, actor: str, at: datetime) -> str:
        try:
            return self.rotate(region, actor=actor, at=at)
        except Conflict:  # another process added it at the same moment
            key = self._signing_key(region)
            if key is None:
                raise
            return key

    def _private(self, region: str, key: str) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(self._path(region, key).read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise GateRefused(
                f"signing for region '{region}'",
                expected=f"the private key {key} on this machine",
                got="no file" if isinstance(error, FileNotFoundError) else "an unreadable file",
                next_step=f"Sign where it is kept, or run 'mangaassist registry rotate --region {region}'.",
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise IntegrityError(
                f"private key {key}", expected="an Ed25519 key", got="another kind", next_step="Restore it."
            )
        return private

    def _path(self, region: str, key: str) -> Path:
        return self._folder / region / f"{key}.pem"

    def _store(self, path: Path, pem: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(path, error) from error

    def _untrusted(self, name: str, got: str) -> IntegrityError:
        story, _, number = name.partition("/")
        return IntegrityError(
            f"signature of {name}",
            expected=f"one of region '{self.region}' on its artifact",
            got=got,
            next_step=f"Run 'mangaassist registry sign {story} {number}' where region '{self.region}' signs.",
        )


def _subject(region: str) -> str:
    return f"signing/{region}"


def _checked(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise InputError(
            "region",
            expected="a lower-case name like us, jp or eu",
            got=repr(region),
            next_step="Correct it.",
        )
    return region


def _message(artifact: str, name: str, region: str) -> bytes:
    """What is signed: a signature moved to another version, artifact or region says nothing."""
    return canonical_json({"artifact": artifact, "region": region, "version": name})
