"""The records of rules for automatic synchronization, and of what each has handled."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import JSON, ColumnElement, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.tables import SyncRuleRow, SyncRuleTagRow
from tagferry.names import Digest, Namespace, Reference, RegionId, Repository, RepositoryRef, Tag, organization_of
from tagferry.sync.jobs.history import latest_job_id

_WRITTEN_AT_ONCE = 500
_KEEP = text(
    "INSERT INTO sync_rule_tags (rule_id, tag, digest, arrival_id, came_through) "
    "VALUES (:rule_id, :tag, :digest, :arrival_id, :came_through) "
    "ON CONFLICT (rule_id, tag) DO UPDATE SET digest = excluded.digest, arrival_id = excluded.arrival_id, "
    "came_through = excluded.came_through"
).bindparams(bindparam("came_through", type_=JSON))


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule as somebody wants it to be."""

    caller: Caller
    source: RepositoryRef
    target_region: RegionId
    target_namespace: Namespace
    override: bool = False
    sync_auto: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A repository's standing order to another place.

    Attributes:
        creator_id: the user in whose name it synchronizes: the last one who gave the order.
        sync_auto: whether it does anything.
        arrival_id: the last sync job that had brought something to the source when it was switched on.
    """

    id: int
    created_at: datetime
    updated_at: datetime
    domain_id: str
    domain_name: str
    creator_id: str
    source: RepositoryRef
    target_region: RegionId
    target_namespace: Namespace
    override: bool
    sync_auto: bool
    arrival_id: int

    @property
    def target_organization(self) -> str:
        """The target's region and organization, `region/organization`."""
        return organization_of(self.target_region, self.target_namespace)


@dataclass(frozen=True, slots=True)
class Handled:
    """What a rule has done about a tag.

    Attributes:
        digest: what it was last handled for; None if it has yet to be handled.
        arrival_id: the last sync job that had brought the tag to the source by then.
        came_through: the places that the content had passed on its way to the source, the nearest first.
    """

    digest: Digest | None
    arrival_id: int
    came_through: tuple[str, ...] = ()


class Rules:
    """Rules on record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        wish: RuleSpec,
        baseline: Mapping[Tag, Digest],
        *,
        source_organization_id: int | None,
        target_organization_id: int | None,
    ) -> Rule:
        """Make a rule, or change the one that leads the same way.

        Args:
            wish: what it shall be.
            baseline: what stands at the source; a rule that is switched on takes it for handled.
            source_organization_id: the id of the source's organization, with which the rule ends.
            target_organization_id: the same of the target's.
        """
        organizations = {
            "source_organization_id": source_organization_id,
            "target_organization_id": target_organization_id,
        }
        try:
            return await self._put(wish, baseline, organizations)
        except IntegrityError:
            # Somebody else has just made the same rule.
            return await self._put(wish, baseline, organizations)

    async def find(self, source: RepositoryRef, region: RegionId, namespace: Namespace) -> Rule | None:
        """The rule that leads from a repository to a place."""
        async with self._database.read() as session:
            row = await session.scalar(select(SyncRuleRow).where(*_between(source, region, namespace)))
        return _rule(row) if row is not None else None

    async def of_repository(self, source: RepositoryRef, *, only_active: bool = False) -> list[Rule]:
        """A repository's rules, oldest first."""
        chosen = _ACTIVE_FROM if only_active else _ALL_FROM
        where = {"region": source.region, "namespace": source.namespace, "repository": source.repository}
        async with self._database.read() as session:
            return [_rule(row) for row in await session.scalars(chosen, where)]

    async def sources(self) -> list[RepositoryRef]:
        """The repositories that have a rule which is switched on."""
        columns = (SyncRuleRow.source_region, SyncRuleRow.namespace, SyncRuleRow.repository)
        async with self._database.read() as session:
            rows = await session.execute(select(*columns).where(SyncRuleRow.sync_auto).distinct().order_by(*columns))
            return [RepositoryRef(RegionId(region), Namespace(name), Repository(rest)) for region, name, rest in rows]

    async def delete(self, rule_id: int) -> None:
        """Delete a rule with what it remembers."""
        async with self._database.write() as session:
            await session.execute(delete(SyncRuleRow).where(SyncRuleRow.id == rule_id))

    async def handled(self, rule_ids: Collection[int], tag: Tag) -> dict[int, Handled]:
        """What each of these rules has done about a tag; those that have never met it are left out."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(SyncRuleTagRow).where(SyncRuleTagRow.rule_id.in_(rule_ids), SyncRuleTagRow.tag == tag)
            )
            return {
                row.rule_id: Handled(
                    digest=Digest(row.digest) if row.digest else None,
                    arrival_id=row.arrival_id,
                    came_through=tuple(row.came_through),
                )
                for row in rows
            }

    async def handled_digests(self, rule_ids: Collection[int]) -> dict[int, dict[str, str]]:
        """What every tag was last handled for, by rule."""
        found: dict[int, dict[str, str]] = {rule_id: {} for rule_id in rule_ids}
        async with self._database.read() as session:
            rows = await session.execute(
                select(SyncRuleTagRow.rule_id, SyncRuleTagRow.tag, SyncRuleTagRow.digest).where(
                    SyncRuleTagRow.rule_id.in_(rule_ids), SyncRuleTagRow.digest.is_not(None)
                )
            )
            for rule_id, tag, digest in rows:
                found[rule_id][tag] = digest or ""
        return found

    async def keep(self, rule_id: int, tag: Tag, handled: Handled) -> None:
        """Record what a rule has done about a tag; a rule that was deleted meanwhile records nothing."""
        row = {
            "rule_id": rule_id,
            "tag": tag,
            "digest": handled.digest,
            "arrival_id": handled.arrival_id,
            "came_through": list(handled.came_through),
        }
        try:
            async with self._database.write() as session:
                await session.execute(_KEEP, row)
        except IntegrityError:
            return

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Take tags, or all tags of these digests, that were deleted at the source for never handled."""
        tags = [reference for reference in references if isinstance(reference, Tag)]
        digests = [reference for reference in references if isinstance(reference, Digest)]
        rules = await self.of_repository(source)
        if not rules or not references:
            return
        gone = SyncRuleTagRow.tag.in_(tags) | SyncRuleTagRow.digest.in_(digests)
        async with self._database.write() as session:
            for rule in rules:
                mine = (SyncRuleTagRow.rule_id == rule.id) & gone
                # What a job brought here once must not be taken for brought here when somebody pushes it again.
                arrived = SyncRuleTagRow.arrival_id > rule.arrival_id
                await session.execute(update(SyncRuleTagRow).where(mine, arrived).values(digest=None))
                await session.execute(delete(SyncRuleTagRow).where(mine, ~arrived))

    async def _put(self, wish: RuleSpec, baseline: Mapping[Tag, Digest], organizations: dict[str, int | None]) -> Rule:
        now = datetime.now(UTC)
        way = _between(wish.source, wish.target_region, wish.target_namespace)
        async with self._database.write() as session:
            row = await session.scalar(select(SyncRuleRow).where(*way))
            was_on = row is not None and row.sync_auto
            if row is None:
                row = _new_row(wish, now)
                session.add(row)
            values = {
                "updated_at": now,
                "domain_id": wish.caller.domain_id,
                "domain_name": wish.caller.domain_name,
                "creator_id": wish.caller.user_id,
                "override": wish.override,
                "sync_auto": wish.sync_auto,
                **organizations,
            }
            for name, value in values.items():
                setattr(row, name, value)
            if wish.sync_auto and not was_on:
                row.arrival_id = await session.scalar(latest_job_id(wish.source)) or 0
                await session.flush()
                await _reset_tags(session, row, baseline)
        return _rule(row)


async def _reset_tags(session: AsyncSession, row: SyncRuleRow, baseline: Mapping[Tag, Digest]) -> None:
    """Let a rule that is switched on remember nothing but what stands at its source."""
    await session.execute(delete(SyncRuleTagRow).where(SyncRuleTagRow.rule_id == row.id))
    shared = {"rule_id": row.id, "arrival_id": row.arrival_id, "came_through": []}
    rows = (shared | {"tag": tag, "digest": digest} for tag, digest in baseline.items())
    while batch := list(islice(rows, _WRITTEN_AT_ONCE)):
        await session.execute(insert(SyncRuleTagRow), batch)


def _new_row(wish: RuleSpec, now: datetime) -> SyncRuleRow:
    return SyncRuleRow(
        created_at=now,
        source_region=wish.source.region,
        namespace=wish.source.namespace,
        repository=wish.source.repository,
        target_region=wish.target_region,
        target_namespace=wish.target_namespace,
        arrival_id=0,
    )


# Built once, since every push asks for a repository's rules.
_ALL_FROM = (
    select(SyncRuleRow)
    .where(
        SyncRuleRow.source_region == bindparam("region"),
        SyncRuleRow.namespace == bindparam("namespace"),
        SyncRuleRow.repository == bindparam("repository"),
    )
    .order_by(SyncRuleRow.id)
)
_ACTIVE_FROM = _ALL_FROM.where(SyncRuleRow.sync_auto)


def _between(source: RepositoryRef, region: RegionId, namespace: Namespace) -> list[ColumnElement[bool]]:
    return [
        SyncRuleRow.source_region == source.region,
        SyncRuleRow.namespace == source.namespace,
        SyncRuleRow.repository == source.repository,
        SyncRuleRow.target_region == region,
        SyncRuleRow.target_namespace == namespace,
    ]


def _rule(row: SyncRuleRow) -> Rule:
    return Rule(
        id=row.id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        domain_id=row.domain_id,
        domain_name=row.domain_name,
        creator_id=row.creator_id,
        source=RepositoryRef(RegionId(row.source_region), Namespace(row.namespace), Repository(row.repository)),
        target_region=RegionId(row.target_region),
        target_namespace=Namespace(row.target_namespace),
        override=row.override,
        sync_auto=row.sync_auto,
        arrival_id=row.arrival_id,
    )
