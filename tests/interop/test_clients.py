"""Images that crane and regctl push are copied to another region, and the clients find them there unchanged."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tagferry.names import RegionId, RepositoryName, Tag
from tests.interop.programs import INTEROP, Client
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment
from tests.support.images import attested, image, index, push

pytestmark = INTEROP

APP = RepositoryName(f"{TEAM}/app")
BACK = RepositoryName(f"{RELEASE}/back")
V1 = Tag("v1")
SBOM = "application/vnd.example.sbom"


def name(ferry: Deployment, region: RegionId, repository: RepositoryName, reference: str = "") -> str:
    return f"{ferry.app.services.swr.regions[region].registry_host}/{repository}{reference}"


async def sync(ferry: Deployment, tags: Sequence[Tag]) -> None:
    jobs = await ferry.ended_jobs(APP, await ferry.start_sync(APP, tags, TEAM))
    assert {job["tag"]: job["status"] for job in jobs} == dict.fromkeys(tags, "success")


def layer(path: Path, content: bytes) -> str:
    entry = tarfile.TarInfo("etc/motd")
    entry.size = len(content)
    with tarfile.open(path, "w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return str(path)


async def test_an_image_that_crane_pushes_is_copied_completely(ferry: Deployment, crane: Client, tmp_path: Path):
    here, there = (name(ferry, region, APP) for region in (NORTH, SOUTH))
    tags = [V1, Tag("v2"), Tag("many")]
    await crane.run("append", "--insecure", "-f", layer(tmp_path / "layer.tar", b"hello"), "-t", f"{here}:v1")
    await crane.run("tag", "--insecure", f"{here}:v1", "v2")
    await crane.run("index", "append", "--insecure", "-m", f"{here}:v1", "-t", f"{here}:many")

    await sync(ferry, tags)

    assert sorted((await crane.run("ls", "--insecure", there)).split()) == sorted(tags)
    for tag in tags:
        assert await crane.run("digest", "--insecure", f"{there}:{tag}") == await crane.run(
            "digest", "--insecure", f"{here}:{tag}"
        )
        await crane.run("validate", "--insecure", "--remote", f"{there}:{tag}")


async def test_crane_copies_back_saves_and_deletes(ferry: Deployment, crane: Client, tmp_path: Path):
    there, back = name(ferry, SOUTH, APP), name(ferry, NORTH, BACK)
    await push(ferry.store(NORTH), APP, index(), V1)
    await sync(ferry, [V1])

    await crane.run("copy", "--insecure", f"{there}:v1", f"{back}:v1")
    await crane.run("pull", "--insecure", "--format", "oci", f"{back}:v1", "saved")
    await crane.run("push", "--insecure", "--index", "saved", f"{back}:again")

    assert (await crane.run("digest", "--insecure", f"{back}:v1")).strip() == index().digest
    assert index().digest in await crane.run("manifest", "--insecure", f"{back}:again")
    assert (await crane.run("catalog", "--insecure", back.partition("/")[0])).split() == [BACK, APP]
    await crane.run("delete", "--insecure", f"{back}:v1")
    assert (await crane.run("ls", "--insecure", back)).split() == ["again"]


async def test_an_artifact_of_regctl_is_copied_with_the_image(ferry: Deployment, regctl: Client, tmp_path: Path):
    here, there = (name(ferry, region, APP, ":v1") for region in (NORTH, SOUTH))
    (tmp_path / "sbom.json").write_text("all that is in it")
    await push(ferry.store(NORTH), APP, attested(image()), V1)
    await regctl.run("artifact", "put", "--artifact-type", SBOM, "-f", "sbom.json", "--subject", here)
    attached = await regctl.run("artifact", "list", "--format", "{{range .Descriptors}}{{.Digest}} {{end}}", here)

    await sync(ferry, [V1])

    assert len(attached.split()) == 1
    assert attached == await regctl.run(
        "artifact", "list", "--format", "{{range .Descriptors}}{{.Digest}} {{end}}", there
    )
    assert (
        await regctl.run("artifact", "get", "--subject", there, "--filter-artifact-type", SBOM) == "all that is in it"
    )


async def test_regctl_copies_back_exports_and_deletes(ferry: Deployment, regctl: Client, tmp_path: Path):
    there, back = name(ferry, SOUTH, APP, ":v1"), name(ferry, NORTH, BACK)
    (tmp_path / "sbom.json").write_text("all that is in it")
    await push(ferry.store(NORTH), APP, index(), V1)
    await regctl.run(
        "artifact", "put", "--artifact-type", SBOM, "-f", "sbom.json", "--subject", name(ferry, NORTH, APP, ":v1")
    )
    await sync(ferry, [V1])

    await regctl.run("image", "copy", "--referrers", "--digest-tags", there, f"{back}:v1")
    await regctl.run("image", "export", f"{back}:v1", "saved.tar")
    await regctl.run("image", "import", f"{back}:again", "saved.tar")
    await regctl.run("image", "mod", f"{back}:v1", "--create", "noted", "--annotation", "org.example.note=here")

    for tag in ("v1", "again"):
        assert (await regctl.run("manifest", "head", f"{back}:{tag}")).strip() == index().digest
    assert await regctl.run("artifact", "get", "--subject", f"{back}:v1", "--filter-artifact-type", SBOM)
    await regctl.run("tag", "rm", f"{back}:again")
    assert (await regctl.run("tag", "ls", back)).split() == ["noted", "v1"]
