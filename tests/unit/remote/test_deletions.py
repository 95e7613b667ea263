"""Deleted tags, digests and repositories no longer exist, whatever the registry reports."""

import json
from collections.abc import Callable

import pytest

from tagferry.catalog import delete_tag
from tagferry.errors import Conflict, NotDeleted, NotFound, Unavailable, Unsupported
from tagferry.names import Reference, RepositoryName, Tag
from tagferry.remote import RemoteStore
from tests.support.images import image, index
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said
from tests.support.shelf import Shelf, by_digest_alone, nothing, tags_before_manifests, that_alone

APP = RepositoryName("team/app")
V1, V2, V3 = Tag("v1"), Tag("v2"), Tag("v3")
ONE, OTHER, LISTED = image(seed="one"), image(seed="other"), index()


@pytest.fixture
def shelf(script: ScriptedRegistry) -> Shelf:
    shelf = Shelf(APP, that_alone)
    shelf.put(ONE, V1, V2)
    shelf.put(LISTED, V3)
    shelf.serve(script)
    return shelf


@pytest.mark.parametrize("deleting", [that_alone, by_digest_alone, tags_before_manifests])
async def test_a_deleted_repository_has_neither_tags_nor_manifests_left(
    shelf: Shelf, store: RemoteStore, deleting: Callable[[Shelf, Reference], Reply]
):
    shelf.delete = deleting

    await store.delete_repository(APP)

    assert shelf.held == {}


async def test_what_refers_to_something_is_deleted_before_it(shelf: Shelf, store: RemoteStore):
    await store.delete_repository(APP)

    places = {reference: place for place, reference in enumerate(shelf.deleted)}
    assert max(places[tag] for tag in (V1, V2, V3)) < min(places[one.digest] for one in (ONE, LISTED))
    assert places[LISTED.digest] < min(places[child.digest] for child in LISTED.children)


async def test_a_registry_that_refuses_to_list_referrers_still_has_its_repositories_deleted(
    shelf: Shelf, script: ScriptedRegistry, store: RemoteStore
):
    script.always("GET", "/v2/team/app/referrers/*", error(403, "DENIED"))

    await store.delete_repository(APP)

    assert shelf.held == {}


async def test_a_repository_that_remains_after_its_deletion_is_reported(
    shelf: Shelf, store: RemoteStore, pauses: list[float]
):
    shelf.delete = nothing

    with pytest.raises(NotDeleted) as caught:
        await store.delete_repository(APP)

    assert str(caught.value).startswith("registry script still has v1, v2, v3, sha256:")
    assert str(caught.value).endswith(
        "and 2 more of team/app: it answered 202 when asked to delete; "
        "try again later, or delete them at the registry itself"
    )
    assert 0 < sum(pauses) < 10


async def test_a_tag_or_manifest_that_remains_after_its_deletion_is_reported(shelf: Shelf, store: RemoteStore):
    shelf.delete = nothing
    for reference in (V1, ONE.digest):
        with pytest.raises(NotDeleted, match=f"still has {reference} of {APP}: it answered 202"):
            await store.delete_manifest(APP, reference)


async def test_what_head_misses_is_not_called_deleted(shelf: Shelf, store: RemoteStore, script: ScriptedRegistry):
    script.on("HEAD", f"/v2/{APP}/manifests/*", *[error(404, "MANIFEST_UNKNOWN")] * 100)
    shelf.delete = nothing
    with pytest.raises(NotDeleted, match="still has v1 of team/app"):
        await store.delete_manifest(APP, V1)
    with pytest.raises(NotDeleted, match="still has v1, v2, v3, sha256:"):
        await store.delete_repository(APP)

    shelf.delete = that_alone
    await store.delete_repository(APP)
    assert shelf.held == {}


async def test_a_delayed_deletion_is_awaited(
    shelf: Shelf, store: RemoteStore, script: ScriptedRegistry, pauses: list[float]
):
    looks = 0

    def slowly(asked: Asked) -> Reply:
        nonlocal looks
        looks += 1
        if looks == 3:
            del shelf.held[V1]
        return shelf.answer(asked)

    shelf.delete = nothing
    script.on("HEAD", f"/v2/{APP}/manifests/v1", *[slowly] * 3)

    await store.delete_manifest(APP, V1)

    assert looks == 3
    assert len(pauses) == 2


async def test_a_tag_that_stays_goes_with_its_manifest_unless_another_would_lose_its_image(
    shelf: Shelf, store: RemoteStore
):
    def digests_only(shelf: Shelf, reference: Reference) -> Reply:
        return (nothing if isinstance(reference, Tag) else by_digest_alone)(shelf, reference)

    shelf.delete = digests_only

    with pytest.raises(Conflict, match="cannot delete team/app:v1 alone, and v2 would lose its image"):
        await delete_tag(store, APP, V1)
    assert await delete_tag(store, APP, V3) == [V3]

    assert shelf.tags() == [V1, V2]


async def test_a_tag_that_goes_after_the_last_look_is_deleted_and_not_missing(
    shelf: Shelf, store: RemoteStore, script: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
):
    def listed(asked: Asked) -> Reply:
        shelf.held.pop(V3, None)
        return said({"tags": shelf.tags()})

    shelf.delete = nothing
    script.on("GET", f"/v2/{APP}/tags/list", listed)
    monkeypatch.setattr("tagferry.oci.deletion._PAUSES", (0.0,))

    assert await delete_tag(store, APP, V3) == [V3]


async def test_a_tag_that_outlasts_its_manifest_is_not_called_deleted(
    shelf: Shelf, store: RemoteStore, monkeypatch: pytest.MonkeyPatch
):
    def without_its_tags(shelf: Shelf, reference: Reference) -> Reply:
        return (nothing if isinstance(reference, Tag) else that_alone)(shelf, reference)

    shelf.delete = without_its_tags

    monkeypatch.setattr("tagferry.oci.deletion._PAUSES", (0.0,))
    with pytest.raises(NotDeleted, match="still has v3 of team/app: it deleted the manifest"):
        await delete_tag(store, APP, V3)


async def test_a_tag_that_head_misses_is_not_reported_as_missing(shelf: Shelf, store: RemoteStore):
    shelf.delete = lambda *_: error(404, "NOT_FOUND", "no such digest")

    with pytest.raises(Unsupported, match="registry script does not delete a tag: NOT_FOUND: no such digest"):
        await store.delete_manifest(APP, V1)

    del shelf.held[V1]
    with pytest.raises(NotFound, match='tag "team/app:v1" does not exist'):
        await store.delete_manifest(APP, V1)


@pytest.mark.parametrize("fault", [Reply(drop=True), error(502, "UNKNOWN"), error(504, "UNKNOWN")])
async def test_a_deletion_whose_answer_was_lost_has_succeeded(
    shelf: Shelf, store: RemoteStore, script: ScriptedRegistry, fault: Reply
):
    def lost(asked: Asked) -> Reply:
        shelf.answer(asked)
        return fault

    script.on("DELETE", f"/v2/{APP}/manifests/v1", lost)
    await store.delete_manifest(APP, V1)
    script.on("DELETE", f"/v2/{APP}/manifests/v2", lost, fault, fault)
    await store.delete_manifest(APP, V2)

    assert shelf.tags() == [V3]
    script.on("DELETE", f"/v2/{APP}/manifests/v3", fault, fault, fault)
    with pytest.raises(Unavailable):
        await store.delete_manifest(APP, V3)

    # Also on a reused connection, which would otherwise be replaced automatically.
    assert await store.head_manifest(APP, V3) is not None
    script.on("DELETE", f"/v2/{APP}/manifests/v3", lost)
    await store.delete_manifest(APP, V3)
    assert shelf.tags() == []


async def test_a_tag_that_was_missing_before_a_pause_was_asked_for_is_missing(
    shelf: Shelf, store: RemoteStore, script: ScriptedRegistry
):
    script.on("DELETE", f"/v2/{APP}/manifests/v9", Reply(status=429, headers={"Retry-After": "1"}))
    with pytest.raises(NotFound, match='tag "team/app:v9"'):
        await store.delete_manifest(APP, Tag("v9"))


@pytest.mark.parametrize("tags", [None, []])
async def test_a_repository_without_tags_is_none_to_delete(
    store: RemoteStore, script: ScriptedRegistry, tags: list[str] | None
):
    script.always("GET", f"/v2/{APP}/tags/list", Reply(body=json.dumps({"name": APP, "tags": tags}).encode()))
    with pytest.raises(NotFound, match='repository "team/app" does not exist'):
        await store.delete_repository(APP)
    assert [asked.method for asked in script.asked] == ["GET"]


async def test_a_tag_that_is_listed_and_cannot_be_had_keeps_no_repository(
    shelf: Shelf, store: RemoteStore, script: ScriptedRegistry
):
    script.on("GET", f"/v2/{APP}/tags/list", said({"name": APP, "tags": ["v1", "v2", "v3", "gone"]}))
    await store.delete_repository(APP)
    assert shelf.held == {}


async def test_manifests_that_remain_after_their_tags_are_deleted_are_reported(shelf: Shelf, store: RemoteStore):
    def tags_alone(shelf: Shelf, reference: Reference) -> Reply:
        return that_alone(shelf, reference) if isinstance(reference, Tag) else error(405, "UNSUPPORTED", "no digests")

    shelf.delete = tags_alone

    with pytest.raises(NotDeleted, match=r"still has sha256:.*does not delete a manifest: UNSUPPORTED: no digests"):
        await store.delete_repository(APP)
    assert shelf.tags() == []


async def test_a_registry_that_deletes_nothing_is_left_as_it_is(shelf: Shelf, store: RemoteStore):
    shelf.delete = lambda *_: error(405, "UNSUPPORTED")
    with pytest.raises(Unsupported, match="does not delete a manifest"):
        await store.delete_repository(APP)
