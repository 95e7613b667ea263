"""What a registry can do, learned from its answers once and kept, so that nothing is asked or sent in vain."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

KEPT_FOR = timedelta(days=1)
"""After this long all is forgotten, so that a registry that was upgraded is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What is known of one registry; what it has not shown yet is None or empty.

    Attributes:
        learned_at: when the first of all this was learned.
        lists_referrers: whether it has the referrers API.
        refuses_wrong_bytes: whether it refuses a blob that does not have the digest under which it is sent.
        mounts_from_itself: whether its answer to a mount from the repository itself tells that the blob is there.
        whole_limit: bytes of the smallest blob that it refused to take in one request.
        part_limit: bytes of the largest part of an upload that it took after it had refused larger ones.
        shortest_part: bytes that each part but the last must have (`OCI-Chunk-Min-Length`).
        taken_types: media types of manifests that it took.
        refused_types: media types of manifests that it does not take.
    """

    learned_at: datetime | None = None
    lists_referrers: bool | None = None
    refuses_wrong_bytes: bool | None = None
    mounts_from_itself: bool | None = None
    whole_limit: int | None = None
    part_limit: int | None = None
    shortest_part: int | None = None
    taken_types: frozenset[str] = frozenset()
    refused_types: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The JSON form, with what is not known left out."""
        document: dict[str, Any] = {}
        for field in fields(self):
            match getattr(self, field.name):
                case None:
                    continue
                case datetime() as moment:
                    document[field.name] = moment.isoformat()
                case frozenset() as names:
                    if names:
                        document[field.name] = sorted(names)
                case value:
                    document[field.name] = value
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Read the JSON form; what another version of tagferry has added is left out."""
        known = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        for name in ("taken_types", "refused_types"):
            known[name] = frozenset(known.get(name, ()))
        if "learned_at" in known:
            known["learned_at"] = datetime.fromisoformat(known["learned_at"])
        return cls(**known)


class CapabilityKeeper(Protocol):
    """Keeps what was learned of one registry; it is only a help, so that nothing here raises."""

    async def load(self) -> Capabilities:
        """What was saved last; nothing known where nothing was."""
        ...

    async def save(self, capabilities: Capabilities) -> None:
        """Keep this instead of what was saved before."""
        ...


class Learned:
    """What one registry has shown so far; the parts of a store ask it and teach it.

    Args:
        keeper: keeps it beyond this process; without it, it lives as long as this object.
        clock: tells the time.
    """

    def __init__(
        self, keeper: CapabilityKeeper | None = None, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._known = Capabilities()
        self._is_loaded = keeper is None
        self._keeping = asyncio.Lock()

    async def known(self) -> Capabilities:
        """What is known now; loaded at the first use, and forgotten after a day."""
        if not self._is_loaded and self._keeper is not None:
            async with self._keeping:
                if not self._is_loaded:
                    self._known = await self._keeper.load()
                    self._is_loaded = True
        learned_at = self._known.learned_at
        if learned_at is not None and self._clock() - learned_at > KEPT_FOR:
            self._known = Capabilities()
        return self._known

    async def learn(self, **facts: Any) -> None:
        """Note facts, by their names in `Capabilities`; what is new is kept before this returns."""
        known = await self.known()
        learned = replace(known, **facts)
        if learned == known:
            return
        self._known = replace(learned, learned_at=known.learned_at or self._clock())
        if self._keeper is not None:
            # One after another, each the latest: what is kept must not fall behind what is known.
            async with self._keeping:
                await self._keeper.save(self._known)
