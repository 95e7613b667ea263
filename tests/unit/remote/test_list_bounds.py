"""Lists of registries are bounded in pages, names and bytes."""

import asyncio
import gc
import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tagferry import bounds
from tagferry.errors import Incomplete, Invalid, TagferryError, TooLarge, Unavailable, detached
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import OCI_INDEX, Descriptor
from tagferry.remote.transport.response import Answer
from tests.support.images import artifact, image
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, said
from tests.unit.remote.conftest import Opening

APP = RepositoryName("team/app")
TAGS, CATALOG = "/v2/team/app/tags/list", "/v2/_catalog"
SUBJECT = image(b"layer").digest


def endless(script: ScriptedRegistry, path: str, member: str, page: Callable[[int], list[str]]) -> None:
    """Send page after page, each with a link to the next one."""

    def answer(asked: Asked) -> Reply:
        number = int(asked.query.partition("page=")[2] or 0)
        return said({member: page(number)}, headers={"Link": f'<{path}?page={number + 1}>; rel="next"'})

    script.always("GET", path, answer)


async def tags(opened: Opening) -> list[str]:
    return [tag async for tag in opened(attempts=1).list_tags(APP)]


async def repositories(opened: Opening) -> list[str]:
    return [name async for name in opened(attempts=1).list_repositories()]


@pytest.mark.parametrize(("path", "member", "listed"), [(TAGS, "tags", tags), (CATALOG, "repositories", repositories)])
async def test_an_endless_list_ends_at_the_name_limit(
    script: ScriptedRegistry,
    opened: Opening,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    member: str,
    listed: Callable[[Opening], object],
):
    monkeypatch.setattr(bounds, "TAG_LIST_NAMES", 5000)
    endless(script, path, member, lambda page: [f"n{page * 1000 + number}" for number in range(1000)])
    with pytest.raises(TagferryError, match="more than 5000 names"):
        await listed(opened)  # type: ignore[misc]
    assert len(script.asked) == 6


async def test_a_list_of_as_many_names_as_may_be_is_read(
    script: ScriptedRegistry, opened: Opening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "TAG_LIST_NAMES", 5000)
    script.always("GET", TAGS, said({"tags": [f"n{number}" for number in range(4999)]}))
    assert len(await tags(opened)) == 4999


async def test_a_page_of_too_many_names_is_not_even_parsed(
    script: ScriptedRegistry, opened: Opening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "TAG_LIST_NAMES", 5000)
    script.always("GET", TAGS, Reply(body=b'{"tags": [' + b'"a",' * 5001 + b"this is no JSON"))
    with pytest.raises(TagferryError, match="more than 5000 names"):
        await tags(opened)


@pytest.mark.parametrize(("path", "member", "listed"), [(TAGS, "tags", tags), (CATALOG, "repositories", repositories)])
async def test_an_endless_list_ends_at_the_byte_limit(
    script: ScriptedRegistry, opened: Opening, path: str, member: str, listed: Callable[[Opening], object]
):
    endless(script, path, member, lambda page: [f"{page}".ljust(1024 * 1024, "x")])
    with pytest.raises(TagferryError, match=f"more than {bounds.TAG_LIST_BYTES} bytes"):
        await listed(opened)  # type: ignore[misc]
    assert len(script.asked) == bounds.TAG_LIST_BYTES // 1024 // 1024


async def test_one_page_of_more_bytes_is_not_read_to_its_end(script: ScriptedRegistry, opened: Opening):
    script.always("GET", TAGS, Reply(body=b'{"tags": ["' + b"x" * bounds.TAG_LIST_BYTES + b'"]}'))
    with pytest.raises(TooLarge, match=f"at most {bounds.TAG_LIST_BYTES} bytes"):
        await tags(opened)


async def test_repeated_pages_end_a_list(script: ScriptedRegistry, opened: Opening):
    endless(script, TAGS, "tags", lambda page: ["v1", "v2"])
    with pytest.raises(Unavailable, match="repeated its pages"):
        await tags(opened)
    assert len(script.asked) < 100


def entries(page: int, size: int, note: str = "") -> list[dict[str, object]]:
    shown = artifact().manifest.descriptor.to_json()
    annotations = {"annotations": {"note": note}} if note else {}
    return [{**shown, "digest": f"sha256:{page * size + number:064x}", **annotations} for number in range(size)]


def endless_referrers(script: ScriptedRegistry, size: int, note: str = "") -> None:
    path = f"/v2/team/app/referrers/{SUBJECT}"

    def answer(asked: Asked) -> Reply:
        number = int(asked.query.partition("page=")[2] or 0)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries(number, size, note)}
        link = {"Link": f'<{path}?page={number + 1}>; rel="next"', "Content-Type": OCI_INDEX}
        return Reply(body=json.dumps(index).encode(), headers=link)

    script.always("GET", path, answer)


async def test_an_endless_list_of_referrers_ends_at_the_entry_limit(script: ScriptedRegistry, opened: Opening):
    endless_referrers(script, 4000)
    with pytest.raises(Incomplete, match=f"more than {bounds.LISTED_REFERRERS} entries") as failure:
        await opened(attempts=1).list_referrers(APP, SUBJECT)
    assert len(failure.value.found) == bounds.LISTED_REFERRERS + 1
    assert len(script.asked) == 3


async def test_an_endless_list_of_referrers_ends_at_the_byte_limit(script: ScriptedRegistry, opened: Opening):
    endless_referrers(script, 30, note="x" * 100_000)
    with pytest.raises(Incomplete, match=f"more than {bounds.REFERRER_LIST_BYTES} bytes"):
        await opened(attempts=1).list_referrers(APP, SUBJECT)
    assert len(script.asked) == 3


async def test_an_endless_list_of_referrers_is_not_requested_again_at_once(script: ScriptedRegistry, opened: Opening):
    endless_referrers(script, 4000)
    store = opened(attempts=1)
    for _ in range(3):
        with pytest.raises(Incomplete):
            await store.list_referrers(APP, SUBJECT)
    assert sum("/referrers/" in line for line in script.lines()) == 3


async def test_entries_that_cannot_be_read_count_among_those_of_a_list_of_referrers(
    script: ScriptedRegistry, opened: Opening, monkeypatch: pytest.MonkeyPatch
):
    read = 0

    def counted(entry: object, **_: str) -> Descriptor:
        nonlocal read
        read += 1
        raise Invalid("descriptor", "is none")

    monkeypatch.setattr(Descriptor, "from_json", counted)
    many = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{}] * (bounds.LISTED_REFERRERS + 5000)}
    reply = Reply(body=json.dumps(many).encode(), headers={"Content-Type": OCI_INDEX})
    script.always("GET", f"/v2/team/app/referrers/{SUBJECT}", reply)
    with pytest.raises(Incomplete, match=f"more than {bounds.LISTED_REFERRERS} entries"):
        await opened(attempts=1).list_referrers(APP, SUBJECT)
    assert read <= bounds.LISTED_REFERRERS + 1


@pytest.mark.parametrize("value", [b"{}", b"0", b"[]", b'{"a":[[]]}'])
async def test_a_list_of_too_many_values_is_not_even_parsed(
    script: ScriptedRegistry, opened: Opening, monkeypatch: pytest.MonkeyPatch, value: bytes
):
    longest = 0

    def noted(text: bytes) -> object:
        nonlocal longest
        longest = max(longest, len(text))
        return json.loads(text)

    monkeypatch.setattr("tagferry.remote.transport.response.json", SimpleNamespace(loads=noted))
    members = b",".join([value] * (bounds.JSON_VALUES + 1))
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (OCI_INDEX.encode(), members)
    reply = Reply(body=body, headers={"Content-Type": OCI_INDEX})
    script.always("GET", f"/v2/team/app/referrers/{SUBJECT}", reply)
    assert await opened(attempts=1).list_referrers(APP, SUBJECT) == []
    assert longest < bounds.PARSED_AT_ONCE_BYTES


async def test_the_number_of_large_responses_in_memory_is_limited(script: ScriptedRegistry, opened: Opening):
    body = b'{"schemaVersion":2,"x":"%s"}' % (b"x" * 2 * bounds.LARGE_RESPONSE_BYTES)
    digests = [Digest.of(str(number).encode()) for number in range(40)]
    script.always("GET", "/v2/team/app/manifests/*", Reply(body=body, headers={"Content-Type": OCI_INDEX}))
    store, most = opened(attempts=1), 0

    def held() -> int:
        return sum(isinstance(one, Answer) and len(one.body) > bounds.LARGE_RESPONSE_BYTES for one in gc.get_objects())

    async def get(digest: Digest) -> None:
        nonlocal most
        try:
            await store.get_manifest(APP, digest)
        except TagferryError as error:
            detached(error)
        most = max(most, held())

    await asyncio.gather(*map(get, digests))
    assert sum("/manifests/" in line for line in script.lines()) == 40
    assert most <= bounds.LARGE_RESPONSES + 1


async def test_lists_of_several_large_pages_do_not_wait_for_each_other(script: ScriptedRegistry, opened: Opening):
    size = bounds.LARGE_RESPONSE_BYTES + 1
    paths = [f"/v2/team/app{number}/tags/list" for number in range(2 * bounds.LARGE_RESPONSES)]
    for path in paths:
        following = {"Link": f'<{path}?page=2>; rel="next"'}
        script.on("GET", path, said({"tags": ["v1", "x" * size]}, headers=following))
        script.always("GET", path, said({"tags": ["v2", "y" * size]}))
    store = opened(attempts=1)

    async def tags_of(number: int) -> list[str]:
        return [tag async for tag in store.list_tags(RepositoryName(f"team/app{number}"))]

    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(tags_of, range(len(paths))))
    assert found == [["v1", "v2"]] * len(paths)


async def test_a_cancelled_or_broken_read_releases_its_memory(script: ScriptedRegistry, opened: Opening):
    large = b'{"schemaVersion":2,"x":"%s"}' % (b"x" * 12 * bounds.LARGE_RESPONSE_BYTES)
    digests = [Digest.of(str(number).encode()) for number in range(bounds.LARGE_RESPONSES)]
    are_sent = asyncio.Event()

    def trickling(_: Asked) -> Reply:
        if script.lines().count("GET /v2/team/app/manifests/v1") == len(digests):
            are_sent.set()
        return Reply(body=large, trickle=3600)

    for digest in digests:
        path = f"/v2/team/app/manifests/{digest}"
        script.always("GET", path, Reply(body=large, truncate_to=len(large) // 2))
    script.on("GET", "/v2/team/app/manifests/v1", *([trickling] * len(digests)))
    script.always("GET", "/v2/team/app/manifests/v1", Reply(body=large, headers={"Content-Type": OCI_INDEX}))
    store = opened(attempts=1)
    broken = [asyncio.create_task(store.get_manifest(APP, digest)) for digest in digests]
    await asyncio.wait(broken)
    stuck = [asyncio.create_task(store.get_manifest(APP, Tag("v1"))) for _ in digests]
    await are_sent.wait()
    for task in stuck:
        task.cancel()
    await asyncio.wait(stuck)
    assert {type(task.exception()) for task in broken} == {Unavailable}
    async with asyncio.timeout(60):
        with pytest.raises(Invalid, match="manifests"):
            await store.get_manifest(APP, Tag("v1"))
