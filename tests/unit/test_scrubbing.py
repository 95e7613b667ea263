"""Damage is found before the content is needed, and restored from another region."""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagferry.cli.commands import app as cli
from tagferry.errors import NotFound
from tagferry.names import Digest, RegionId, RepositoryName, Tag
from tagferry.regions import Region, Regions
from tagferry.registry.storage.integrity import Damage, is_marked
from tagferry.registry.storage.scrub import Scrub
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskFailed
from tagferry.scrubbing import Restorer, Scrubber, verify
from tests.support.images import SampleImage, artifact, blob, image, index, opening, push, read
from tests.support.processes import free_port

APP, MIRROR = RepositoryName("team/app"), RepositoryName("release/app")
LAYER = bytes(range(256)) * 12_000
DAYS = 30.0


class KnownLocations:
    """Known locations of blobs."""

    def __init__(self) -> None:
        self.repositories: dict[Digest, list[RepositoryName]] = {}

    async def find(self, address: str, digests: list[Digest]) -> dict[Digest, list[RepositoryName]]:
        return {digest: self.repositories[digest] for digest in digests if digest in self.repositories}


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def pooled(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.encoded[:2] / digest.encoded


def manifest_file(root: Path, repository: str, digest: Digest) -> Path:
    return root / "repositories" / repository / "_manifests" / digest.algorithm / digest.encoded


class RegionPair:
    """Two embedded regions; the first one has the damage."""

    def __init__(self, here: DiskStore, there: DiskStore, root: Path) -> None:
        self.root = root
        self.here = Region(id=RegionId("cn-north-4"), url="http://here", store=here)
        self.there = Region(id=RegionId("cn-north-208"), url="http://there", store=there)
        self.store, self.other = here, there
        self.locations = KnownLocations()
        self.restorer = Restorer(Regions([self.here, self.there]), self.locations)

    async def verify(self, *, repair: bool) -> dict[str, str | None]:
        scrub = self.store.repair.scrub()
        try:
            found = await verify(self.here, scrub, self.restorer if repair else None)
        finally:
            scrub.close()
        return {f"{one.kind} {one.repository} {one.name}": source for one, source in found.items()}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[RegionPair]:
    here = await DiskStore.open(tmp_path / "here", name="cn-north-4")
    there = await DiskStore.open(tmp_path / "there", name="cn-north-208")
    yield RegionPair(here, there, tmp_path / "here")
    await here.close()
    await there.close()


async def push_to_both(pair: RegionPair, sample: SampleImage, *, there: RepositoryName = APP) -> None:
    for repository in (APP, MIRROR):
        await push(pair.store, repository, sample, Tag("v1"))
    await push(pair.other, there, sample, Tag("v1"))


async def test_intact_content_is_not_reported(pair: RegionPair) -> None:
    subject = index()
    await push_to_both(pair, subject)
    await push(pair.store, APP, artifact(subject=subject.manifest))
    assert await pair.verify(repair=True) == {}


async def test_a_flipped_bit_is_found_in_every_repository_and_restored(pair: RegionPair) -> None:
    sample = image(LAYER)
    await push_to_both(pair, sample)
    digest = Digest.of(LAYER)
    damage(pooled(pair.root, digest))

    found = await pair.verify(repair=False)
    assert found == {f"blob {repository} {digest}": None for repository in (APP, MIRROR)}
    assert await pair.store.stat_blob(APP, digest) is None
    assert set((await pair.verify(repair=True)).values()) == {"cn-north-208"}
    for repository in (APP, MIRROR):
        assert await read(pair.store, repository, blob(LAYER)) == LAYER
    assert await pair.verify(repair=False) == {}


async def test_lost_content_is_restored_with_its_manifests(pair: RegionPair) -> None:
    sample = index()
    await push_to_both(pair, sample)
    lost = next(iter(sample.all_blobs))
    pooled(pair.root, lost).unlink()
    for repository in (APP, MIRROR):
        (pair.root / "repositories" / repository / "_blobs" / lost.algorithm / lost.encoded).unlink()
    for manifest in sample.all_manifests:
        damage(manifest_file(pair.root, APP, manifest.digest))
    found = await pair.verify(repair=True)
    # The references of a damaged manifest are known after its restoration.
    found |= await pair.verify(repair=True)
    assert found
    assert None not in {source for name, source in found.items() if MIRROR not in name}
    assert (await pair.store.get_manifest(APP, Tag("v1"))).raw == sample.manifest.raw
    assert await pair.store.stat_blob(MIRROR, lost) is not None
    assert await pair.verify(repair=False) == {}


async def test_a_blob_is_restored_from_a_known_location(pair: RegionPair) -> None:
    sample, elsewhere = image(LAYER), RepositoryName("other/name")
    await push_to_both(pair, sample, there=elsewhere)
    digest = Digest.of(LAYER)
    damage(pooled(pair.root, digest))
    assert set((await pair.verify(repair=True)).values()) == {None}
    pair.locations.repositories[digest] = [elsewhere]
    assert set((await pair.verify(repair=True)).values()) == {"cn-north-208"}


async def test_content_that_no_region_holds_stays_damaged_and_is_reported(pair: RegionPair) -> None:
    sample = image(LAYER)
    await push(pair.store, APP, sample, Tag("v1"))
    damage(pooled(pair.root, Digest.of(LAYER)))
    (pair.root / "repositories/team/app/_tags/v1").write_bytes(b"")
    found = await pair.verify(repair=True)
    assert found == {f"blob {APP} {Digest.of(LAYER)}": None, f"tag {APP} v1": None}


async def test_a_damaged_source_restores_nothing(pair: RegionPair, tmp_path: Path) -> None:
    await push_to_both(pair, image(LAYER))
    for root in (pair.root, tmp_path / "there"):
        damage(pooled(root, Digest.of(LAYER)))
    assert set((await pair.verify(repair=True)).values()) == {None}
    assert await pair.store.stat_blob(APP, Digest.of(LAYER)) is None


async def test_a_mark_on_intact_content_is_removed(pair: RegionPair) -> None:
    await push_to_both(pair, image(LAYER))
    path = pooled(pair.root, Digest.of(LAYER))
    path.chmod(0o1600)
    assert await pair.verify(repair=False) == {}
    assert not is_marked(path.stat())
    assert await pair.store.stat_blob(APP, Digest.of(LAYER)) == len(LAYER)


async def test_the_rate_of_reading_is_limited(pair: RegionPair) -> None:
    await push(pair.store, APP, image(LAYER), Tag("v1"))
    scrub = pair.store.repair.scrub(bytes_per_second=len(LAYER) * 2)
    begun = time.monotonic()
    await verify(pair.here, scrub, None)
    scrub.close()
    assert scrub.bytes_read > len(LAYER)
    assert time.monotonic() - begun > 0.4


async def test_all_content_is_read_once_per_period_across_restarts(pair: RegionPair) -> None:
    for number in range(8):
        await push_to_both(pair, image(seed=f"image {number}"))
    damage(pooled(pair.root, next(iter(image(seed="image 3").all_blobs))))
    now, advanced = 1_000_000_000.0, 0
    sections = len(await pair.store.repair.scrub().sections())
    for _ in range(2 * sections):
        scrubber = Scrubber(pair.here, pair.restorer, days=DAYS)
        advanced += await scrubber.advance(now)
        # The next section is not due yet.
        assert not await scrubber.advance(now)
        scrubber._scrub.close()
        if advanced == sections:
            break
        now += DAYS * 24 * 3600 / sections
    assert advanced == sections
    assert await pair.verify(repair=False) == {}


async def test_a_section_that_cannot_be_read_does_not_stop_the_scrub(pair: RegionPair) -> None:
    await push_to_both(pair, image(LAYER))
    damage(pooled(pair.root, Digest.of(LAYER)))
    loop = pair.root / "blobs/sha256/00"
    loop.symlink_to(loop.name)
    scrubber = Scrubber(pair.here, pair.restorer, days=DAYS)
    sections, now = await scrubber._scrub.sections(), 1_000_000_000.0
    for _ in sections:
        assert await scrubber.advance(now)
        now += DAYS * 24 * 3600 / len(sections)
    scrubber._scrub.close()
    assert sections[0] == "blobs/sha256/00"
    assert await read(pair.store, APP, blob(LAYER)) == LAYER


async def test_damage_found_by_a_request_is_restored_in_the_background(pair: RegionPair) -> None:
    await push_to_both(pair, image(LAYER))
    digest = Digest.of(LAYER)
    damage(pooled(pair.root, digest))
    with pytest.raises(Exception, match="digest"):
        await read(pair.store, APP, blob(LAYER))
    scrubber = Scrubber(pair.here, pair.restorer, days=0)
    await scrubber._restore_reported()
    scrubber._scrub.close()
    assert await read(pair.store, MIRROR, blob(LAYER)) == LAYER
    assert pair.store.repair.reported() == []


def test_verify_reports_and_restores_damage(tmp_path: Path) -> None:
    config = tmp_path / "tagferry.toml"
    regions = [f'[regions.{name}]\nlisten = "127.0.0.1:{free_port()}"\n' for name in ("cn-north-4", "cn-north-208")]
    config.write_text("".join(regions))
    run = CliRunner().invoke
    assert run(cli, ["registry", "verify", "-c", str(config)]).exit_code == 0
    registries = tmp_path / "tagferry-data/registries"
    _push_both(registries, image(LAYER))
    damage(pooled(registries / "cn-north-4", Digest.of(LAYER)))

    found = run(cli, ["registry", "verify", "cn-north-4", "-c", str(config), "--json"])
    assert found.exit_code == 1
    (region,) = json.loads(found.stdout)
    assert [one["name"] for one in region["damaged"]] == [Digest.of(LAYER)]
    repaired = run(cli, ["registry", "verify", "-c", str(config), "--repair"])
    assert (repaired.exit_code, "restored from cn-north-208" in repaired.stdout) == (0, True)
    assert run(cli, ["registry", "verify", "nowhere", "-c", str(config)]).exit_code == 1


def test_an_unreadable_region_does_not_stop_the_verification_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tagferry.toml"
    regions = [f'[regions.{name}]\nlisten = "127.0.0.1:{free_port()}"\n' for name in ("cn-north-4", "cn-north-208")]
    config.write_text("".join(regions))
    run = CliRunner().invoke
    _push_both(tmp_path / "tagferry-data/registries", image(LAYER))

    async def failing(region: Region, scrub: Scrub, restorer: Restorer | None) -> dict[Damage, str | None]:
        if region.id == "cn-north-4":
            raise DiskFailed("the registry's disk failed")
        return await verify(region, scrub, restorer)

    monkeypatch.setattr("tagferry.cli.registry.verify", failing)
    verified = run(cli, ["registry", "verify", "-c", str(config), "--json"])

    assert verified.exit_code == 1, verified.output
    north, south = json.loads(verified.stdout)
    assert (north["failure"], south.get("failure")) == ("the registry's disk failed", None)
    assert south["files"] > 0
    assert "incomplete: " in run(cli, ["registry", "verify", "-c", str(config)]).stdout


def test_foreign_files_do_not_affect_verification(tmp_path: Path) -> None:
    config = tmp_path / "tagferry.toml"
    regions = [f'[regions.{name}]\nlisten = "127.0.0.1:{free_port()}"\n' for name in ("cn-north-4", "cn-north-208")]
    config.write_text("".join(regions))
    run = CliRunner().invoke
    registries = tmp_path / "tagferry-data/registries"
    _push_both(registries, image(LAYER))
    damage(pooled(registries / "cn-north-208", Digest.of(LAYER)))
    shards = registries / "cn-north-4" / "blobs" / "sha256"
    # Content in a wrong directory, while a file has the name of the right one.
    shutil.rmtree(shards / "ff", ignore_errors=True)
    (shards / "ff").write_text("foreign")
    (shards / "zz").mkdir()
    (shards / "zz" / ("f" * 64)).write_text("foreign")

    verified = run(cli, ["registry", "verify", "-c", str(config), "--json"])

    assert verified.exit_code == 1, verified.output
    north, south = json.loads(verified.stdout)
    assert (north["damaged"], north.get("failure")) == ([], None)
    assert [one["name"] for one in south["damaged"]] == [Digest.of(LAYER)]


def _push_both(registries: Path, sample: SampleImage) -> None:
    async def work() -> None:
        for name in ("cn-north-4", "cn-north-208"):
            store = await DiskStore.open(registries / name)
            await push(store, APP, sample, Tag("v1"))
            await store.close()

    asyncio.run(work())


@pytest.mark.parametrize("kind", ["blob", "manifest"])
async def test_content_deleted_during_its_restoration_stays_deleted(
    pair: RegionPair, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sample = image(LAYER)
    await push(pair.store, APP, sample, Tag("v1"))
    await push(pair.other, APP, sample, Tag("v1"))
    wrong = manifest_file(pair.root, APP, sample.digest) if kind == "manifest" else pooled(pair.root, Digest.of(LAYER))
    damage(wrong)
    scrub = pair.store.repair.scrub()
    damages = [one for section in await scrub.sections() for one in await scrub.check(section)]
    scrub.close()
    assert {one.kind for one in damages} == {kind}
    locations = pair.locations.find

    async def find(store: str, digests: list[Digest]) -> dict[Digest, list[RepositoryName]]:
        # The organization is deleted between detection and restoration.
        with contextlib.suppress(NotFound):
            await pair.store.delete_repository(APP)
        return await locations(store, digests)

    monkeypatch.setattr(pair.locations, "find", find)
    assert await pair.restorer.restore(pair.here, damages) == {}
    assert [name async for name in pair.store.list_repositories()] == []
    assert not (pair.root / "repositories" / "team").exists()


async def test_a_blob_whose_repository_is_deleted_meanwhile_is_not_restored(pair: RegionPair) -> None:
    sample = image(LAYER)
    await push(pair.store, APP, sample, Tag("v1"))
    damage(pooled(pair.root, Digest.of(LAYER)))

    @asynccontextmanager
    async def opened(offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        await pair.store.delete_repository(APP)
        async with opening(LAYER)(offset) as chunks:
            yield chunks

    with pytest.raises(NotFound):
        await pair.store.repair.restore_blob(APP, blob(LAYER), opened)
    assert [name async for name in pair.store.list_repositories()] == []


async def test_a_lost_manifest_that_a_tag_points_to_is_restored(pair: RegionPair) -> None:
    sample = image(LAYER)
    await push_to_both(pair, sample)
    manifest_file(pair.root, APP, sample.digest).unlink()
    assert list((await pair.verify(repair=True)).values()) == ["cn-north-208"]
    assert (await pair.store.get_manifest(APP, Tag("v1"))).raw == sample.manifest.raw
