"""The synchronizations that rules start, by digest."""

from itertools import pairwise
from typing import Any

import pytest
import structlog

from tagferry.accounts.model import Permission
from tagferry.automation.rules.store import Handled
from tagferry.errors import Denied, Unavailable
from tagferry.names import Digest, Tag
from tests.support.images import image
from tests.unit.automation.circle import APP, REPO, TEAM, V1, A, B, C, Circle, source

OLD, NEW, OTHER = image(seed="old"), image(seed="new"), image(seed="other")
V2 = Tag("v2")


@pytest.fixture
async def pair(circle: Circle) -> Circle:
    """Rules from A to B and back, and an image in both."""
    for region in (A, B):
        await circle.push(region, OLD)
    await circle.rule(A, B)
    await circle.rule(B, A)
    return circle


async def test_what_stood_there_before_the_rule_is_left_alone_and_what_is_pushed_later_goes(circle: Circle):
    await circle.push(A, OLD)
    await circle.rule(A, B)

    await circle.watch.scan(source(A))
    assert circle.courier.requests == []

    await circle.push(A, NEW)
    await circle.push(A, OTHER, V2)
    assert await circle.digests() == [NEW.digest, NEW.digest, None]
    assert await circle.digests(V2) == [OTHER.digest, OTHER.digest, None]


async def test_a_request_of_a_rule_tells_all_that_the_rule_says(circle: Circle):
    await circle.push(A, OLD)
    rule = await circle.rule(A, B, override=False)
    await circle.push(A, NEW)

    (request,) = circle.courier.requests
    assert request.id.startswith(f"rule-{rule.id}-")
    assert request.rule_id == rule.id
    assert request.caller == circle.admin
    assert (request.source_region, request.namespace, request.repository, request.tags) == (A, TEAM, REPO, (V1,))
    assert (request.target_region, request.target_namespace, request.override) == (B, TEAM, False)


async def test_a_digest_is_handled_once(circle: Circle):
    await circle.push(A, OLD)
    await circle.rule(A, B)
    await circle.push(A, NEW)

    await circle.see(A)
    await circle.watch.scan(source(A))

    assert circle.courier.ways() == ["a>b"]


async def test_a_rule_that_is_off_starts_nothing_and_begins_anew_when_it_is_switched_on(circle: Circle):
    await circle.push(A, OLD)
    await circle.rule(A, B, sync_auto=False)
    await circle.push(A, NEW)
    await circle.rule(A, B, sync_auto=True)
    await circle.see(A)
    assert circle.courier.requests == []

    await circle.push(A, OTHER)
    assert circle.courier.ways() == ["a>b"]


async def test_a_rule_that_is_made_again_goes_on_where_it_was(circle: Circle):
    await circle.push(A, OLD)
    first = await circle.rule(A, B, override=False)
    await circle.push(A, NEW, seen=False)
    second = await circle.rule(A, B, override=True)

    await circle.see(A)

    assert (second.id, second.created_at, second.override) == (first.id, first.created_at, True)
    assert [request.override for request in circle.courier.requests] == [True]


async def test_two_regions_that_synchronize_to_each_other_come_to_rest(pair: Circle):
    await pair.push(A, NEW)
    assert pair.courier.ways() == ["a>b"]
    await pair.push(B, OTHER)
    assert pair.courier.ways() == ["a>b", "b>a"]

    for region in (A, B):
        await pair.watch.scan(source(region))

    assert pair.courier.ways() == ["a>b", "b>a"]
    assert await pair.digests() == [OTHER.digest, OTHER.digest, None]


async def test_an_old_image_that_is_pushed_again_goes_though_it_once_came_from_there(pair: Circle):
    await pair.push(B, NEW)
    await pair.push(A, OTHER)
    await pair.push(A, NEW)

    assert pair.courier.ways() == ["b>a", "a>b", "a>b"]
    assert await pair.digests() == [NEW.digest, NEW.digest, None]


async def test_different_pushes_on_both_sides_at_once_come_to_rest_with_one_of_them(pair: Circle):
    pair.courier.holding = True
    await pair.push(A, NEW)
    await pair.push(B, OTHER)
    assert pair.courier.ways() == ["a>b"]

    await pair.courier.deliver()
    await pair.see(B)

    assert await pair.digests() == [NEW.digest, NEW.digest, None]
    assert pair.courier.ways() == ["a>b"]


async def test_copies_that_cross_on_their_way_come_to_rest(pair: Circle):
    """As two processes start them, which do not see each other's in time."""
    pair.courier.holding = True
    await pair.push(A, NEW)
    job_id, _ = pair.courier.waiting[0]
    await pair.hide_job(job_id, hidden=True)
    await pair.push(B, OTHER)
    await pair.hide_job(job_id, hidden=False)
    assert pair.courier.ways() == ["a>b", "b>a"]

    await pair.courier.deliver(crossing=True)
    assert await pair.digests() == [OTHER.digest, NEW.digest, None]
    await pair.see(A)
    await pair.see(B)

    assert pair.courier.ways() == ["a>b", "b>a"]


async def test_what_is_pushed_while_a_job_copies_what_stood_there_before_is_not_lost(circle: Circle):
    await circle.push(A, OLD)
    await circle.rule(A, B)
    circle.courier.holding = True
    await circle.push(A, NEW)
    await circle.push(A, OTHER)
    await circle.courier.deliver(crossing=True)
    assert await circle.digests() == [OTHER.digest, NEW.digest, None]

    await circle.see(A)

    assert await circle.digests() == [OTHER.digest, OTHER.digest, None]


async def test_an_image_that_was_rewritten_on_its_way_is_not_sent_back(pair: Circle):
    pair.courier.rewritten = {NEW.digest: OTHER, OTHER.digest: NEW}
    pair.courier.samples[OTHER.digest] = OTHER

    await pair.push(A, NEW)

    assert pair.courier.ways() == ["a>b"]
    assert await pair.digests() == [NEW.digest, OTHER.digest, None]


async def test_what_arrives_goes_on_to_the_next_region(circle: Circle):
    for region in (A, B, C):
        await circle.push(region, OLD)
    await circle.rule(A, B)
    await circle.rule(B, C)

    await circle.push(A, NEW)

    assert circle.courier.ways() == ["a>b", "b>c"]
    assert await circle.digests() == [NEW.digest] * 3


@pytest.mark.parametrize("rewrites", [False, True])
async def test_a_ring_of_rules_comes_to_rest_even_where_images_are_rewritten_or_chase_each_other(
    circle: Circle, rewrites: bool
):
    for region in (A, B, C):
        await circle.push(region, OLD)
    for start, end in ((A, B), (B, C), (C, A)):
        await circle.rule(start, end)
    if rewrites:
        kinds = [image(seed=f"kind {number}") for number in range(40)]
        circle.courier.samples = {kind.digest: kind for kind in kinds}
        circle.courier.rewritten = {one.digest: after for one, after in pairwise(kinds)}
        await circle.push(A, kinds[0])
        assert circle.courier.ways() == ["a>b", "b>c"]
        return

    await circle.push(A, NEW, seen=False)
    await circle.push(B, OTHER, seen=False)
    for region in (B, A, C):
        await circle.see(region)

    assert len(set(await circle.digests())) == 1
    assert len(circle.courier.requests) <= 4


async def test_a_creator_who_may_no_more_is_asked_for_now_and_then_and_the_tag_waits(circle: Circle):
    await circle.push(A, OLD)
    rule = await circle.rule(A, B)
    circle.courier.refusal = Denied("carol needs the permission to edit")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await circle.push(A, NEW)
        assert len(circle.courier.requests) == 1
        circle.clock.now += 5.0
        await circle.see(A)
        circle.clock.now += 5.0
        await circle.see(A)
        assert len(circle.courier.requests) == 2
    logged = [entry for entry in logs if entry["event"] == "a rule could not start a sync"]
    # The user has to act, not an operator.
    assert [(entry["rule"], entry["reason"], entry["log_level"]) for entry in logged] == [
        (rule.id, "carol needs the permission to edit", "info")
    ]

    circle.courier.refusal = None
    circle.clock.now += 600.0
    await circle.watch.scan(source(A))
    assert await circle.digests() == [NEW.digest, NEW.digest, None]


@pytest.mark.parametrize("end", ["delete", "disable"])
async def test_a_rule_whose_creator_is_gone_or_disabled_rests_until_somebody_takes_it_over(circle: Circle, end: str):
    carol = await circle.users.create("carol", "correct horse", domain="acme")
    await circle.organizations.grant(A, TEAM, "carol", Permission.READ)
    await circle.organizations.grant(B, TEAM, "carol", Permission.EDIT)
    await circle.push(A, OLD)
    await circle.rule(A, B, caller=carol)
    if end == "delete":
        await circle.users.delete(carol.user_id)
    else:
        await circle.users.update(carol.user_id, enabled=False)
    await circle.push(A, NEW)
    assert circle.courier.requests == []

    await circle.rule(A, B)
    await circle.see(A)

    assert [request.caller for request in circle.courier.requests] == [circle.admin]


async def test_a_crash_between_the_start_and_its_record_only_asks_again(circle: Circle, monkeypatch: Any):
    await circle.push(A, OLD)
    await circle.rule(A, B)

    async def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(circle.rules, "record", crash)
        with pytest.raises(KeyboardInterrupt):
            await circle.push(A, NEW)
    circle.watch = circle.new_watch()
    await circle.watch.scan(source(A))
    await circle.watch.scan(source(A))

    assert circle.courier.ways() == ["a>b", "a>b"]
    assert await circle.digests() == [NEW.digest, NEW.digest, None]


@pytest.mark.parametrize("reference", [V1, OLD.digest])
async def test_the_same_image_goes_again_after_it_was_deleted(circle: Circle, reference: Tag | Digest):
    await circle.push(A, OLD)
    await circle.rule(A, B)
    await circle.watch.forget(A, APP, reference)
    await circle.push(A, OLD)

    assert circle.courier.ways() == ["a>b"]


async def test_an_image_that_had_arrived_goes_back_once_it_was_deleted_and_pushed_again(pair: Circle):
    await pair.push(B, NEW)
    await pair.watch.forget(A, APP, V1)
    await pair.stores[B].delete_manifest(APP, V1)
    await pair.push(A, NEW)

    assert pair.courier.ways() == ["b>a", "a>b"]


async def test_a_scan_finds_what_was_pushed_and_deleted_while_nobody_told(circle: Circle):
    await circle.push(A, OLD)
    await circle.push(A, OLD, V2)
    rule = await circle.rule(A, B)
    await circle.stores[A].delete_manifest(APP, V1)
    await circle.push(A, NEW, V2, seen=False)

    await circle.watch.scan(source(A))

    assert [request.tags for request in circle.courier.requests] == [(V2,)]
    assert await circle.rules.handled_digests([rule.id]) == {rule.id: {V2: NEW.digest}}


async def test_a_scan_asks_once_for_the_list_and_once_for_each_tag(circle: Circle):
    for tag in ("v1", "v2", "v3"):
        await circle.push(A, OLD, Tag(tag))
    await circle.rule(A, B)
    await circle.rule(A, C)
    circle.stores[A].counts.clear()

    await circle.watch.scan(source(A))

    assert circle.stores[A].counts == {"list_tags": 1, "head_manifest": 3}


async def test_a_repository_that_cannot_be_found_is_not_taken_for_emptied(circle: Circle):
    await circle.push(A, OLD)
    rule = await circle.rule(A, B)
    whole = circle.stores[A]._repositories
    circle.stores[A]._repositories = {}
    await circle.watch.scan(source(A))
    circle.stores[A]._repositories = whole
    await circle.watch.scan(source(A))

    assert await circle.rules.handled_digests([rule.id]) == {rule.id: {V1: OLD.digest}}
    assert circle.courier.requests == []


async def test_one_tag_that_cannot_be_asked_for_is_told_and_nothing_is_forgotten(circle: Circle):
    await circle.push(A, OLD)
    rule = await circle.rule(A, B)
    circle.stores[A].failures[V1] = Unavailable("the registry is down")

    with pytest.raises(Unavailable, match="is down"):
        await circle.watch.scan(source(A))

    assert await circle.rules.handled_digests([rule.id]) == {rule.id: {V1: OLD.digest}}


@pytest.mark.parametrize("end", [A, B])
async def test_a_rule_ends_with_the_organizations_that_it_leads_between(circle: Circle, end: Any):
    await circle.push(A, OLD)
    await circle.rule(A, B)
    await circle.organizations.delete(end, TEAM)
    await circle.push(A, NEW)

    assert circle.courier.requests == []
    assert await circle.rules.of_repository(source(A)) == []


async def test_a_rule_that_is_deleted_remembers_nothing_and_records_nothing_more(circle: Circle):
    await circle.push(A, OLD)
    rule = await circle.rule(A, B)
    await circle.rule_service.delete(circle.admin, source(A), B, TEAM)
    await circle.rules.record(rule.id, V1, Handled(NEW.digest, 0))
    await circle.push(A, NEW)

    assert await circle.rules.handled([rule.id], V1) == {}
    assert circle.courier.requests == []
