"""The registry as MLflow shows it (extra ``mlflow``): made from the ledger, and repaired to it.

Every version of a story is a run with its tags and metrics and a model version of the model of that name.
The aliases ``champion`` and ``challenger`` follow the deployment. Nothing is ever read back: where the two
differ, the ledger is right.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mangaassist.core.errors import InputError, Unavailable
from mangaassist.lifecycle.platform import Platform
from mangaassist.promotion.versions import Deployment, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG: Final = "mangaassist.version"
STATUS: Final = "mangaassist.status"
_ALIASES = ("champion", "challenger")
_SEPARATE = "mangaassist"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that MLflow says otherwise than the ledger.

    Attributes:
        what: "version 3", "alias champion", "status of version 2" or "foreign version 4".
        ledger, mlflow: what each says; None for nothing.
        repaired: whether MLflow says now what the ledger says.
    """

    what: str
    ledger: str | None
    mlflow: str | None
    repaired: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The difference as a JSON object."""
        return {"what": self.what, "ledger": self.ledger, "mlflow": self.mlflow, "repaired": self.repaired}


def project(platform: Platform, name: str, *, check: bool) -> list[Difference]:
    """Bring MLflow to what the ledger says about a story; the same again changes nothing.

    Args:
        check: only say what differs.

    Raises:
        InputError: no ``mlflow_url``, or the extra is not installed. Unavailable: MLflow does not answer.
    """
    platform.module(name)
    url = platform.home.settings.mlflow_url
    if not url:
        raise InputError(
            "mlflow_url",
            expected="sqlite:///FILE or http://HOST:PORT",
            got="nothing",
            next_step="Set it in settings.toml.",
        )
    # One process at a time: the first one makes or migrates the database, and nobody projects twice.
    with platform.home.lock("mlflow"):
        client = _client(url)
        from mlflow.exceptions import MlflowException

        try:
            store = _Store(client, name)
            versions, deployment = platform.registry.versions(name), platform.registry.deployment(name)
            return list(_reconcile(store, versions, deployment, check=check))
        except MlflowException as error:
            raise Unavailable(
                "MLflow",
                expected="an answer",
                got=str(error).splitlines()[0],
                next_step=f"Look at the server or database behind {url.partition('://')[0]}://…",
            ) from error


def _reconcile(
    store: _Store, versions: list[Version], deployment: Deployment, *, check: bool
) -> Iterator[Difference]:
    known = store.versions()
    for version in versions:
        found = known.get(str(version.number))
        if found is None:
            if not check:
                known[str(version.number)] = store.add(version)
            yield Difference(f"version {version.number}", str(version.status), None, not check)
        elif found.tags.get(STATUS) != str(version.status):
            if not check:
                store.set_status(str(found.version), str(version.status))
            said = found.tags.get(STATUS)
            yield Difference(f"status of version {version.number}", str(version.status), said, not check)
    for number in store.foreign():
        yield Difference(f"foreign version {number}", None, f"MLflow version {number}")
    wanted = {"champion": deployment.champion, "challenger": deployment.challenger}
    for alias in _ALIASES:
        target = known.get(str(wanted[alias])) if wanted[alias] is not None else None
        yield from store.move(alias, wanted[alias], str(target.version) if target else None, check=check)


class _Store:
    """One story's model in MLflow."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self._name = name

    def versions(self) -> dict[str, Any]:
        """MLflow's versions by the number the ledger gave them."""
        return {one.tags[TAG]: one for one in self._all() if TAG in one.tags}

    def foreign(self) -> list[str]:
        """MLflow's numbers of versions that somebody made there, oldest first."""
        return sorted((str(one.version) for one in self._all() if TAG not in one.tags), key=int)

    def add(self, version: Version) -> Any:
        """A run and a model version; a run left by a killed projection is used again."""
        if self._model() is None:
            self._client.create_registered_model(self._name, tags={"source": _SEPARATE})
        run = self._run(version)
        tags = {
            TAG: str(version.number),
            STATUS: str(version.status),
            "mangaassist.artifact": version.artifact,
        }
        return self._client.create_model_version(
            self._name, f"{_SEPARATE}://{version.artifact}", run_id=run, tags=tags
        )

    def set_status(self, number: str, status: str) -> None:
        self._client.set_model_version_tag(self._name, number, STATUS, status)

    def move(
        self, alias: str, wanted: int | None, target: str | None, *, check: bool
    ) -> Iterator[Difference]:
        """Point ``alias`` to ``target``, or take it away, where it is not so."""
        model = self._model()
        found = (model.aliases if model is not None else {}).get(alias)
        if (None if found is None else str(found)) == target and (wanted is None) == (target is None):
            return
        if not check and target is not None:
            self._client.set_registered_model_alias(self._name, alias, target)
        elif not check:
            self._client.delete_registered_model_alias(self._name, alias)
        ledger = None if wanted is None else f"version {wanted}"
        yield Difference(f"alias {alias}", ledger, self._said(found), not check)

    def _said(self, number: Any) -> str | None:
        if number is None:
            return None
        for one in self._all():
            if str(one.version) == str(number):
                return f"version {one.tags[TAG]}" if TAG in one.tags else f"foreign version {number}"
        return f"MLflow version {number}, which is gone"

    def _run(self, version: Version) -> str:
        from mlflow.entities import Metric, Param, RunTag

        experiment = self._client.get_experiment_by_name(self._name)
        where = experiment.experiment_id if experiment else self._client.create_experiment(self._name)
        mine = self._client.search_runs([where], f"tags.`{TAG}` = '{version.number}'", max_results=1)
        at = round(version.registered_at.timestamp() * 1000)
        run = (
            mine[0]
            if mine
            else self._client.create_run(
                where, start_time=at, tags={TAG: str(version.number)}, run_name=version.name
            )
        )
        metrics = [Metric(key, value, at, 0) for key, value in _numbers(version.metrics)]
        params = [Param(key, str(value)) for key, value in sorted(version.tags.items())]
        gate = [RunTag("mangaassist.gate", version.gate.reason), RunTag("mangaassist.run_id", version.run_id)]
        self._client.log_batch(run.info.run_id, metrics, params, gate)
        self._client.set_terminated(run.info.run_id, "FINISHED", at)
        return str(run.info.run_id)

    def _all(self) -> list[Any]:
        if self._model() is None:
            return []
        quoted = self._name.replace("'", "''")
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name = '{quoted}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _model(self) -> Any:
        found = self._client.search_registered_models(f"name = '{self._name}'")
        return self._client.get_registered_model(self._name) if found else None


def _client(url: str) -> MlflowClient:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise InputError(
            "mlflow_url",
            expected="the extra 'mlflow'",
            got=f"no module {error.name}",
            next_step="Run pip install 'mangaassist[mlflow]'.",
        ) from error
    return MlflowClient(tracking_uri=url, registry_uri=url)


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number in ``metrics``, nested ones under dotted names."""
    for key, value in sorted(metrics.items()):
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
