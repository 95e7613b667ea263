"""A client that pulls all the time: if a tag exists, everything below it must exist."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.faults.killing.registry import Login, RegistryClient

_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Watched:
    """A tag to observe.

    Attributes:
        digest: its final digest.
        signature: the tag of its signature, which must exist before it points to that digest.
    """

    url: str
    repository: str
    tag: str
    digest: str
    signature: str | None = None
    login: Login | None = None


@dataclass
class Observer:
    """Reads one tag after the other.

    Attributes:
        looks: the number of reads, whether the tag existed or not.
        sightings: how often a tag existed.
        partial: the content that was missing then.
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
        """The number of requests that were repeated after a 5xx."""
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
        """Observe these, too."""
        with self._looking:
            self._watched[name] = tuple(tags)

    def forget(self, name: str) -> None:
        """Stop observing these; returns after the last read."""
        with self._looking:
            del self._watched[name]

    def inspect(self, watched: Watched) -> tuple[str | None, tuple[str, ...]]:
        """Return a tag's digest and its flaws; raises OSError."""
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
                # An embedded region ends with its process.
                return
            self.looks += 1
            self.sightings += digest is not None
            self.partial += flaws
