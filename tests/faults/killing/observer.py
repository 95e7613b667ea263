"""Somebody who pulls all the time: whenever a tag is there, everything below it must be there."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.faults.killing.registry import Login, RegistryClient

_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Watched:
    """A tag to look at.

    Attributes:
        digest: what it is to point to in the end.
        signature: the tag of its signature, that must be there before it points to that.
    """

    url: str
    repository: str
    tag: str
    digest: str
    signature: str | None = None
    login: Login | None = None


@dataclass
class Observer:
    """Looks at one tag after the other.

    Attributes:
        looks: how often a tag was asked for, whether it was there or not.
        sightings: how often one was there.
        partial: what was missing then.
    """

    looks: int = 0
    sightings: int = 0
    partial: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._watched: dict[str, tuple[Watched, ...]] = {}
        self._looking = threading.Lock()
        self._clients: dict[str, RegistryClient] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    @property
    def asked_again(self) -> int:
        """How often a registry answered with a 5xx, and was asked again."""
        return sum(client.asked_again for client in self._clients.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._clients.values():
            client.close()

    def watch(self, name: str, tags: Iterable[Watched]) -> None:
        """Look at these, too."""
        with self._looking:
            self._watched[name] = tuple(tags)

    def forget(self, name: str) -> None:
        """Look at these no more; returns after the last look."""
        with self._looking:
            del self._watched[name]

    def inspect(self, watched: Watched) -> tuple[str | None, tuple[str, ...]]:
        """What a tag points to, and everything that is wrong about it; raises OSError."""
        with self._looking:
            return self._look(watched)

    def _look(self, watched: Watched) -> tuple[str | None, tuple[str, ...]]:
        client = self._clients.setdefault(watched.url, RegistryClient(watched.url, watched.login))
        seen = client.look(watched.repository, watched.tag)
        if seen is None:
            return None, ()
        flaws = seen.flaws
        if watched.signature is not None and seen.digest == watched.digest:
            signature = client.look(watched.repository, watched.signature)
            flaws += signature.flaws if signature else (f"{watched.repository}:{watched.tag} without its signature",)
        return seen.digest, flaws

    def _work(self) -> None:
        while not self._stop.is_set():
            for name in list(self._watched):
                for watched in self._watched.get(name, ()):
                    if self._stop.wait(_PAUSE_SECONDS):
                        return
                    self._look_once(name, watched)
            self._stop.wait(_PAUSE_SECONDS)

    def _look_once(self, name: str, watched: Watched) -> None:
        with self._looking:
            if name not in self._watched:
                return
            try:
                digest, flaws = self._look(watched)
            except OSError:
                # A region of tagferry's own goes down with its process.
                return
            self.looks += 1
            self.sightings += digest is not None
            self.partial += flaws
