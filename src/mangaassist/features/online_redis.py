"""Generations in Redis (or Valkey), for more than one machine.

Keys, all beginning with ``<prefix>:<name>:``. ``generation:<id>`` is a hash from key to record, so that a
batch is one HMGET and a collected generation one UNLINK; ``manifests`` is a hash from generation to manifest,
``current`` names one of them, ``begun`` lists the generations a writer has started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, cast

from mangaassist.core.errors import InputError, IntegrityError
from mangaassist.features.online import Generation, Item, Manifest, away

if TYPE_CHECKING:
    from redis import Redis
    from redis.lock import Lock

PREFIX = "mangaassist:online"
_BATCH = 1_000
_ANSWER_SECONDS = 0.25
_BUILD_SECONDS = 30.0
_LOCK_SECONDS = 60
"""How long the lock of a killed writer holds up the next one; a living writer renews it as it writes."""


class RedisStore:
    """Generations in one Redis database.

    Args:
        client: answers bytes, waits briefly: somebody's request is waiting, and the fallback is at hand.
        builder: the same database with time enough to write and to copy.
        prefix: what every key begins with.

    One thread materialises through one of these; any number read.
    """

    def __init__(self, client: Redis, builder: Redis, *, prefix: str = PREFIX) -> None:
        self._client = client
        self._builder = builder
        self._prefix = prefix
        self._held: Lock | None = None

    @classmethod
    def connect(cls, url: str, *, prefix: str = PREFIX) -> RedisStore:
        """The store at ``url``; nothing is sent before the first use.

        Raises:
            InputError: the URL is none, or redis-py is not installed.
        """
        try:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise InputError(
                "online_url",
                expected="the extra 'redis'",
                got="an installation without it",
                next_step="pip install 'mangaassist[redis]'",
            ) from error

        def client(seconds: float) -> Redis:
            return Redis.from_url(
                url,
                socket_timeout=seconds,
                socket_connect_timeout=seconds,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )

        try:
            return cls(client(_ANSWER_SECONDS), client(_BUILD_SECONDS), prefix=prefix)
        except ValueError as error:
            raise InputError(
                "online_url",
                expected="redis://HOST:PORT/DATABASE",
                got=str(error),
                next_step="Correct the setting, or leave it empty for LMDB in the home.",
            ) from error

    def lock(self, name: str) -> AbstractContextManager[None]:
        return self._locked(name)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        from redis.exceptions import LockError

        held = self._builder.lock(
            self._key(name, "lock"), timeout=_LOCK_SECONDS, blocking_timeout=10 * _LOCK_SECONDS
        )
        with _answering("online store"):
            if not held.acquire():
                raise away("online store", "another materialisation that does not end")
        self._held = held
        try:
            yield
        finally:
            self._held = None
            # LockError: it took longer than the lock lasts, and is somebody else's now.
            with _answering("online store"), suppress(LockError):
                held.release()

    def write(self, name: str, generation: str, items: Iterable[Item]) -> str:
        place = self._key(name, f"generation:{generation}")
        with _answering("online store"):
            self._builder.sadd(self._key(name, "begun"), generation)
            self._builder.unlink(place)
            rest = iter(items)
            while batch := list(islice(rest, _BATCH)):
                if self._held is not None:
                    self._held.reacquire()
                self._builder.hset(place, items=[part for item in batch for part in item])
        return ""

    def publish(self, manifest: Manifest) -> None:
        with _answering("online store"), self._builder.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key(manifest.name, "manifests"), manifest.generation, manifest.to_bytes())
            pipeline.set(self._key(manifest.name, "current"), manifest.generation)
            pipeline.sadd(self._names_key, manifest.name)
            pipeline.execute()

    def manifests(self, name: str) -> list[Manifest]:
        with _answering("online store"):
            stored = self._client.hvals(self._key(name, "manifests"))
        found = [Manifest.from_bytes(cast("bytes", one)) for one in stored]
        return sorted(found, key=lambda one: (one.watermark, one.generation))

    def current(self, name: str) -> Manifest | None:
        with _answering("online store"):
            generation = self._client.get(self._key(name, "current"))
            if generation is None:
                return None
            stored = self._client.hget(self._key(name, "manifests"), generation)
        if stored is None:
            raise _lost(name, "no manifest under the current generation")
        return Manifest.from_bytes(cast("bytes", stored))

    def open(self, manifest: Manifest) -> Generation:
        opened = _Hash(
            self._client, self._builder, self._key(manifest.name, f"generation:{manifest.generation}")
        )
        found = opened.size()
        if found != manifest.keys:
            raise _lost(manifest.name, f"{found} of {manifest.keys} records")
        return opened

    def collect(self, name: str, *, keep: Collection[str]) -> list[str]:
        with _answering("online store"):
            gone = sorted(_texts(self._builder.smembers(self._key(name, "begun"))) - set(keep))
            for generation in gone:
                self._builder.hdel(self._key(name, "manifests"), generation)
                self._builder.unlink(self._key(name, f"generation:{generation}"))
                self._builder.srem(self._key(name, "begun"), generation)
        return gone

    def drop(self, name: str) -> None:
        with self.lock(name):
            with _answering("online store"):
                self._builder.srem(self._names_key, name)
                self._builder.delete(self._key(name, "current"))
            self.collect(name, keep=())

    def names(self) -> list[str]:
        with _answering("online store"):
            return sorted(_texts(self._client.smembers(self._names_key)))

    @property
    def _names_key(self) -> str:
        return f"{self._prefix}:names"

    def _key(self, name: str, what: str) -> str:
        return f"{self._prefix}:{name}:{what}"


class _Hash:
    """One generation as a Redis hash."""

    def __init__(self, client: Redis, builder: Redis, place: str) -> None:
        self._client = client
        self._builder = builder
        self._place = place

    def size(self) -> int:
        with _answering("online store"):
            return int(self._client.hlen(self._place))

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        with _answering("online store"):
            if len(keys) == 1:
                return [cast("bytes | None", self._client.hget(self._place, keys[0]))]
            return cast("list[bytes | None]", self._client.hmget(self._place, keys)) if keys else []

    def items(self) -> Iterator[Item]:
        with _answering("online store"):
            found = dict(self._builder.hscan_iter(self._place, count=_BATCH))
        yield from sorted(found.items())


@contextmanager
def _answering(what: str) -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise away(what, f"{type(error).__name__}: {error}") from error


def _texts(members: Iterable[bytes | str]) -> set[str]:
    return {one if isinstance(one, str) else one.decode() for one in members}


def _lost(name: str, got: str) -> IntegrityError:
    return IntegrityError(
        f"online features '{name}'",
        expected="what was materialised",
        got=got,
        next_step="Materialise again: mangaassist features materialise NAME",
    )
