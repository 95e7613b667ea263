"""Send due webhook deliveries from the leader process."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import structlog

from tagferry.automation.triggers.deliveries import DELIVERIES_DUE, Deliveries, DueDelivery
from tagferry.automation.triggers.status import DeliveryEvent, DeliveryStatus
from tagferry.automation.triggers.webhooks import EVENT_HEADER, Webhook, Webhooks, webhook_body
from tagferry.automation.watch.scheduling import Backoff, log_error, reason_of
from tagferry.coordination.pubsub import MessageBus
from tagferry.errors import NotFound, Unavailable
from tagferry.http.webhook import WebhookClient
from tagferry.metrics import WEBHOOK_DELIVERIES
from tagferry.regions import Regions
from tagferry.supervision import Supervisor

DELIVERY_HEADER = "X-Tagferry-Delivery"
_TICK_SECONDS = 2.0
_CONCURRENCY = 4
"""Concurrent deliveries to one webhook, so that an unresponsive webhook delays only its own deliveries."""
_BATCH = 100
_SPARE_SECONDS = 5.0
"""Time to record the result of an attempt, added to its timeout, before another process may repeat it."""
_SHORTEST, _LONGEST = 1.0, 600.0
"""Seconds of the first backoff and of the longest one; each is about twice as long as the one before."""
_GIVEN_UP_AFTER = timedelta(hours=24)
_DRAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)

IsLeader = Callable[[], Awaitable[bool]]


class WebhookSender:
    """Sends webhook deliveries, and retries each until it succeeds or its attempts are used up.

    Args:
        deliveries: the stored deliveries.
        webhooks: the configured webhooks.
        regions: the configured regions.
        bus: receives a message when a delivery is due.
        is_leader: returns whether this process is the leader, which sends the deliveries.
    """

    def __init__(
        self, *, deliveries: Deliveries, webhooks: Webhooks, regions: Regions, bus: MessageBus, is_leader: IsLeader
    ) -> None:
        self._deliveries = deliveries
        self._webhooks = webhooks
        self._regions = regions
        self._is_leader = is_leader
        self._clients: dict[Webhook, WebhookClient] = {}
        self._in_progress: dict[Webhook | None, dict[int, asyncio.Task[None]]] = defaultdict(dict)
        self._woken = asyncio.Event()
        self._backoff = Backoff(initial=0.0, maximum=0.0)
        self._task: asyncio.Task[NoReturn] | None = None
        bus.subscribe(DELIVERIES_DUE, lambda _: self._woken.set())

    def start(self, supervisor: Supervisor) -> None:
        """Start sending."""
        self._task = supervisor.start("calling webhooks", self._run)

    async def close(self) -> None:
        """Start no more attempts, and wait some seconds for those in progress; the next start sends the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        in_progress = [delivery for running in self._in_progress.values() for delivery in running.values()]
        if in_progress:
            _, late = await asyncio.wait(in_progress, timeout=_DRAIN_SECONDS)
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
                    log_error(error, "due webhook deliveries could not be looked up")
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _start_due(self) -> float:
        """Start the due deliveries that their webhooks have room for; return the seconds until the next look-up."""
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
        trigger, delivery_id = due.trigger, due.delivery.id
        webhook = self._webhooks.find(trigger.spec, trigger.source.namespace)
        running = self._in_progress[webhook]
        if delivery_id in running or len(running) >= _CONCURRENCY:
            # The end of a delivery to this webhook triggers another look-up.
            return

        def end(_task: asyncio.Task[None]) -> None:
            running.pop(delivery_id, None)
            self._woken.set()

        running[delivery_id] = asyncio.create_task(self._deliver(due, webhook), name=f"delivery {delivery_id}")
        running[delivery_id].add_done_callback(end)

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
            self._log_recovery(webhook)
            await self._deliveries.end(delivery, DeliveryStatus.SUCCESS, f"the webhook answered {status}")
            WEBHOOK_DELIVERIES.labels(status="success").inc()
        except Exception as error:
            log_error(error, "a webhook delivery failed unexpectedly", **_log_fields(due))

    async def _post(self, due: DueDelivery, webhook: Webhook | None) -> int:
        if webhook is None:
            raise Unavailable("the configuration no longer has a webhook for this trigger")
        try:
            host = self._regions[due.trigger.source.region].registry_host
        except NotFound:
            raise Unavailable("the server that sends the deliveries does not know the region") from None
        body = webhook_body(due, host)
        headers = {
            "Content-Type": "application/json",
            EVENT_HEADER: due.delivery.event,
            DELIVERY_HEADER: due.delivery.event_id,
            **webhook.sign(body),
        }
        if webhook not in self._clients:
            # After a reload, no call uses the clients of former webhooks again.
            self._clients = {one: client for one, client in self._clients.items() if one in self._webhooks}
            self._clients[webhook] = WebhookClient(
                webhook.url, tls=webhook.tls, proxy=webhook.proxy, seconds=webhook.seconds
            )
        return await self._clients[webhook].post(body, headers)

    async def _failed(self, due: DueDelivery, webhook: Webhook | None, failure: Unavailable) -> None:
        delivery, now = due.delivery, datetime.now(UTC)
        attempt, attempts = delivery.attempts + 1, webhook.attempts if webhook else Webhook(url="").attempts
        if delivery.event is DeliveryEvent.TEST:
            # The user who tests wants the result, and can test again.
            attempts = attempt
        if self._backoff.failed(webhook, failure.message)[1]:
            log.warning(
                "a webhook delivery failed",
                host=webhook.host if webhook else None,
                reason=f"{failure.message}: {failure.__cause__}" if failure.__cause__ else failure.message,
                **_log_fields(due),
            )
        detail = f"attempt {attempt} of {attempts}: {failure.message}"
        if attempt >= attempts or now - delivery.occurred_at >= _GIVEN_UP_AFTER:
            await self._deliveries.end(delivery, DeliveryStatus.FAILED, detail)
            WEBHOOK_DELIVERIES.labels(status="failed").inc()
        else:
            pause = timedelta(seconds=_pause(attempt, failure.retry_after or 0.0))
            await self._deliveries.postpone(delivery, now + pause, detail)
            WEBHOOK_DELIVERIES.labels(status="retried").inc()

    def _log_recovery(self, webhook: Webhook | None) -> None:
        if self._backoff.succeeded(webhook) and webhook is not None:
            log.info("a webhook accepts deliveries again", host=webhook.host)


def _pause(attempt: int, retry_after: float) -> float:
    """Return the seconds until the next attempt (counted from 1), with jitter to spread retries."""
    longest = min(_LONGEST, max(retry_after, _SHORTEST * 2.0 ** min(attempt - 1, 32)))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


def _log_fields(due: DueDelivery) -> dict[str, object]:
    trigger, delivery = due.trigger, due.delivery
    return {
        "trigger": trigger.spec.name,
        "repository": str(trigger.source),
        "tag": delivery.tag,
        "event_id": delivery.event_id,
    }
