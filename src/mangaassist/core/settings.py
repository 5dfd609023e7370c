"""Where the state lives and which engine holds it: one home directory, one small file, one variable each."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mangaassist.core.errors import InputError, nearest

_PREFIX = "MANGAASSIST_"
_NOTICES = "notices"


@dataclass(frozen=True, slots=True)
class NoticeRoutes:
    """Where notices go: the ``[notices]`` table. Addresses carry secrets, so they are left out of the repr.

    Attributes:
        urls: Apprise addresses that get every notice.
        severities, roles: further addresses by severity ("SEV-1") and by role ("em").
        site: where people reach this home's pages, for the links in notices.
    """

    urls: tuple[str, ...] = field(default=(), repr=False)
    severities: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    site: str = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Settings:
    """Engine choices; the defaults are the embedded column of docs/architecture.md.

    Attributes:
        ledger_url: SQLAlchemy URL of the ledger; empty means SQLite in the home.
        catalog_url: SQLAlchemy URL of the Iceberg catalog; empty means SQLite in the home.
        warehouse: the Iceberg warehouse, a folder or "s3://BUCKET/PREFIX"; empty means a folder in the home.
        s3_endpoint, s3_region, s3_access_key_id, s3_secret_access_key: of an S3 warehouse; empty means what
            AWS's own variables, profile or role say.
        online_url: the online feature store, "redis://HOST:PORT/DATABASE"; empty means LMDB in the home.
        llm_url: base URL of an OpenAI-compatible server that labels ("http://127.0.0.1:8000/v1").
        llm_model: the model to ask there.
        llm_region: the region it runs in; training texts go nowhere else (``Story.residency``).
        llm_key_variable: the environment variable with its API key; empty for a server that needs none.
        switches_url: where the kill switches are besides the ledger, "ssm://PREFIX"; empty means there alone.
        mlflow_url: the MLflow tracking store the registry is projected to, "sqlite:///FILE" or "http://HOST".
        ray_address: the Ray cluster that reads features ("auto", "HOST:PORT"); empty means this process.
        train_spot, train_on_demand: what is put before a deep training's process to run it on a machine of
            that kind ("srun -p spot"); empty means this machine.
        region: the region this process serves and trains in.
        drift_metrics: where drift goes as CloudWatch metrics, one JSON line each: a file, or "-" for standard
            output; empty writes none.
        cpu_hour: dollars per processor hour; the default is AWS Fargate's in us-east-1.
        notices: where pages and notices leave the platform; ``MANGAASSIST_NOTICES_URLS`` (separated by
            spaces) replaces the addresses that get everything, so that secrets need not stand in a file.
    """

    ledger_url: str = ""
    catalog_url: str = ""
    warehouse: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_access_key_id: str = ""
    s3_secret_access_key: str = field(default="", repr=False)
    online_url: str = ""
    llm_url: str = ""
    llm_model: str = ""
    llm_region: str = ""
    llm_key_variable: str = ""
    switches_url: str = ""
    mlflow_url: str = ""
    ray_address: str = ""
    train_spot: str = ""
    train_on_demand: str = ""
    region: str = "us"
    drift_metrics: str = ""
    cpu_hour: str = "0.04048"
    notices: NoticeRoutes = NoticeRoutes()

    @property
    def cpu_second_price(self) -> float:
        """Price of one processor second.

        Raises:
            InputError: ``cpu_hour`` is no price.
        """
        try:
            price = float(self.cpu_hour)
        except ValueError:
            price = math.nan
        if not (math.isfinite(price) and price >= 0):
            raise InputError(
                "settings.toml: cpu_hour",
                expected="a price per processor hour, 0 or more",
                got=repr(self.cpu_hour),
                next_step='Write it like cpu_hour = "0.04048".',
            )
        return price / 3600

    @classmethod
    def load(cls, home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """``settings.toml`` in the home, overridden by ``MANGAASSIST_<FIELD>`` variables.

        Raises:
            InputError: for broken TOML, an unknown field or a value that is not text.
        """
        known = [one.name for one in fields(cls) if one.name != _NOTICES]
        path = home / "settings.toml"
        values = _read_toml(path)
        table = values.pop(_NOTICES, {})
        _check_texts(path, values, known)
        for name in known:
            if _PREFIX + name.upper() in environ:
                values[name] = environ[_PREFIX + name.upper()]
        return cls(**values, notices=_notices(path, table, environ.get(f"{_PREFIX}NOTICES_URLS")))


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            str(path), expected="TOML", got=str(error), next_step="Correct the line or remove the file."
        ) from error


def _check_texts(path: Path, values: Mapping[str, Any], known: list[str]) -> None:
    for name, value in values.items():
        if name not in known:
            known = [*known, _NOTICES]
            raise InputError(
                f"{path.name}: {name}", expected="a known setting", got=name, next_step=nearest(name, known)
            )
        if not isinstance(value, str):
            raise InputError(
                f"{path.name}: {name}", expected="text", got=repr(value), next_step="Put it in quotes."
            )


def _notices(path: Path, table: Any, urls: str | None) -> NoticeRoutes:
    """The ``[notices]`` table; a value in a wrong place is never repeated, as it may be a secret."""
    where = f"{path.name}: {_NOTICES}"
    known = [one.name for one in fields(NoticeRoutes)]
    if not isinstance(table, dict):
        raise InputError(
            where, expected="a table", got="a value", next_step="Write [notices] on its own line."
        )
    for name in table:
        if name not in known:
            raise InputError(where, expected="a known setting", got=name, next_step=nearest(name, known))
    site = table.get("site", NoticeRoutes().site)
    if not isinstance(site, str):
        raise InputError(f"{where}.site", expected="text", got="no text", next_step="Put it in quotes.")
    by_name = {
        group: {name: _addresses(f"{where}.{group}.{name}", given) for name, given in one.items()}
        for group in ("severities", "roles")
        if isinstance(one := table.get(group, {}), dict)
    }
    if len(by_name) < 2:
        raise InputError(
            where, expected="tables severities and roles", got="a value", next_step="Write NAME = [URL]."
        )
    always = urls.split() if urls is not None else table.get("urls", [])
    return NoticeRoutes(_addresses(f"{where}.urls", always), **by_name, site=site.rstrip("/"))


def _addresses(where: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InputError(
            where, expected="a list of addresses", got="something else", next_step='Write ["slack://…"].'
        )
    return tuple(given)
