"""What leaves the platform when somebody should know: a notice, who gets it, and how it is sent (INC-6).

Apprise knows how to reach chats, pagers, mailboxes and webhooks; an address is one URL of its
(https://github.com/caronc/apprise). Addresses carry secrets, so what is stored, logged or shown of one is its
digest and its masked form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from mangaassist.core.errors import InputError, nearest
from mangaassist.core.identity import digest
from mangaassist.core.settings import NoticeRoutes

SEVERITIES = ("SEV-1", "SEV-2", "SEV-3", "SEV-4")
"""Worst first: SEV-1 shoppers are hurt now, SEV-2 they will be, SEV-3 look within the hour, SEV-4 to know."""

_KINDS = {"SEV-1": "failure", "SEV-2": "failure", "SEV-3": "warning", "SEV-4": "info"}


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell people.

    Attributes:
        key: identity of the occasion; a second notice with the same key is the same notice.
        severity: one of :data:`SEVERITIES`.
        title: what is wrong, in a few words; body: more, in plain text.
        roles: who should know, besides those who get everything.
        incident: id of the incident; empty for none.
        runbook: name of the runbook; empty for none.
    """

    key: str
    severity: str
    title: str
    body: str = ""
    roles: tuple[str, ...] = ()
    incident: str = ""
    runbook: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise InputError(
                "severity",
                expected="one of " + ", ".join(SEVERITIES),
                got=repr(self.severity),
                next_step=nearest(self.severity, SEVERITIES),
            )
        if not self.key:
            raise InputError("notice key", expected="text", got="nothing", next_step="Name the occasion.")

    def message(self, site: str) -> str:
        """The text people read: the body, the links under ``site``, and the key that tells repeats apart."""
        links = [
            f"Incident: {site}/oncall#{self.incident}" if self.incident else f"On call: {site}/oncall",
            f"Runbook: {site}/runbooks/{self.runbook}" if self.runbook else "",
        ]
        parts = [self.body, "\n".join(one for one in links if one), f"Notice key: {self.key}"]
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Address:
    """One place notices go to.

    Attributes:
        target: digest of the URL, its identity wherever something is stored.
        shown: the URL with its secrets masked.
        url: the whole URL; never stored, never printed.
    """

    target: str
    shown: str
    url: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The address behind ``url``, shown as its service and enough of the digest to tell two apart."""
        target = digest(url)[:16]
        return cls(target, f"{url.partition('://')[0][:20]}://…{target[:6]}", url)

    def __repr__(self) -> str:
        return f"Address({self.shown})"


class Sender(Protocol):
    """How one message reaches one address."""

    def __call__(self, address: Address, notice: Notice, message: str) -> str:
        """Send, and return why it did not arrive in one sentence without secrets; empty when it did."""


def addresses(routes: NoticeRoutes) -> Mapping[str, Address]:
    """Every configured address by its target, the good ones and the bad ones: see :func:`misspelt`."""
    urls = [*routes.urls]
    for group in (*routes.severities.values(), *routes.roles.values()):
        urls.extend(group)
    return {one.target: one for one in map(Address.of, urls)}


def routed(notice: Notice, routes: NoticeRoutes) -> tuple[Address, ...]:
    """Where ``notice`` goes: to those that get everything, those of its severity, those of its roles."""
    urls = [*routes.urls, *routes.severities.get(notice.severity, ())]
    for role in notice.roles:
        urls.extend(routes.roles.get(role, ()))
    return tuple(Address.of(url) for url in dict.fromkeys(urls))


def misspelt(routes: NoticeRoutes) -> list[str]:
    """The addresses Apprise does not understand, masked."""
    import apprise

    return [
        one.shown
        for one in addresses(routes).values()
        if apprise.Apprise.instantiate(one.url, suppress_exceptions=True) is None
    ]


def send(address: Address, notice: Notice, message: str) -> str:
    """Send through Apprise; the sentence of its log when it did not arrive, without the address's secrets."""
    import apprise

    level = logging.WARNING
    with apprise.LogCapture(level=level, fmt="%(message)s") as log:  # type: ignore[no-untyped-call]
        service = apprise.Apprise.instantiate(address.url, suppress_exceptions=True)
        if service is None:
            return f"Apprise does not understand the address {address.shown}."
        title, kind = f"[{notice.severity}] {notice.title}", apprise.NotifyType(_KINDS[notice.severity])
        sent = service.notify(body=message, title=title, notify_type=kind)
        said = " ".join(log.getvalue().split())
    return "" if sent else _scrubbed(said or "It did not accept the message.", address.url)


def _scrubbed(text: str, url: str) -> str:
    """``text`` without any part of ``url`` that is long enough to be a secret."""
    for part in sorted(_parts(url), key=len, reverse=True):
        text = text.replace(part, "…")
    return text[:300]


def _parts(url: str) -> Iterator[str]:
    rest = url.partition("://")[2]
    for part in re.split(r"[/?&=@:,#]", rest):
        for spelling in {part, unquote(part)}:
            if len(spelling) >= 4:
                yield spelling


def row(notice: Notice) -> dict[str, Any]:
    """The notice as columns of the outbox, without its key."""
    return {
        "severity": notice.severity,
        "title": notice.title,
        "body": notice.body,
        "roles": " ".join(notice.roles),
        "incident": notice.incident,
        "runbook": notice.runbook,
    }
