"""The process that calls webhooks, its retries and their end, on both databases."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from tagferry.automation.triggers.deliveries import Delivery
from tagferry.automation.triggers.sender import WebhookSender, _pause
from tagferry.automation.triggers.webhooks import Webhook, Webhooks
from tagferry.db.tables import DeliveryRow
from tagferry.metrics import WEBHOOK_DELIVERIES
from tagferry.metrics.instruments import Labels
from tagferry.supervision import Supervisor
from tests.support.deployment import eventually
from tests.support.metrics import growth
from tests.support.webhook_receiver import Receiver, receiving
from tests.unit.automation.circle import APP, V1, A, source
from tests.unit.automation.hooked import NEW, OTHER, V2, Hooked, later


@pytest.fixture
async def hook(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.setattr("tagferry.automation.triggers.sender._SHORTEST", 0.02)
    monkeypatch.setattr("tagferry.automation.triggers.sender._TICK_SECONDS", 0.05)
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def begin(hooked: Hooked, hook: Receiver) -> AsyncIterator[Callable[..., WebhookSender]]:
    """Begin to call; every sender is a process of its own that shares but the database."""
    senders = []

    def begin(*, is_leader: bool = True, webhook: dict[str, Any] | None = None) -> WebhookSender:
        async def answer() -> bool:
            return is_leader

        fields = {"url": hook.url, "cluster_id": "production"} | (webhook or {})
        sender = WebhookSender(
            deliveries=hooked.deliveries,
            webhooks=Webhooks([Webhook(**fields)]),
            regions=hooked.circle.regions,
            bus=hooked.bus,
            is_leader=answer,
        )
        sender.start(Supervisor())
        senders.append(sender)
        return sender

    yield begin
    for sender in senders:
        await sender.close()


async def calls(hooked: Hooked) -> list[Delivery]:
    _, shown = await hooked.book.find(source(A), "deploy")
    return shown


async def ended(hooked: Hooked) -> Delivery:
    """The one call there is, once it has ended."""

    async def has_ended() -> Delivery | None:
        (call,) = await calls(hooked)
        return call if call.ended_at else None

    call = await eventually(has_ended)
    assert call is not None
    return call


async def will_have_grown(attempts: Callable[[], dict[Labels, float]], expected: dict[Labels, float]) -> None:
    """Wait until attempts are counted, which they are after their ends are recorded."""

    async def is_counted() -> bool:
        return attempts() == expected

    await eventually(is_counted)


async def test_what_waited_while_nothing_ran_is_called_and_what_follows_at_once(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    await hooked.make()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    begin()
    await eventually(lambda: hook.has(1))
    await hooked.watch.pushed(A, APP, V2, NEW.digest, None)
    await eventually(lambda: hook.has(2))

    assert hook.tags() == ["v1", "v2"]


async def test_several_processes_that_take_themselves_for_the_leader_call_once(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    await hooked.make()
    for _ in range(3):
        begin()
    for number in range(10):
        await hooked.watch.pushed(A, APP, V1, (NEW, OTHER)[number % 2].digest, None)
    await eventually(lambda: hook.has(10))

    assert [call.document["digest"] for call in hook.calls] == [NEW.digest, OTHER.digest] * 5
    assert len({call.document["id"] for call in hook.calls}) == 10


async def test_a_process_that_does_not_lead_calls_nobody(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    await hooked.make()
    begin(is_leader=False)
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    begin(webhook={"url": f"{hook.url}/leader"})
    await eventually(lambda: hook.has(1))

    assert [call.path for call in hook.calls] == ["/hook/leader"]


async def test_what_is_older_than_a_day_is_called_once_more(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    hook.statuses = [500] * 5
    await hooked.make()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    async with hooked.circle.database.write() as session:
        await session.execute(update(DeliveryRow).values(occurred_at=later(hours=-25)))
    attempts = growth(WEBHOOK_DELIVERIES)
    begin()

    assert (await ended(hooked)).detail == "attempt 1 of 30: the webhook answered 500"
    await will_have_grown(attempts, {("failed",): 1})
    assert len(hook.calls) == 1


async def test_a_webhook_that_the_configuration_has_no_more_is_missed(
    hooked: Hooked, begin: Callable[..., WebhookSender], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.automation.triggers.sender._GIVEN_UP_AFTER", timedelta(0))
    await hooked.make()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    begin(webhook={"cluster_id": "another"})

    assert "the configuration no longer has a webhook for this trigger" in (await ended(hooked)).detail


async def test_a_webhook_that_fails_is_told_once_with_its_reason_and_without_its_path(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    hook.statuses = [500, 500, 500]
    await hooked.make()
    attempts = growth(WEBHOOK_DELIVERIES)
    with capture_logs() as logged:
        begin(webhook={"url": f"{hook.url}/a-secret-path"})
        await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
        await ended(hooked)

    told = [(line["event"], line["host"]) for line in logged]
    host = hook.url.split("/")[2]
    assert told == [("a webhook delivery failed", host), ("a webhook accepts deliveries again", host)]
    assert "a-secret-path" not in str(logged)
    await will_have_grown(attempts, {("retried",): 3, ("success",): 1})


async def test_a_call_under_way_may_end_when_the_process_stops(
    hooked: Hooked, hook: Receiver, begin: Callable[..., WebhookSender]
):
    hook.answering.clear()
    await hooked.make()
    sender = begin()
    await hooked.watch.pushed(A, APP, V1, NEW.digest, None)
    await eventually(lambda: hook.has(1))
    hook.answering.set()
    await sender.close()

    (call,) = await calls(hooked)
    assert (call.status, call.attempts) == ("success", 1)


def test_pauses_grow_up_to_ten_minutes_and_heed_what_was_asked_for():
    for attempt, longest in ((1, 1.0), (2, 2.0), (5, 16.0), (20, 600.0), (1000, 600.0)):
        assert longest / 2 <= _pause(attempt, 0.0) <= longest
    assert 30 <= _pause(1, 60.0) <= 60
    assert _pause(1, 1e9) <= 600
