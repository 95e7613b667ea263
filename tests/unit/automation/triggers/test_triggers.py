"""Triggers are notified of every digest once, and deliver in order, on both databases."""

import asyncio
from typing import Any

import pytest

from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.automation.triggers.deliveries import HISTORY_LIMIT, Delivery
from tagferry.automation.triggers.status import DeliveryStatus
from tagferry.errors import Conflict, Invalid, NotFound
from tagferry.names import Tag
from tests.unit.automation.circle import APP, V1, A, B, source
from tests.unit.automation.hooked import NEW, OLD, OTHER, V2, Hooked, later, spec


async def test_what_stood_there_is_no_news_and_what_nobody_told_of_is_found_by_looking(hooked: Hooked):
    await hooked.make()
    await hooked.watch.scan(source(A))
    assert await hooked.told() == []

    await hooked.push(NEW)
    await hooked.push(OTHER, V2)
    await hooked.watch.scan(source(A))
    await hooked.watch.scan(source(A))

    assert sorted(await hooked.told()) == [("deploy", V1, NEW.digest), ("deploy", V2, OTHER.digest)]


async def test_a_push_is_recorded_before_it_is_answered_and_looking_finds_nothing_more(hooked: Hooked):
    await hooked.make()
    await hooked.push(NEW)

    await hooked.watch.pushed(A, APP, V1, NEW.digest, "carol")
    await hooked.watch.check(source(A), V1)

    (due,) = await hooked.due()
    assert (due.delivery.digest, due.delivery.pushed_by) == (NEW.digest, "carol")
    assert due.trigger.source == source(A)


async def test_who_is_told_at_the_same_time_hears_once(hooked: Hooked):
    await hooked.make()
    await hooked.make(name="other")
    await hooked.push(NEW, V2)

    await asyncio.gather(*(hooked.watch.pushed(A, APP, tag, NEW.digest, None) for tag in [V1, V2] * 5))
    await asyncio.gather(*(hooked.watch.check(source(A), tag) for tag in [V1, V2] * 5))

    told = await hooked.told()
    assert sorted({(name, tag) for name, tag, _ in told}) == [(n, t) for n in ("deploy", "other") for t in (V1, V2)]
    # `v1` points to the same image as before: the reported push is not found.
    assert [one for one in told if one[1] == V2] == [("deploy", V2, NEW.digest), ("other", V2, NEW.digest)]


async def test_what_was_seen_before_somebody_else_told_of_a_push_is_not_told_back(hooked: Hooked):
    trigger = await hooked.make()
    before = await hooked.triggers.seen_digests([trigger.id], V1)
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)

    assert not await hooked.deliveries.record([trigger], V1, OTHER.digest, seen_digests=before)
    assert await hooked.deliveries.record([trigger], V2, OTHER.digest, seen_digests={})
    assert not await hooked.deliveries.record([trigger], V2, NEW.digest, seen_digests={})
    assert await hooked.told() == [("deploy", V1, NEW.digest), ("deploy", V2, OTHER.digest)]


async def test_a_tag_that_was_deleted_and_comes_back_is_news(hooked: Hooked):
    await hooked.make()
    await hooked.watch.forget(A, APP, OLD.digest)
    await hooked.watch.check(source(A), V1)
    await hooked.watch.forget(A, APP, V1)
    await hooked.watch.check(source(A), V1)

    assert await hooked.told() == [("deploy", V1, OLD.digest)] * 2


async def test_a_tag_that_nobody_told_is_gone_is_forgotten_by_looking(hooked: Hooked):
    await hooked.make()
    await hooked.push(OLD, V2)
    await hooked.watch.scan(source(A))
    await hooked.circle.stores[A].delete_manifest(APP, V2)
    await hooked.watch.scan(source(A))
    await hooked.push(OLD, V2)
    await hooked.watch.scan(source(A))

    assert await hooked.told() == [("deploy", V2, OLD.digest)] * 2


async def test_a_trigger_that_is_off_hears_nothing_and_is_not_followed(hooked: Hooked):
    await hooked.make(enabled=False)
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)

    assert await hooked.announcer.sources() == []
    assert await hooked.told() == []

    await hooked.book.switch(source(A), "deploy", enabled=True)
    await hooked.book.switch(source(A), "deploy", enabled=True)
    assert await hooked.announcer.sources() == [source(A)]
    assert await hooked.announcer.handled(source(A)) == [{V1: OLD.digest}]


async def test_a_trigger_of_another_repository_or_region_hears_nothing(hooked: Hooked):
    await hooked.make()
    await hooked.watch.pushed(B, APP, V1, NEW.digest, None)
    assert await hooked.told() == []


async def test_calls_about_a_tag_are_made_in_order_and_others_do_not_wait_for_them(hooked: Hooked):
    await hooked.make()
    for tag, sample in ((V1, NEW), (V1, OTHER), (V2, NEW), (V1, OLD)):
        await hooked.watch.pushed(A, APP, tag, sample.digest, None)

    first, second = await hooked.due()
    assert [(one.delivery.tag, one.delivery.digest) for one in (first, second)] == [(V1, NEW.digest), (V2, NEW.digest)]
    assert await hooked.deliveries.claim(first.delivery, until=later(minutes=1))
    assert [one.delivery.tag for one in await hooked.due()] == [V2]
    await hooked.deliveries.end(first.delivery, DeliveryStatus.SUCCESS, "")
    assert [one.delivery.digest for one in await hooked.due() if one.delivery.tag == V1] == [OTHER.digest]


async def test_what_is_due_is_found_in_parts(hooked: Hooked):
    await hooked.make()
    for number in range(5):
        await hooked.watch.pushed(A, APP, Tag(f"t{number}"), NEW.digest, None)

    found: list[Delivery] = []
    while part := await hooked.due(limit=2, after=(found[-1].due_at, found[-1].id) if found else None):
        found += [due.delivery for due in part]
    assert [delivery.tag for delivery in found] == [f"t{number}" for number in range(5)]


async def test_a_call_is_claimed_by_one_and_by_another_when_that_one_is_gone(hooked: Hooked):
    await hooked.make()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    (due,) = await hooked.due()

    claims = [hooked.deliveries.claim(due.delivery, until=later(minutes=1)) for _ in range(5)]
    assert sorted(await asyncio.gather(*claims)) == [False] * 4 + [True]
    assert await hooked.due() == []

    (again,) = await hooked.deliveries.due(later(minutes=2), limit=10)
    assert (again.delivery.attempts, again.delivery.event_id) == (1, due.delivery.event_id)
    assert await hooked.deliveries.claim(again.delivery, until=later(minutes=3))
    # Who claimed it first and comes back late has nothing to say any more.
    await hooked.deliveries.end(due.delivery, DeliveryStatus.FAILED, "late")
    await hooked.deliveries.postpone(again.delivery, later(minutes=-1), "attempt 2")
    (now,) = await hooked.due()
    assert (now.delivery.status, now.delivery.attempts, now.delivery.detail) == (DeliveryStatus.WAITING, 2, "attempt 2")


async def test_the_newest_calls_are_shown_and_old_ones_are_forgotten_once_they_have_ended(hooked: Hooked):
    trigger = await hooked.make()
    for number in range(HISTORY_LIMIT + 2):
        await hooked.watch.pushed(A, APP, V1, (NEW, OTHER)[number % 2].digest, f"user {number}")
    (first,) = await hooked.due()
    assert await hooked.deliveries.claim(first.delivery, until=later(minutes=1))
    await hooked.deliveries.end(first.delivery, DeliveryStatus.SUCCESS, "the webhook answered 200")

    shown = (await hooked.deliveries.history([trigger.id]))[trigger.id]
    assert [delivery.pushed_by for delivery in shown] == [
        f"user {number}" for number in range(HISTORY_LIMIT + 1, 1, -1)
    ]
    assert await hooked.deliveries.prune(ended_before=later(minutes=-1)) == 0
    assert await hooked.deliveries.prune(ended_before=later(minutes=1)) == 1
    assert len(await hooked.due()) == 1


async def test_a_trigger_ends_with_its_calls_and_its_name_is_free_again(hooked: Hooked):
    await hooked.make()
    with pytest.raises(Conflict, match='already has a trigger "deploy"'):
        await hooked.make()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)

    await hooked.book.delete(source(A), "deploy")

    assert await hooked.due() == []
    with pytest.raises(NotFound):
        await hooked.book.find(source(A), "deploy")
    await hooked.make()
    assert await hooked.told() == []


async def test_a_repository_has_so_many_triggers_at_most(hooked: Hooked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.automation.triggers.store.MAX_TRIGGERS", 2)
    await hooked.make(name="one")
    await hooked.make(name="two")
    with pytest.raises(Conflict, match="has 2 triggers"):
        await hooked.make(name="three")


async def test_a_repository_without_an_image_may_have_a_trigger(hooked: Hooked):
    await hooked.circle.stores[A].delete_repository(APP)
    await hooked.repositories.create(hooked.circle.admin, A, APP, RepositoryMetadata())
    await hooked.make()
    await hooked.push(NEW)
    await hooked.watch.scan(source(A))
    assert await hooked.told() == [("deploy", V1, NEW.digest)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cluster_id": "", "cluster_name": "-x"}, "cluster_name"),
        ({"application": "a" * 254}, "application"),
        ({"cluster_ns": "a" * 64}, "cluster_ns"),
        ({"trigger_type": "tag", "condition": "v1;" * 2000}, "condition"),
        ({"trigger_type": "regular", "condition": "(a+)+$(?=b)"}, "condition"),
        ({"name": "n" * 65}, "name"),
    ],
)
def test_a_trigger_out_of_bounds_is_refused_by_its_field(fields: dict[str, Any], field: str):
    with pytest.raises(Invalid) as refused:
        spec(**fields).check()
    assert refused.value.field == field
