"""Rules for automatic synchronization, and what each has handled, in the database."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import JSON, ColumnElement, Row, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery
from tagferry.db.tables import SyncRuleRow, SyncRuleTagRow
from tagferry.names import Digest, Namespace, Reference, RegionId, Repository, RepositoryRef, Tag, organization_of
from tagferry.sync.jobs.history import latest_job_id

CREATOR_IS_GONE = "the rule's creator was deleted or disabled; another user can take over the rule by creating it again"
"""Why a rule without a creator starts no syncs."""
_WRITTEN_AT_ONCE = 500
_LARGEST_ID = 2**63 - 1
_RECORD = text(
    "INSERT INTO sync_rule_tags (rule_id, tag, digest, latest_job_id, hops) "
    "VALUES (:rule_id, :tag, :digest, :latest_job_id, :hops) "
    "ON CONFLICT (rule_id, tag) DO UPDATE SET digest = excluded.digest, latest_job_id = excluded.latest_job_id, "
    "hops = excluded.hops"
).bindparams(bindparam("hops", type_=JSON))


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """The requested state of a rule."""

    caller: Caller
    source: RepositoryRef
    target_region: RegionId
    target_namespace: Namespace
    override: bool = False
    sync_auto: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that synchronizes a repository to a target organization.

    Attributes:
        creator_id: the user on whose behalf the rule acts: the last one who created or updated it.
        sync_auto: whether the rule is enabled.
        latest_job_id: the last sync job that had copied to the source when the rule was enabled; 0 if none.
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
    latest_job_id: int

    @property
    def target_organization(self) -> str:
        """The target's region and organization, `region/organization`."""
        return organization_of(self.target_region, self.target_namespace)


@dataclass(frozen=True, slots=True)
class Handled:
    """The state of a tag for a rule.

    Attributes:
        digest: the digest last handled; None if the tag is still to be handled.
        latest_job_id: the last sync job that had copied the tag to the source by then; 0 if none.
        hops: the organizations that the content passed through to the source, nearest first.
    """

    digest: Digest | None
    latest_job_id: int
    hops: tuple[str, ...] = ()


class Rules:
    """Stores rules and what each has handled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._from_repository = RememberedQuery(
            database, _FROM_REPOSITORY, lambda rows: tuple(map(_rule, rows)), size=lambda rules: 1 + len(rules)
        )

    async def put(
        self,
        spec: RuleSpec,
        baseline: Mapping[Tag, Digest],
        *,
        source_organization_id: int | None,
        target_organization_id: int | None,
    ) -> Rule:
        """Create a rule, or update the one with the same source and target.

        Args:
            spec: the requested state.
            baseline: the tags at the source, which count as handled if this enables the rule.
            source_organization_id: the id of the source organization; deleting the organization deletes the rule.
            target_organization_id: the same for the target organization.
        """
        organizations = {
            "source_organization_id": source_organization_id,
            "target_organization_id": target_organization_id,
        }
        try:
            return await self._put(spec, baseline, organizations)
        except IntegrityError:
            # Another request has created the same rule concurrently.
            return await self._put(spec, baseline, organizations)

    async def find(self, source: RepositoryRef, region: RegionId, namespace: Namespace) -> Rule | None:
        """Return the rule from a repository to a target organization."""
        async with self._database.read() as session:
            row = await session.scalar(select(SyncRuleRow).where(*_matches(source, region, namespace)))
        return _rule(row) if row is not None else None

    async def get(self, rule_id: int) -> Rule | None:
        """Return a rule by its id, which may be any number."""
        if not 0 < rule_id <= _LARGEST_ID:
            return None
        async with self._database.read() as session:
            row = await session.get(SyncRuleRow, rule_id)
        return _rule(row) if row is not None else None

    async def page(self, *, after: int, limit: int) -> list[Rule]:
        """Return the rules of all repositories with ids above `after`, oldest first."""
        return [_rule(row) for row in await self._database.rows(_PAGE, {"after": after, "page": limit})]

    async def of_repository(self, source: RepositoryRef, *, only_active: bool = False) -> list[Rule]:
        """Return the rules of a repository, oldest first."""
        where = {"region": source.region, "namespace": source.namespace, "repository": source.repository}
        return [rule for rule in await self._from_repository.get(where) if rule.sync_auto or not only_active]

    async def sources(self) -> list[RepositoryRef]:
        """Return the repositories with an enabled rule."""
        columns = (SyncRuleRow.source_region, SyncRuleRow.namespace, SyncRuleRow.repository)
        async with self._database.read() as session:
            rows = await session.execute(select(*columns).where(SyncRuleRow.sync_auto).distinct().order_by(*columns))
            return [RepositoryRef(RegionId(region), Namespace(name), Repository(rest)) for region, name, rest in rows]

    async def delete(self, rule_id: int) -> None:
        """Delete a rule and what it has handled."""
        async with self._database.write() as session:
            await session.execute(delete(SyncRuleRow).where(SyncRuleRow.id == rule_id))

    async def handled(self, rule_ids: Collection[int], tag: Tag) -> dict[int, Handled]:
        """Return what each of these rules has done about a tag; rules that have not seen the tag are left out."""
        async with self._database.read() as session:
            rows = await session.scalars(
                select(SyncRuleTagRow).where(SyncRuleTagRow.rule_id.in_(rule_ids), SyncRuleTagRow.tag == tag)
            )
            return {
                row.rule_id: Handled(
                    digest=Digest(row.digest) if row.digest else None,
                    latest_job_id=row.latest_job_id,
                    hops=tuple(row.hops),
                )
                for row in rows
            }

    async def handled_digests(self, rule_ids: Collection[int]) -> dict[int, dict[str, str]]:
        """Return the digests last handled, by rule and tag."""
        found: dict[int, dict[str, str]] = {rule_id: {} for rule_id in rule_ids}
        if found:
            for rule_id, tag, digest in await self._database.rows(_HANDLED_DIGESTS, {"rules": list(found)}):
                found[rule_id][tag] = digest
        return found

    async def record(self, rule_id: int, tag: Tag, handled: Handled) -> None:
        """Record what a rule has done about a tag; does nothing if the rule was deleted."""
        row = {
            "rule_id": rule_id,
            "tag": tag,
            "digest": handled.digest,
            "latest_job_id": handled.latest_job_id,
            "hops": list(handled.hops),
        }
        try:
            async with self._database.write() as session:
                await session.execute(_RECORD, row)
        except IntegrityError:
            return

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Forget what was handled for tags deleted at the source, given by tag or by digest."""
        tags = [reference for reference in references if isinstance(reference, Tag)]
        digests = [reference for reference in references if isinstance(reference, Digest)]
        rules = await self.of_repository(source)
        if not rules or not references:
            return
        deleted = SyncRuleTagRow.tag.in_(tags) | SyncRuleTagRow.digest.in_(digests)
        async with self._database.write() as session:
            for rule in rules:
                affected = (SyncRuleTagRow.rule_id == rule.id) & deleted
                # Keep the id of the job: a push of the same image must not be mistaken for that job's copy.
                arrived = SyncRuleTagRow.latest_job_id > rule.latest_job_id
                await session.execute(update(SyncRuleTagRow).where(affected, arrived).values(digest=None))
                await session.execute(delete(SyncRuleTagRow).where(affected, ~arrived))

    async def _put(self, spec: RuleSpec, baseline: Mapping[Tag, Digest], organizations: dict[str, int | None]) -> Rule:
        now = datetime.now(UTC)
        match = _matches(spec.source, spec.target_region, spec.target_namespace)
        async with self._database.write() as session:
            row = await session.scalar(select(SyncRuleRow).where(*match))
            was_on = row is not None and row.sync_auto
            if row is None:
                row = _new_row(spec, now)
                session.add(row)
            values = {
                "updated_at": now,
                "domain_id": spec.caller.domain_id,
                "domain_name": spec.caller.domain_name,
                "creator_id": spec.caller.user_id,
                "override": spec.override,
                "sync_auto": spec.sync_auto,
                **organizations,
            }
            for name, value in values.items():
                setattr(row, name, value)
            if spec.sync_auto and not was_on:
                row.latest_job_id = await session.scalar(latest_job_id(spec.source)) or 0
                await session.flush()
                await _reset_tags(session, row, baseline)
        return _rule(row)


async def _reset_tags(session: AsyncSession, row: SyncRuleRow, baseline: Mapping[Tag, Digest]) -> None:
    """Replace what an enabled rule has handled by the baseline."""
    await session.execute(delete(SyncRuleTagRow).where(SyncRuleTagRow.rule_id == row.id))
    shared = {"rule_id": row.id, "latest_job_id": row.latest_job_id, "hops": []}
    rows = (shared | {"tag": tag, "digest": digest} for tag, digest in baseline.items())
    while batch := list(islice(rows, _WRITTEN_AT_ONCE)):
        await session.execute(insert(SyncRuleTagRow), batch)


def _new_row(spec: RuleSpec, now: datetime) -> SyncRuleRow:
    return SyncRuleRow(
        created_at=now,
        source_region=spec.source.region,
        namespace=spec.source.namespace,
        repository=spec.source.repository,
        target_region=spec.target_region,
        target_namespace=spec.target_namespace,
        latest_job_id=0,
    )


# Built once: every push or every scan runs them.
_FROM_REPOSITORY = (
    select(*SyncRuleRow.__table__.columns)
    .where(
        SyncRuleRow.source_region == bindparam("region"),
        SyncRuleRow.namespace == bindparam("namespace"),
        SyncRuleRow.repository == bindparam("repository"),
    )
    .order_by(SyncRuleRow.id)
)

_HANDLED_DIGESTS = select(SyncRuleTagRow.rule_id, SyncRuleTagRow.tag, SyncRuleTagRow.digest).where(
    SyncRuleTagRow.rule_id.in_(bindparam("rules", expanding=True)), SyncRuleTagRow.digest.is_not(None)
)
_PAGE = (
    select(*SyncRuleRow.__table__.columns)
    .where(SyncRuleRow.id > bindparam("after"))
    .order_by(SyncRuleRow.id)
    .limit(bindparam("page"))
)


def _matches(source: RepositoryRef, region: RegionId, namespace: Namespace) -> list[ColumnElement[bool]]:
    return [
        SyncRuleRow.source_region == source.region,
        SyncRuleRow.namespace == source.namespace,
        SyncRuleRow.repository == source.repository,
        SyncRuleRow.target_region == region,
        SyncRuleRow.target_namespace == namespace,
    ]


def _rule(row: SyncRuleRow | Row[*tuple[Any, ...]]) -> Rule:
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
        latest_job_id=row.latest_job_id,
    )
