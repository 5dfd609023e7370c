"""Kill switches that AWS SSM Parameter Store holds as well (extra ``aws``): a denial in either place wins.

The ledger keeps who set what and why, and decides races; the parameter store lets an incident commander
freeze from AWS's own console. Lifting takes both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any

from mangaassist.core.clock import utc
from mangaassist.core.errors import InputError, Unavailable
from mangaassist.governance.switches import (
    GLOBAL_FREEZE,
    Permissions,
    Setting,
    Switches,
    check_name,
    denies,
    promotion_switch,
    require_reason,
    technique_switch,
)
from mangaassist.storage.ledger import Ledger

SCHEME = "ssm://"
MOST_AGE = 1.0
"""Seconds for which parameters are not read again: far below the 40 requests a second an account has."""
_SECONDS = 2
_ACTOR = "ssm"


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter as last read; a value that is neither true nor false denies."""

    name: str
    value: bool
    at: datetime
    version: int


class SsmSwitches(Switches):
    """The switches of ``ledger`` and of the parameters below ``prefix``; safe to share between threads.

    Args:
        client: boto3's client of SSM.
        prefix: a path like ``/mangaassist``; parameters are ``PREFIX/global_ml_freeze``,
            ``PREFIX/STORY/promotion_enabled`` and ``PREFIX/STORY/technique/NAME``.
        now: seconds on any clock that only grows.
    """

    def __init__(
        self, ledger: Ledger, client: Any, prefix: str, *, now: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(ledger)
        self._client = client
        self._prefix = "/" + prefix.strip("/")
        self._now = now
        self._reading = threading.Lock()
        self._parameters: dict[str, _Parameter] = {}
        self._read_at: float | None = None

    @classmethod
    def open(cls, ledger: Ledger, url: str) -> SsmSwitches:
        """The switches of ``ssm://PREFIX``; credentials, region and endpoint are as AWS's variables say.

        Raises:
            InputError: another URL, no AWS region, or the extra is not installed.
        """
        prefix = url.removeprefix(SCHEME).strip("/")
        if not url.startswith(SCHEME) or not prefix:
            raise InputError(
                "switches_url", expected="ssm://PREFIX", got=repr(url), next_step="Correct settings.toml."
            )
        try:
            import boto3  # type: ignore[import-untyped]  # it ships no types
            from botocore.config import Config  # type: ignore[import-untyped]
            from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
        except ModuleNotFoundError as error:
            raise InputError(
                "switches_url",
                expected="the extra 'aws'",
                got=f"no module {error.name}",
                next_step="Run pip install 'mangaassist[aws]'.",
            ) from error
        limits = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2})
        try:
            return cls(ledger, boto3.client("ssm", config=limits), prefix)
        except BotoCoreError as error:
            raise InputError(
                "switches_url",
                expected="an AWS region and credentials",
                got=str(error),
                next_step="Set AWS_DEFAULT_REGION.",
            ) from error

    def set(
        self, name: str, value: bool, *, actor: str, reason: str, at: datetime, seen: int | None = None
    ) -> Setting:
        """Write one switch in both places: a denial first where everybody reads, a permission there last.

        Raises:
            InputError, Conflict: as :meth:`Switches.set`. Unavailable: the parameter store did not take it; a
                denial is in the ledger all the same.
        """
        check_name(name)
        require_reason(reason)
        if not denies(name, value):
            setting = super().set(name, value, actor=actor, reason=reason, at=at, seen=seen)
            self._put(name, value)
            return setting
        try:
            self._put(name, value)
        finally:
            setting = super().set(name, value, actor=actor, reason=reason, at=at, seen=seen)
        return setting

    def permissions(self, story: str) -> Permissions:
        """What both places allow ``story`` now; the safe defaults where either cannot be read."""
        found = super().permissions(story)
        try:
            parameters = self._read()
        except Unavailable as error:
            known = self._parameters.get(GLOBAL_FREEZE)
            frozen = found.frozen or (known is not None and known.value)
            return replace(self._defaults(story, error), frozen=frozen)
        denying = [one for one in parameters.values() if denies(one.name, one.value)]
        prefix = technique_switch(story, "")
        techniques = {one.name.removeprefix(prefix): False for one in denying if one.name.startswith(prefix)}
        names = {one.name for one in denying}
        said = " ".join(
            f"The parameter store denies it: {self._path(one.name)} (version {one.version})."
            for one in denying
            if one.name in (GLOBAL_FREEZE, promotion_switch(story))
        )
        return replace(
            found,
            frozen=found.frozen or GLOBAL_FREEZE in names,
            promotion_enabled=found.promotion_enabled and promotion_switch(story) not in names,
            techniques={**found.techniques, **techniques},
            sentence=f"{found.sentence} {said}" if said and not found.may_promote else said or found.sentence,
        )

    def settings(self) -> list[Setting]:
        """The last setting of every switch; what only the parameter store denies has the actor "ssm"."""
        found = {one.name: one for one in super().settings()}
        for one in self._read().values():
            known = found.get(one.name)
            if denies(one.name, one.value) and (known is None or not denies(known.name, known.value)):
                reason = f"{self._path(one.name)}, version {one.version}"
                found[one.name] = Setting(
                    one.name, one.value, known.epoch if known else 0, one.at, _ACTOR, reason
                )
        return [found[name] for name in sorted(found)]

    def _read(self) -> dict[str, _Parameter]:
        """All parameters, at most a second old; one that was read never goes back to an older value."""
        with self._reading:
            now = self._now()
            if self._read_at is None or now - self._read_at >= MOST_AGE:
                found = {one.name: one for one in self._listed()}
                for name, one in found.items():
                    known = self._parameters.get(name)
                    if known is not None and (known.at, known.version) > (one.at, one.version):
                        found[name] = known
                self._parameters, self._read_at = found, now
            return self._parameters

    def _listed(self) -> list[_Parameter]:
        found = []
        pages = self._called(
            lambda: list(
                self._client.get_paginator("get_parameters_by_path").paginate(
                    Path=self._prefix, Recursive=True, WithDecryption=True
                )
            )
        )
        for one in (one for page in pages for one in page["Parameters"]):
            name = one["Name"].removeprefix(self._prefix + "/").replace("/", ".")
            try:
                check_name(name)
            except InputError:
                continue  # somebody else's parameter below the same prefix
            word = one["Value"].strip().lower()
            value = word == "true" if word in ("true", "false") else name == GLOBAL_FREEZE
            found.append(_Parameter(name, value, utc(one["LastModifiedDate"], field="at"), one["Version"]))
        return found

    def _put(self, name: str, value: bool) -> None:
        text = "true" if value else "false"
        self._called(
            lambda: self._client.put_parameter(
                Name=self._path(name), Value=text, Type="String", Overwrite=True
            )
        )
        with self._reading:
            self._read_at = None

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name.replace('.', '/')}"

    def _called(self, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(
                f"parameter store below {self._prefix}",
                expected="an answer",
                got=str(error),
                next_step="Bring it back; nothing is promoted without it.",
            ) from error
