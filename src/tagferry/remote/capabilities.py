"""The capabilities of a registry, learned from its responses and stored, so that no request is sent in vain."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

from tagferry.events import Events
from tagferry.http.explanation import one_line, without_secrets

MAX_AGE = timedelta(days=1)
"""Age at which all is forgotten, so that an upgraded registry is tried again."""
REFERRERS_API = "referrers API"
TAG_LIST = "tag list"
MOUNT = "mount"
HEAD_MANIFESTS = "HEAD of manifests"
HEAD_BLOBS = "HEAD of blobs"
RANGES = "ranges of blobs"
"""Features that a copy can do without, for `LearnedCapabilities.mark_unavailable`."""
_MAX_FEATURES = 32

log = Events(__name__)


class Capabilities(NamedTuple):
    """The known capabilities of one registry; unknown ones are None or empty.

    Attributes:
        learned_at: when the first of them was learned.
        lists_referrers: whether it has the referrers API.
        refuses_wrong_bytes: whether it refuses a blob that does not match its digest.
        mounts_from_itself: whether its response to a mount from the repository itself shows that the blob exists.
        whole_limit: size of the smallest blob that it refused in one request.
        part_limit: size of the largest part of an upload that it accepted after it had refused larger ones.
        shortest_part: minimum size of all parts but the last (`OCI-Chunk-Min-Length`).
        requests_a_second: requests per second that it granted when it last limited them.
        accepted_classes: classes of manifests (`Manifest.artifact_class`) of which it accepted one.
        refused_classes: classes, or whole media types, of manifests that it refused, with the time of the last refusal
            in ISO 8601.
        unavailable: optional features that it does not support, each with the reason in one line.
    """

    learned_at: datetime | None = None
    lists_referrers: bool | None = None
    refuses_wrong_bytes: bool | None = None
    mounts_from_itself: bool | None = None
    whole_limit: int | None = None
    part_limit: int | None = None
    shortest_part: int | None = None
    requests_a_second: float | None = None
    accepted_classes: frozenset[str] = frozenset()
    refused_classes: Mapping[str, str] = MappingProxyType({})
    unavailable: Mapping[str, str] = MappingProxyType({})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without unknown capabilities."""
        document: dict[str, Any] = {}
        for name, value in self._asdict().items():
            match value:
                case None:
                    continue
                case datetime():
                    document[name] = value.isoformat()
                case frozenset():
                    if value:
                        document[name] = sorted(value)
                case Mapping():
                    if value:
                        document[name] = dict(value)
                case _:
                    document[name] = value
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Parse the JSON form; members of other versions of tagferry are ignored."""
        known = {name: document[name] for name in cls._fields if name in document}
        known["accepted_classes"] = frozenset(known.get("accepted_classes", ()))
        for name in ("unavailable", "refused_classes"):
            notes = known.pop(name, None)
            if isinstance(notes, dict):
                known[name] = {key: note for key, note in notes.items() if isinstance(note, str)}
        for moment in known.get("refused_classes", {}).values():
            datetime.fromisoformat(moment)
        if "requests_a_second" in known:
            known["requests_a_second"] = float(known["requests_a_second"])
        if "learned_at" in known:
            known["learned_at"] = datetime.fromisoformat(known["learned_at"])
        return cls(**known)


class CapabilityStore(Protocol):
    """Stores the capabilities of one registry. It is only an optimization, so its methods do not raise."""

    async def load(self) -> Capabilities:
        """Return the saved capabilities; empty ones if there are none."""
        ...

    async def save(self, capabilities: Capabilities) -> None:
        """Replace the saved capabilities."""
        ...


class LearnedCapabilities:
    """The capabilities that one registry has shown so far.

    Args:
        store: stores them for later processes; None to keep them in this object only.
        registry: the registry's name in the log.
        on_loaded: called with the capabilities of an earlier process when they are loaded.
        clock: returns the current time.
    """

    def __init__(
        self,
        store: CapabilityStore | None = None,
        *,
        registry: str = "",
        on_loaded: Callable[[Capabilities], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._registry = registry
        self._on_loaded = on_loaded
        self._clock = clock
        self._known = Capabilities()
        self._is_loaded = store is None
        self._storing = asyncio.Lock()

    async def known(self) -> Capabilities:
        """Return the known capabilities; loaded on first use, and forgotten after a day."""
        if not self._is_loaded and self._store is not None:
            async with self._storing:
                if not self._is_loaded:
                    self._known = self._unless_expired(await self._store.load())
                    self._is_loaded = True
                    if self._on_loaded is not None:
                        self._on_loaded(self._known)
        self._known = self._unless_expired(self._known)
        return self._known

    @property
    def is_loaded(self) -> bool:
        """True once the capabilities of earlier processes have been loaded."""
        return self._is_loaded

    @property
    def has_learned(self) -> bool:
        """True if a capability is known."""
        return self._known.learned_at is not None

    def now(self) -> datetime:
        """Return the current time, as used for dates of capabilities."""
        return self._clock()

    async def learn(self, **facts: Any) -> None:
        """Record capabilities by their names in `Capabilities`; new ones are saved before this returns."""
        known = await self.known()
        learned = known._replace(**facts)
        if learned == known:
            return
        self._known = learned._replace(learned_at=known.learned_at or self._clock())
        if self._store is not None:
            # One at a time, each with the latest state, so that the stored state does not fall behind.
            async with self._storing:
                await self._store.save(self._known)

    async def stored(self) -> Capabilities:
        """Return the stored capabilities, whichever process saved them, without adopting them."""
        return self._unless_expired(await self._store.load()) if self._store is not None else await self.known()

    async def mark_unavailable(self, feature: str, reason: str) -> None:
        """Record that the registry does not support an optional feature, and log it if this is new.

        Args:
            feature: a short constant, such as `REFERRERS_API`. The first reason is kept until `mark_available`.
            reason: what happened; shortened to one printable line without secrets.
        """
        if feature in (await self.known()).unavailable:
            return
        # Another process may have recorded and logged it today.
        noted = (await self.stored()).unavailable if self._store is not None else {}
        known = (await self.known()).unavailable
        if feature in known or len(known) >= _MAX_FEATURES:
            return
        shown = one_line(without_secrets(reason))
        if feature not in noted:
            log.warning("registry feature unavailable", registry=self._registry, feature=feature, reason=shown)
        await self.learn(unavailable={**known, feature: shown})

    async def mark_available(self, feature: str) -> None:
        """Record that the registry supports a feature again."""
        known = (await self.known()).unavailable
        if feature in known:
            await self.learn(unavailable={name: reason for name, reason in known.items() if name != feature})

    def _unless_expired(self, known: Capabilities) -> Capabilities:
        is_old = known.learned_at is not None and self._clock() - known.learned_at > MAX_AGE
        return Capabilities() if is_old else known
