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


def main(folder: str, url: str) -> None:
    home, clock = Home.open(Path(folder)), SimulatedClock(NOW)
    store = LabelStore(Tables.open(home), Ledger.open(home), clock)
    endpoint = Endpoint(url, "small-1", concurrency=2, backoff=0.01)
    provider = OpenAiProvider(endpoint, clock=clock, generator=np.random.default_rng(1))
    done = distil(
        store,
        STORY,
        provider,
        Prompt("p-v1", "One of\n{labels}"),
        classes=("order", "return"),
        answers=Spool(home.folder("spool") / "answers.intent"),
    )
    print(done.asked, done.recovered, done.remaining)


main(*sys.argv[1:])
