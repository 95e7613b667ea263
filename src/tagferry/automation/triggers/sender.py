"""Makes the calls that are due, in the one process that leads."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import structlog

from tagferry.automation.triggers.deliveries import DELIVERIES_DUE, Deliveries, DeliveryStatus, DueDelivery
from tagferry.automation.triggers.webhooks import EVENT, EVENT_HEADER, Webhook, Webhooks, webhook_body
from tagferry.automation.watch.scheduling import Backoff, log_error, reason_of
from tagferry.coordination.pubsub import MessageBus
from tagferry.errors import NotFound, Unavailable
from tagferry.http.webhook import WebhookClient
from tagferry.regions import Regions
from tagferry.supervision import Supervisor

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

IsLeader = Callable[[], Awaitable[bool]]


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
        self, *, deliveries: Deliveries, webhooks: Webhooks, regions: Regions, bus: MessageBus, is_leader: IsLeader
    ) -> None:
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._regions = regions
        self._is_leader = is_leader
        self._posters: dict[Webhook, WebhookClient] = {}
        self._in_progress: dict[Webhook | None, dict[int, asyncio.Task[None]]] = defaultdict(dict)
        self._woken = asyncio.Event()
        self._backoff = Backoff(initial=0.0, maximum=0.0)
        self._task: asyncio.Task[NoReturn] | None = None
        bus.subscribe(DELIVERIES_DUE, lambda _payload: self._woken.set())

    def start(self, supervisor: Supervisor | None = None) -> None:
        """Begin to call."""
        self._task = (supervisor or Supervisor()).start("calling webhooks", self._run)

    async def close(self) -> None:
        """Begin no more calls, and let those under way end for some seconds; the rest are made at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        calls = [delivery for lane in self._in_progress.values() for delivery in lane.values()]
        if calls:
            _, late = await asyncio.wait(calls, timeout=_DRAIN_SECONDS)
            for delivery in late:
                delivery.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            pause = _TICK_SECONDS
            try:
                if await self._is_leader():
                    pause = await self._start_due()
                self._backoff.succeeded(self)
            except Exception as error:
                if self._backoff.failed(self, reason_of(error))[1]:
                    log_error(error, "the calls of triggers cannot be looked up")
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _start_due(self) -> float:
        """Begin every call that is due and that its webhook has room for; returns when to look again, in seconds."""
        now, after = datetime.now(UTC), None
        while True:
            found = await self._deliveries.due(now + timedelta(seconds=_TICK_SECONDS), limit=_BATCH, after=after)
            for due in found:
                if due.delivery.due_at > now:
                    return (due.delivery.due_at - now).total_seconds()
                self._start_delivery(due)
            if len(found) < _BATCH:
                return _TICK_SECONDS
            after = found[-1].delivery.due_at, found[-1].delivery.id

    def _start_delivery(self, due: DueDelivery) -> None:
        trigger, call_id = due.trigger, due.delivery.id
        webhook = self._webhooks.find(trigger.spec, trigger.source.namespace)
        lane = self._in_progress[webhook]
        if call_id in lane or len(lane) >= _AT_ONCE:
            # It is looked at again when a call of this webhook has ended.
            return

        def end(_task: asyncio.Task[None]) -> None:
            lane.pop(call_id, None)
            self._woken.set()

        lane[call_id] = asyncio.create_task(self._deliver(due, webhook), name=f"call {call_id}")
        lane[call_id].add_done_callback(end)

    async def _deliver(self, due: DueDelivery, webhook: Webhook | None) -> None:
        delivery = due.delivery
        limit = timedelta(seconds=(webhook.seconds if webhook else 0.0) + _SPARE_SECONDS)
        try:
            if not await self._deliveries.claim(delivery, until=datetime.now(UTC) + limit):
                return
            try:
                status = await self._post(due, webhook)
            except Unavailable as failure:
                await self._failed(due, webhook, failure)
                return
            await self._deliveries.end(delivery, DeliveryStatus.SUCCESS, f"the webhook answered {status}")
            self._log_recovery(webhook)
        except Exception as error:
            log_error(error, "a call of a trigger went wrong", **_log_fields(due))

    async def _post(self, due: DueDelivery, webhook: Webhook | None) -> int:
        if webhook is None:
            raise Unavailable("the server's configuration has no webhook for this trigger any more")
        try:
            host = self._regions[due.trigger.source.region].registry_host
        except NotFound:
            raise Unavailable("the server that makes the calls does not know the region") from None
        body = webhook_body(due, host)
        headers = {
            "Content-Type": "application/json",
            EVENT_HEADER: EVENT,
            DELIVERY_HEADER: due.delivery.event_id,
            **webhook.sign(body),
        }
        if webhook not in self._posters:
            self._posters[webhook] = WebhookClient(
                webhook.url, tls=webhook.tls, proxy=webhook.proxy, seconds=webhook.seconds
            )
        return await self._posters[webhook].post(body, headers)

    async def _failed(self, due: DueDelivery, webhook: Webhook | None, failure: Unavailable) -> None:
        delivery, now = due.delivery, datetime.now(UTC)
        attempt, attempts = delivery.attempts + 1, webhook.attempts if webhook else Webhook(url="").attempts
        if self._backoff.failed(webhook, failure.message)[1]:
            log.warning(
                "a webhook takes no calls",
                host=webhook.host if webhook else None,
                reason=f"{failure.message}: {failure.__cause__}" if failure.__cause__ else failure.message,
                **_log_fields(due),
            )
        detail = f"attempt {attempt} of {attempts}: {failure.message}"
        if attempt >= attempts or now - delivery.occurred_at >= _GIVEN_UP_AFTER:
            await self._deliveries.end(delivery, DeliveryStatus.FAILED, detail)
        else:
            pause = timedelta(seconds=_pause(attempt, failure.retry_after or 0.0))
            await self._deliveries.postpone(delivery, now + pause, detail)

    def _log_recovery(self, webhook: Webhook | None) -> None:
        if self._backoff.succeeded(webhook) and webhook is not None:
            log.info("a webhook takes calls again", host=webhook.host)


def _pause(attempt: int, asked: float) -> float:
    """Seconds until the attempt after this one, counted from 1; with jitter, lest all calls come back together."""
    reach = min(_LONGEST, max(asked, _SHORTEST * 2.0 ** min(attempt - 1, 32)))
    return reach * random.uniform(0.5, 1.0)  # noqa: S311


def _log_fields(due: DueDelivery) -> dict[str, object]:
    trigger, delivery = due.trigger, due.delivery
    return {
        "trigger": trigger.spec.name,
        "repository": str(trigger.source),
        "tag": delivery.tag,
        "event_id": delivery.event_id,
    }
