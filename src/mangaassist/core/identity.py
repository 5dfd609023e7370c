"""Identifiers: canonical JSON, content digests, example and request ids."""

from __future__ import annotations

import hashlib
import unicodedata
import uuid
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from mangaassist.core.clock import isoformat


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return isoformat(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | frozenset | set):
        return sorted(value) if isinstance(value, frozenset | set) else list(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTC instants.

    Raises:
        TypeError: for a value with no JSON form.
    """
    return orjson.dumps(
        value, default=_default, option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
    )


def digest_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return digest_bytes(canonical_json(value))


def canonical_text(text: str) -> str:
    """The text two spellings of the same input share: NFKC, casefolded, single spaces.

    Used for identity (duplicates, leaks between roles), never as model input.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def example_id(text: str, model_target: str) -> str:
    """LAB-1: SHA-256 of (canonical input, model_target)."""
    return digest([canonical_text(text), model_target])


def request_id(generator: np.random.Generator) -> str:
    """A version 4 UUID drawn from a generator that is passed in, so that a simulation repeats itself."""
    return str(uuid.UUID(bytes=generator.bytes(16), version=4))


def user_digest(user_id: str | None) -> str | None:
    """What logs keep of a user: enough to count people, nothing to address one by."""
    return None if user_id is None else digest_bytes(b"user\x00" + user_id.encode())[:32]
