"""Images whose date is none: cosign's zero time, fixed dates, garbage; at a registry that knows of pushes, and not."""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tagferry.names import Tag
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.docker_registry import docker_registry
from tests.support.images import built, push

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
KNOWN = {"older": "2023-01-01T00:00:00Z", "newer": "2024-05-06T15:08:09.123456789+08:00"}
UNKNOWN: dict[str, Any] = {
    "zero": "0001-01-01T00:00:00Z",
    "zero-east": "0001-01-01T00:00:00+08:00",
    "end-west": "9999-12-31T23:59:59-10:00",
    "epoch": "1970-01-01T00:00:00Z",
    "year": "-0044-03-15T00:00:00Z",
    "number": 5,
    "none": None,
}
SIGNED = built(KNOWN["newer"])
SIGNATURE = cosign_tags(SIGNED.digest)[0]


@pytest.fixture(params=["embedded", "remote"])
async def region(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Deployment, bool]]:
    """A region with these images in `team/app`, and whether it knows when they were pushed."""
    with ExitStack() as stack:
        settings = {"listen": ""}
        if request.param == "remote":
            (tmp_path / "registry").mkdir()
            settings["registry"] = stack.enter_context(docker_registry(tmp_path / "registry")).url
        async with deployed(tmp_path / "data", regions={NORTH: settings}) as ferry:
            store = ferry.store(NORTH)
            for tag, date in {**KNOWN, **UNKNOWN}.items():
                await push(store, name_in("team"), built(date, seed=tag), Tag(tag))
            await push(store, name_in("team", "signed"), SIGNED, Tag("v1"))
            await push(store, name_in("team", "signed"), built(UNKNOWN["zero"], seed="signature"), SIGNATURE)
            await push(store, name_in("team", "zero"), built(UNKNOWN["zero-east"]), Tag("v1"))
            yield ferry, request.param == "embedded"


async def listed(ferry: Deployment, path: str, **query: str) -> Any:
    answer = await ferry.http("GET", f"{path}?{urlencode(query)}", headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, answer.content
    return answer.document


async def test_lists_give_every_date_in_one_form_and_unknown_ones_last(region: tuple[Deployment, bool]):
    ferry, knows_pushes = region
    path = "/v2/manage/namespaces/team/repos/app/tags"
    for direction, known in (("asc", ["older", "newer"]), ("desc", ["newer", "older"])):
        tags = await listed(ferry, path, order_column="updated_at", order_type=direction, limit="100")
        paged = [one async for one in _all_tags(ferry, order_type=direction)]

        assert [one["Tag"] for one in tags] == [one["tag"] for one in paged]
        assert {one["Tag"] for one in tags} == {*KNOWN, *UNKNOWN}
        assert all(_DATE.fullmatch(one[field]) for one in tags for field in ("created", "updated"))
        by_tag = {one["Tag"]: datetime.fromisoformat(one["created"]) for one in tags}
        assert by_tag["newer"] == datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
        if knows_pushes:
            assert all(datetime.now(UTC) - by_tag[tag] < timedelta(minutes=5) for tag in UNKNOWN)
        else:
            assert [one["Tag"] for one in tags][:2] == known


async def test_a_repository_is_as_old_as_what_is_known_of_it(region: tuple[Deployment, bool]):
    ferry, knows_pushes = region
    for direction in ("asc", "desc"):
        repositories = await listed(ferry, "/v2/manage/repos", order_column="updated_time", order_type=direction)
        assert all(_DATE.fullmatch(one[field]) for one in repositories for field in ("created_at", "updated_at"))
        assert {one["name"]: one for one in repositories}["app"]["created_at"] == "2023-01-01T00:00:00.000000Z"
        if not knows_pushes:
            assert [one["name"] for one in repositories][-1] == "zero"
            assert repositories[-1]["created_at"] == "1970-01-01T00:00:00.000000Z"

    marked = (await listed(ferry, "/v3/manage/repos"))["repos"]
    assert all(_DATE.fullmatch(one[field]) for one in marked for field in ("created_at", "updated_at"))
    shown = await listed(ferry, "/v2/manage/namespaces/team/repos/app")
    assert shown["created"] == "2023-01-01T00:00:00.000000Z"
    assert _DATE.fullmatch(shown["updated"])


async def test_a_signature_with_cosigns_zero_time_is_listed(region: tuple[Deployment, bool]):
    ferry, knows_pushes = region

    found = await listed(ferry, "/v2/manage/namespaces/team/repos/signed/v1/accessories")

    (signature,) = found["accessories"]
    assert all(_DATE.fullmatch(signature[field]) for field in ("created_at", "updated_at"))
    assert (datetime.fromisoformat(signature["created_at"]).year > 2000) is knows_pushes


async def _all_tags(ferry: Deployment, **query: str) -> AsyncIterator[Any]:
    """The tags of `team/app` by pages of two."""
    marker: str | None = ""
    while marker is not None:
        page = await listed(ferry, "/v3/manage/namespaces/team/repos/app/tags", limit="2", marker=marker, **query)
        for one in page["tags"]:
            yield one
        marker = page.get("nextMarker")
