"""Makes the calls that are due, in the one process that leads."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from tagferry.automation.triggers.deliveries import DUE, Deliveries, Delivery, DeliveryStatus
from tagferry.automation.triggers.webhooks import EVENT, EVENT_HEADER, Webhook, Webhooks, message
from tagferry.automation.watch.scheduling import Patience, reason_of, tell
from tagferry.coordination.pubsub import MessageBus
from tagferry.errors import NotFound, Unavailable
from tagferry.http.webhook import WebhookClient
from tagferry.regions import Regions

DELIVERY_HEADER = "X-Tagferry-Delivery"
_TICK_SECONDS = 2.0
_AT_ONCE = 4
"""Calls of one webhook at the same time, so that one that does not answer keeps only itself waiting."""
_BATCH = 100
_SPARE_SECONDS = 5.0
"""Besides the time of a call itself, what it may take to record how it ended before another process repeats it."""
_SHORTEST, _LONGEST = 1.0, 600.0
"""Seconds: the first pause is about the shortest one, each further one twice as long, up to the longest."""
_GIVEN_UP_AFTER = timedelta(hours=24)
_DRAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)

Leads = Callable[[], Awaitable[bool]]


class WebhookSender:
    """Calls webhooks: each call until it succeeds, or has been tried too often or for too long.

    Args:
        deliveries: what is due.
        webhooks: who is called.
        regions: those that this process knows.
        bus: receives a message when a delivery is due.
        leads: whether this process makes the calls.
    """

    def __init__(
        self, *, deliveries: Deliveries, webhooks: Webhooks, regions: Regions, bus: MessageBus, leads: Leads
    ) -> None:
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._regions = regions
        self._leads = leads
        self._posters: dict[Webhook, WebhookClient] = {}
        self._under_way: dict[Webhook | None, dict[int, asyncio.Task[None]]] = defaultdict(dict)
        self._woken = asyncio.Event()
        self._patience = Patience(shortest=0.0, longest=0.0)
        self._task: asyncio.Task[None] | None = None
        bus.subscribe(DUE, lambda _payload: self._woken.set())

    def start(self) -> None:
        """Begin to call."""
        self._task = asyncio.create_task(self._run(), name="calling webhooks")

    async def close(self) -> None:
        """Begin no more calls, and let those under way end for some seconds; the rest are made at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        calls = [call for lane in self._under_way.values() for call in lane.values()]
        if calls:
            _, late = await asyncio.wait(calls, timeout=_DRAIN_SECONDS)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            pause = _TICK_SECONDS
            try:
                if await self._leads():
                    pause = await self._begin_what_is_due()
                self._patience.succeed(self)
            except Exception as error:
                if self._patience.fail(self, reason_of(error))[1]:
                    tell(error, "the calls of triggers cannot be looked up")
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _begin_what_is_due(self) -> float:
        """Begin every call that is due and that its webhook has room for; returns when to look again, in seconds."""
        now, after = datetime.now(UTC), None
        while True:
            found = await self._deliveries.due(now + timedelta(seconds=_TICK_SECONDS), limit=_BATCH, after=after)
            for delivery in found:
                if delivery.call.due_at > now:
                    return (delivery.call.due_at - now).total_seconds()
                self._begin(delivery)
            if len(found) < _BATCH:
                return _TICK_SECONDS
            after = found[-1].call.due_at, found[-1].call.id

    def _begin(self, delivery: Delivery) -> None:
        trigger, call_id = delivery.trigger, delivery.call.id
        webhook = self._webhooks.find(trigger.spec, trigger.source.namespace)
        lane = self._under_way[webhook]
        if call_id in lane or len(lane) >= _AT_ONCE:
            # It is looked at again when a call of this webhook has ended.
            return

        def end(_task: asyncio.Task[None]) -> None:
            lane.pop(call_id, None)
            self._woken.set()

        lane[call_id] = asyncio.create_task(self._deliver(delivery, webhook), name=f"call {call_id}")
        lane[call_id].add_done_callback(end)

    async def _deliver(self, delivery: Delivery, webhook: Webhook | None) -> None:
        call = delivery.call
        limit = timedelta(seconds=(webhook.seconds if webhook else 0.0) + _SPARE_SECONDS)
        try:
            if not await self._deliveries.claim(call, until=datetime.now(UTC) + limit):
                return
            try:
                status = await self._post(delivery, webhook)
            except Unavailable as failure:
                await self._failed(delivery, webhook, failure)
                return
            await self._deliveries.end(call, DeliveryStatus.SUCCESS, f"the webhook answered {status}")
            self._tell_success(webhook)
        except Exception as error:
            tell(error, "a call of a trigger went wrong", **_names(delivery))

    async def _post(self, delivery: Delivery, webhook: Webhook | None) -> int:
        if webhook is None:
            raise Unavailable("the server's configuration has no webhook for this trigger any more")
        try:
            host = self._regions[delivery.trigger.source.region].registry_host
        except NotFound:
            raise Unavailable("the server that makes the calls does not know the region") from None
        body = message(delivery, host)
        headers = {
            "Content-Type": "application/json",
            EVENT_HEADER: EVENT,
            DELIVERY_HEADER: delivery.call.event_id,
            **webhook.sign(body),
        }
        if webhook not in self._posters:
            self._posters[webhook] = WebhookClient(
                webhook.url, tls=webhook.tls, proxy=webhook.proxy, seconds=webhook.seconds
            )
        return await self._posters[webhook].post(body, headers)

    async def _failed(self, delivery: Delivery, webhook: Webhook | None, failure: Unavailable) -> None:
        call, now = delivery.call, datetime.now(UTC)
        attempt, attempts = call.attempts + 1, webhook.attempts if webhook else Webhook(url="").attempts
        if self._patience.fail(webhook, failure.message)[1]:
            log.warning(
                "a webhook takes no calls",
                host=webhook.host if webhook else None,
                reason=f"{failure.message}: {failure.__cause__}" if failure.__cause__ else failure.message,
                **_names(delivery),
            )
        detail = f"attempt {attempt} of {attempts}: {failure.message}"
        if attempt >= attempts or now - call.occurred_at >= _GIVEN_UP_AFTER:
            await self._deliveries.end(call, DeliveryStatus.FAILED, detail)
        else:
            pause = timedelta(seconds=_pause(attempt, failure.retry_after or 0.0))
            await self._deliveries.postpone(call, now + pause, detail)

    def _tell_success(self, webhook: Webhook | None) -> None:
        if self._patience.succeed(webhook) and webhook is not None:
            log.info("a webhook takes calls again", host=webhook.host)


def _pause(attempt: int, asked: float) -> float:
    """Seconds until the attempt after this one, counted from 1; with jitter, lest all calls come back together."""
    reach = min(_LONGEST, max(asked, _SHORTEST * 2.0 ** min(attempt - 1, 32)))
    return reach * random.uniform(0.5, 1.0)  # noqa: S311


def _names(delivery: Delivery) -> dict[str, object]:
    trigger, call = delivery.trigger, delivery.call
    return {"trigger": trigger.spec.name, "repository": str(trigger.source), "tag": call.tag, "event_id": call.event_id}
