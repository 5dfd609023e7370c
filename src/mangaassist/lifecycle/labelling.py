"""Labels without people: a story's rules run, its prompts put to a model, both audited week by week."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from mangaassist.core.errors import GateRefused, InputError, nearest
from mangaassist.core.identity import digest
from mangaassist.core.language import Language
from mangaassist.core.story import Story, StoryModule
from mangaassist.labels import audits
from mangaassist.labels.consensus import SETTLED, consensus
from mangaassist.labels.distillation import LabelProvider, Prompt, distil
from mangaassist.labels.function_report import report
from mangaassist.labels.functions import Ballot, RuleSet, combine, poll
from mangaassist.labels.labellers import Labeller, register, state
from mangaassist.labels.quality import AUDITOR
from mangaassist.labels.records import Example, Label
from mangaassist.labels.votes import current_examples
from mangaassist.lifecycle.foreign import story_code
from mangaassist.lifecycle.platform import Platform
from mangaassist.stats.label_model import ABSTAIN
from mangaassist.storage.spool import Spool

if TYPE_CHECKING:
    from mangaassist.labels.openai import OpenAiProvider

PROVIDERS = ("openai", "simulated")


def apply_rules(
    platform: Platform, name: str, *, source: str = "programmatic", add: bool = True
) -> dict[str, Any]:
    """Run the story's labelling functions over its training examples.

    Args:
        add: whether what they say becomes labels; False only reports.

    Returns:
        The rule set, a report per function, and what was added.

    Raises:
        InputError: for a story without rules or without examples, or a function that fails on an example.
        GateRefused: when this version of the rules was rolled back.
    """
    story, store = platform.story(name), platform.labels
    rules = rule_set(platform.module(name))
    rows = _training_examples(platform, story)
    examples = [_example(row) for row in rows.iter_rows(named=True)]
    ballot = poll(rules, examples, rows["example_id"].to_list(), classes=story.labels.classes)
    found = report(rules, ballot, _vendor_labels(platform, story, rows))
    batch = None
    if add:
        labeller = rules_labeller(rules, source=source)
        register(store, story, labeller, actor="labels")
        statements = _statements(platform, rules, ballot, rows, source)
        batch = state(store, story, labeller, statements, set(rows["example_id"]), actor="labels")
    return {
        "story": name,
        "source": source,
        "labeller": rules.version,
        "combining": rules.combining,
        "examples": rows.height,
        "added": 0 if batch is None else batch.labels,
        "label_versions": {} if batch is None else dict(batch.label_versions),
        "rule_set": found[0].as_dict(),
        "functions": [one.as_dict() for one in found[1:]],
    }


def rule_set(module: StoryModule) -> RuleSet:
    """The labelling functions a story's ``story.py`` offers in ``labelling()``.

    Raises:
        InputError: when it offers none, or something else.
    """
    given = getattr(module, "labelling", None)
    name = module.STORY.name
    if not callable(given):
        raise InputError(
            f"story '{name}'",
            expected="a function 'labelling' in story.py that returns a RuleSet",
            got="none",
            next_step="See mangaassist/stories/intent/labelling.py for one.",
        )
    with story_code(module, "labelling"):
        rules = given()
    if not isinstance(rules, RuleSet):
        raise InputError(
            f"story '{name}': labelling()",
            expected="a RuleSet",
            got=type(rules).__name__,
            next_step="Return RuleSet((function, ...)).",
        )
    return rules


def rules_labeller(rules: RuleSet, *, source: str = "programmatic") -> Labeller:
    """The labeller that a rule set is."""
    functions = [
        {"name": one.name, "version": one.version, "code": one.code, "weight": one.weight}
        for one in rules.functions
    ]
    return Labeller(source, rules.version, {"combining": rules.combining, "functions": functions})


def _training_examples(platform: Platform, story: Story) -> pl.DataFrame:
    rows = current_examples(platform.labels.examples(story)).filter(pl.col("role") == "train")
    if rows.is_empty():
        raise InputError(
            f"examples of '{story.name}'",
            expected="at least one training example",
            got="none",
            next_step=f"Run 'mangaassist labels import {story.name} FILE' first.",
        )
    return rows


def _example(row: dict[str, Any]) -> Example:
    return Example(
        row["text"],
        row["captured_at"],
        row["role"],
        Language(row["language"]),
        row["group_id"],
        orjson.loads(row["attributes"]),
        row["source_file"],
    )


def _vendor_labels(platform: Platform, story: Story, rows: pl.DataFrame) -> list[str | None]:
    """What the vendor settled on for each of ``rows``; None where it has not."""
    known = _settled(platform, story)
    return [known.get(identity) for identity in rows["example_id"]]


def _settled(platform: Platform, story: Story) -> dict[str, str]:
    store = platform.labels
    policy = replace(story.labels, sources=(AUDITOR,))
    settled = consensus(store.examples(story), store.labels(story), policy).filter(
        (pl.col("role") == "train") & pl.col("resolved_by").is_in(SETTLED)
    )
    return dict(settled.select("example_id", "label").iter_rows())


def _statements(
    platform: Platform, rules: RuleSet, ballot: Ballot, rows: pl.DataFrame, source: str
) -> list[Label]:
    codes, confidence = combine(rules, ballot)
    now = platform.clock.now()
    return [
        Label(
            example_id=identity,
            label=ballot.classes[code],
            source=source,
            captured_at=captured,
            labeled_at=now,
            confidence=None if rules.combining == "unanimous" else round(float(sure), 6),
            annotator_id=rules.version,
            role="train",
            metadata={"functions": [ballot.functions[j] for j in np.flatnonzero(said == code)]},
        )
        for (identity, captured), code, sure, said in zip(
            rows.select("example_id", "captured_at").iter_rows(), codes, confidence, ballot.votes, strict=True
        )
        if code != ABSTAIN
    ]


def distil_labels(
    platform: Platform,
    name: str,
    *,
    provider: str,
    prompt: str,
    limit: int | None = None,
    source: str = "llm",
) -> dict[str, Any]:
    """Have a language model label training examples it has not been asked about, newest first.

    Raises:
        InputError: for an unknown provider or prompt, or a story without a label set.
        GateRefused: for a model outside the story's region, or a prompt that was rolled back.
        Conflict: for a prompt whose text changed under the same name.
        Unavailable: the model cannot be reached; what it answered is kept.
    """
    if limit is not None and limit < 1:
        raise InputError(
            "--limit", expected="1 or more", got=str(limit), next_step="Leave it out to ask about all."
        )
    module = platform.module(name)
    story, store = module.STORY, platform.labels
    asked = load_prompt(module, prompt)
    model = _provider(platform, story, provider)
    with platform.home.lock(f"distil.{name}"):
        spool = Spool(platform.home.folder("spool") / f"answers.{name}")
        try:
            found = distil(
                store,
                story,
                model,
                asked,
                classes=label_set(platform, story),
                answers=spool,
                source=source,
                limit=limit,
            )
        finally:
            spool.close()
    return {"story": name, "source": source, "provider": provider, "prompt": prompt, **asdict(found)}


def load_prompt(module: StoryModule, name: str) -> Prompt:
    """The prompt ``prompts/<name>.md`` beside the story's ``story.py``.

    Raises:
        InputError: for an unknown one, with the nearest.
    """
    folder = Path(str(getattr(module, "__file__", ""))).parent / "prompts"
    known = {path.stem: path for path in sorted(folder.glob("*.md"))}
    if name not in known:
        raise InputError(
            "--prompt",
            expected=f"a prompt in {folder}",
            got=repr(name),
            next_step=nearest(name, known) if known else f"Write {folder / 'first-v1.md'}.",
        )
    try:
        return Prompt(name, known[name].read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            str(known[name]), expected="UTF-8 text", got=str(error), next_step="Save it as UTF-8."
        ) from error


def label_set(platform: Platform, story: Story) -> tuple[str, ...]:
    """The labels a story has: its policy's, else those the vendor has settled on so far.

    Raises:
        InputError: where neither says.
    """
    found = story.labels.classes or tuple(sorted(set(_settled(platform, story).values())))
    if not found:
        raise InputError(
            f"labels of '{story.name}'",
            expected="a set of labels to choose from",
            got="none",
            next_step="List them in LabelPolicy(classes=...), or import labels by the vendor first.",
        )
    return found


def _provider(platform: Platform, story: Story, kind: str) -> LabelProvider:
    if kind == "openai":
        return _openai(platform, story)
    if kind == "simulated":
        from mangaassist.simulation.labeller import SimulatedProvider

        # What the simulated model knows is what the vendor said; its errors are drawn on top.
        return SimulatedProvider(_settled(platform, story))
    raise InputError(
        "--provider", expected=" or ".join(PROVIDERS), got=repr(kind), next_step=nearest(kind, PROVIDERS)
    )


def _openai(platform: Platform, story: Story) -> OpenAiProvider:
    settings = platform.home.settings
    if settings.llm_region != story.residency:
        raise GateRefused(
            f"texts of '{story.name}'",
            expected=f"a model in their region, '{story.residency}'",
            got=f"llm_region = '{settings.llm_region}'",
            next_step="Name the region the model runs in as llm_region in settings.toml, or use one there.",
        )
    return language_model(platform, seed_of=story.name)


def language_model(platform: Platform, *, seed_of: str, **patience: Any) -> OpenAiProvider:
    """The model of the settings.

    Args:
        seed_of: only the pauses between attempts are drawn from it.
        patience: other than :class:`Endpoint` has by itself.

    Raises:
        InputError: no address, no model, or the variable that should hold its key is empty.
    """
    from mangaassist.labels.openai import Endpoint, OpenAiProvider

    settings = platform.home.settings
    variable = settings.llm_key_variable
    if variable and not os.environ.get(variable):
        raise InputError(
            f"environment variable {variable}",
            expected="the API key of the language model",
            got="nothing",
            next_step="Set it, or leave llm_key_variable empty for a server without keys.",
        )
    key = os.environ.get(variable, "") if variable else ""
    endpoint = Endpoint(settings.llm_url, settings.llm_model, key, **patience)
    seed = int(digest([seed_of, settings.llm_url])[:16], 16)
    return OpenAiProvider(endpoint, clock=platform.clock, generator=np.random.default_rng(seed))


def audit_labels(
    platform: Platform, name: str, *, source: str | None = None, apply: bool = False
) -> dict[str, Any]:
    """The weekly audit of rule sets and prompts; with ``apply`` a failing one goes back to the one before.

    Raises:
        InputError: for a source no rule set or prompt speaks for.
    """
    story = platform.story(name)
    found = audits.audit(platform.labels, story, source=source, apply=apply)
    return {"story": name, "audits": [one.as_dict() for one in found]}
