"""The kill switches as an OpenFeature provider (the extra ``flags``), with the lattice applied.

``STORY.promotion_enabled`` is false under a freeze whatever its own switch says, and so is every technique.
When the store cannot be read the fail-safe values are the answer, not the default a caller happens to pass.
"""

# ruff: noqa: ARG002 - the signatures are OpenFeature's

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mangaassist.core.errors import InputError
from mangaassist.governance.switches import GLOBAL_FREEZE, Permissions, Switches, check_name

try:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.exception import ErrorCode
    from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
    from openfeature.provider import AbstractProvider, Metadata
except ModuleNotFoundError as missing:
    raise InputError(
        "OpenFeature",
        expected="the extra 'flags'",
        got=f"no module {missing.name}",
        next_step="Run pip install 'mangaassist[flags]'.",
    ) from missing

_Value = TypeVar("_Value")


class SwitchProvider(AbstractProvider):
    """Booleans only; every answer carries the epoch and the sentence it stands on."""

    def __init__(self, switches: Switches) -> None:
        super().__init__()
        self._switches = switches

    def get_metadata(self) -> Metadata:
        return Metadata("mangaassist-switches")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """The switch as it takes effect; FLAG_NOT_FOUND, with the caller's default, for no switch."""
        try:
            check_name(flag_key)
        except InputError as error:
            return FlagResolutionDetails(
                default_value,
                reason=Reason.ERROR,
                error_code=ErrorCode.FLAG_NOT_FOUND,
                error_message=str(error),
            )
        story, _, level = flag_key.partition(".")
        found = self._switches.permissions("" if flag_key == GLOBAL_FREEZE else story)
        return FlagResolutionDetails(
            _value(found, flag_key, level),
            reason=Reason.STATIC if found.source == "ledger" else Reason.DEFAULT,
            flag_metadata={"epoch": found.epoch, "source": found.source, "sentence": found.sentence},
        )

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return _no_boolean(default_value)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return _no_boolean(default_value)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return _no_boolean(default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Any]:
        return _no_boolean(default_value)


def _value(found: Permissions, flag_key: str, level: str) -> bool:
    if flag_key == GLOBAL_FREEZE:
        return found.frozen
    if level == "promotion_enabled":
        return found.may_promote
    return found.allows(level.removeprefix("technique."))


def _no_boolean(default: _Value) -> FlagResolutionDetails[_Value]:
    return FlagResolutionDetails(
        default,
        reason=Reason.ERROR,
        error_code=ErrorCode.TYPE_MISMATCH,
        error_message="A kill switch is a boolean.",
    )
