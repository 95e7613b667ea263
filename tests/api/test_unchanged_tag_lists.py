"""A list of tags is sent as before while nothing that it shows has changed, and no longer."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from huaweicloudsdkswr.v2 import ListRepositoryTagsRequest

from tagferry import bounds
from tagferry.accounts.model import Permission
from tagferry.catalog import answers, describe_tags
from tagferry.catalog.facts import Memory
from tagferry.names import Tag
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads
from tagferry.web.swr import tags
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.images import SampleImage, built, image, index, push
from tests.support.sdk_calls import ask

APP = name_in("team")
_REPOSITORY = "manage/namespaces/team/repos/app/tags"
LISTS = [
    f"/v2/{_REPOSITORY}",
    f"/v2/{_REPOSITORY}?limit=2&offset=1&order_column=name&order_type=asc",
    f"/v3/{_REPOSITORY}",
    f"/v3/{_REPOSITORY}?with_manifest=true&limit=3",
]
ROUNDS = 20
IMAGES: dict[str, SampleImage] = {
    "v1": built("2024-05-06T07:08:09Z", seed="v1"),
    "v2": image(seed="v2"),
    "v3": image(seed="v3"),
    "index": index(image(seed="amd64"), image(seed="arm64", platform=("linux", "arm64"))),
}


class Described:
    """How many lists were built anew, and how often the registry's threads were used."""

    def __init__(self) -> None:
        self.lists = self.turns = 0


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Described:
    counted, submit = Described(), DiskThreads.submit

    def describing(*arguments: Any, **options: Any) -> Any:
        counted.lists += 1
        return describe_tags(*arguments, **options)

    def submitting(*arguments: Any, **options: Any) -> Any:
        counted.turns += 1
        return submit(*arguments, **options)

    monkeypatch.setattr(tags, "describe_tags", describing)
    monkeypatch.setattr(DiskThreads, "submit", submitting)
    return counted


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path) as deployment:
        for tag, sample in IMAGES.items():
            await push(deployment.store(NORTH), APP, sample, Tag(tag))
        yield deployment


def disk(ferry: Deployment) -> DiskStore:
    store = ferry.store(NORTH)
    assert isinstance(store, DiskStore)
    return store


async def listed(ferry: Deployment, path: str) -> tuple[dict[str, str], bytes]:
    answer = await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, (path, answer.content)
    return {
        name: value for name, value in answer.headers.items() if name not in ("Date", "X-Request-ID")
    }, answer.content


async def built_anew(ferry: Deployment, path: str) -> tuple[dict[str, str], bytes]:
    with pytest.MonkeyPatch.context() as forgetful:
        forgetful.setattr(tags, "known_answer", lambda _: None)
        return await listed(ferry, path)


@pytest.mark.parametrize("path", LISTS)
async def test_an_unchanged_list_is_not_built_again(ferry: Deployment, described: Described, path: str):
    first = await listed(ferry, path)
    described.lists = 0

    # Work in the background may use the threads during one of the requests.
    for _ in range(ROUNDS):
        described.turns = 0
        assert await listed(ferry, path) == first
        if described.turns == 1:
            break

    assert (described.lists, described.turns) == (0, 1)
    assert await built_anew(ferry, path) == first
    assert described.lists == 1


Change = Callable[[DiskStore, Layout], Awaitable[object]]


async def _moved(store: DiskStore, _: Layout) -> None:
    await store.put_manifest(APP, IMAGES["v2"].manifest, Tag("v1"))


async def _moved_by_hand(_: DiskStore, layout: Layout) -> None:
    path = layout.tag(APP, Tag("v1"))
    before = path.stat()
    path.write_text(IMAGES["v2"].digest)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def _written_again(_: DiskStore, layout: Layout) -> None:
    os.utime(layout.tag(APP, Tag("v2")), ns=(10**18, 10**18))


async def _added(_: DiskStore, layout: Layout) -> None:
    layout.tag(APP, Tag("another")).write_text(IMAGES["v1"].digest)


async def _deleted(store: DiskStore, _: Layout) -> None:
    await store.delete_manifest(APP, Tag("v2"))


async def _manifest_removed(_: DiskStore, layout: Layout) -> None:
    layout.manifest(APP, IMAGES["v2"].digest).unlink()


async def _manifest_damaged(_: DiskStore, layout: Layout) -> None:
    layout.manifest(APP, IMAGES["v2"].digest).write_bytes(b"damaged")


async def _platform_removed(_: DiskStore, layout: Layout) -> None:
    layout.manifest(APP, IMAGES["index"].children[0].digest).unlink()


@pytest.mark.parametrize(
    "change",
    [
        _moved,
        _moved_by_hand,
        _written_again,
        _added,
        _deleted,
        _manifest_removed,
        _manifest_damaged,
        _platform_removed,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
async def test_a_change_shows_in_the_next_list(ferry: Deployment, change: Change):
    before = [await listed(ferry, path) for path in LISTS]
    assert [await listed(ferry, path) for path in LISTS] == before

    await change(disk(ferry), disk(ferry)._layout)

    after = [await listed(ferry, path) for path in LISTS]
    assert after[0] != before[0]
    assert after == [await built_anew(ferry, path) for path in LISTS]


async def test_a_list_with_an_unreadable_manifest_is_built_each_time(ferry: Deployment, described: Described):
    path = disk(ferry)._layout.manifest(APP, IMAGES["v2"].digest)
    content = path.read_bytes()
    before = await listed(ferry, LISTS[0])
    path.write_bytes(b"damaged")
    await listed(ferry, LISTS[0])
    described.__init__()  # type: ignore[misc]

    await listed(ferry, LISTS[0])

    assert described.lists == 1
    path.write_bytes(content)
    path.chmod(0o644)
    assert await listed(ferry, LISTS[0]) == before


async def test_a_date_shows_once_its_config_can_be_read(ferry: Deployment):
    dated = built("2024-01-02T03:04:05Z", seed="dated")
    await push(ferry.store(NORTH), APP, dated, Tag("dated"))
    assert dated.manifest.config is not None
    config = disk(ferry)._layout.blob(APP, dated.manifest.config.digest)
    away = config.rename(config.with_name("away"))
    for _ in range(2):
        assert b"2024-01-02" not in (await listed(ferry, LISTS[0]))[1]

    away.rename(config)

    assert b"2024-01-02" in (await listed(ferry, LISTS[0]))[1]


async def test_a_list_that_reached_a_limit_is_built_each_time(ferry: Deployment, monkeypatch: pytest.MonkeyPatch):
    whole = await listed(ferry, f"{LISTS[0]}?limit=50")
    with monkeypatch.context() as limited:
        limited.setattr(bounds, "LISTED_TEXT_BYTES", 1000)
        cut = await listed(ferry, f"{LISTS[0]}?limit=51")
        assert len(cut[1]) < len(whole[1])

    assert (await listed(ferry, f"{LISTS[0]}?limit=51"))[1] == whole[1]


async def test_each_caller_sees_its_own_domain(ferry: Deployment):
    _, key = await ferry.user("guest", domain="elsewhere", team=Permission.READ)
    request = ListRepositoryTagsRequest(namespace="team", repository="app")

    domains = [
        {one.domain_id for one in (await ask(ferry, "list_repository_tags", request, key=who)).body}
        for who in (None, key, None, key)
    ]

    assert domains[0] != domains[1]
    assert domains[:2] == domains[2:]
    assert all(len(one) == 1 for one in domains)


@pytest.mark.parametrize("bound", ["ANSWER_MEMORY_BYTES", "REMEMBERED_ANSWER_BYTES"])
async def test_lists_are_remembered_within_bounds(
    ferry: Deployment, described: Described, monkeypatch: pytest.MonkeyPatch, bound: str
):
    monkeypatch.setattr(answers, "_MEMORY", Memory(lambda: bounds.ANSWER_MEMORY_BYTES))
    monkeypatch.setattr(bounds, bound, 9000)
    paths = [f"/v2/{_REPOSITORY}?limit=1&offset={offset}" for offset in range(len(IMAGES))]
    for path in [LISTS[0], *paths, paths[-1]]:
        await listed(ferry, path)
    assert described.lists == 1 + len(paths)

    await listed(ferry, LISTS[0])

    assert described.lists == 2 + len(paths)
