"""The model card: what a person should know before trusting the artifact beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LINEAR = "word and character n-grams, one linear support vector machine per label, no pickle"


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
