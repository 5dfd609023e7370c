"""The kill switches as commands: one freeze for everything, one for a story, one for a technique."""

from __future__ import annotations

from typing import Any

from mangaassist.core.errors import InputError, nearest
from mangaassist.governance.switches import GLOBAL_FREEZE, promotion_switch, technique_switch
from mangaassist.lifecycle.platform import Platform

_STATES = ("on", "off")


def set_switch(
    platform: Platform, state: str, *, story: str | None, technique: str | None, reason: str, actor: str
) -> dict[str, Any]:
    """Freeze (``on``) or release (``off``) everything, one story's promotions, or one technique (PRO-8).

    Raises:
        InputError: for another state, a technique without a story, an unknown story or a missing reason.
    """
    if state not in _STATES:
        raise InputError("freeze", expected="on or off", got=repr(state), next_step=nearest(state, _STATES))
    if technique and not story:
        raise InputError(
            "--technique", expected="a --story it belongs to", got="none", next_step="Add --story NAME."
        )
    frozen = state == "on"
    if story is None:
        name, value = GLOBAL_FREEZE, frozen
    else:
        platform.module(story)
        name = technique_switch(story, technique) if technique else promotion_switch(story)
        value = not frozen
    platform.switches.set(name, value, actor=actor, reason=reason, at=platform.clock.now())
    return show_switches(platform)


def show_switches(platform: Platform) -> dict[str, Any]:
    """Every switch anybody has set, with who and why; the global freeze is always listed."""
    body: dict[str, Any] = {GLOBAL_FREEZE: False}
    for setting in platform.switches.settings():
        body[setting.name] = setting.value
        body[f"{setting.name}.set_by"] = f"{setting.actor}: {setting.reason}"
    return body
