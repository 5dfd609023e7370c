"""The few file forms that step outputs take: frames, JSON and verdicts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from mangaassist.core.errors import GateRefused
from mangaassist.core.identity import canonical_json
from mangaassist.core.verdict import Status, Verdict

if TYPE_CHECKING:
    import polars as pl

VERDICTS = "verdicts.json"


class VerdictsRefused(GateRefused):
    """A step's own verdicts say no.

    Attributes:
        verdicts: everything the step found, for the ledger.
    """

    def __init__(self, step: str, verdicts: tuple[Verdict, ...], *, next_step: str) -> None:
        self.verdicts = verdicts
        stopping = [one for one in verdicts if one.blocking and not one.passed]
        failed = [one for one in stopping if one.status is Status.FAIL]
        said = " ".join(one.sentence for one in failed or stopping).rstrip(".")
        super().__init__(step, expected="every blocking verdict to pass", got=said, next_step=next_step)


def frame_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as an Arrow IPC file; the same rows give the same bytes."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def read_frame(data: bytes) -> pl.DataFrame:
    """The inverse of :func:`frame_bytes`."""
    import polars as pl

    return pl.read_ipc(io.BytesIO(data))


def verdict_bytes(verdicts: Iterable[Verdict]) -> bytes:
    """Verdicts as a JSON list."""
    return canonical_json([one.as_dict() for one in verdicts])


def read_verdicts(data: bytes) -> tuple[Verdict, ...]:
    """The inverse of :func:`verdict_bytes`."""
    return tuple(Verdict.from_dict(one) for one in orjson.loads(data))


def read_json(data: bytes) -> Any:
    """Any JSON document."""
    return orjson.loads(data)
