"""One 64-bit hash of a user, computed alike for one user in microseconds and for millions in numpy.

MurmurHash64A (Austin Appleby, 2008, public domain) over the UTF-8 bytes of the identity gives a fingerprint
that does not depend on the experiment. A salted finaliser then gives each experiment its own bucket.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mangaassist.core.errors import InputError
from mangaassist.core.identity import digest_bytes

BUCKETS = 1_000_000
"""Shares are cut in millionths."""

Hashes = NDArray[np.uint64]
Buckets = NDArray[np.int64]
Users = Any  # a sequence of str, or an Arrow array, whose type mypy cannot see

_MASK = (1 << 64) - 1
_M = 0xC6A4A7935BD1E995
_SEED = 0x6D616E6761
_ROW_BYTES = 1 << 26


def fingerprint(user: str) -> int:
    """MurmurHash64A of one identity.

    Raises:
        InputError: for an empty identity, which would put everybody without one into the same arm.
    """
    data = user.encode()
    if not data:
        raise _nobody(1)
    state = _SEED ^ (len(data) * _M & _MASK)
    whole = len(data) & ~7
    for start in range(0, whole, 8):
        word = int.from_bytes(data[start : start + 8], "little") * _M & _MASK
        state = (state ^ ((word ^ (word >> 47)) * _M & _MASK)) * _M & _MASK
    if whole != len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    state = (state ^ (state >> 47)) * _M & _MASK
    return state ^ (state >> 47)


def fingerprints(users: Users) -> Hashes:
    """:func:`fingerprint` of many identities, shape (n,).

    Args:
        users: a sequence of str, or an Arrow array of strings, which is several times faster.

    Raises:
        InputError: for missing or empty identities.
    """
    array = users if isinstance(users, pa.Array) else pa.array(users, pa.large_string())
    array = array.cast(pa.large_string())
    n = len(array)
    if n == 0:
        return np.empty(0, dtype=np.uint64)
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + n + 1]
    lengths = np.diff(offsets)
    nobody = array.null_count + int(np.count_nonzero(lengths == 0))
    if nobody:
        raise _nobody(nobody)
    data = np.frombuffer(array.buffers()[2], dtype=np.uint8)
    found = np.empty(n, dtype=np.uint64)
    # Identities of one length form a matrix; a log rarely has more than a dozen lengths.
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for part in np.array_split(rows, max(1, len(rows) * int(length) // _ROW_BYTES)):
            found[part] = _murmur(data, offsets[part], int(length))
    return found


def _murmur(data: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> Hashes:
    """The hashes of identities that are ``length`` bytes long and begin at ``starts``, shape (m,)."""
    padded = np.zeros((len(starts), -(-length // 8) * 8), dtype=np.uint8)
    if len(starts) and (np.diff(starts) == length).all():
        padded[:, :length] = data[starts[0] : starts[0] + len(starts) * length].reshape(-1, length)
    else:
        padded[:, :length] = data[starts[:, None] + np.arange(length)]
    words = padded.view("<u8")
    m, shift = np.uint64(_M), np.uint64(47)
    state = np.full(len(starts), _SEED ^ (length * _M & _MASK), dtype=np.uint64)
    for index in range(length // 8):
        word = words[:, index] * m
        word ^= word >> shift
        word *= m
        state ^= word
        state *= m
    if length % 8:
        state ^= words[:, -1]
        state *= m
    state ^= state >> shift
    state *= m
    return np.asarray(state ^ (state >> shift), dtype=np.uint64)


@lru_cache(maxsize=8192)
def salt(*parts: str) -> int:
    """64 bits of SHA-256 over the parts: chosen by what is salted, never by a person."""
    return int(digest_bytes("\x1f".join(parts).encode())[:16], 16)


def bucket(hashed: int, salted: int) -> int:
    """The bucket, 0 to 999,999, of a fingerprint under a salt (splitmix64's finaliser, applied twice)."""
    state = hashed ^ salted
    for _ in range(2):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return (state >> 32) * BUCKETS >> 32


def buckets(hashed: Hashes, salted: int) -> Buckets:
    """:func:`bucket` of many fingerprints, shape (n,)."""
    state = hashed ^ np.uint64(salted)
    for _ in range(2):
        state += np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    state >>= np.uint64(32)
    state *= np.uint64(BUCKETS)
    return np.asarray(state >> np.uint64(32), dtype=np.int64)


def _nobody(count: int) -> InputError:
    return InputError(
        "user_id",
        expected="an identity for every user",
        got=f"{count} empty or missing",
        next_step="Leave anonymous traffic out of the experiment, or give it a stable identity first.",
    )
