"""The list of tags: an error if it is not a list, and optional if only some names are needed."""

import json
import random

import pytest
from structlog.testing import capture_logs

from tagferry.errors import NotFound, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import RemoteStore
from tagferry.remote.capabilities import TAG_LIST
from tagferry.remote.transport.pagination import NotAList
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP = RepositoryName("team/app")
LIST = f"/v2/{APP}/tags/list"
NUMBERED = [f"1.{number:06}" for number in range(100_000)]

NO_LIST = [
    pytest.param(Reply(body=b"<html></html>", headers={"Content-Type": "text/html"}), id="a web page"),
    pytest.param(Reply(body=b""), id="nothing"),
    pytest.param(said({"name": APP}), id="no tags at all"),
    pytest.param(said({"tags": {"v1": {}}}), id="an object"),
    pytest.param(said({"tags": [1]}), id="no names"),
    pytest.param(said(["v1"]), id="an array"),
    pytest.param(Reply(body=b'{"tags": ["v1"'), id="cut JSON"),
]


async def listed(store: RemoteStore) -> list[str]:
    return [tag async for tag in store.list_tags(APP)]


@pytest.mark.parametrize("answer", NO_LIST)
async def test_what_is_no_list_of_tags_is_an_error_and_never_an_empty_list(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.always("GET", LIST, answer)
    store = opened(capabilities=capabilities)

    with pytest.raises(NotAList, match=r"registry script answered 200 with no list .* list the tags of team/app"):
        await listed(store)
    assert await store.list_tags_within(APP, 1) is None
    assert TAG_LIST in capabilities.stored.unavailable


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        (Reply(status=404, body=b'{"errors": [{"code": "NAME_UNKNOWN"}]}'), frozenset()),
        (Reply(status=404, body=b"404 page not found"), None),
        (Reply(status=404), None),
    ],
)
async def test_only_a_repository_that_is_said_to_be_unknown_certainly_has_no_tags(
    script: ScriptedRegistry, store: RemoteStore, answer: Reply, tags: frozenset[Tag] | None
):
    script.always("GET", LIST, answer)

    assert await store.list_tags_within(APP, 1) == tags


async def test_null_is_how_a_list_without_tags_is_written(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", LIST, said({"name": APP, "tags": None}))

    assert await listed(store) == []
    assert await store.list_tags_within(APP, 1) == frozenset()


async def test_names_outside_the_grammar_are_left_out_and_logged(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", LIST, said({"tags": ["v1", "..", "", "a b", "v2", "x" * 200]}))

    with capture_logs() as logs:
        assert await listed(store) == ["v1", "v2"]

    (entry,) = logs
    assert (entry["event"], entry["tags"]) == ("tags with invalid names were left out", 4)
    assert await store.list_tags_within(APP, 1) == frozenset({Tag("v1"), Tag("v2")})


async def test_the_next_page_is_requested_from_the_same_host_whatever_its_link_names(
    script: ScriptedRegistry, store: RemoteStore
):
    link = {"Link": f'<http://registry.internal:5000{LIST}?n=2&last=b>; rel="next"'}
    script.on("GET", LIST, said({"tags": ["a", "b"]}, headers=link), said({"tags": ["c"]}))

    assert await listed(store) == ["a", "b", "c"]
    assert script.asked[1].query == "n=2&last=b"


async def test_a_list_that_is_moved_is_followed_with_its_pages(script: ScriptedRegistry, store: RemoteStore):
    async with scripted_registry() as upstream:
        script.always("GET", LIST, Reply(status=307, headers={"Location": f"{upstream.url}/v2/mirror/tags/list"}))
        link = {"Link": '</v2/mirror/tags/list?last=a>; rel="next"'}
        pages = (said({"tags": ["a"]}, headers=link), said({"tags": ["b"]}))
        upstream.on("GET", "/v2/mirror/tags/list", *pages, *pages)

        assert await listed(store) == ["a", "b"]
        assert await store.list_tags_within(APP, 2) == frozenset({Tag("a"), Tag("b")})


async def test_a_404_for_a_later_page_is_not_a_missing_repository(script: ScriptedRegistry, store: RemoteStore):
    link = {"Link": f"<{LIST}?last=a>; rel=next"}
    script.on("GET", LIST, said({"tags": ["a"]}, headers=link), error(404, "NAME_UNKNOWN"))

    with pytest.raises(Unavailable):
        await listed(store)


async def test_a_registry_may_put_a_hundred_thousand_tags_into_one_answer(script: ScriptedRegistry, store: RemoteStore):
    names = [f"{name}-{'x' * 60}" for name in NUMBERED]
    script.always("GET", LIST, said({"tags": names}))

    assert await listed(store) == sorted(names)
    assert await store.list_tags_within(APP, 1) is None, "so much is not read where a few names are wanted"


def cut(asked: Asked) -> Reply:
    """A list of 230 tags, at most 100 per request, without a link to the rest."""
    last = asked.query.partition("last=")[2]
    return said({"tags": [name for name in NUMBERED[:230] if name > last][:100]})


async def test_the_rest_of_a_truncated_list_without_a_link_is_requested(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", LIST, cut)

    assert await listed(store) == NUMBERED[:230]
    assert len(script.asked) == 3
    assert await store.list_tags_within(APP, 9) is None, "its first part is not all"


@pytest.mark.parametrize("answer", [said({"tags": NUMBERED[:100]}), Reply(status=400), said({}), said({"tags": []})])
async def test_a_list_of_a_round_length_without_a_rest_is_complete(
    script: ScriptedRegistry, store: RemoteStore, answer: Reply
):
    script.on("GET", LIST, said({"tags": NUMBERED[:100]}))
    script.always("GET", LIST, answer)

    assert await listed(store) == NUMBERED[:100]
    assert len(script.asked) == 2


async def test_a_sorted_list_beyond_all_digest_tags_includes_them_all(script: ScriptedRegistry, store: RemoteStore):
    names = sorted(Tag(f"v{number}") for number in range(100))
    script.always("GET", LIST, said({"tags": names}))

    assert await store.list_tags_within(APP, 1) == frozenset(names)


@pytest.mark.parametrize("order", ["shuffled", "natural", "reversed"])
async def test_an_unordered_list_is_a_complete_directory(script: ScriptedRegistry, store: RemoteStore, order: str):
    names = [Tag(f"a{number}") for number in range(100)]
    if order == "shuffled":
        random.Random(1).shuffle(names)
    if order == "reversed":
        names.reverse()
    script.always("GET", LIST, said({"tags": names}, headers={"Docker-Distribution-Api-Version": "registry/2.0"}))

    assert await store.list_tags_within(APP, 1) == (frozenset(names) if order == "shuffled" else None)


async def test_a_longer_list_ends_after_the_granted_requests(script: ScriptedRegistry, store: RemoteStore):
    def page(asked: Asked) -> Reply:
        return said({"tags": [f"v{len(script.asked)}"]}, headers={"Link": f"<{LIST}?{len(script.asked)}>; rel=next"})

    script.always("GET", LIST, page)

    assert await store.list_tags_within(APP, 1) is None
    assert len(script.asked) == 1
    assert await store.list_tags_within(APP, 3) is None
    assert len(script.asked) == 4


@pytest.mark.parametrize("status", [401, 403, 405, 406, 413])
async def test_a_refused_tag_list_is_recorded_and_not_conclusive_about_tags(
    script: ScriptedRegistry, opened: Opening, status: int
):
    capabilities = MemoryCapabilities()
    script.always("GET", LIST, Reply(status=status))

    assert await opened(capabilities=capabilities).list_tags_within(APP, 1) is None
    assert str(status) in capabilities.stored.unavailable[TAG_LIST]


@pytest.mark.parametrize("answer", [Reply(status=503), Reply(status=429), Reply(drop=True), Reply(status=404)])
async def test_an_optional_list_is_requested_once_and_temporary_faults_are_not_recorded(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.always("GET", LIST, answer)

    assert await opened(capabilities=capabilities).list_tags_within(APP, 1) is None
    assert len(script.asked) == 1
    assert capabilities.stored.unavailable == {}


async def test_a_repository_that_does_not_exist_has_no_list(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", LIST, error(404, "NAME_UNKNOWN"))

    with pytest.raises(NotFound):
        await listed(store)


@pytest.mark.parametrize("body", [b"<html></html>", json.dumps({}).encode()])
async def test_what_is_no_catalog_is_never_an_empty_one(script: ScriptedRegistry, store: RemoteStore, body: bytes):
    script.always("GET", "/v2/_catalog", Reply(body=body))

    with pytest.raises(Exception, match="does not list its repositories"):
        _ = [name async for name in store.list_repositories()]
