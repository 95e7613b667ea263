import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagferry import bounds
from tagferry.copy.plan import plan_tag
from tagferry.errors import Invalid, NotFound
from tagferry.oci.model import OCI_EMPTY_CONFIG, OCI_MANIFEST, Manifest
from tests.support.images import OCI_LAYER, SampleImage, artifact, blob, image, index, layer, opening, push
from tests.support.memory_store import MemoryStore
from tests.unit.copy.stores import APP, V1, ScriptedStore, route

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def listing(*layers: dict[str, Any]) -> SampleImage:
    """An image whose manifest lists these layers."""
    config = blob(b"{}", media_type=OCI_EMPTY_CONFIG)
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.to_json(), "layers": layers}
    return SampleImage(
        manifest=Manifest.parse(json.dumps(document).encode(), OCI_MANIFEST), blobs={config.digest: b"{}"}
    )


def nested(depth: int) -> SampleImage:
    """An image nested in this many indexes."""
    inner = image()
    for _ in range(depth):
        inner = index(inner)
    return inner


async def test_a_single_image_is_planned_with_its_config_and_layers(source: ScriptedStore, target: ScriptedStore):
    sample = image(layer("one"), layer("two"))
    await push(source, APP, sample, V1)

    plan = await plan_tag(route(source, target), V1)

    assert plan.root.raw == sample.manifest.raw
    assert plan.levels == ()
    assert [found.digest for found in plan.blobs] == list(sample.blobs)
    assert plan.size == sum(map(len, sample.blobs.values()))
    assert not target.counts


async def test_an_artifact_is_planned_as_any_image(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, artifact(), V1)

    assert {found.digest for found in (await plan_tag(route(source, target), V1)).blobs} == set(artifact().blobs)


@pytest.mark.parametrize("docker", [False, True])
async def test_an_index_is_planned_with_every_child_and_every_blob(
    source: ScriptedStore, target: ScriptedStore, docker: bool
):
    sample = index(docker=docker)
    await push(source, APP, sample, V1)

    plan = await plan_tag(route(source, target), V1)

    assert [manifest.digest for manifest in plan.manifests] == [m.digest for m in sample.all_manifests]
    assert {found.digest for found in plan.blobs} == set(sample.all_blobs)


async def test_a_blob_that_several_children_share_is_planned_once(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    await push(source, APP, index(image(shared, seed="a"), image(shared, shared, seed="b")), V1)

    digests = [found.digest for found in (await plan_tag(route(source, target), V1)).blobs]

    assert len(digests) == len(set(digests)) == 3


async def test_a_child_that_is_listed_twice_is_planned_and_fetched_once(source: ScriptedStore, target: ScriptedStore):
    child = image()
    await push(source, APP, index(child, child), V1)
    source.counts.clear()

    plan = await plan_tag(route(source, target), V1)

    assert [m.digest for level in plan.levels for m in level] == [child.digest]
    assert source.counts["get_manifest"] == 2


async def test_a_child_of_two_levels_belongs_to_the_deepest(source: ScriptedStore, target: ScriptedStore):
    child = image()
    inner = index(child)
    await push(source, APP, index(child, inner), V1)

    plan = await plan_tag(route(source, target), V1)

    assert [[m.digest for m in level] for level in plan.levels] == [[child.digest], [inner.digest]]


async def test_indexes_may_nest_up_to_a_limit(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, nested(bounds.INDEX_DEPTH), V1)

    assert len((await plan_tag(route(source, target), V1)).levels) == bounds.INDEX_DEPTH

    await push(source, APP, nested(bounds.INDEX_DEPTH + 1), V1)
    with pytest.raises(Invalid, match=rf"index must not nest deeper than {bounds.INDEX_DEPTH} levels"):
        await plan_tag(route(source, target), V1)


async def test_an_index_may_list_manifests_up_to_a_limit(source: ScriptedStore, target: ScriptedStore):
    shared = layer("shared")
    children = [image(shared, seed=str(number)) for number in range(bounds.IMAGE_MANIFESTS + 1)]
    await push(source, APP, index(*children), V1)
    source.counts.clear()

    with pytest.raises(Invalid, match=f"index must not refer to more than {bounds.IMAGE_MANIFESTS} manifests"):
        await plan_tag(route(source, target), V1)

    assert source.counts["get_manifest"] == 1
    await push(source, APP, index(*children[1:]), V1)
    assert len((await plan_tag(route(source, target), V1)).levels[0]) == bounds.IMAGE_MANIFESTS


async def test_foreign_layers_with_urls_are_left_out_and_those_without_are_not(
    source: ScriptedStore, target: ScriptedStore
):
    kept, foreign = blob(b"kept", media_type=FOREIGN).to_json(), blob(b"foreign", media_type=FOREIGN).to_json()
    foreign["urls"] = ["https://example.org/layer"]
    plain = blob(b"plain", media_type=OCI_LAYER).to_json() | {"urls": ["https://example.org/mirror"]}
    await source.write_blob(APP, blob(b"plain"), opening(b"plain"))
    await push(source, APP, listing(kept, foreign, plain), V1)

    plan = await plan_tag(route(source, target), V1)

    assert [found.digest for found in plan.blobs][1:] == [kept["digest"], plain["digest"]]


async def test_a_blob_that_is_listed_with_two_sizes_is_refused(source: ScriptedStore, target: ScriptedStore):
    content = layer("one")
    honest = blob(content).to_json()
    await source.write_blob(APP, blob(content), opening(content))
    await push(source, APP, index(listing(honest), listing(honest | {"size": 7})), V1)

    with pytest.raises(Invalid, match=r"descriptor\.size must be the same wherever sha256:\w+ is listed: got 7"):
        await plan_tag(route(source, target), V1)


async def test_a_child_that_the_source_lacks_is_not_found(source: ScriptedStore, target: ScriptedStore):
    sample = index()
    await push(source, APP, sample, V1)
    await source.delete_manifest(APP, sample.children[1].digest)

    with pytest.raises(NotFound, match=str(sample.children[1].digest)) as raised:
        await plan_tag(route(source, target), V1)

    assert raised.value.kind == "manifest"


async def test_a_tag_that_the_source_lacks_is_not_found(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, image(), None)

    with pytest.raises(NotFound, match='tag "team/app:v1" does not exist'):
        await plan_tag(route(source, target), V1)


@given(
    choices=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=4), min_size=1, max_size=bounds.INDEX_DEPTH - 1)
)
def test_the_manifests_of_a_plan_follow_their_children(choices: list[list[int]]):
    known = [image(seed=name) for name in ("a", "b", "c")]
    for chosen in choices:
        known.append(index(*(known[number % len(known)] for number in chosen)))
    root = known[-1]
    store = MemoryStore("source")

    async def planned():
        await push(store, APP, root, V1)
        return await plan_tag(route(store, store), V1)

    plan = asyncio.run(planned())

    seen = {found.digest for found in plan.blobs}
    for level in [*plan.levels, (plan.root,)]:
        for manifest in level:
            assert {inner.digest for inner in (*manifest.children, *manifest.blobs)} <= seen
        seen |= {manifest.digest for manifest in level}
    assert all(plan.levels)
    digests = [manifest.digest for manifest in plan.manifests]
    assert len(digests) == len(set(digests))
    assert set(digests) == {manifest.digest for manifest in root.all_manifests}
    assert {found.digest for found in plan.blobs} == set(root.all_blobs)
