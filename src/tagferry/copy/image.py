"""One image as a whole: its manifest, and every manifest below it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tagferry.copy.flights import each
from tagferry.errors import Invalid
from tagferry.names import Digest, Reference, RepositoryName
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Descriptor, Manifest

MANIFEST_LIMIT = 1000
"""Manifests that one image may refer to, so that no index can keep a copy busy for ever."""
DEPTH_LIMIT = 8
"""How deep indexes may nest."""
_AT_ONCE = 8


class Image(NamedTuple):
    """An image, an index or an artifact.

    Attributes:
        root: its own manifest.
        levels: the manifests below the root, deepest level first; every manifest of a level refers only to blobs
            and to manifests of earlier levels.
    """

    root: Manifest
    levels: tuple[tuple[Manifest, ...], ...]

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every manifest, those that are referred to before those that refer to them."""
        for level in self.levels:
            yield from level
        yield self.root


async def read_image(store: ImageStore, repository: RepositoryName, reference: Reference) -> Image:
    """Read a manifest, and every manifest below it.

    Raises:
        NotFound: the store lacks it, or something that its index lists.
        Unsupported: it is of a type that cannot be copied bit-identically.
        Invalid: an index nests too deep or lists too much.
    """
    root = await store.get_manifest(repository, reference)
    return Image(root=root, levels=await _descend(store, repository, root))


def distinct_blobs(manifests: Iterable[Manifest], *, foreign_layers: bool = False) -> tuple[Descriptor, ...]:
    """Each blob once, by its digest; foreign layers stay where their `urls` point, unless they are wanted too.

    Raises:
        Invalid: a blob is listed with different sizes.
    """
    blobs: dict[Digest, Descriptor] = {}
    for manifest in manifests:
        for blob in manifest.blobs:
            if blob.is_elsewhere and not foreign_layers:
                continue
            known = blobs.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise Invalid("descriptor.size", f"must be the same wherever {blob.digest} is listed", blob.size)
    return tuple(blobs.values())


async def _descend(store: ImageStore, repository: RepositoryName, root: Manifest) -> tuple[tuple[Manifest, ...], ...]:
    """The levels below the root, deepest first; a manifest that is listed twice stands in its deepest level."""
    found: dict[Digest, Manifest] = {}
    depth_of: dict[Digest, int] = {}

    async def fetch(digest: Digest) -> None:
        found[digest] = await store.get_manifest(repository, digest)

    parents, depth = [root], 1
    while wanted := dict.fromkeys(child.digest for parent in parents for child in parent.children):
        if depth > DEPTH_LIMIT:
            raise Invalid("index", f"must not nest deeper than {DEPTH_LIMIT} levels", root.digest)
        depth_of.update(dict.fromkeys(wanted, depth))
        if len(depth_of) > MANIFEST_LIMIT:
            raise Invalid("index", f"must not refer to more than {MANIFEST_LIMIT} manifests", root.digest)
        await each([digest for digest in wanted if digest not in found], fetch, at_once=_AT_ONCE)
        parents, depth = [found[digest] for digest in wanted], depth + 1
    return tuple(
        tuple(found[digest] for digest, level in depth_of.items() if level == wanted_level)
        for wanted_level in range(depth - 1, 0, -1)
    )
