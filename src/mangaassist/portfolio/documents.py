"""Which document a name stands for: a quarter's narrative, a framing's decision, an experiment's review."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from mangaassist.core.errors import InputError, nearest
from mangaassist.experiments import registry
from mangaassist.portfolio import ledger_facts as known
from mangaassist.portfolio.narrative import narrative
from mangaassist.portfolio.readiness import launch_readiness
from mangaassist.portfolio.rendering import Document
from mangaassist.portfolio.six_sections import six_sections
from mangaassist.storage.ledger import Ledger


class Form(StrEnum):
    """What can be rendered."""

    NARRATIVE = "narrative"
    DECISION = "decision"
    READINESS = "launch-readiness"


def document(ledger: Ledger, name: str, form: Form | None = None) -> Document:
    """The document called ``name``, rendered from the ledger as it stands.

    Args:
        form: needed only where one name stands for several things.

    Raises:
        InputError: for a name nobody decided or registered, or one that stands for several.
    """
    framed = known.framings(ledger)
    makers: dict[Form, tuple[list[str], Callable[[], Document]]] = {
        Form.NARRATIVE: (
            [one.name for one in known.quarters(ledger)],
            lambda: narrative(known.get(ledger, name)),
        ),
        Form.DECISION: (list(framed), lambda: six_sections(ledger, framed[name])),
        Form.READINESS: (
            [one.name for one in registry.everything(ledger)],
            lambda: launch_readiness(ledger, registry.get(ledger, name)),
        ),
    }
    found = [one for one, (names, _) in makers.items() if name in names and form in (None, one)]
    if len(found) == 1:
        return makers[found[0]][1]()
    if found:
        raise InputError(
            "document",
            expected="a name that stands for one thing",
            got=f"'{name}', which is {' and '.join(found)}",
            next_step=f"Pass --form {found[0]} or --form {found[1]}.",
        )
    names = [one for which, (all_of, _) in makers.items() if form in (None, which) for one in all_of]
    raise InputError(
        "document",
        expected="a decided portfolio or framing, or a registered experiment",
        got=repr(name),
        next_step=nearest(name, names),
    )
