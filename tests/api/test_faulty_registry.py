"""Lists of a region whose registry fails have the code for that, not one for a fault of the caller."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from huaweicloudsdkswr.v2 import ListRepositoryTagsRequest

from tagferry import bounds
from tests.support.deployment import NORTH, Deployment, deployed
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said, scripted_registry
from tests.support.sdk_calls import refused

_LIST = "/v2/team/app/tags/list"
_NAMES = [f"{number:05}-{'a' * 120}" for number in range(20_000)]
_FAILED = (500, "SVCSTG.SWR.5000021")


def pages_without_end() -> list[Reply]:
    """More pages than are read, each with a link to another one."""
    body = json.dumps({"name": "team/app", "tags": _NAMES}).encode()
    return [
        Reply(body=body, headers={"Link": f'<{_LIST}?n=1000&last={number}>; rel="next"'})
        for number in range(bounds.TAG_LIST_BYTES // len(body) + 2)
    ]


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[tuple[Deployment, ScriptedRegistry]]:
    """A region whose registry is scripted."""
    async with (
        scripted_registry() as script,
        deployed(
            tmp_path,
            regions={NORTH: {"listen": "", "registry": script.url}},
        ) as ferry,
    ):
        script.on("GET", "/v2/", *[Reply(body=b"{}")] * 20)
        yield ferry, script


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (pages_without_end(), f"answered more than {bounds.TAG_LIST_BYTES} bytes"),
        ([Reply(body=b" " * (bounds.TAG_LIST_BYTES + 1))], f"must have at most {bounds.TAG_LIST_BYTES} bytes"),
        ([error(403, "DENIED")] * 20, "answered 403 DENIED"),
        ([error(500, "UNKNOWN")] * 20, "answered 500 UNKNOWN"),
        ([said({"tags": "none"})] * 20, "with no list"),
    ],
    ids=["without an end", "too large", "refused", "failed", "no list"],
)
async def test_a_list_that_a_registry_does_not_give_is_its_fault(
    region: tuple[Deployment, ScriptedRegistry], replies: list[Reply], reason: str
):
    ferry, script = region
    script.on("GET", _LIST, *replies)
    status, code, message = await refused(
        ferry, "list_repository_tags", ListRepositoryTagsRequest(namespace="team", repository="app")
    )
    assert (status, code) == _FAILED, message
    assert reason in message
