"""One odd image, pushed before there were bounds or damaged on the disk, fails no list for anybody."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import Digest, Tag
from tagferry.oci.model import OCI_MANIFEST
from tagferry.oci.referrer_tags import cosign_tags
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.store import DiskStore
from tests.support.deployment import NORTH, Deployment, deployed, name_in
from tests.support.images import artifact, image, index, push

APP = name_in("team")
SUBJECT = image(seed="subject")
RAW: dict[str, bytes] = {
    "date": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"annotations":'
    b'{"org.opencontainers.image.created":"0001-01-01T00:00:00+23:59"}}',
    "size": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[LAYER%s]}'.replace(b"%s]", b"]"),
    "surrogate": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"artifactType":"a/\\ud800"}',
    "nul": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"artifactType":"a/\\u0000"}',
    "deep": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"x":' + b"[" * 900 + b"]" * 900 + b"}",
    "twice": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"layers":[]}',
    "nan": b'{"schemaVersion":2,"mediaType":"%s","config":CONFIG,"layers":[],"x":NaN}',
    "text": b"no json at all %s",
}


def odd(name: str) -> bytes:
    """A manifest that can no longer be pushed, or that lacks information."""
    config = json.dumps({"mediaType": "a/b", "digest": Digest.of(b""), "size": 0}).encode()
    layer = b'{"mediaType":"a/b","digest":"%s","size":1%s}' % (Digest.of(b"").encode(), b"0" * 400)
    return RAW[name].replace(b"%s", OCI_MANIFEST.encode()).replace(b"CONFIG", config).replace(b"LAYER", layer)


def place(root: Path, raw: bytes, tag: str) -> Digest:
    """Put a manifest on the disk past every check, as an earlier version took it."""
    layout, digest = Layout(root), Digest.of(raw)
    for path, content in (
        (layout.manifest(APP, digest), OCI_MANIFEST.encode() + b"\n" + raw),
        (layout.tag(APP, Tag(tag)), digest.encode()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return digest


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    """A region with right images in two repositories, and every odd one in one of them."""
    async with deployed(tmp_path) as deployment:
        store = deployment.store(NORTH)
        assert isinstance(store, DiskStore)
        root = store._layout.root
        await push(store, APP, SUBJECT, Tag("right"))
        await push(store, APP, index(image(seed="a")), Tag("index"))
        await push(store, name_in("team", "other"), image(seed="other"), Tag("v1"))
        await push(store, APP, referrer := artifact(subject=SUBJECT.manifest))
        await push(store, APP, image(seed="damaged"), Tag("damaged"))
        for name in RAW:
            place(root, odd(name), name)
        place(root, odd("surrogate"), cosign_tags(SUBJECT.digest)[0])
        layout = Layout(root)
        damaged = Digest(layout.tag(APP, Tag("damaged")).read_text())
        layout.manifest(APP, damaged).write_bytes(b"\x00\xff damaged")
        layout.tag(APP, Tag("torn")).write_bytes(b"sha256:\xff")
        entry = layout.referrer(APP, SUBJECT.digest, referrer.digest)
        entry.with_name(f"sha256-{'0' * 64}").write_bytes(b'{"artifactType": "\\ud800"}')
        yield deployment


async def asked(ferry: Deployment, path: str) -> Any:
    answer = await ferry.http("GET", path, headers={"X-Auth-Token": await ferry.token()})
    assert answer.status == 200, (path, answer.content)
    return answer.document


async def test_every_list_answers_and_shows_what_is_known(ferry: Deployment):
    tags = {*RAW, "right", "index", "damaged", cosign_tags(SUBJECT.digest)[0]}
    team = "/v2/manage/namespaces/team/repos/app"
    for query in ("", "?order_column=name", "?limit=1&offset=3", "?order_type=asc"):
        listed = await asked(ferry, f"{team}/tags{query}")
        assert {one["Tag"] for one in listed} <= tags
    assert {one["Tag"] for one in await asked(ferry, f"{team}/tags")} == tags
    marked = await asked(ferry, "/v3/manage/namespaces/team/repos/app/tags?with_manifest=true")
    by_tag = {one["tag"]: one for one in marked["tags"]}
    assert set(by_tag) == tags
    assert by_tag["right"]["manifest"] == SUBJECT.manifest.raw.decode()
    assert (by_tag["size"]["size"], by_tag["size"]["manifest"]) == (0, "")
    assert by_tag["size"]["digest"] == Digest.of(odd("size"))

    for path in ("/v2/manage/repos", "/v2/manage/repos?order_column=updated_time", "/v2/manage/repos?name=app"):
        assert {one["name"] for one in await asked(ferry, path)} <= {"app", "other"}
    assert len((await asked(ferry, "/v3/manage/repos"))["repos"]) == 2
    overview = await asked(ferry, "/v2/manage/overview")
    assert (overview["repo_num"], overview["image_num"]) == (2, len(tags) + 1)
    assert overview["store_space"] > 0
    assert (await asked(ferry, team))["size"] > 0
    accessories = await asked(ferry, f"{team}/right/accessories")
    assert accessories["total"] == len(accessories["accessories"]) == 2


async def test_a_repository_whose_only_tag_is_damaged_is_shown_without_it_until_it_is_deleted(ferry: Deployment):
    store = ferry.store(NORTH)
    assert isinstance(store, DiskStore)
    Layout(store._layout.root).tag(name_in("team", "other"), Tag("v1")).write_bytes(b"torn")
    team = "/v2/manage/namespaces/team/repos/other"

    assert (await asked(ferry, team))["num_images"] == 0
    assert await asked(ferry, f"{team}/tags") == []
    assert (await asked(ferry, "/v3/manage/namespaces/team/repos/other/tags"))["tags"] == []
    assert {one["name"] for one in await asked(ferry, "/v2/manage/repos")} == {"app", "other"}
    headers = {"X-Auth-Token": await ferry.token()}
    assert (await ferry.http("GET", f"{team}/tags/v1", headers=headers)).refused()[
        2
    ] == 'tag "team/other:v1" does not exist'

    assert (await ferry.http("DELETE", f"{team}/tags/v1", headers=headers)).status == 204
    assert (await ferry.http("GET", team, headers=headers)).status == 404


@pytest.mark.parametrize("name", RAW)
async def test_what_was_pushed_before_there_were_bounds_can_still_be_pulled(ferry: Deployment, name: str):
    headers = {"X-Auth-Token": await ferry.token()}
    login = await ferry.http("POST", "/v2/manage/utils/secret", headers=headers)
    auth = next(iter(login.document["auths"].values()))["auth"]
    for reference in (name, Digest.of(odd(name))):
        for method, content in (("GET", odd(name)), ("HEAD", b"")):
            path = f"/v2/team/app/manifests/{reference}"
            answer = await ferry.http(method, path, headers={"Authorization": f"Basic {auth}"})
            assert (answer.status, answer.content) == (200, content)
            assert answer.headers["Content-Type"] == OCI_MANIFEST
            assert answer.headers["Docker-Content-Digest"] == Digest.of(odd(name))


@pytest.mark.parametrize("name", [name for name in RAW if name != "date"])
async def test_what_is_past_a_bound_is_refused_when_it_is_pushed(ferry: Deployment, name: str):
    headers = {"X-Auth-Token": await ferry.token()}
    login = await ferry.http("POST", "/v2/manage/utils/secret", headers=headers)
    auth = next(iter(login.document["auths"].values()))["auth"]
    answer = await ferry.http(
        "PUT",
        "/v2/team/app/manifests/new",
        body=odd(name),
        headers={"Authorization": f"Basic {auth}", "Content-Type": OCI_MANIFEST},
    )
    (error,) = answer.document["errors"]
    assert (answer.status, error["code"]) == (400, "MANIFEST_INVALID")
    assert error["detail"]["field"] in error["message"]
