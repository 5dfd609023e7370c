"""The artifact of a text classifier: its parts, a manifest that vouches for each, the card people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mangaassist.core.identity import canonical_json, digest_bytes

_LINEAR = "word and character n-grams, one linear support vector machine per label, no pickle"


class Classifier(Protocol):
    """What every text classifier of this project knows of itself."""

    @property
    def labels(self) -> Sequence[str]: ...

    @property
    def out_of_scope_label(self) -> str | None: ...

    @property
    def temperature(self) -> float: ...

    @property
    def threshold(self) -> float: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


def packed(
    model: Classifier,
    parts: Mapping[str, bytes],
    *,
    form: str,
    preprocessing: str,
    made_of: str = _LINEAR,
) -> dict[str, bytes]:
    """The files of ``model``: ``parts``, MODEL_CARD.md, and manifest.json with the digest of each.

    Args:
        form: name and version of the format, which says who can read ``parts``.
        preprocessing: digest of what turns a text into what the model reads (TRN-6).
        made_of: what stands behind the format, for the card.
    """
    manifest = {
        "format": form,
        "labels": list(model.labels),
        "out_of_scope_label": model.out_of_scope_label,
        "signature": {
            "input": {"text": "string"},
            "output": {"label": "string", "confidence": "number", "abstains": "boolean"},
        },
        "preprocessing_digest": preprocessing,
        "temperature": model.temperature,
        "threshold": model.threshold,
        "facts": dict(model.facts),
    }
    whole = {**parts, "MODEL_CARD.md": model_card(manifest, made_of).encode()}
    manifest["files"] = {name: digest_bytes(data) for name, data in whole.items()}
    return {"manifest.json": canonical_json(manifest), **whole}


def model_card(manifest: Mapping[str, Any], made_of: str = _LINEAR) -> str:
    """Markdown drawn from the manifest alone, so that it cannot say anything else than the manifest.

    Args:
        made_of: what stands behind the manifest's format.
    """
    facts = manifest["facts"]
    parts = [
        "# Text classifier",
        f"Answers with one of {len(manifest['labels'])} labels and a calibrated confidence; abstains when "
        f"the text looks out of scope. Format `{manifest['format']}`: {made_of}.",
        "## Trained on",
        _training(facts),
        "## Measured while training",
        _quality(facts),
        f"Temperature {manifest['temperature']:.3f}. {facts['threshold_rule']}",
        "## Limits",
        _limits(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _training(facts: Mapping[str, Any]) -> str:
    languages = ", ".join(f"{name} {rows:,}" for name, rows in facts["rows_by_language"].items())
    lines = [
        f"{facts['rows']:,} rows in {facts['groups']:,} groups ({languages}), seed {facts['seed']}.",
        "",
        "| label | rows |",
        "|---|---|",
        *(f"| {label} | {rows:,} |" for label, rows in facts["rows_by_label"].items()),
    ]
    return "\n".join(lines)


def _quality(facts: Mapping[str, Any]) -> str:
    measured = facts["out_of_fold"]
    if measured is None:
        return "All rows belong to one group, so nothing could be held out: the confidence is not calibrated."
    accuracy = measured["accuracy"]
    return (
        f"On rows held out by group: accuracy {accuracy['value']:.3f} "
        f"({accuracy['low']:.3f} to {accuracy['high']:.3f}, n = {accuracy['n']:,}), calibration error "
        f"{measured['calibration_error']:.3f} after scaling. The artifact itself was trained on all rows."
    )


def _limits(manifest: Mapping[str, Any]) -> str:
    facts = manifest["facts"]
    rare = [label for label, rows in facts["rows_by_label"].items() if rows < facts["rare_below"]]
    lines = ["- It knows n-grams, not meaning: a paraphrase without a known word is a guess."]
    lines += [f"- Fewer than {facts['rare_below']} rows: {', '.join(rare)}."] if rare else []
    if manifest["out_of_scope_label"] is None:
        lines.append("- It saw no out-of-scope examples; abstention rests on unfamiliarity alone.")
    return "\n".join(lines)
