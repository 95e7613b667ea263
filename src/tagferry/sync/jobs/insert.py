"""Jobs that are put on record: whose turn comes when, and the rows of a whole request by one statement."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Insert, Select, bindparam, case, column, func, insert, null, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry import bounds
from tagferry.db.tables import OrganizationRow, SyncJobRow
from tagferry.errors import NotFound, Throttled
from tagferry.names import Tag
from tagferry.printable import printable
from tagferry.sync.jobs.model import JobHandle, JobStatus, NewJob, SyncRequest
from tagferry.sync.jobs.rows import OPEN, QUEUED, document


async def next_fair_position(session: AsyncSession, request: SyncRequest, *, limit: int) -> int:
    """The turn in which the organization's next job queues up.

    Every organization's jobs are numbered on from its own last one, and at least from the turn that is served now: so
    organizations are served in turns, whatever each of them has waiting.

    Raises:
        Throttled: a person has as many active requests as the limit says.
    """
    parameters = {
        "user": request.caller.user_id,
        "request": request.id,
        "priority": _priority(request),
        "region": request.source_region,
        "namespace": request.namespace,
    }
    active, served, own = (await session.execute(_TURNS, parameters)).one()
    if active >= limit and not request.is_automatic:
        raise Throttled(
            f"{request.caller.name} has {active} synchronizations in flight; wait for one of them to end",
            retry_after=5.0,
        )
    return max((served or 1) - 1, own or 0) + 1


async def require_organizations(session: AsyncSession, request: SyncRequest) -> None:
    """Keep the organizations that the caller was let into from being deleted before the transaction ends.

    Raises:
        NotFound: one of them was deleted since.
    """
    ends = {
        request.source_organization_id: (request.namespace, request.source_region),
        request.target_organization_id: (request.target_namespace, request.target_region),
    }
    ends.pop(None, None)
    if ends:
        standing = set(await session.scalars(_STANDING, {"organizations": list(ends)}))
        for organization_id, (name, region) in ends.items():
            if organization_id not in standing:
                raise NotFound("organization", f"{name} in {region}", "it was deleted just now")


async def insert_jobs(
    session: AsyncSession,
    request: SyncRequest,
    starts: Collection[NewJob],
    standing: dict[Tag, JobHandle],
    *,
    turn: int,
) -> dict[Tag, int]:
    """Put a job on record for each start; returns their ids.

    Args:
        session: within whose transaction.
        request: what is asked for.
        starts: how the jobs begin, each for another tag.
        standing: the open jobs on the same way, for whose ends those have to wait that come after them.
        turn: the first one's.
    """
    if not starts:
        return {}
    now = datetime.now(UTC)
    parameters = {
        "given_request_id": request.id,
        "given_created_at": now,
        "given_updated_at": now,
        "given_domain_id": request.caller.domain_id,
        "given_domain_name": request.caller.domain_name,
        "given_operator_id": request.caller.user_id,
        "given_operator_name": request.caller.name,
        "given_source_region": request.source_region,
        "given_namespace": request.namespace,
        "given_repository": request.repository,
        "given_target_region": request.target_region,
        "given_target_namespace": request.target_namespace,
        "given_source_organization_id": request.source_organization_id,
        "given_target_organization_id": request.target_organization_id,
        "given_override": request.override,
        "given_priority": _priority(request),
        "given_deadline_at": now + timedelta(seconds=request.seconds) if request.seconds is not None else None,
        "given_rows": list(_rows(starts, standing, turn)),
    }
    created = await session.execute(_INSERT[session.get_bind().dialect.name], parameters)
    return {Tag(tag): job_id for job_id, tag in created}


def _rows(starts: Iterable[NewJob], standing: dict[Tag, JobHandle], turn: int) -> Iterable[dict[str, Any]]:
    for start in starts:
        earlier = standing.get(start.tag)
        yield {
            "tag": start.tag,
            "status": start.status.value,
            "reason": printable(start.reason, bounds.RECORDED_TEXT),
            "digest": start.digest,
            "rewritten": document(start.rewritten),
            "unsearched": None if start.unsearched is None else printable(start.unsearched, bounds.RECORDED_TEXT),
            "turn": turn,
            "after_id": earlier.id if earlier is not None and not start.status.has_ended else None,
        }
        turn += not start.status.has_ended


def _priority(request: SyncRequest) -> int:
    """People first."""
    return 1 if request.is_automatic else 0


def _turns() -> Select[int, int | None, int | None]:
    """The user's other active requests; the turn that is served, and the organization's last one.

    A request is active while it has open jobs. Those whose registry is away do not count, which would keep the user
    from all others for as long as they are tried again.
    """
    active = select(func.count(SyncJobRow.request_id.distinct())).where(
        SyncJobRow.operator_id == bindparam("user"),
        SyncJobRow.request_id != bindparam("request"),
        SyncJobRow.priority == 0,
        SyncJobRow.status.in_(OPEN),
        SyncJobRow.attempts == 0,
    )
    waiting = (SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.priority == bindparam("priority"))
    served = select(func.min(SyncJobRow.turn)).where(*waiting)
    own = select(func.max(SyncJobRow.turn)).where(
        *waiting,
        SyncJobRow.source_region == bindparam("region"),
        SyncJobRow.namespace == bindparam("namespace"),
        SyncJobRow.status.in_(OPEN),
    )
    return select(active.scalar_subquery(), served.scalar_subquery(), own.scalar_subquery())


def _insert(dialect: str) -> Insert:
    """What jobs have in common is given once, and the rest as one document.

    A parameter for each column of each row would take longer to hand over than the database takes for all of them.
    """
    table: Any = SyncJobRow.__table__
    columns = table.c
    shared = {
        name: bindparam(f"given_{name}", type_=columns[name].type)
        for name in (
            "request_id",
            "created_at",
            "updated_at",
            "domain_id",
            "domain_name",
            "operator_id",
            "operator_name",
            "source_region",
            "namespace",
            "repository",
            "target_region",
            "target_namespace",
            "source_organization_id",
            "target_organization_id",
            "override",
            "priority",
            "deadline_at",
        )
    }
    names = ("tag", "status", "reason", "digest", "rewritten", "unsearched", "turn", "after_id")
    array = bindparam("given_rows", type_=JSON)
    own: dict[str, Any]
    if dialect == "sqlite":
        rows = func.json_each(array).table_valued("value")
        own = {name: func.json_extract(rows.c.value, f"$.{name}") for name in names}
    else:
        rows = func.json_to_recordset(array).table_valued(*(column(name, columns[name].type) for name in names))
        rows = rows.render_derived(with_types=True)
        own = {name: rows.c[name] for name in names}
    own["ended_at"] = case((own["status"].in_(OPEN), null()), else_=shared["created_at"])
    given = shared | own
    return insert(table).from_select(list(given), select(*given.values())).returning(columns.id, columns.tag)


# What every request asks is built once.
_STANDING = (
    select(OrganizationRow.id)
    .where(OrganizationRow.id.in_(bindparam("organizations", expanding=True)))
    .with_for_update(read=True, key_share=True)
)
_TURNS = _turns()
_INSERT = {dialect: _insert(dialect) for dialect in ("sqlite", "postgresql")}
