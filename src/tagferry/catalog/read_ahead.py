"""Read all that a list shows of an embedded registry's repository in a few turns of a thread.

What was read in an earlier list is remembered by its digest; then only the status of each manifest's file is read.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tagferry import bounds
from tagferry.catalog.facts import ConfigFacts, Facts, FactsMemory, Image
from tagferry.errors import TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor, Manifest

if TYPE_CHECKING:
    from tagferry.registry.storage.listings import Listings

Item = TypeVar("Item")

_AT_ONCE = 128
"""Manifests or configs that one turn of a thread reads, one after the other."""


@dataclass(slots=True)
class Budget:
    """The reads that one request for a list has left.

    Attributes:
        manifests: manifests that are not remembered.
        bytes: bytes of these and of configs.
        text_bytes: bytes of manifests in the answer.
    """

    manifests: int
    bytes: int
    text_bytes: int


@dataclass(slots=True)
class ReadAhead:
    """The manifests of one repository that were read for one list.

    Attributes:
        images: the listed images that are remembered, and whose manifests are as they were.
        facts: the facts of any other manifest, or the error that reading it raised.
        texts: the manifests as text, if the list shows them.
    """

    images: dict[Digest, Image] = field(default_factory=dict)
    facts: dict[Digest, Facts | TagferryError | OSError] = field(default_factory=dict)
    texts: dict[Digest, str] = field(default_factory=dict)

    @property
    def manifests(self) -> Sequence[Digest]:
        """All manifests that were read."""
        return [*self.images, *self.facts]


async def read_ahead(
    listings: "Listings",
    memory: FactsMemory,
    budget: Budget,
    slots: asyncio.Semaphore,
    name: RepositoryName,
    digests: Iterable[Digest],
) -> ReadAhead:
    """Read manifests, those below them, and their configs, within a budget."""
    found = ReadAhead()
    roots = list(dict.fromkeys(digests))
    level = roots
    for _ in range(bounds.INDEX_DEPTH + 1):
        for part in _parts(level):
            async with slots:
                await _read(listings, memory, budget, name, part, found, is_listed=level is roots)
        level = _below(level, found)
        if not level:
            break
    await _read_configs(listings, memory, budget, slots, name, _configs(roots, found))
    return found


class _Converter:
    """Converts a manifest in the thread that has read it."""

    def __init__(self, known: Mapping[Digest, Facts | Image], text_bytes: int) -> None:
        self._known = known
        self._left = text_bytes

    def __call__(self, manifest: Manifest) -> tuple[Facts | Image, int, str | None]:
        about = self._known.get(manifest.digest) or Facts.of(manifest)
        size, text = manifest.size, None
        if size <= self._left:
            self._left -= size
            text = manifest.raw.decode("utf-8", "replace")
        return about, size, text


async def _read(
    listings: "Listings",
    memory: FactsMemory,
    budget: Budget,
    name: RepositoryName,
    digests: Sequence[Digest],
    found: ReadAhead,
    *,
    is_listed: bool,
) -> None:
    with_texts = is_listed and budget.text_bytes > 0
    known: dict[Digest, Facts | Image] = {}
    for digest in digests:
        # The manifests below an index are counted by their facts.
        remembered = (memory.image(digest) if is_listed else None) or memory.facts(digest)
        if remembered is not None:
            known[digest] = remembered
    unknown = [digest for digest in digests if digest not in known]
    wanted = [*known, *unknown[: max(0, budget.manifests)]]
    read = await listings.manifests(
        name,
        wanted,
        _Converter(known, budget.text_bytes - sum(map(len, found.texts.values())) if with_texts else -1),
        known=known,
        only_unknown=not with_texts,
        budget=budget.bytes,
    )
    for digest, result in read.items():
        if isinstance(result, TagferryError | OSError):
            found.facts[digest] = result
            continue
        about, size, text = result or (known[digest], 0, None)
        if text is not None:
            found.texts[digest] = text
        if isinstance(about, Image):
            found.images[digest] = about
            continue
        found.facts[digest] = about
        if digest not in known:
            budget.manifests -= 1
            budget.bytes -= size
            memory.keep_facts(digest, about)


async def _read_configs(
    listings: "Listings",
    memory: FactsMemory,
    budget: Budget,
    slots: asyncio.Semaphore,
    name: RepositoryName,
    configs: Sequence[Descriptor],
) -> None:
    wanted = [one for one in configs if memory.config(one.digest) is None and one.size <= bounds.PARSED_AT_ONCE_BYTES]
    for part in _parts(wanted):
        budget.bytes -= sum(one.size for one in part)
        if budget.bytes < 0:
            return
        async with slots:
            read = await listings.small_blobs(name, [one.digest for one in part], ConfigFacts.of)
        for digest, facts in read.items():
            memory.keep_config(digest, facts)


def _below(level: Iterable[Digest], found: ReadAhead) -> list[Digest]:
    """Return the manifests that those of a level refer to."""
    below: dict[Digest, None] = {}
    for digest in level:
        facts = found.facts.get(digest)
        if isinstance(facts, Facts):
            below |= {child.digest: None for child in facts.children if child.digest not in found.facts}
    # More is read one by one, up to the limits of an image.
    return list(below)[: bounds.LIST_REQUEST_MANIFESTS]


def _configs(roots: Iterable[Digest], found: ReadAhead) -> list[Descriptor]:
    """Return the config that dates each image that is not remembered: the first one."""
    configs = {}
    for root in (one for one in roots if one not in found.images):
        level = [root]
        for _ in range(bounds.INDEX_DEPTH + 1):
            facts = [one for digest in level if isinstance(one := found.facts.get(digest), Facts)]
            if config := next((one.config for one in facts if one.config), None):
                configs[config.digest] = config
                break
            level = [child.digest for one in facts for child in one.children]
            if not level:
                break
    return list(configs.values())


def _parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
