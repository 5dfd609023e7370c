"""Which candidate waits for which: circles are refused, everything else has an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def circle(waits: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A circle of names, its first repeated at the end; empty when there is none.

    Args:
        waits: per name the names it waits for; names that are no key wait for nothing.
    """
    done: set[str] = set()
    for start in waits:
        if start in done:
            continue
        path, open_ends = [start], [iter(waits[start])]
        while open_ends:
            following = next(open_ends[-1], None)
            if following is None:
                open_ends.pop()
                done.add(path.pop())
            elif following in path:
                return (*path[path.index(following) :], following)
            elif following in waits and following not in done:
                path.append(following)
                open_ends.append(iter(waits[following]))
    return ()


def waves(waits: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Names in the order they can run: each wave waits only for earlier ones.

    ``waits`` must have no :func:`circle`; names that are no key count as done.
    """
    found: list[tuple[str, ...]] = []
    left = dict(waits)
    while left:
        ready = tuple(name for name, needed in left.items() if not any(one in left for one in needed))
        if not ready:
            break
        found.append(ready)
        left = {name: needed for name, needed in left.items() if name not in ready}
    return tuple(found)
