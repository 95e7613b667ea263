"""A cancelled job stops in whichever process runs it, and a retry is a request like any other."""

import pytest

from tagferry.coordination.pubsub import message_bus_of
from tagferry.errors import Denied, Throttled
from tagferry.names import RepositoryRef
from tagferry.supervision import Supervisor
from tagferry.sync.jobs.history import CopyRecord, SyncHistory
from tagferry.sync.jobs.model import JobSelection
from tagferry.sync.jobs.store import JobStore
from tagferry.sync.service import SyncService
from tests.support.deployment import eventually
from tests.support.images import image, push
from tests.unit.copy.stores import APP, COPY
from tests.unit.sync.conftest import NORTH, RELEASE, REPO, SOUTH, TEAM, V1, V2, World


@pytest.fixture
async def held(world: World) -> World:
    """A source whose blobs cannot be read until the test allows it."""
    for tag in (V1, V2):
        await push(world.source, APP, image(seed=tag), tag)
    world.source.reading.clear()
    return world


def selected(*jobs: int, request_id: str | None = None) -> JobSelection:
    return JobSelection(NORTH, TEAM, REPO, frozenset(jobs), request_id)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_copy_that_stands_still_stops_after_another_process_cancels_it(
    held: World, service: SyncService, is_told: bool
):
    started = await service.start(held.request(V1))
    job_id = started.job_ids[V1]
    await held.source.being_read.wait()
    assert held.process is not None
    worker, target = held.process.worker, held.target
    bus = held.process.bus if is_told else message_bus_of(held.database, Supervisor())

    assert await JobStore(held.database, bus).cancel([job_id], reason="no longer wanted") == [job_id]

    async def has_stopped() -> bool:
        return worker.snapshot(job_id) is None

    # On SQLite there is no other process: the copy stops at its next progress report, without a message.
    await eventually(has_stopped, seconds=20)
    held.source.reading.set()
    assert await service.wait(started, seconds=60) == [V1]
    assert await target.tag(COPY, V1) is None


async def test_all_callers_that_wait_for_a_cancelled_tag_see_it_fail(held: World, service: SyncService):
    first = await service.start(held.request(V1, V2))
    second = await service.start(held.request(V1))

    await service.cancel(held.caller, selected(first.job_ids[V1]))
    held.source.reading.set()

    assert await service.wait(first, seconds=60) == [V1]
    assert await service.wait(second, seconds=60) == [V1]
    assert await held.statuses() == [("v1", "cancel"), ("v2", "success")]


async def test_the_next_job_on_the_same_route_continues(held: World, service: SyncService):
    first = await service.start(held.request(V1))
    second = await service.start(held.request(V1, override=True))

    await service.cancel(held.caller, selected(first.job_ids[V1]))
    held.source.reading.set()

    assert await service.wait(second, seconds=60) == []


async def test_a_retry_counts_as_one_request_and_is_limited_like_any(held: World):
    service = await held.start_process(max_concurrent_requests_per_user=1)
    admin = await held.users.find("admin")
    first = await service.start(held.request(V1, id="first", caller=admin))
    await service.cancel(admin, selected(*first.job_ids.values()))
    second = await service.start(held.request(V1, id="second", caller=admin, override=True))
    every = selected(*first.job_ids.values(), *second.job_ids.values())

    with pytest.raises(Throttled, match='user "admin" has 1 syncs in progress'):
        await service.retry(admin, selected(*first.job_ids.values()), request_id="third")
    await service.cancel(admin, every)
    retried = await service.retry(admin, every, request_id="fourth")

    assert [(one.request.id, one.request.override, tuple(one.jobs)) for one in retried] == [
        ("fourth", False, (V1,)),
        ("fourth", True, (V1,)),
    ]
    held.source.reading.set()
    assert [await service.wait(one, seconds=60) for one in retried] == [[], []]


async def test_a_retry_keeps_the_rule_that_started_the_job(held: World, service: SyncService):
    started = await service.start(held.request(V1, rule_id=7, is_automatic=True))
    await service.cancel(held.caller, selected(started.job_ids[V1]))

    (retried,) = await service.retry(held.caller, selected(started.job_ids[V1]), request_id="retry")

    held.source.reading.set()
    assert await service.wait(retried, seconds=60) == []
    target = RepositoryRef(SOUTH, RELEASE, REPO)
    history = await SyncHistory(held.database).of_tag(target, V1, image(seed=V1).digest)
    assert history.copied_by == CopyRecord(job_id=retried.job_ids[V1], source=f"{NORTH}/{TEAM}", rule_id=7)


async def test_a_retry_of_a_tag_is_one_request_even_if_only_one_of_its_jobs_was_started_by_a_rule(
    held: World, service: SyncService
):
    by_rule = await service.start(held.request(V1, rule_id=7, is_automatic=True))
    await service.cancel(held.caller, selected(by_rule.job_ids[V1]))
    by_user = await service.start(held.request(V1, V2))
    await service.cancel(held.caller, selected(*by_user.job_ids.values()))
    every = selected(*by_rule.job_ids.values(), *by_user.job_ids.values())

    retried = await service.retry(held.caller, every, request_id="retry")

    assert [(one.request.rule_id, tuple(one.jobs)) for one in retried] == [(7, (V1,)), (None, (V2,))]


async def test_a_user_without_permission_can_neither_cancel_nor_retry(held: World, service: SyncService):
    started = await service.start(held.request(V1))
    stranger = await held.users.create("mallory", "correct horse", domain="acme")

    with pytest.raises(Denied, match='user "mallory" needs the permission to read'):
        await service.cancel(stranger, selected(started.job_ids[V1]))
    with pytest.raises(Denied, match='user "mallory" needs the permission to read'):
        await service.retry(stranger, selected(started.job_ids[V1]), request_id="x")
