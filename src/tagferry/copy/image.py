"""An image: its manifest, and every manifest below it."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

from tagferry import bounds
from tagferry.concurrency import bounded_gather
from tagferry.copy.manifest_budget import ManifestBudget
from tagferry.errors import Invalid, TagferryError
from tagferry.names import Digest, Reference, RepositoryName
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Descriptor, Manifest

_AT_ONCE = 8

OnManifest = Callable[[Manifest], Awaitable[None]]
"""Awaited with each manifest of an image when it was read, the root first."""


class Image(NamedTuple):
    """An image, an index or an artifact.

    Attributes:
        root: its own manifest.
        levels: the manifests below the root, deepest level first; every manifest of a level refers only to blobs
            and to manifests of earlier levels.
        listed_blobs: entries of its indexes that the store holds as blobs, not manifests.
    """

    root: Manifest
    levels: tuple[tuple[Manifest, ...], ...]
    listed_blobs: tuple[Descriptor, ...] = ()

    @property
    def manifests(self) -> Iterator[Manifest]:
        """Every manifest, children before their parents."""
        for level in self.levels:
            yield from level
        yield self.root

    @property
    def blobs(self) -> Iterator[Descriptor]:
        """Every blob, once for each reference to it."""
        for manifest in self.manifests:
            yield from manifest.blobs
        yield from self.listed_blobs


async def read_image(
    store: ImageStore,
    repository: RepositoryName,
    reference: Reference,
    budget: ManifestBudget | None = None,
    *,
    on_manifest: OnManifest | None = None,
) -> Image:
    """Read a manifest, and every manifest below it.

    Args:
        store: the store.
        repository: the repository.
        reference: the digest or tag of the manifest.
        budget: limits the number and size of the manifests; by default, to the limits of one image.
        on_manifest: see `OnManifest`.

    Raises:
        NotFound: the store lacks the manifest, or a manifest that its index lists.
        Unsupported: a manifest has a type that cannot be copied bit-identically.
        Invalid: an index nests too deep or lists too much.
        Unavailable: the copies of this process hold too many bytes of manifests.
    """
    budget = budget or ManifestBudget()
    budget.require()

    async def taken(manifest: Manifest) -> Manifest:
        budget.take(manifest)
        if on_manifest is not None:
            await on_manifest(manifest)
        return manifest

    root = await taken(await store.get_manifest(repository, reference))
    levels, blobs = await _descend(store, repository, root, budget, taken)
    return Image(root=root, levels=levels, listed_blobs=blobs)


def distinct_blobs(images: Iterable[Image], *, foreign_layers: bool = False) -> tuple[Descriptor, ...]:
    """Return each blob once; leave out foreign layers with `urls` unless `foreign_layers` is set.

    Raises:
        Invalid: a blob is listed with different sizes.
    """
    blobs: dict[Digest, Descriptor] = {}
    for image in images:
        for blob in image.blobs:
            if blob.is_external and not foreign_layers:
                continue
            known = blobs.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise Invalid("descriptor.size", f"must be the same wherever {blob.digest} is listed", blob.size)
    return tuple(blobs.values())


async def _descend(
    store: ImageStore,
    repository: RepositoryName,
    root: Manifest,
    budget: ManifestBudget,
    taken: Callable[[Manifest], Awaitable[Manifest]],
) -> tuple[tuple[tuple[Manifest, ...], ...], tuple[Descriptor, ...]]:
    """Return the levels below the root, deepest first, and the entries that are blobs.

    A manifest that is listed twice belongs to its deepest level.
    """
    found: dict[Digest, Manifest] = {}
    blobs: dict[Digest, Descriptor] = {}
    depth_of: dict[Digest, int] = {}

    async def fetch(child: Descriptor) -> None:
        manifest = await _manifest_or_none(store, repository, child)
        if manifest is None:
            blobs[child.digest] = child
        else:
            found[child.digest] = await taken(manifest)

    parents, depth = [root], 1
    while wanted := {child.digest: child for parent in parents for child in parent.children}:
        if depth > bounds.INDEX_DEPTH:
            raise Invalid("index", f"must not nest deeper than {bounds.INDEX_DEPTH} levels", root.digest)
        depth_of.update(dict.fromkeys(wanted, depth))
        if len(depth_of) > bounds.IMAGE_MANIFESTS:
            raise Invalid("index", f"must not refer to more than {bounds.IMAGE_MANIFESTS} manifests", root.digest)
        unknown = [child for digest, child in wanted.items() if digest not in found and digest not in blobs]
        budget.require(len(unknown))
        await bounded_gather(unknown, fetch, limit=_AT_ONCE)
        parents, depth = [found[digest] for digest in wanted if digest in found], depth + 1
    levels = tuple(
        tuple(found[digest] for digest, level in depth_of.items() if level == wanted_level and digest in found)
        for wanted_level in range(depth - 1, 0, -1)
    )
    return tuple(level for level in levels if level), tuple(blobs.values())


async def _manifest_or_none(store: ImageStore, repository: RepositoryName, child: Descriptor) -> Manifest | None:
    """Read an entry of an index; return None if its type is ambiguous and the store holds it as a blob.

    Some registries return an error other than 404 for a manifest request with the digest of a blob.
    """
    if child.is_known_manifest:
        return await store.get_manifest(repository, child.digest)
    if child.size > bounds.MANIFEST_BYTES:
        return None
    try:
        return await store.get_manifest(repository, child.digest)
    except TagferryError:
        if await store.stat_blob(repository, child.digest) is None:
            raise
        return None
