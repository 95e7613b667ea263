"""Triggers, and the digests each has seen, in the database."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.accounts.model import Caller
from tagferry.automation.triggers.status import DeliveryStatus
from tagferry.db.engine import Database
from tagferry.db.remembered import RememberedQuery, Rows
from tagferry.db.tables import DeliveryRow, RepositoryRow, TriggerRow, TriggerTagRow
from tagferry.errors import Conflict, Invalid, NotFound
from tagferry.names import Digest, Namespace, Reference, RegionId, Repository, RepositoryRef, Tag
from tagferry.patterns import Pattern

MAX_TRIGGERS = 100
"""Maximum number of triggers of a repository."""
EVERY_TAG = ".*"
_LONGEST_TAGS = 4096
_WRITTEN_AT_ONCE = 500
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")
_CLUSTER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class TriggerSpec:
    """The settings of a trigger; the fields are SWR's ("Creating a Trigger", request body).

    Attributes:
        trigger_type: `all` matches every tag, `tag` matches those that `condition` lists, joined by `;`, and `regular`
            matches `condition` as a regular expression.
        trigger_mode: `cce` acts in the cluster given by id or name; `cci` has no cluster.
        container: the container to update; empty for all of the application's.
    """

    name: str
    trigger_type: str
    condition: str
    application: str
    app_type: str
    cluster_ns: str
    action: str = "update"
    trigger_mode: str = "cce"
    cluster_id: str = ""
    cluster_name: str = ""
    container: str = ""

    def check(self) -> None:
        """Raise Invalid for the first field that breaks a rule."""
        if not _NAME.fullmatch(self.name):
            rule = "must be 1 to 64 letters, digits, '-' and '_', and begin with a letter"
            raise Invalid("name", rule, self.name)
        _check_one_of("action", self.action, "update")
        _check_one_of("app_type", self.app_type, "deployments", "statefulsets")
        _check_one_of("trigger_mode", self.trigger_mode, "cce", "cci")
        _check_one_of("trigger_type", self.trigger_type, "all", "tag", "regular")
        _check_object("application", self.application, maximum=253)
        _check_object("cluster_ns", self.cluster_ns, maximum=63)
        if self.container:
            _check_object("container", self.container, maximum=253)
        self._check_cluster()
        self._check_condition()

    def matches(self, tag: Tag) -> bool:
        """Return whether the trigger fires on changes of this tag."""
        match self.trigger_type:
            case "all":
                return True
            case "tag":
                return tag in self.condition.split(";")
            case _:
                return Pattern(self.condition).matches(tag)

    def _check_cluster(self) -> None:
        for field, value in (("cluster_id", self.cluster_id), ("cluster_name", self.cluster_name)):
            if value and self.trigger_mode == "cci":
                raise Invalid(field, "must be empty if trigger_mode is cci", value)
            if value and not _CLUSTER.fullmatch(value):
                rule = "must be 1 to 128 letters, digits, '.', '_' and '-', and begin with a letter or digit"
                raise Invalid(field, rule, value)
        if self.trigger_mode == "cce" and not (self.cluster_id or self.cluster_name):
            raise Invalid("cluster_id", "or cluster_name must be given if trigger_mode is cce")

    def _check_condition(self) -> None:
        match self.trigger_type:
            case "all":
                _check_one_of("condition", self.condition, EVERY_TAG)
            case "tag":
                if len(self.condition) > _LONGEST_TAGS:
                    raise Invalid("condition", f"must have at most {_LONGEST_TAGS} characters", self.condition)
                for tag in self.condition.split(";"):
                    Tag(tag, field="condition")
            case _:
                Pattern(self.condition, field="condition")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A repository's trigger."""

    id: int
    source: RepositoryRef
    spec: TriggerSpec
    enabled: bool
    creator_name: str
    created_at: datetime


class Triggers:
    """Stores triggers and the digests they have seen."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of_repository = RememberedQuery(
            database, _OF_REPOSITORY, _triggers, size=lambda triggers: 1 + len(triggers)
        )

    async def create(
        self,
        caller: Caller,
        repository_id: int,
        spec: TriggerSpec,
        *,
        enabled: bool,
        baseline: Mapping[Tag, Digest],
    ) -> None:
        """Create a trigger.

        Args:
            caller: the creator.
            repository_id: the id of the repository's row; deleting the repository deletes the trigger.
            spec: the trigger's settings.
            enabled: whether the trigger is active.
            baseline: the repository's tags, which an enabled trigger counts as seen.

        Raises:
            Conflict: the repository has a trigger of this name, or the maximum number of triggers.
        """
        row = TriggerRow(
            repository_id=repository_id,
            enabled=enabled,
            creator_id=caller.user_id,
            creator_name=caller.name,
            created_at=datetime.now(UTC),
            **{field: getattr(spec, field) for field in _SPEC},
        )
        try:
            async with self._database.write() as session:
                mine = TriggerRow.repository_id == repository_id
                if (await session.scalar(select(func.count()).where(mine)) or 0) >= MAX_TRIGGERS:
                    raise Conflict("trigger", f"the repository has {MAX_TRIGGERS} triggers, which is the maximum")
                session.add(row)
                await session.flush()
                await _reset_tags(session, row.id, baseline)
        except IntegrityError:
            raise Conflict("trigger", f'the repository already has a trigger "{spec.name}"; delete it first') from None

    async def of_repository(self, source: RepositoryRef, *, only_enabled: bool = False) -> list[Trigger]:
        """Return the triggers of a repository, oldest first."""
        where = {"region": source.region, "namespace": source.namespace, "repository": source.repository}
        return [trigger for trigger in await self._of_repository.get(where) if trigger.enabled or not only_enabled]

    async def find(self, source: RepositoryRef, name: str) -> Trigger:
        """Return a repository's trigger by name; raises NotFound."""
        for trigger in await self.of_repository(source):
            if trigger.spec.name == name:
                return trigger
        raise NotFound("trigger", str(name), where=f'of "{source.name}" in {source.region}')

    async def switch(self, trigger_id: int, *, enabled: bool, baseline: Mapping[Tag, Digest]) -> None:
        """Enable or disable a trigger; does nothing if it is in that state already.

        Enabling counts the tags of `baseline` as seen. Disabling gives up the waiting deliveries.
        """
        mine, now = TriggerRow.id == trigger_id, datetime.now(UTC)
        async with self._database.write() as session:
            is_on = await session.scalar(select(TriggerRow.enabled).where(mine).with_for_update())
            if is_on is None or is_on == enabled:
                return
            await session.execute(update(TriggerRow).where(mine).values(enabled=enabled))
            if enabled:
                await _reset_tags(session, trigger_id, baseline)
                return
            waiting = and_(DeliveryRow.trigger_id == trigger_id, DeliveryRow.status == DeliveryStatus.WAITING)
            given_up = {"status": DeliveryStatus.FAILED, "ended_at": now, "detail": "the trigger was switched off"}
            await session.execute(update(DeliveryRow).where(waiting).values(**given_up))

    async def delete(self, trigger_id: int) -> None:
        """Delete a trigger, the digests it has seen, and its waiting deliveries."""
        async with self._database.write() as session:
            await session.execute(delete(TriggerRow).where(TriggerRow.id == trigger_id))

    async def sources(self) -> list[RepositoryRef]:
        """Return the repositories with an enabled trigger."""
        places = (RepositoryRow.region, RepositoryRow.namespace, RepositoryRow.name)
        chosen = (
            select(*places).join(TriggerRow, TriggerRow.repository_id == RepositoryRow.id).where(TriggerRow.enabled)
        )
        async with self._database.read() as session:
            rows = await session.execute(chosen.distinct().order_by(*places))
            return [_source(region, namespace, name) for region, namespace, name in rows]

    async def seen_digests(self, trigger_ids: Collection[int], tag: Tag) -> dict[int, Digest]:
        """Return the digest of a tag last seen by each of these triggers; triggers that have seen none are left out."""
        mine = (TriggerTagRow.trigger_id.in_(trigger_ids), TriggerTagRow.tag == tag)
        async with self._database.read() as session:
            rows = await session.execute(select(TriggerTagRow.trigger_id, TriggerTagRow.digest).where(*mine))
            return {trigger_id: Digest(digest) for trigger_id, digest in rows}

    async def all_seen_digests(self, trigger_ids: Collection[int]) -> dict[int, dict[str, str]]:
        """Return the digests last seen, by trigger and tag."""
        found: dict[int, dict[str, str]] = {trigger_id: {} for trigger_id in trigger_ids}
        if found:
            for trigger_id, tag, digest in await self._database.rows(_SEEN_DIGESTS, {"triggers": list(found)}):
                found[trigger_id][tag] = digest
        return found

    async def forget(self, source: RepositoryRef, *references: Reference) -> None:
        """Forget the digests seen for deleted tags, given by tag or by digest."""
        triggers = await self.of_repository(source, only_enabled=True)
        if not triggers or not references:
            return
        tags = [reference for reference in references if isinstance(reference, Tag)]
        digests = [reference for reference in references if isinstance(reference, Digest)]
        mine = TriggerTagRow.trigger_id.in_([trigger.id for trigger in triggers])
        gone = TriggerTagRow.tag.in_(tags) | TriggerTagRow.digest.in_(digests)
        async with self._database.write() as session:
            await session.execute(delete(TriggerTagRow).where(mine, gone))


_SPEC = tuple(TriggerSpec.__dataclass_fields__)


def triggers_with_sources() -> Select[TriggerRow, str, str, str]:
    """Select triggers with the region, organization and name of their repositories."""
    return select(TriggerRow, RepositoryRow.region, RepositoryRow.namespace, RepositoryRow.name).join(
        RepositoryRow, RepositoryRow.id == TriggerRow.repository_id
    )


# Built once: every push or every scan runs them.
_OF_REPOSITORY = (
    triggers_with_sources()
    .with_only_columns(
        *TriggerRow.__table__.columns,
        RepositoryRow.region,
        RepositoryRow.namespace,
        RepositoryRow.name.label("repository"),
    )
    .where(
        RepositoryRow.region == bindparam("region"),
        RepositoryRow.namespace == bindparam("namespace"),
        RepositoryRow.name == bindparam("repository"),
    )
    .order_by(TriggerRow.id)
)
_SEEN_DIGESTS = select(TriggerTagRow.trigger_id, TriggerTagRow.tag, TriggerTagRow.digest).where(
    TriggerTagRow.trigger_id.in_(bindparam("triggers", expanding=True))
)


def _triggers(rows: Rows) -> tuple[Trigger, ...]:
    return tuple(trigger_of(row, row.region, row.namespace, row.repository) for row in rows)


def trigger_of(row: TriggerRow | Row[*tuple[Any, ...]], region: str, namespace: str, name: str) -> Trigger:
    """Return the trigger of a row."""
    return Trigger(
        id=row.id,
        source=_source(region, namespace, name),
        spec=TriggerSpec(**{field: getattr(row, field) for field in _SPEC}),
        enabled=row.enabled,
        creator_name=row.creator_name,
        created_at=row.created_at,
    )


async def _reset_tags(session: AsyncSession, trigger_id: int, baseline: Mapping[Tag, Digest]) -> None:
    """Replace the digests that a trigger has seen by the baseline."""
    await session.execute(delete(TriggerTagRow).where(TriggerTagRow.trigger_id == trigger_id))
    rows = ({"trigger_id": trigger_id, "tag": tag, "digest": digest} for tag, digest in baseline.items())
    while batch := list(islice(rows, _WRITTEN_AT_ONCE)):
        await session.execute(insert(TriggerTagRow), batch)


def _source(region: str, namespace: str, name: str) -> RepositoryRef:
    return RepositoryRef(RegionId(region), Namespace(namespace), Repository(name))


def _check_one_of(field: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise Invalid(field, f"must be {' or '.join(allowed)}", value)


def _check_object(field: str, value: str, *, maximum: int) -> None:
    """Check a Kubernetes object name, so that receivers of the webhook can rely on its form."""
    if len(value) > maximum or not _OBJECT.fullmatch(value):
        rule = f"must be 1 to {maximum} lowercase letters, digits, '-' and '.', and not begin or end with '-' or '.'"
        raise Invalid(field, rule, value)
