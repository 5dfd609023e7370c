"""A process that has a language model label a home's examples until it is done, or killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tests.labels.rows import NOW, STORY

from mangaassist.core.clock import SimulatedClock
from mangaassist.core.home import Home
from mangaassist.labels.distillation import Prompt, distil
from mangaassist.labels.intake import LabelStore
from mangaassist.labels.openai import Endpoint, OpenAiProvider
from mangaassist.storage.ledger import Ledger
from mangaassist.storage.spool import Spool
from mangaassist.storage.tables import Tables


def work(folder: str, url: str) -> tuple[int, int, int]:
    """How many were asked, recovered and remain."""
    home, clock = Home.open(Path(folder)), SimulatedClock(NOW)
    tables, ledger = Tables.open(home), Ledger.open(home)
    answers = Spool(home.folder("spool") / "answers.intent")
    endpoint = Endpoint(url, "small-1", concurrency=2, backoff=0.01)
    provider = OpenAiProvider(endpoint, clock=clock, generator=np.random.default_rng(1))
    store, prompt = LabelStore(tables, ledger, clock), Prompt("p-v1", "One of\n{labels}")
    done = distil(store, STORY, provider, prompt, classes=("order", "return"), answers=answers)
    answers.close()
    tables.close()
    ledger.close()
    return done.asked, done.recovered, done.remaining


if __name__ == "__main__":
    work(*sys.argv[1:])
