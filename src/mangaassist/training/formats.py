"""From artifact files back to a model: the one door serving loads through (TRN-6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from mangaassist.core.errors import IntegrityError, MangaAssistError, nearest
from mangaassist.core.identity import digest_bytes
from mangaassist.core.story import Model
from mangaassist.training.deep.text_model import FORMAT as HASHED_NETWORK
from mangaassist.training.deep.text_model import load_deep_text_model
from mangaassist.training.deep.text_model import preprocessing_digest as deep_preprocessing_digest
from mangaassist.training.text.model import FORMAT as NGRAM_LINEAR
from mangaassist.training.text.model import load_text_model
from mangaassist.training.text.preprocessing import preprocessing_digest

MANIFEST = "manifest.json"
_REPLAY = "Restore the artifact from a backup, or replay the training step."


# Per format: what this code does to raw input, and how the files become a model.
_FORMATS: Mapping[
    str, tuple[Callable[[], str], Callable[[Mapping[str, Any], Mapping[str, bytes]], Model]]
] = {
    NGRAM_LINEAR: (preprocessing_digest, load_text_model),
    HASHED_NETWORK: (deep_preprocessing_digest, load_deep_text_model),
}


def load(files: Mapping[str, bytes]) -> Model:
    """The model stored as ``files``, verified.

    Raises:
        IntegrityError: when the manifest is missing or malformed, a file is missing or not what the
            manifest says, the format is unknown, or the model was trained with other preprocessing than
            this code performs (train/serve skew).
    """
    manifest = read_manifest(files)
    digest_of_code, loader = _FORMATS[manifest["format"]]
    _check_files(manifest, files)
    own = digest_of_code()
    if manifest["preprocessing_digest"] != own:
        raise IntegrityError(
            "preprocessing_digest",
            expected=f"{own[:12]}, what this installation does to text",
            got=f"{str(manifest['preprocessing_digest'])[:12]}, what the model was trained with",
            next_step="Serve it with the release and dictionary that trained it, or retrain it here.",
        )
    try:
        return loader(manifest, files)
    except MangaAssistError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            f"artifact of format {manifest['format']}",
            expected="the fields and arrays of that format",
            got=f"{type(error).__name__}: {error}",
            next_step=_REPLAY,
        ) from error


def read_manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of an artifact, its format known; raises like :func:`load`."""
    try:
        manifest = orjson.loads(files[MANIFEST])
        name = manifest["format"]
        for field in ("files", "preprocessing_digest", "signature", "labels"):
            _ = manifest[field]
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise IntegrityError(
            MANIFEST,
            expected="a JSON object with format, files, labels, signature and preprocessing_digest",
            got=f"{type(error).__name__}: {error}",
            next_step=_REPLAY,
        ) from error
    if name not in _FORMATS:
        raise IntegrityError(
            f"{MANIFEST}: format",
            expected=f"one of {', '.join(_FORMATS)}",
            got=str(name),
            next_step=f"{nearest(str(name), _FORMATS)} A newer release may have written it.",
        )
    return dict(manifest)


def _check_files(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    recorded = manifest["files"] if isinstance(manifest["files"], dict) else {}
    for name in sorted({*files} - {*recorded, MANIFEST}):
        # Model and encoder are one: a part nobody vouches for may be another fit's.
        raise IntegrityError(name, expected="a digest in the manifest", got="none", next_step=_REPLAY)
    for name, expected in recorded.items():
        found = digest_bytes(files[name]) if name in files else "nothing"
        if found != expected:
            raise IntegrityError(
                name, expected=f"the bytes with digest {expected}", got=found, next_step=_REPLAY
            )
