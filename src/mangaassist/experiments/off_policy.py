"""What would another policy have earned? A log file, a policy by name, intervals, or a refusal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.verdict import Status, Verdict
from mangaassist.experiments.unit_table import require_columns, scan
from mangaassist.stats.domain import FloatArray
from mangaassist.stats.intervals import Estimate
from mangaassist.stats.off_policy import Estimator, Log, Support, estimate, read_log, support

POLICIES = ("uniform", "column:NAME")
ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "dm", "dr", "switch-dr")

# Names under which public logs keep these columns.
_ACTION = ("action", "item_id", "arm")
_REWARD = ("reward", "click", "outcome")
_PROPENSITY = ("propensity", "propensity_score", "action_prob", "pscore")


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Names of a log's columns; empty ones are looked for under their usual names.

    Attributes:
        action, reward, propensity: what was done, what came of it, how probable it was.
        context: columns the reward model may use beside the action.
    """

    action: str = ""
    reward: str = ""
    propensity: str = ""
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """A judged policy.

    Attributes:
        policy: its name.
        actions: how many it chooses from.
        support: whether the log covers it.
        estimates: per estimator; empty when refused.
        verdict: ``insufficient`` when the log cannot carry an estimate.
    """

    policy: str
    actions: int
    support: Support
    estimates: dict[str, Estimate]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object; a refused one holds no number."""
        return {
            "policy": self.policy,
            "actions": self.actions,
            "refused": self.verdict.status is not Status.PASS,
            "effective_sample_size": self.support.effective_n,
            "support": asdict(self.support),
            "estimates": {name: one.as_dict() for name, one in self.estimates.items()},
            "verdict": self.verdict.as_dict(),
        }


def evaluate_file(
    path: Path,
    *,
    policy: str,
    columns: LogColumns,
    actions: int | None = None,
    clip: float = float("inf"),
    switch: float = 10.0,
    minimum: float = 50.0,
    generator: np.random.Generator,
) -> OffPolicy:
    """Judge ``policy`` on a logged file.

    Args:
        policy: "uniform", or "column:NAME" for a column with its probability of the logged action.
        actions: how many actions there are; None counts the distinct logged ones.
        clip: weights above it are cut for IPS, SNIPS and DR.
        minimum: smallest effective sample size that is not refused.
        generator: splits the log into the two folds of the reward model.

    Raises:
        InputError: for a missing column, probabilities outside (0, 1], or an unknown policy.
    """
    frame = scan(path)
    names = _names(frame, columns)
    wanted = [names.action, names.reward, names.propensity, *names.context]
    extra = [policy.partition(":")[2]] if policy.startswith("column:") else []
    require_columns(frame, [*wanted, *extra])
    rows = frame.select(list(dict.fromkeys([*wanted, *extra]))).collect(engine="streaming")
    taken = rows[names.action].cast(pl.String).rank("dense").to_numpy().astype(np.int64) - 1
    count = actions or int(taken.max()) + 1
    target = _target(rows, policy, count)
    reward = rows[names.reward].cast(pl.Float64).to_numpy()
    logged = rows[names.propensity].cast(pl.Float64).to_numpy()
    read_log(logged, target, reward)
    context = _context(rows, names.context)
    predicted, value = reward_model(
        taken, reward, context, actions=count, uniform=policy == "uniform", target=target, generator=generator
    )
    log = read_log(logged, target, reward, predicted=predicted, value=value)
    return judge(log, policy=policy, actions=count, clip=clip, switch=switch, minimum=minimum)


def judge(
    log: Log,
    *,
    policy: str,
    actions: int,
    clip: float = float("inf"),
    switch: float = 10.0,
    minimum: float = 50.0,
) -> OffPolicy:
    """Estimates with intervals, or a refusal that names the effective sample size."""
    found = support(log, minimum=minimum)
    if not found.sufficient:
        sentence = f"Refused: {found.reason} Run an experiment, or judge a policy nearer to the logged one."
        refused = Verdict(
            f"off_policy.{policy}",
            Status.INSUFFICIENT,
            sentence,
            value=found.effective_n,
            threshold=minimum,
            n=found.n,
        )
        return OffPolicy(policy, actions, found, {}, refused)
    known = [name for name in ESTIMATORS if name in ("ips", "snips") or log.predicted is not None]
    estimates: dict[str, Estimate] = {name: estimate(log, name, clip=clip, switch=switch) for name in known}
    snips = estimates["snips"]
    sentence = (
        f"{policy} would have earned {snips.value:.4g} ({snips.low:.4g} to {snips.high:.4g}) a decision, "
        f"from {found.effective_n:,.0f} effective of {found.n:,} rows."
    )
    verdict = Verdict(
        f"off_policy.{policy}", Status.PASS, sentence, snips.value, snips.low, snips.high, minimum, found.n
    )
    return OffPolicy(policy, actions, found, estimates, verdict)


def _names(frame: pl.LazyFrame, columns: LogColumns) -> LogColumns:
    present = frame.collect_schema().names()
    return LogColumns(
        columns.action or _usual("action", _ACTION, present),
        columns.reward or _usual("reward", _REWARD, present),
        columns.propensity or _usual("propensity", _PROPENSITY, present),
        columns.context,
    )


def _usual(what: str, names: tuple[str, ...], present: list[str]) -> str:
    found = next((name for name in names if name in present), None)
    if found is None:
        raise InputError(
            f"--{what}",
            expected=f"a column named {', '.join(names)}, or --{what} NAME",
            got=", ".join(present[:8]),
            next_step=nearest(what, present),
        )
    return found


def _target(rows: pl.DataFrame, policy: str, actions: int) -> FloatArray:
    if policy == "uniform":
        return np.full(len(rows), 1.0 / actions)
    kind, _, name = policy.partition(":")
    if kind != "column" or not name:
        raise InputError(
            "policy",
            expected=f"one of {', '.join(POLICIES)}",
            got=repr(policy),
            next_step="Write column:NAME for a column with the policy's probability of the logged action.",
        )
    return np.asarray(rows[name].cast(pl.Float64).to_numpy(), dtype=np.float64)


def _context(rows: pl.DataFrame, names: tuple[str, ...]) -> NDArray[np.int64]:
    """One code per combination of context values, shape (n,)."""
    if not names:
        return np.zeros(len(rows), dtype=np.int64)
    combined = rows.select(pl.concat_str([pl.col(name).cast(pl.String) for name in names], separator="\x1f"))
    return combined.to_series().rank("dense").to_numpy().astype(np.int64) - 1


def reward_model(
    taken: NDArray[np.int64],
    reward: FloatArray,
    context: NDArray[np.int64],
    *,
    actions: int,
    uniform: bool,
    target: FloatArray,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Cross-fitted mean reward per (context, action), shrunk to the context's and the overall mean.

    Each half of the log is predicted from the other half, so that a row never predicts itself (Chernozhukov
    et al. 2018, double machine learning).

    Returns:
        predicted reward of the action taken and expected reward under the target policy, shape (n,) each. For
        a target known only on logged actions the expectation is over the logged actions of the context.
    """
    fold = generator.integers(0, 2, len(reward))
    predicted, value = np.empty(len(reward)), np.empty(len(reward))
    contexts = int(context.max()) + 1
    for side in (0, 1):
        train, held = fold != side, fold == side
        table = _shrunk(taken[train], reward[train], context[train], actions, contexts)
        predicted[held] = table[context[held], taken[held]]
        if uniform:
            value[held] = table.mean(axis=1)[context[held]]
        else:
            weight = np.bincount(
                context * actions + taken, weights=target, minlength=contexts * actions
            ).reshape(contexts, actions)
            share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
            value[held] = (table * share).sum(axis=1)[context[held]]
    return predicted, value


def _shrunk(
    taken: NDArray[np.int64], reward: FloatArray, context: NDArray[np.int64], actions: int, contexts: int
) -> FloatArray:
    """Mean reward per cell with ten rows' worth of the overall mean mixed in, shape (contexts, actions)."""
    cell = context * actions + taken
    n = np.bincount(cell, minlength=contexts * actions).astype(np.float64)
    total = np.bincount(cell, weights=reward, minlength=contexts * actions)
    prior = float(reward.mean()) if len(reward) else 0.0
    table = (total + 10.0 * prior) / (n + 10.0)
    return np.asarray(table.reshape(contexts, actions), dtype=np.float64)
