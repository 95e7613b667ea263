"""The manifests in memory are limited, and small ones are read even at the limit."""

import gc
import json

import pytest

from tagferry import bounds
from tagferry.copy.image import Image, read_image
from tagferry.copy.manifest_budget import HeldManifests, ManifestBudget
from tagferry.copy.plan import plan_tag
from tagferry.copy.referrers import ReferrerSearch
from tagferry.copy.route import Route
from tagferry.errors import Invalid, Unavailable
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import OCI_EMPTY_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from tests.support.images import blob, image, opening, push
from tests.support.memory_store import MemoryStore

APP, V1 = RepositoryName("team/app"), Tag("v1")
EMPTY = b"{}"
MIB = 1024 * 1024


class Registry(MemoryStore):
    """A registry that parses its manifests again for each request."""

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        found = await super().get_manifest(repository, reference)
        return Manifest.parse(found.raw, found.media_type)


def large(number: int, *, size: int = MIB, subject: Descriptor | None = None) -> Manifest:
    """A distinct artifact manifest of this many bytes."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_EMPTY_CONFIG, "digest": Digest.of(EMPTY), "size": len(EMPTY)},
        "layers": [],
        **({"subject": subject.to_json()} if subject else {}),
        "annotations": {"n": f"{number}-"},
    }
    raw = json.dumps(document).encode()
    return Manifest.parse(raw.replace(b'-"}', b"-" + b"x" * (size - len(raw)) + b'"}'), OCI_MANIFEST)


def index_of(*children: Manifest) -> Manifest:
    listed = [child.descriptor.to_json() for child in children]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Manifest.parse(json.dumps(document).encode(), OCI_INDEX)


async def registry_with(*manifests: Manifest) -> Registry:
    """A registry with these manifests, the last one tagged."""
    store = Registry("source")
    await store.write_blob(APP, blob(EMPTY), opening(EMPTY))
    for manifest in manifests:
        await store.put_manifest(APP, manifest, V1 if manifest is manifests[-1] else None)
    return store


async def test_an_index_of_manifests_with_too_many_bytes_is_refused_before_all_are_read():
    children = [large(number) for number in range(40)]
    store = await registry_with(*children, index_of(*children))
    with pytest.raises(Invalid, match=f"manifests of an image must have at most {bounds.IMAGE_MANIFEST_BYTES} bytes"):
        await read_image(store, APP, V1)
    assert store.counts["get_manifest"] < 30


async def test_indexes_within_indexes_share_one_budget():
    leaves = [large(number) for number in range(20)]
    indexes = [index_of(*leaves[place : place + 2]) for place in range(0, 20, 2)]
    store = await registry_with(*leaves, *indexes, index_of(*indexes))
    with pytest.raises(Invalid, match="must have at most"):
        await read_image(store, APP, V1)


async def test_an_index_at_the_limit_is_read():
    children = [large(number) for number in range(15)]
    store = await registry_with(*children, index_of(*children))
    assert len((await read_image(store, APP, V1)).levels[0]) == 15


async def test_referrers_with_too_many_bytes_are_left_out():
    source = Registry("source")
    sample = image(b"layer")
    await push(source, APP, sample, V1)
    await source.write_blob(APP, blob(EMPTY), opening(EMPTY))
    for number in range(40):
        await source.put_manifest(APP, large(number, subject=sample.manifest.descriptor))
    plan = await plan_tag(Route(source, APP, MemoryStore("target"), APP), V1, search=ReferrerSearch())
    assert plan.root.digest == sample.digest
    assert sum(one.image.root.size for one in plan.referrers) <= bounds.IMAGE_MANIFEST_BYTES
    assert len(plan.referrers) + len(plan.gaps.left_behind) == 40
    assert "must have at most" in next(iter(plan.gaps.left_behind.values()))


async def test_all_copies_share_the_limit_for_large_manifests(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "MANIFESTS_HELD_BYTES", 20 * MIB)
    held = HeldManifests()
    children = [large(number) for number in range(12)]
    store = await registry_with(*children, index_of(*children))

    first: Image | None = await read_image(store, APP, V1, ManifestBudget(held=held))
    with pytest.raises(Unavailable, match="copies of this process hold"):
        await read_image(store, APP, V1, ManifestBudget(held=held))
    gc.collect()
    assert held.bytes == sum(one.size for one in first.manifests) if first else 0

    first = None
    gc.collect()
    assert held.bytes == 0
    assert len((await read_image(store, APP, V1, ManifestBudget(held=held))).levels[0]) == 12


async def test_small_manifests_are_read_even_at_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "MANIFESTS_HELD_BYTES", 0)
    children = [large(number, size=10_000) for number in range(50)]
    store = await registry_with(*children, index_of(*children))
    assert len((await read_image(store, APP, V1, ManifestBudget(held=HeldManifests()))).levels[0]) == 50
