"""A region that does not accept every image: docker-registry as the target, with a configuration of accepted images."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tagferry.names import Tag
from tagferry.oci.model import DOCKER_LIST, DOCKER_MANIFEST
from tests.acceptance.served import tagferry
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, deployed, name_in
from tests.support.docker_registry import docker_registry
from tests.support.images import artifact, attested, blob, image, push, read
from tests.support.processes import outcome
from tests.support.programs import require_program

V1 = Tag("v1")
SOURCE, TARGET = name_in("team"), name_in("release")
IMAGE = attested(image(seed="amd"), image(seed="arm", platform=("linux", "arm64")), annotations={"team": "web"})
AMD, ARM, ABOUT_AMD, ABOUT_ARM = IMAGE.children
SIGNATURE = artifact(subject=IMAGE.manifest)
ONLY_AMD = {"platforms": ["linux/amd64"]}


@asynccontextmanager
async def ferrying(folder: Path, accepts: dict[str, Any]) -> AsyncIterator[Deployment]:
    """An embedded source with the signed image, and docker-registry as a target that accepts the given images."""
    with docker_registry(folder) as registry:
        south = {"listen": "", "registry": registry.url, "accepts": accepts}
        async with deployed(folder / "data", regions={NORTH: {"listen": ""}, SOUTH: south}) as ferry:
            await push(ferry.store(NORTH), SOURCE, IMAGE, V1)
            await push(ferry.store(NORTH), SOURCE, SIGNATURE)
            yield ferry


async def synchronize(ferry: Deployment, operation: str = "sync_images") -> Any:
    answer = await ferry.http(
        "POST",
        f"/v2/manage/namespaces/team/repos/app/{operation}",
        body={"imageTag": [V1], "remoteNamespace": RELEASE, "remoteRegionId": SOUTH},
        headers={"X-Auth-Token": await ferry.token()},
    )
    assert answer.status == 200, answer.content
    return answer.document


async def job(ferry: Deployment) -> dict[str, Any]:
    """Return the newest job."""
    answer = await ferry.http(
        "GET", "/v2/manage/namespaces/team/repos/app/sync_job", headers={"X-Auth-Token": await ferry.token()}
    )
    newest: dict[str, Any] = answer.document[0]
    return newest


async def test_one_platform_arrives_under_a_new_index(tmp_path: Path) -> None:
    async with ferrying(tmp_path, ONLY_AMD | {"rewrite": True}) as ferry:
        (planned,) = (await synchronize(ferry, "sync_plan"))["tags"]

        assert await synchronize(ferry) == []

        target = ferry.store(SOUTH)
        root = await target.get_manifest(TARGET, V1)
        assert [child.digest for child in root.children] == [AMD.digest, ABOUT_AMD.digest]
        assert root.annotations == {"team": "web"}
        for sample in (AMD, ABOUT_AMD):
            assert (await target.get_manifest(TARGET, sample.digest)).raw == sample.manifest.raw
            for content in sample.blobs.values():
                assert await read(target, TARGET, blob(content)) == content
        assert await target.head_manifest(TARGET, ARM.digest) is None
        assert await target.list_referrers(TARGET, root.digest) == []
        told = {
            "digests": {IMAGE.digest: root.digest},
            "leftBehind": [ARM.digest, ABOUT_ARM.digest, SIGNATURE.digest],
        }
        done = await job(ferry)
        assert (done["status"], done["digest"], done["rewritten"]) == ("success", root.digest, told)
        assert done["reason"].startswith("copied and verified, rewritten as the target region accepts it")
        assert (planned["action"], planned["sourceDigest"], planned["rewritten"]) == ("copy", IMAGE.digest, told)

        assert await synchronize(ferry) == []
        again = await job(ferry)
        assert (again["digest"], again["rewritten"]["digests"]) == (root.digest, told["digests"])
        assert again["reason"] == "up to date, rewritten as the target region accepts it"


async def test_the_command_line_prints_the_changed_digests(tmp_path: Path) -> None:
    async with ferrying(tmp_path, ONLY_AMD | {"rewrite": True}) as ferry:
        environment = {
            "TAGFERRY_ENDPOINT": ferry.urls[NORTH],
            "CLOUD_SDK_AK": ferry.admin.key.access_key,
            "CLOUD_SDK_SK": ferry.admin.key.secret_key,
        }
        command = ("sync", f"team/app:{V1}", "--to", f"{SOUTH}/{RELEASE}")

        done = await asyncio.to_thread(tagferry, tmp_path, *command, environment=environment)

        assert done.returncode == 0, done.stderr
        root = await ferry.store(SOUTH).get_manifest(TARGET, V1)
        assert f"team/app:v1  {IMAGE.digest} becomes {root.digest}\n" in done.stdout
        assert f"team/app:v1  {SIGNATURE.digest} is not copied\n" in done.stdout


async def test_without_rewrite_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with ferrying(tmp_path, ONLY_AMD) as ferry:
        (planned,) = (await synchronize(ferry, "sync_plan"))["tags"]

        assert await synchronize(ferry) == [V1]

        refused = await job(ferry)
        assert (refused["status"], refused["rewritten"]) == ("failed", None)
        assert "accepts only linux/amd64, and this index also lists linux/arm64; to copy" in refused["reason"]
        assert (planned["action"], planned["reason"]) == ("failed", refused["reason"])
        assert await ferry.store(SOUTH).head_manifest(TARGET, V1) is None


async def test_skopeo_reads_a_converted_image_as_dockers(tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    async with ferrying(tmp_path, {"format": "docker", "rewrite": True}) as ferry:
        assert await synchronize(ferry) == []

        name = f"docker://{ferry.app.services.swr.regions[SOUTH].registry_host}/{TARGET}:{V1}"
        raw = json.loads(await inspect(skopeo, "--raw", name))
        assert raw["mediaType"] == DOCKER_LIST
        assert [child["mediaType"] for child in raw["manifests"]] == [DOCKER_MANIFEST] * 2
        told = json.loads(await inspect(skopeo, name))
        assert (told["Architecture"], told["Os"]) == ("arm64", "linux")
        assert told["Layers"] == [blob.digest for blob in ARM.manifest.layers]


async def inspect(skopeo: str, *arguments: str) -> bytes:
    """Return skopeo's description of an image for linux/arm64."""
    platform = ("--override-os", "linux", "--override-arch", "arm64")
    process = await asyncio.create_subprocess_exec(
        skopeo, *platform, "inspect", "--tls-verify=false", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await outcome(process, seconds=60)
    assert process.returncode == 0
    return output
