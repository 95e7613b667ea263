"""Policies are carried out: what goes, what stays, and what is remembered, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from tagferry.automation.retention.rules import RuleSet
from tagferry.db.tables import RepositoryRow, RetentionDeletionRow, RetentionPolicyRow, RetentionTagRow
from tagferry.errors import Conflict, NotDeleted, NotFound, Unavailable, Unsupported
from tagferry.metrics import RETENTION_RUNS
from tagferry.names import RegionId, Tag
from tagferry.oci.referrer_tags import cosign_tags
from tagferry.supervision import Supervisor
from tests.support.deployment import eventually
from tests.support.images import artifact, image, index, push
from tests.support.metrics import growth
from tests.unit.automation.retention.conftest import APP, NORTH, Keeper, rule


async def test_what_rules_let_go_is_deleted_recorded_and_told(keeper: Keeper):
    await keeper.push("v1", "v2", days=10)
    await keeper.push("kept", days=20)
    await keeper.push("v3")
    policy = await keeper.policy(rule("date_rule", 5, ("label", "kept")))

    assert await keeper.retention.run(policy) == 2

    assert await keeper.tags() == ["kept", "v3"]
    assert sorted(await keeper.deleted()) == [("v1", "date_rule"), ("v2", "date_rule")]
    assert sorted(keeper.forgotten) == [(NORTH, APP, Tag("v1")), (NORTH, APP, Tag("v2"))]
    assert await keeper.retention.run(policy) == 0


async def test_a_plan_lists_what_would_be_deleted_and_changes_nothing(keeper: Keeper):
    await keeper.push("v1", "v2", "v3")
    planned = await keeper.retention.plan(NORTH, APP, None, RuleSet.parse([rule("tag_rule", 1)]).rules)
    assert [one.record.tag for one in planned] == ["v1", "v2"]
    assert await keeper.tags() == ["v1", "v2", "v3"]
    assert keeper.store.counts["delete_manifest"] == 0
    policy = await keeper.policy(rule("tag_rule", 2))
    assert [
        one.record.tag for one in await keeper.retention.plan(NORTH, APP, policy, RuleSet.parse(policy.rules).rules)
    ] == ["v1"]
    assert await keeper.observed_tags.of(policy.id) == {}


async def test_the_other_tag_of_an_image_stays_with_the_image(keeper: Keeper):
    sample = index()
    for tag in ("old", "latest"):
        await push(keeper.store, APP, sample, Tag(tag))
    keeper.store.age("old", days=9)

    await keeper.retention.run(await keeper.policy(rule("date_rule", 1)))

    assert await keeper.tags() == ["latest"]
    assert (await keeper.store.get_manifest(APP, Tag("latest"))).digest == sample.digest
    assert await keeper.store.head_manifest(APP, sample.children[0].digest) is not None


async def test_what_is_attached_to_images_neither_counts_nor_goes(keeper: Keeper):
    await keeper.push("v1", "v2", days=9)
    subject = await keeper.store.get_manifest(APP, Tag("v2"))
    await push(keeper.store, APP, image(seed="signature"), cosign_tags(subject.digest)[0])
    await push(keeper.store, APP, artifact(subject=subject), Tag("v2-bill-of-materials"))

    policy = await keeper.policy(rule("tag_rule", 2))
    assert await keeper.retention.run(policy) == 0
    policy = await keeper.policy(rule("date_rule", 1, ("label", "v2")))
    for tag in cosign_tags(subject.digest)[0], "v2-bill-of-materials":
        keeper.store.age(tag, days=99)
    assert await keeper.retention.run(policy) == 1

    assert await keeper.tags() == [cosign_tags(subject.digest)[0], "v2", "v2-bill-of-materials"]


@pytest.mark.parametrize("sample", [image(seed="another"), image(seed="v1")], ids=["another image", "the same image"])
async def test_a_tag_that_is_pushed_after_it_was_looked_at_stays(keeper: Keeper, sample):
    await keeper.push("v1", "v2", days=9)
    keeper.store.changes = {Tag("v1"): sample}

    assert await keeper.retention.run(await keeper.policy(rule("date_rule", 1))) == 1

    assert await keeper.tags() == ["v1"]
    assert [tag for tag, _ in await keeper.deleted()] == ["v2"]


async def test_the_age_of_tags_without_push_times_counts_from_the_first_look(keeper: Keeper):
    keeper.store.has_push_times = False
    await keeper.push("v1", "v2")
    policy = await keeper.policy(rule("date_rule", 5))
    assert await keeper.retention.run(policy) == 0
    keeper.calendar.ahead = timedelta(days=4)
    await keeper.push("v3")
    await push(keeper.store, APP, image(seed="new"), Tag("v2"))
    assert await keeper.retention.run(policy) == 0
    keeper.calendar.ahead = timedelta(days=6)

    assert await keeper.new_retention().run(policy) == 1

    assert await keeper.tags() == ["v2", "v3"]
    assert sorted(await keeper.observed_tags.of(policy.id)) == ["v1", "v2", "v3"]
    keeper.calendar.ahead = timedelta(days=8)
    await keeper.retention.run(policy)
    assert sorted(await keeper.observed_tags.of(policy.id)) == ["v2", "v3"]


async def test_what_was_seen_once_is_not_read_again(keeper: Keeper):
    keeper.store.has_push_times = False
    await keeper.push("v1", "v2")
    policy = await keeper.policy(rule("date_rule", 5))
    await keeper.retention.run(policy)
    read = keeper.store.counts["get_manifest"]
    await keeper.retention.run(policy)
    assert keeper.store.counts["get_manifest"] == read


async def test_a_policy_that_is_changed_or_ended_deletes_nothing_more(keeper: Keeper):
    await keeper.push("v1", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    await keeper.policy(rule("date_rule", 30))
    assert await keeper.retention.run(policy) == 0
    await keeper.policies.delete(keeper.repository_id, policy.id)
    assert await keeper.retention.run(policy) == 0
    assert await keeper.tags() == ["v1"]


async def test_a_tag_that_cannot_be_deleted_alone_keeps_none_of_the_others(keeper: Keeper):
    await keeper.push("v1", "v2", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    for kept in (Conflict("tag", "v1 cannot be deleted alone"), NotDeleted("registry north still has v1 of team/app")):
        keeper.store.failure = kept
        assert await keeper.retention.run(policy) == 0
        assert keeper.store.counts["delete_manifest"] == 0
    keeper.store.failure = NotFound("tag", "v1")
    assert await keeper.retention.run(policy) == 0
    for failure in (Unavailable("away"), Unsupported("does not delete")):
        keeper.store.failure = failure
        with pytest.raises(type(failure)):
            await keeper.retention.run(policy)
    assert await keeper.tags() == ["v1", "v2"]
    assert await keeper.deleted() == []


async def test_where_no_tag_is_deleted_alone_all_tags_of_an_image_go_together_and_are_on_record(keeper: Keeper):
    keeper.store.tagless = True
    await keeper.push("v1", "v2", days=9)
    for tag in ("alias", "latest"):
        await push(keeper.store, APP, image(seed="v1" if tag == "alias" else "v2"), Tag(tag))
    keeper.store.age("alias", days=8)

    assert await keeper.retention.run(await keeper.policy(rule("date_rule", 5))) == 2

    assert await keeper.tags() == ["latest", "v2"]
    assert sorted(tag for tag, _ in await keeper.deleted()) == ["alias", "v1"]
    assert sorted(tag for _, _, tag in keeper.forgotten) == ["alias", "v1"]


async def test_a_repository_that_is_not_there_makes_no_policy_forget(keeper: Keeper):
    keeper.store.has_push_times = False
    await keeper.push("v1")
    policy = await keeper.policy(rule("date_rule", 1))
    await keeper.retention.run(policy)
    del keeper.store._repositories[APP]
    assert await keeper.retention.run(policy) == 0
    assert await keeper.retention.plan(NORTH, APP, policy, RuleSet.parse(policy.rules).rules) == []
    assert list(await keeper.observed_tags.of(policy.id)) == ["v1"]


async def test_it_runs_when_a_policy_is_made_or_changed_and_then_once_in_an_interval(keeper: Keeper):
    await keeper.push("v1", "v2", "v3")
    keeper.retention.start(Supervisor())
    await keeper.policy(rule("tag_rule", 2))
    keeper.retention.wake()

    async def are(*tags: str) -> None:
        async def gone() -> bool:
            return await keeper.tags() == list(tags)

        await eventually(gone)

    await are("v2", "v3")
    await keeper.policy(rule("tag_rule", 1))
    keeper.retention.wake()
    await are("v3")
    await keeper.push("v4")

    async def is_done() -> bool:
        keeper.retention.wake()
        return await keeper.policies.due(ran_before=datetime.now(UTC) - timedelta(days=1)) == []

    await eventually(is_done)
    assert await keeper.tags() == ["v3", "v4"]
    keeper.calendar.ahead = timedelta(days=1, seconds=1)
    keeper.retention.wake()
    await are("v4")


async def test_a_restart_goes_on_with_what_became_due_meanwhile(keeper: Keeper):
    await keeper.push("v1", "v2")
    keeper.retention.start(Supervisor())
    policy = await keeper.policy(rule("tag_rule", 1))
    keeper.retention.wake()

    async def is_done() -> bool:
        return await keeper.policies.due(ran_before=datetime.now(UTC) - timedelta(days=1)) == []

    await eventually(is_done)
    await keeper.retention.close()
    await keeper.push("v3")
    keeper.calendar.ahead = timedelta(days=2)

    keeper.retention = keeper.new_retention()
    keeper.retention.start(Supervisor())

    async def has_deleted() -> bool:
        _, total = await keeper.history.of_repository(keeper.repository_id, limit=1, offset=0)
        return total == 2

    await eventually(has_deleted)
    assert await keeper.tags() == ["v3"]
    assert await keeper.deleted() == [("v2", "tag_rule"), ("v1", "tag_rule")]
    assert (await keeper.policies.find(policy.id)) == policy


async def test_only_who_leads_deletes(keeper: Keeper, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.automation.retention.runner._TICK_SECONDS", 0.02)
    await keeper.push("v1", days=9)
    await keeper.policy(rule("date_rule", 1))
    keeper.leading = False
    keeper.retention.start(Supervisor())

    async def asked_often() -> bool:
        return keeper.asked >= 3

    await eventually(asked_often)
    assert await keeper.tags() == ["v1"]
    runs = growth(RETENTION_RUNS)
    keeper.leading = True

    async def has_deleted() -> bool:
        return await keeper.tags() == [] and runs() == {("success",): 1}

    await eventually(has_deleted)


async def test_a_look_up_that_began_before_a_run_ended_does_not_repeat_the_run(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.automation.retention.runner._TICK_SECONDS", 0.02)
    await keeper.push("v1", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    outdated = await keeper.policies.due(ran_before=datetime.now(UTC))
    assert outdated == [(policy.id, NORTH)]
    look_ups = 0

    async def due(*, ran_before: datetime) -> list[tuple[int, RegionId]]:
        nonlocal look_ups
        look_ups += 1
        return outdated

    monkeypatch.setattr(keeper.policies, "due", due)
    runs = growth(RETENTION_RUNS)
    keeper.retention.start(Supervisor())

    async def has_run() -> bool:
        return runs() == {("success",): 1}

    await eventually(has_run)
    before = look_ups

    async def looked_up_often() -> bool:
        return look_ups >= before + 5

    await eventually(looked_up_often)
    assert runs() == {("success",): 1}


async def test_what_fails_is_left_alone_for_a_while_and_keeps_no_other_policy_waiting(keeper: Keeper):
    await keeper.push("v1", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    keeper.store.failure = Unavailable("the registry is away")
    runs = growth(RETENTION_RUNS)
    keeper.retention.start(Supervisor())
    keeper.retention.wake()

    async def has_failed() -> bool:
        return keeper.retention._backoff.retry_at(policy.id) is not None

    await eventually(has_failed)
    assert await keeper.policies.due(ran_before=datetime.now(UTC)) == [(policy.id, NORTH)]
    assert await keeper.tags() == ["v1"]
    assert runs() == {("failed",): 1}


async def test_a_deletion_under_way_gets_on_record_when_the_process_is_told_to_end(keeper: Keeper):
    await keeper.push("v1", "v2", days=9)
    await keeper.policy(rule("date_rule", 1))
    keeper.store.slow = asyncio.Event()
    keeper.retention.start(Supervisor())

    async def is_deleting() -> bool:
        return bool(keeper.retention._deleting)

    await eventually(is_deleting)
    closing = asyncio.create_task(keeper.retention.close())
    await asyncio.sleep(0)
    keeper.store.slow.set()
    await closing

    left = await keeper.tags()
    assert len(left) == 1
    assert [tag for tag, _ in await keeper.deleted()] == [tag for tag in ("v1", "v2") if tag not in left]


async def test_a_policy_does_not_wait_for_one_that_takes_long(keeper: Keeper):
    await keeper.push("v1", days=9)
    slow = await keeper.policy(rule("date_rule", 1))
    keeper.store.slow = asyncio.Event()
    keeper.retention.start(Supervisor())

    async def is_deleting() -> bool:
        return bool(keeper.retention._deleting)

    await eventually(is_deleting)
    other = await keeper.another_repository()
    await keeper.policies.create(other, RuleSet.parse([rule("tag_rule", 1)]))
    keeper.retention.wake()

    async def has_run() -> bool:
        return await keeper.policies.due(ran_before=datetime.now(UTC) - timedelta(days=1)) == [(slow.id, NORTH)]

    await eventually(has_run)
    keeper.store.slow.set()


async def test_policies_are_one_a_repository_and_end_with_it(keeper: Keeper):
    policy = await keeper.policy(rule("tag_rule", 1))
    with pytest.raises(Conflict, match="already has a retention policy"):
        await keeper.policies.create(keeper.repository_id, RuleSet.parse([rule("tag_rule", 2)]))
    with pytest.raises(NotFound, match="retention policy"):
        await keeper.policies.update(keeper.repository_id + 1, policy.id, RuleSet.parse([rule("tag_rule", 2)]))
    with pytest.raises(NotFound, match="retention policy"):
        await keeper.policies.delete(keeper.repository_id, policy.id + 1)
    await keeper.policies.delete(keeper.repository_id, policy.id)
    again = await keeper.policy(rule("tag_rule", 1))
    assert again.id > policy.id
    await keeper.push("v1", "v2")
    await keeper.retention.run(again)

    async with keeper.database.write() as session:
        await session.execute(delete(RepositoryRow))

    for table in (RetentionPolicyRow, RetentionTagRow, RetentionDeletionRow):
        async with keeper.database.read() as session:
            assert await session.scalar(table.__table__.select()) is None
    await keeper.push("v3")
    assert await keeper.retention.run(again) == 0


async def test_old_records_are_forgotten(keeper: Keeper):
    await keeper.push("v1", "v2")
    await keeper.retention.run(await keeper.policy(rule("tag_rule", 1)))
    assert await keeper.history.prune(before=datetime.now(UTC) - timedelta(days=1)) == 0
    assert await keeper.history.prune(before=datetime.now(UTC) + timedelta(days=1)) == 1
    assert await keeper.deleted() == []


async def test_nothing_is_deleted_while_the_clock_is_in_doubt_and_everything_once_it_is_not(keeper: Keeper):
    await keeper.push("v1", "v2", days=1)
    await keeper.policy(rule("date_rule", 30))
    keeper.plausible = False
    keeper.calendar.ahead = timedelta(days=365)
    keeper.retention.start(Supervisor())
    try:
        for _ in range(20):
            keeper.retention.wake()
            await asyncio.sleep(0)
        assert await keeper.tags() == ["v1", "v2"]

        keeper.plausible = True
        keeper.retention.wake()

        await eventually(lambda: _is_empty(keeper))
    finally:
        await keeper.retention.close()


async def test_a_clock_that_jumps_in_the_middle_of_a_run_ends_it(keeper: Keeper):
    await keeper.push("v1", "v2", "v3", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    keeper.plausible = False

    assert await keeper.retention.run(policy) == 0
    assert await keeper.tags() == ["v1", "v2", "v3"]


async def test_one_run_deletes_so_many_tags_and_the_next_one_is_due_within_the_hour(keeper: Keeper):
    await keeper.push("v1", "v2", "v3", days=9)
    policy = await keeper.policy(rule("date_rule", 1))
    retention = keeper.new_retention(run_limit=2)
    await retention._guarded(policy.id)
    assert len(await keeper.tags()) == 1
    now = keeper.calendar()

    assert await keeper.policies.due(ran_before=now - timedelta(days=1)) == []
    assert await keeper.policies.due(ran_before=now - timedelta(hours=22, minutes=59)) == [(policy.id, NORTH)]
    keeper.calendar.ahead = timedelta(hours=1, minutes=1)
    await retention._guarded(policy.id)
    assert await keeper.tags() == []


async def _is_empty(keeper: Keeper) -> bool:
    return await keeper.tags() == []
