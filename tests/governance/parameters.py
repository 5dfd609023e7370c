"""A parameter store of this process, as moto plays it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mangaassist.core.identity import digest
from mangaassist.storage.ledger import Ledger


@contextmanager
def parameter_store() -> Iterator[Any]:
    """A client whose calls never leave this process."""
    import boto3
    from moto import mock_aws

    with mock_aws():
        yield boto3.client(
            "ssm", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )


def prefix(ledger: Ledger) -> str:
    """A path of one home."""
    return f"manga/{digest(str(ledger._place))[:16]}"
