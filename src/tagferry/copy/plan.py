"""What a tag's copy consists of, as pure data that can be printed, tested and run."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from tagferry.copy.flights import gather
from tagferry.copy.route import Route
from tagferry.errors import Invalid
from tagferry.names import Digest, Tag
from tagferry.oci.model import Descriptor, Manifest

MANIFEST_LIMIT = 1000
"""Manifests that one tag may refer to, so that no index can keep a copy busy for ever."""
DEPTH_LIMIT = 8
"""How deep indexes may nest."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that makes up the image of a tag.

    Attributes:
        root: what the tag points to.
        levels: the manifests below the root, deepest level first; every manifest of a level refers only to blobs
            and to manifests of earlier levels.
        blobs: every blob that any of the manifests refers to, each once.
    """

    tag: Tag
    root: Manifest
    levels: tuple[tuple[Manifest, ...], ...]
    blobs: tuple[Descriptor, ...]

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every manifest, those that are referred to before those that refer to them."""
        for level in self.levels:
            yield from level
        yield self.root


async def plan_tag(route: Route, tag: Tag) -> Plan:
    """Read the tag's manifest, and every manifest below it, at the source.

    Raises:
        NotFound: the source lacks the tag, or something that its index lists.
        Unsupported: the image is of a type that cannot be copied bit-identically.
        Invalid: the image's index nests too deep or lists too much.
    """
    root = await route.source.get_manifest(route.source_repository, tag)
    levels = await _descend(route, root)
    manifests = [manifest for level in levels for manifest in level]
    return Plan(tag=tag, root=root, levels=levels, blobs=_blobs([*manifests, root]))


async def _descend(route: Route, root: Manifest) -> tuple[tuple[Manifest, ...], ...]:
    """The levels below the root, deepest first; a manifest that is listed twice stands in its deepest level."""
    found: dict[Digest, Manifest] = {}
    depth_of: dict[Digest, int] = {}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def fetch(digest: Digest) -> None:
        async with gate:
            found[digest] = await route.source.get_manifest(route.source_repository, digest)

    parents, depth = [root], 1
    while wanted := dict.fromkeys(child.digest for parent in parents for child in parent.children):
        if depth > DEPTH_LIMIT:
            raise Invalid("index", f"must not nest deeper than {DEPTH_LIMIT} levels", root.digest)
        depth_of.update(dict.fromkeys(wanted, depth))
        if len(depth_of) > MANIFEST_LIMIT:
            raise Invalid("index", f"must not refer to more than {MANIFEST_LIMIT} manifests", root.digest)
        await gather(*(fetch(digest) for digest in wanted if digest not in found))
        parents, depth = [found[digest] for digest in wanted], depth + 1
    return tuple(
        tuple(found[digest] for digest, level in depth_of.items() if level == wanted_level)
        for wanted_level in range(depth - 1, 0, -1)
    )


def _blobs(manifests: list[Manifest]) -> tuple[Descriptor, ...]:
    """Each blob once, by its digest; foreign layers stay where their `urls` point."""
    blobs: dict[Digest, Descriptor] = {}
    for manifest in manifests:
        for blob in manifest.blobs:
            if blob.is_foreign and blob.urls:
                continue
            known = blobs.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise Invalid("descriptor.size", f"must be the same wherever {blob.digest} is listed", blob.size)
    return tuple(blobs.values())
