"""Experiment files the tests share: the reranker of the design chapter, and variations of it."""

from __future__ import annotations

from datetime import datetime

from mangaassist.experiments import registry
from mangaassist.storage.ledger import Ledger

RERANKER = """\
experiment: reranker-l12
owner: search
surface: reranker
hypothesis:
  statement: MiniLM-L12 lifts the useful-answer rate by 3% relative or more.
  intervention: do(reranker = minilm-l12)
  prior: 0.75
  prior_evidence: Offline NDCG@10 +6% at correlation .68; two earlier rerankers agreed.
  disconfirming:
    - lift below the MDE in any of EN, JP, mixed
    - CSAT down more than 1%
population:
  description: users with a search in the last 14 days
  eligibility:
    - {attribute: searches_14d, at_least: 1}
    - {attribute: locale, in: [en, ja, mixed]}
  exclusivity: [reranker]
  per_day: 200000
unit: user
columns: {unit: user_id, arm: arm}
arms: {control: 50%, treatment: 50%}
ramp: [1%, 10%, 100%]
primary:
  name: useful_answer_rate
  column: useful_rate
  baseline: 0.183
  sigma: 0.142
  mde: 3%
  horizon_days: 14
power: 0.8
alpha: 0.05
sequential: {method: group-sequential, spending: obf, days: [4, 7, 11, 14]}
covariates:
  - {column: useful_rate_before, measured: before, variance_reduction: 50%}
guardrails:
  - use: csat
  - use: cohort_fairness
correction: intersection-union
cohorts:
  - {dimension: locale, shares: {en: 55%, ja: 30%, mixed: 15%}, threshold: -3%}
stop: {early_win: true}
budgets: {turn_p95_ms: 800, hedging_share: 2%}
sign_off: [pm, applied_ml_engineer, engineering_manager]
"""


def replaced(old: str, new: str, text: str = RERANKER) -> str:
    """``text`` with one passage changed; a passage that is not there is a mistake in the test."""
    if old not in text:
        raise LookupError(old)
    return text.replace(old, new, 1)


def line_of(passage: str, text: str = RERANKER) -> int:
    """The line a passage stands on, from 1."""
    return text[: text.index(passage)].count("\n") + 1


def frozen(ledger: Ledger, text: str, *, at: datetime) -> registry.Experiment:
    """Register and sign by everybody."""
    known = registry.register(ledger, text, source="test.yaml", actor="rin", at=at)
    for role in known.plan.sign_off:
        known = registry.sign(ledger, known.name, role, actor=f"a {role}", at=at)
    return known
