"""One record that the database refuses, or that cannot be read, does not block others."""

import asyncio
import json

import pytest
from sqlalchemy import text, update

from tagferry.coordination.pubsub import LocalMessageBus
from tagferry.copy.rewrite import Acceptance, Rewrite
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.errors import Invalid
from tagferry.metrics import RECORDS_REFUSED
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.regions import Region
from tagferry.sync.jobs.model import JobStatus, JobUpdate
from tagferry.sync.jobs.repository_jobs import RepositoryJobs
from tagferry.sync.jobs.store import JobStore
from tests.support.images import image, push
from tests.unit.sync.conftest import NORTH, REPO, SOUTH, TEAM, V1, V2, V3, World
from tests.unit.sync.test_jobs import WORKER, run

APP = RepositoryName("team/app")
STRANGE = "a\x00b\ud800c\x1bd\u202ee"
DIGEST = Digest.of(b"content")


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, LocalMessageBus())


async def recorded(database: Database) -> dict[str, tuple[str, str]]:
    found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100)
    return {job.tag: (job.status.value, job.reason) for job in found}


async def test_characters_that_no_database_accepts_are_escaped_in_a_reason(jobs: JobStore, database: Database):
    (job_id,) = await run(jobs, database, "v1")

    await jobs.end(JobUpdate(job_id, JobStatus.FAILED, reason=STRANGE), worker_id=WORKER)

    assert await recorded(database) == {"v1": ("failed", "a\\x00b\\ud800c\\x1bd\\u202ee")}


async def test_a_number_of_bytes_that_no_database_accepts_is_clamped(jobs: JobStore, database: Database):
    (job_id,) = await run(jobs, database, "v1")

    await jobs.end(JobUpdate(job_id, JobStatus.SUCCESS, bytes_total=2**63, bytes_done=2**80), worker_id=WORKER)

    (job,), _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100)
    assert (job.status, job.bytes_total, job.bytes_done) == (JobStatus.SUCCESS, 2**63 - 1, 2**63 - 1)


async def test_an_end_that_is_refused_becomes_a_failure_and_other_ends_are_unaffected(
    jobs: JobStore, database: Database
):
    ids = await run(jobs, database, *(f"v{number}" for number in range(9)))
    # Not a text, so sanitizing texts does not help.
    unwritable = Rewrite(digests={DIGEST: object()})  # type: ignore[dict-item]
    before = RECORDS_REFUSED.labels(kind="job end").value

    changes = [JobUpdate(job_id, JobStatus.SUCCESS, reason="copied") for job_id in ids]
    changes[4] = JobUpdate(ids[4], JobStatus.SUCCESS, reason="copied", rewritten=unwritable)
    async with asyncio.timeout(30):
        await asyncio.gather(*(jobs.end(change, worker_id=WORKER) for change in changes))

    found = await recorded(database)
    status, reason = found.pop("v4")
    assert status == "failed"
    assert "could not be recorded" in reason
    assert set(found.values()) == {("success", "copied")}
    assert RECORDS_REFUSED.labels(kind="job end").value == before + 1


async def test_progress_that_is_refused_does_not_block_other_progress(jobs: JobStore, database: Database):
    first, second = await run(jobs, database, "v1", "v2")
    unwritable = JobUpdate(first, JobStatus.RUNNING, rewritten=Rewrite(digests={DIGEST: object()}))  # type: ignore[dict-item]

    for done in (5, 6):
        lost = await jobs.report([unwritable, JobUpdate(second, JobStatus.RUNNING, bytes_done=done)], worker_id=WORKER)
        assert lost == []
        found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100, only=[second])
        assert found[0].bytes_done == done


async def test_ends_wait_for_an_unavailable_database_and_are_all_recorded_afterwards(
    jobs: JobStore, database: Database, monkeypatch: pytest.MonkeyPatch
):
    first, second = await run(jobs, database, "v1", "v2")

    def away() -> None:
        raise OSError("the database is away")

    with monkeypatch.context() as outage:
        outage.setattr(database, "write", away)
        ends = [
            jobs.end(JobUpdate(job_id, JobStatus.SUCCESS, reason="copied"), worker_id=WORKER)
            for job_id in (first, second)
        ]
        assert [type(one) for one in await asyncio.gather(*ends, return_exceptions=True)] == [OSError, OSError]
    await jobs.end(JobUpdate(first, JobStatus.SUCCESS, reason="copied"), worker_id=WORKER)

    assert await recorded(database) == {"v1": ("success", "copied"), "v2": ("success", "copied")}


@pytest.mark.parametrize("status", ["waiting", "success"])
@pytest.mark.parametrize(
    "damage",
    [
        {"rewritten": {"digests": 5}},
        {"tag": "no tag at all/"},
        {"namespace": TEAM, "digest": "no digest", "reason": "x"},
    ],
)
async def test_an_unreadable_record_is_omitted_from_lists(
    jobs: JobStore, database: Database, status: str, damage: dict[str, object]
):
    first, _ = await run(jobs, database, "v1", "v2")
    async with database.write() as session:
        await session.execute(
            update(SyncJobRow).where(SyncJobRow.id == first).values(status=status, worker_id=None, **damage)
        )

    found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100)

    assert [job.tag for job in found] == ["v2"]


async def test_a_job_in_an_unknown_state_counts_as_failed_for_waiting_callers(jobs: JobStore, database: Database):
    first, second = await run(jobs, database, "v1", "v2")
    async with database.write() as session:
        await session.execute(update(SyncJobRow).where(SyncJobRow.id == first).values(status="strange"))

    assert await jobs.ends([first, second]) == {first: JobStatus.FAILED}
    found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100)
    assert [job.tag for job in found] == ["v2"]


@pytest.mark.parametrize("column", ["rewritten", "created_at", "failing_since"])
async def test_a_column_that_was_damaged_on_disk_spoils_no_list(jobs: JobStore, database: Database, column: str):
    if database.is_shared:
        pytest.skip("PostgreSQL checks what its columns hold")
    first, _ = await run(jobs, database, "v1", "v2")
    async with database.write() as session:
        await session.execute(text(f"UPDATE sync_jobs SET {column} = '{{damaged' WHERE id = {first}"))  # noqa: S608

    found, _ = await RepositoryJobs(database).of_repository(NORTH, TEAM, REPO, limit=100)

    # Optional fields are read as if they were empty.
    assert [job.tag for job in found] == (["v2"] if column == "created_at" else ["v2", "v1"])


async def test_an_unreadable_waiting_job_fails_once_and_the_others_run(world: World):
    service = await world.start_process(slots=0)
    for tag in (V1, V2, V3):
        await push(world.source, APP, image(seed=tag), tag)
    started = await service.start(world.request(V1, V2, V3))
    async with world.database.write() as session:
        await session.execute(
            update(SyncJobRow).where(SyncJobRow.id == started.jobs[V2].id).values(rewritten={"digests": 5})
        )

    service = await world.start_process()
    failed = await service.wait(await service.start(world.request(V1, V3)), seconds=60)

    assert failed == []
    assert await world.jobs.ends([started.jobs[V2].id]) == {started.jobs[V2].id: JobStatus.FAILED}


def manifest(*, size: int = 5, media_type: str = "application/vnd.oci.image.layer.v1.tar") -> Manifest:
    """A manifest that the stores of these tests do not check."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [{"mediaType": media_type, "digest": DIGEST, "size": size}],
    }
    return Manifest.parse(json.dumps(document).encode(), None)


def put_past_every_check(world: World, tag: Tag, odd: Manifest) -> None:
    """Put a manifest into the source as a registry without checks may hold it."""
    found = world.source._find
    world.source._find = (  # type: ignore[method-assign]
        lambda repository, reference: odd if reference in (tag, odd.digest) else found(repository, reference)
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"size": 2**63},
        {"size": 10**400},
        {"media_type": "application/x\ud800"},
        {"media_type": "application/\x00x"},
    ],
    ids=["2^63 bytes", "400 digits", "lone surrogate", "NUL"],
)
async def test_a_malformed_manifest_fails_alone_and_every_other_tag_is_synchronized(
    world: World, odd: dict[str, object]
):
    service = await world.start_process()
    assert world.process is not None
    if "media_type" in odd:
        accepts = Acceptance(format="docker", rewrite=True)
        target = Region(id=SOUTH, url="https://south.example:5000", store=world.target, accepts=accepts)
        world.process.worker._runner._regions._regions[SOUTH] = target
    for tag in (V1, V2, V3):
        await push(world.source, APP, image(seed=tag), tag)
    try:
        put_past_every_check(world, V2, manifest(**odd))  # type: ignore[arg-type]
    except Invalid as refusal:
        # The registry client refuses such a manifest in any case.
        world.source.failures[V2] = refusal

    async with asyncio.timeout(60):
        assert await service.wait(await service.start(world.request(V1, V2, V3)), seconds=30) == [V2]
    assert [status for _, status in await world.statuses()] == ["success", "failed", "success"]
