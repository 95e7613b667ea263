"""Webhook deliveries: recorded with their event, claimed one by one, and kept as history.

A trigger's event is recorded once, in the transaction that stores the new digest as seen. Any process retries the
delivery until it succeeds or is given up.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Executable, func, insert, or_, select, text, union_all, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tagferry import bounds
from tagferry.automation.triggers.status import DeliveryEvent, DeliveryStatus
from tagferry.automation.triggers.store import Trigger, trigger_of, triggers_with_sources
from tagferry.coordination.pubsub import MessageBus, number_topic
from tagferry.db.engine import Database
from tagferry.db.pruning import prune
from tagferry.db.tables import DeliveryRow, TriggerRow, TriggerTagRow
from tagferry.errors import NotFound, Throttled
from tagferry.names import Digest, Tag

DELIVERIES_DUE = number_topic("deliveries")
"""Deliveries became due; their number."""
HISTORY_LIMIT = 50
"""Maximum number of deliveries shown for a trigger, newest first."""
_INSERT_SEEN = text(
    "INSERT INTO trigger_tags (trigger_id, tag, digest) VALUES (:trigger_id, :tag, :digest) "
    "ON CONFLICT (trigger_id, tag) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook delivery: one event of a trigger.

    Attributes:
        event: what it is about.
        event_id: unique to the event, and the same in every attempt.
        occurred_at: when the tag was found to point to this digest.
        pushed_by: the user who pushed the tag, if known, or who tests the webhook.
        attempts: the number of attempts that have begun.
        detail: the result of the last attempt.
    """

    id: int
    event: DeliveryEvent
    event_id: str
    occurred_at: datetime
    tag: Tag
    digest: Digest
    pushed_by: str | None
    status: DeliveryStatus
    attempts: int
    due_at: datetime
    ended_at: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is due, with its trigger."""

    trigger: Trigger
    delivery: Delivery


class Deliveries:
    """Stores webhook deliveries.

    Args:
        database: stores them.
        bus: notifies the sender of new deliveries.
    """

    def __init__(self, database: Database, bus: MessageBus) -> None:
        self._database = database
        self._bus = bus

    async def record(
        self,
        triggers: Sequence[Trigger],
        tag: Tag,
        digest: Digest,
        *,
        seen_digests: Mapping[int, Digest],
        pushed_by: str | None = None,
    ) -> bool:
        """Store a tag's new digest as seen by triggers, and record their deliveries.

        Args:
            triggers: the triggers of one repository; those disabled meanwhile are left out.
            tag: the tag.
            digest: the digest that it points to.
            seen_digests: the digest last seen by each trigger, read before this one was found; triggers that have seen
                another one since are left out.
            pushed_by: the user who pushed the tag, if known.

        Returns:
            Whether all of them have seen the digest; if not, check the tag again.
        """
        unseen = {trigger.id: trigger for trigger in triggers if seen_digests.get(trigger.id) != digest}
        if not unseen:
            return True
        all_seen, now = True, datetime.now(UTC)
        async with self._database.write() as session:
            # The lock makes disabling or deleting a trigger wait for this transaction.
            enabled = select(TriggerRow.id).where(TriggerRow.id.in_(unseen), TriggerRow.enabled).order_by(TriggerRow.id)
            recorded = []
            for trigger_id in (await session.scalars(enabled.with_for_update(read=True))).all():
                if not await _mark_seen(session, trigger_id, tag, digest, before=seen_digests.get(trigger_id)):
                    all_seen = False
                elif unseen[trigger_id].spec.matches(tag):
                    recorded.append(_row(DeliveryEvent.TAG, trigger_id, tag, digest, pushed_by, now))
            if recorded:
                await session.execute(insert(DeliveryRow), recorded)
                await self._bus.publish(session, DELIVERIES_DUE, [len(recorded)])
        return all_seen

    async def record_test(self, trigger: Trigger, tag: Tag, digest: Digest, *, by: str) -> str:
        """Record a delivery that tests the trigger's webhook, with the newest image; returns the id of its event.

        Raises:
            Throttled: the trigger was tested a moment ago.
            NotFound: the trigger was deleted.
        """
        now = datetime.now(UTC)
        pause = timedelta(seconds=bounds.TRIGGER_TEST_SECONDS)
        row = _row(DeliveryEvent.TEST, trigger.id, tag, digest, by, now)
        recent = select(func.max(DeliveryRow.occurred_at)).where(
            DeliveryRow.trigger_id == trigger.id,
            DeliveryRow.event == DeliveryEvent.TEST,
            DeliveryRow.occurred_at > now - pause,
        )
        async with self._database.write() as session:
            # The lock makes concurrent tests wait for each other.
            mine = select(TriggerRow.id).where(TriggerRow.id == trigger.id).with_for_update()
            if await session.scalar(mine) is None:
                raise NotFound("trigger", trigger.spec.name, where=f'of "{trigger.source.name}"')
            if (last := await session.scalar(recent)) is not None:
                wait = (last + pause - now).total_seconds()
                raise Throttled(
                    f'the trigger "{trigger.spec.name}" was tested a moment ago; wait {max(1.0, wait):.0f} s',
                    retry_after=max(1.0, wait),
                )
            await session.execute(insert(DeliveryRow), [row])
            await self._bus.publish(session, DELIVERIES_DUE, [1])
        return str(row["event_id"])

    async def due(
        self, before: datetime, *, limit: int, after: tuple[datetime, int] | None = None
    ) -> list[DueDelivery]:
        """Return the deliveries due before a moment, most urgent first.

        Deliveries of one trigger about one tag keep their order: a later one is not due while an earlier one waits.
        Tests do not wait for others, since they are to find out why those fail.

        Args:
            before: the moment.
            limit: maximum number of deliveries.
            after: `due_at` and `id` of the last delivery of the previous page.
        """
        earlier = aliased(DeliveryRow)
        is_next = ~(
            select(earlier.id)
            .where(
                earlier.trigger_id == DeliveryRow.trigger_id,
                earlier.tag == DeliveryRow.tag,
                earlier.event == DeliveryRow.event,
                earlier.id < DeliveryRow.id,
                earlier.status == DeliveryStatus.WAITING,
            )
            .exists()
        )
        chosen = (
            triggers_with_sources()
            .join(DeliveryRow, DeliveryRow.trigger_id == TriggerRow.id)
            .add_columns(DeliveryRow)
            .where(DeliveryRow.status == DeliveryStatus.WAITING, DeliveryRow.due_at < before, is_next)
            .order_by(DeliveryRow.due_at, DeliveryRow.id)
            .limit(limit)
        )
        if after is not None:
            moment, last = after
            same_time = (DeliveryRow.due_at == moment) & (DeliveryRow.id > last)
            chosen = chosen.where(or_(DeliveryRow.due_at > moment, same_time))
        async with self._database.read() as session:
            rows = (await session.execute(chosen)).all()
        return [DueDelivery(trigger_of(*row[:4]), _delivery(row[4])) for row in rows]

    async def claim(self, delivery: Delivery, *, until: datetime) -> bool:
        """Claim an attempt until the given time; return False if another process has claimed it."""
        mine = (DeliveryRow.id == delivery.id, DeliveryRow.attempts == delivery.attempts)
        claimed = {"attempts": delivery.attempts + 1, "due_at": until}
        async with self._database.write() as session:
            return await _changed(
                session,
                update(DeliveryRow).where(*mine, DeliveryRow.status == DeliveryStatus.WAITING).values(**claimed),
            )

    async def end(self, delivery: Delivery, status: DeliveryStatus, detail: str) -> None:
        """Record the end of a claimed delivery."""
        await self._settle(delivery, status=status, detail=detail, ended_at=datetime.now(UTC))

    async def postpone(self, delivery: Delivery, due_at: datetime, detail: str) -> None:
        """Record a failed attempt, and when the next one is due."""
        await self._settle(delivery, due_at=due_at, detail=detail)

    async def history(self, trigger_ids: Collection[int]) -> dict[int, list[Delivery]]:
        """Return the newest deliveries of each of these triggers, newest first."""
        found: dict[int, list[Delivery]] = {trigger_id: [] for trigger_id in trigger_ids}
        if not found:
            return found
        # Each from the index and no further: numbering them would read all deliveries of the triggers.
        each = [
            select(DeliveryRow.id)
            .where(DeliveryRow.trigger_id == trigger_id)
            .order_by(DeliveryRow.id.desc())
            .limit(HISTORY_LIMIT)
            .subquery()
            for trigger_id in found
        ]
        newest = union_all(*(select(one.c.id) for one in each))
        async with self._database.read() as session:
            for row in await session.scalars(
                select(DeliveryRow).where(DeliveryRow.id.in_(newest)).order_by(DeliveryRow.id.desc())
            ):
                found[row.trigger_id].append(_delivery(row))
        return found

    async def prune(self, *, ended_before: datetime) -> int:
        """Delete deliveries that ended before the given time; return their number."""
        return await prune(self._database, DeliveryRow.ended_at, ended_before)

    async def _settle(self, delivery: Delivery, **values: object) -> None:
        """Update a claimed delivery, unless it was claimed again or ended since."""
        mine = (DeliveryRow.id == delivery.id, DeliveryRow.attempts == delivery.attempts + 1)
        async with self._database.write() as session:
            await session.execute(
                update(DeliveryRow).where(*mine, DeliveryRow.status == DeliveryStatus.WAITING).values(**values)
            )


async def _mark_seen(
    session: AsyncSession, trigger_id: int, tag: Tag, digest: Digest, *, before: Digest | None
) -> bool:
    """Store a digest as seen by a trigger, unless the trigger's last digest is no longer `before`; return success."""
    if before is None:
        return await _changed(session, _INSERT_SEEN, {"trigger_id": trigger_id, "tag": tag, "digest": digest})
    known = (TriggerTagRow.trigger_id == trigger_id, TriggerTagRow.tag == tag, TriggerTagRow.digest == before)
    return await _changed(session, update(TriggerTagRow).where(*known).values(digest=digest))


async def _changed(session: AsyncSession, statement: Executable, values: Mapping[str, object] | None = None) -> bool:
    count: int = (await session.execute(statement, values)).rowcount  # type: ignore[attr-defined]
    return count > 0


def _row(
    event: DeliveryEvent, trigger_id: int, tag: Tag, digest: Digest, pushed_by: str | None, now: datetime
) -> dict[str, object]:
    return {
        "event": event,
        "trigger_id": trigger_id,
        "event_id": uuid.uuid4().hex,
        "occurred_at": now,
        "tag": tag,
        "digest": digest,
        "pushed_by": pushed_by,
        "status": DeliveryStatus.WAITING,
        "attempts": 0,
        "due_at": now,
        "detail": "",
    }


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        event=DeliveryEvent(row.event),
        event_id=row.event_id,
        occurred_at=row.occurred_at,
        tag=Tag(row.tag),
        digest=Digest(row.digest),
        pushed_by=row.pushed_by,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        due_at=row.due_at,
        ended_at=row.ended_at,
        detail=row.detail,
    )
