"""The fork server of this test process: one at a time, with the modules that its present users need."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_imported: list[str] = []


def fork_server(*modules: str) -> ForkServerContext:
    """A context whose processes are forked from one that has imported ``modules`` and started nothing else.

    A process of it costs what it does, not what it imports. Another file's server is stopped first: it has
    imported other things, and every process of it would import these anew.
    """
    context = multiprocessing.get_context("forkserver")
    if _imported != list(modules):
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # made for tests, as its comment says
        _imported[:] = modules
    context.set_forkserver_preload(list(modules))
    return context
