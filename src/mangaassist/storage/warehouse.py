"""Where table files lie when that is not a folder: S3 and what speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mangaassist.core.errors import Unavailable
from mangaassist.core.settings import Settings

_S3_ERROR = "AWS Error"
"""In the text of every error that Arrow's S3 client gives, except for an object that is not there."""
_CONNECT_SECONDS = "5"


def s3_properties(settings: Settings) -> dict[str, str]:
    """pyiceberg's names for the S3 settings; what is empty is left to the AWS environment and profile."""
    given = {
        "s3.endpoint": settings.s3_endpoint,
        "s3.region": settings.s3_region,
        "s3.access-key-id": settings.s3_access_key_id,
        "s3.secret-access-key": settings.s3_secret_access_key,
        "s3.connect-timeout": _CONNECT_SECONDS,
    }
    return {name: value for name, value in given.items() if value}


@contextmanager
def answering() -> Iterator[None]:
    """Tell a warehouse that does not answer from one whose files are damaged.

    Raises:
        Unavailable: the bucket is not there, the server away, or the credentials wrong.
    """
    try:
        yield
    except OSError as error:
        text = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError) or _S3_ERROR not in text:
            raise
        raise Unavailable(
            "warehouse",
            expected="a bucket that answers",
            got=text[text.index(_S3_ERROR) :].partition(" (Request ID")[0][:300],
            next_step="Check the bucket, and the settings warehouse, s3_endpoint, s3_region and credentials.",
        ) from error
