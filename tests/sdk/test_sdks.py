"""The unmodified SWR SDKs of four languages synchronize a tag, and all read back the same correct responses.

`make test-sdks` runs these: building the programs takes minutes if the packages have to be downloaded.
"""

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tagferry.accounts.model import Permission
from tagferry.names import RepositoryName, Tag
from tagferry.web.swr.synchronization import SyncJobItem
from tests.sdk.samples import BUILD_SECONDS, SAMPLES, Sample
from tests.support import images
from tests.support.certificates import loopback_certificate
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment, calling, deployed, name_in

pytestmark = [
    pytest.mark.sdk,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(BUILD_SECONDS + 100),
]

IMAGE = images.index()
SIZE = sum(len(content) for content in IMAGE.all_blobs.values())
V1 = Tag("v1")


class Pattern:
    """Text of a form."""

    def __init__(self, form: str) -> None:
        self._form = re.compile(form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._form.fullmatch(other) is not None

    def __hash__(self) -> int:
        return hash(self._form)

    def __repr__(self) -> str:
        return f"/{self._form.pattern}/"


class Number:
    """An unpredictable whole number; SWR's SDKs for Go and Java hold some in 32 bits."""

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def __eq__(self, other: object) -> bool:
        return type(other) is int and self._least <= other < 2**31

    def __hash__(self) -> int:
        return self._least

    def __repr__(self) -> str:
        return f"a number from {self._least}"


class Nothing:
    """A null on the wire, for which Go's SDK has no null."""

    def __eq__(self, other: object) -> bool:
        return other is None or other == ""

    def __hash__(self) -> int:
        return 0


DATE = Pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
TEXT = Pattern(".*")
SOME_TEXT = Pattern(".+")
ID = Number()

# Java's SDK has the status in each response; Node's returns the wire format, including tagferry's own fields.
BESIDES = {
    "httpStatusCode",
    "access_user_count",
    "repo_count",
    *SyncJobItem.model_json_schema(mode="serialization")["properties"],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Two embedded regions over http."""
    async with deployed(tmp_path_factory.mktemp("plain")) as deployment:
        yield deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def encrypted(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> AsyncIterator[Deployment]:
    """Two embedded regions over https."""
    tls = {"tls_certificate": certificate, "tls_key": certificate}
    regions: dict[str, dict[str, Any]] = {name: {"listen": "", **tls} for name in (NORTH, SOUTH)}
    async with deployed(tmp_path_factory.mktemp("encrypted"), regions=regions) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loopback_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda sample: sample.language)
def sample(request: pytest.FixtureRequest) -> Sample:
    """The compiled program of one language."""
    found: Sample = request.param
    found.prepare()
    return found


async def test_over_http(plain: Deployment, sample: Sample) -> None:
    await synchronize_and_compare(plain, sample, {})


async def test_over_https(encrypted: Deployment, sample: Sample, certificate: Path) -> None:
    await synchronize_and_compare(encrypted, sample, sample.trusting(certificate))


async def synchronize_and_compare(ferry: Deployment, sample: Sample, environment: Mapping[str, str]) -> None:
    """Synchronize an image as a separate user with a separate repository."""
    user = f"{sample.language}-user"
    _, key = await ferry.user(user, team=Permission.READ)
    await ferry.grant(user, SOUTH, RELEASE, Permission.EDIT)
    source, target = (name_in(owner, f"{sample.language}/app") for owner in (TEAM, RELEASE))
    await images.push(ferry.store(NORTH), source, IMAGE, V1)

    document = await calling(
        lambda: sample.read(
            TEAM,
            f"{sample.language}$app",
            V1,
            RELEASE,
            SOUTH,
            environment={
                "HUAWEICLOUD_SDK_REGION_SWR_CN_NORTH_4": ferry.urls[NORTH],
                "HUAWEICLOUD_SDK_IAM_ENDPOINT": ferry.urls[NORTH],
                "CLOUD_SDK_AK": key.access_key,
                "CLOUD_SDK_SK": key.secret_key,
                **environment,
            },
        )
    )

    await assert_identical(ferry, target)
    expected = await truth(ferry, user, source)
    assert set(document) == set(expected) - sample.lacks
    for answer, found in document.items():
        compare(found, expected[answer], answer, sample.lacks)
    assert document["no repository"]["request"] != document["wrong secret"]["request"]
    assert {tag["repo_id"] for tag in document["tags"]} == {document["repository"]["id"]}
    _, _, _, user_name, _, password = document["login"]["X-Swr-Dockerlogin"].split()
    (login,) = document["login"]["auths"].values()
    assert base64.b64decode(login["auth"]).decode() == f"{user_name}:{password}"
    assert document["repository"]["ns_id"] == document["namespace"]["id"]


async def assert_identical(ferry: Deployment, target: RepositoryName) -> None:
    """The target has the tag, and every byte below it."""
    store = ferry.store(SOUTH)
    assert (await store.get_manifest(target, V1)).raw == IMAGE.manifest.raw
    for manifest in IMAGE.all_manifests:
        assert (await store.get_manifest(target, manifest.digest)).raw == manifest.raw
    for content in IMAGE.all_blobs.values():
        assert await images.read(store, target, images.blob(content)) == content


def compare(found: Any, expected: Any, place: str, lacks: Set[str]) -> None:
    """Every expected field has its value and type, and an SDK's types have no other field."""
    if isinstance(expected, Mapping):
        assert found.keys() - expected.keys() <= BESIDES, f"{place} has more: {found}"
        for field, value in expected.items():
            if f"{place}.{field}" in lacks:
                continue
            assert field in found or value == None, f"{place} has no {field}: {found}"  # noqa: E711
            compare(found.get(field), value, f"{place}.{field}", lacks)
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert isinstance(found, list), f"{place} is {found!r}"
        assert len(found) == len(expected), f"{place} is {found!r}"
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            compare(one, other, f"{place}[{number}]", lacks)
    else:
        assert found == expected, f"{place} is {found!r}, not {expected!r}"
        if isinstance(expected, (bool, int)):
            assert type(found) is type(expected), f"{place} is {found!r}"


async def truth(ferry: Deployment, user: str, source: RepositoryName) -> dict[str, Any]:
    """Return the expected responses, with the names on the wire, independent of the language."""
    caller = await ferry.app.accounts.users.find(user)
    path = f"{ferry.app.services.swr.regions[NORTH].registry_host}/{source}"
    domain = {"domainID": caller.domain_id, "domainName": caller.domain_name}
    namespace = {"id": ID, "name": TEAM, "creator_name": ferry.admin.name, "auth": 1}
    of_repository = {
        "name": source.partition("/")[2],
        "category": "other",
        "description": TEXT,
        "size": SIZE,
        "is_public": False,
        "num_images": 1,
        "num_download": Number(0),
        "url": TEXT,
        "path": path,
        "internal_path": path,
    }
    of_tag = {
        "id": ID,
        "repo_id": ID,
        "image_id": IMAGE.digest.encoded,
        "manifest": IMAGE.manifest.raw.decode(),
        "digest": IMAGE.digest,
        "schema": 2,
        "path": f"{path}:{V1}",
        "internal_path": f"{path}:{V1}",
        "size": SIZE,
        "is_trusted": False,
        "created": DATE,
        "updated": DATE,
        "domain_id": caller.domain_id,
        "tag_type": 1,
    }
    job = {
        "id": ID,
        "createdAt": DATE,
        "updatedAt": DATE,
        **domain,
        "namespace": TEAM,
        "repoName": source.partition("/")[2],
        "remoteNamespace": RELEASE,
        "remoteRegionId": SOUTH,
        "syncOperatorId": caller.user_id,
        "syncOperatorName": user,
        "override": True,
    }
    return {
        "synchronized": [],
        "absent": ["absent"],
        "regions": [{"regionID": NORTH}, {"regionID": SOUTH}],
        "namespaces": [namespace],
        "namespace": namespace,
        "repositories": [
            {
                **of_repository,
                "created_at": DATE,
                "updated_at": DATE,
                "logo": TEXT,
                "domain_name": caller.domain_name,
                "namespace": TEAM,
                "tags": [V1],
                "status": False,
                "total_range": 1,
            }
        ],
        "repository": {
            **of_repository,
            "id": ID,
            "ns_id": ID,
            "creator_id": SOME_TEXT,
            "creator_name": SOME_TEXT,
            "created": DATE,
            "updated": DATE,
            "domain_id": caller.domain_id,
            "priority": Number(0),
        },
        "tags": [{**of_tag, "Tag": V1, "deleted": Nothing(), "scanned": False}],
        "tag": {**of_tag, "tag": V1},
        "jobs": [{**job, "tag": V1, "status": "success"}, {**job, "tag": "absent", "status": "failed"}],
        "login": {
            "auths": {ferry.app.services.swr.regions[NORTH].registry_host: {"auth": SOME_TEXT}},
            "X-Swr-Dockerlogin": Pattern("docker login -u .+ -p .+"),
            "X-Swr-Expireat": DATE,
        },
        "ranges": ["0-1/1", "0-1/1", "0-2/2"],
        "no repository": {
            "status": 404,
            "code": "SVCSTG.SWR.4040010",
            "message": Pattern(".*team/nowhere.*"),
            "request": SOME_TEXT,
        },
        "wrong secret": {
            "status": 401,
            "code": "SVCSTG.SWR.4000031",
            "message": SOME_TEXT,
            "request": SOME_TEXT,
        },
    }
