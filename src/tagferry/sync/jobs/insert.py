"""Insert jobs: their fair positions in the queue, and all rows of a request by one statement."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, case, func, insert, null, select

from tagferry.db.columns import free_text
from tagferry.db.json_rows import DIALECTS, json_rows
from tagferry.db.tables import OrganizationRow, SyncJobRow
from tagferry.errors import NotFound, Throttled
from tagferry.names import Tag
from tagferry.sync.jobs.model import JobHandle, JobStatus, NewJob, SyncRequest
from tagferry.sync.jobs.rows import OPEN, QUEUED, document, is_open


def next_fair_position(connection: Connection, request: SyncRequest, *, limit: int) -> int:
    """Return the fair position of the organization's next job.

    Each organization's jobs are numbered consecutively from its own last position, but not below the position that is
    served now. Organizations are therefore served round-robin, however many jobs each of them has waiting.

    Raises:
        Throttled: the user has reached the limit of active requests.
    """
    parameters = {
        "user": request.caller.user_id,
        "request": request.id,
        "priority": _priority(request),
        "region": request.source_region,
        "namespace": request.namespace,
    }
    active, served, own = connection.execute(_QUEUE_POSITIONS, parameters).one()
    if active >= limit and not request.is_automatic:
        raise Throttled(
            f'user "{request.caller.name}" has {active} syncs in progress; wait until one of them ends',
            retry_after=5.0,
        )
    return max((served or 1) - 1, own or 0) + 1


def require_organizations(connection: Connection, request: SyncRequest) -> None:
    """Lock the organizations the caller was authorized for, so that they are not deleted during the transaction.

    Raises:
        NotFound: one of them has been deleted since.
    """
    ends = {
        request.source_organization_id: (request.namespace, request.source_region),
        request.target_organization_id: (request.target_namespace, request.target_region),
    }
    ends.pop(None, None)
    if ends:
        open_jobs = set(connection.scalars(_EXISTING_ORGANIZATIONS, {"organizations": list(ends)}))
        for organization_id, (name, region) in ends.items():
            if organization_id not in open_jobs:
                raise NotFound("organization", name, "it has just been deleted", where=f"in {region}")


def insert_jobs(
    connection: Connection,
    request: SyncRequest,
    new_jobs: Collection[NewJob],
    open_jobs: dict[Tag, JobHandle],
    *,
    fair_position: int,
    trace_context: str | None = None,
) -> dict[Tag, int]:
    """Insert the jobs; returns their ids by tag.

    Args:
        connection: the connection whose transaction inserts them.
        request: the request.
        new_jobs: the jobs, each for a different tag.
        open_jobs: the open jobs of the same tags on the same route; later jobs wait for them to end.
        fair_position: the position of the first job.
        trace_context: the trace that the jobs belong to.
    """
    if not new_jobs:
        return {}
    now = datetime.now(UTC)
    parameters = {
        "given_request_id": request.id,
        "given_rule_id": request.rule_id,
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
        "given_trace_context": trace_context,
        "given_rows": list(_rows(new_jobs, open_jobs, fair_position)),
    }
    created = connection.execute(_INSERT[connection.dialect.name], parameters)
    return {Tag(tag): job_id for job_id, tag in created}


def _rows(new_jobs: Iterable[NewJob], open_jobs: dict[Tag, JobHandle], fair_position: int) -> Iterable[dict[str, Any]]:
    for new_job in new_jobs:
        earlier = open_jobs.get(new_job.tag)
        behind = earlier.id if earlier is not None and not new_job.status.has_ended else None
        yield {
            "tag": new_job.tag,
            "status": new_job.status.value,
            "reason": free_text(new_job.reason),
            "digest": new_job.digest,
            "rewritten": document(new_job.rewritten),
            "search_error": free_text(new_job.search_error),
            "fair_position": fair_position,
            "blocked_by": behind,
            "queued_behind": behind,
        }
        fair_position += not new_job.status.has_ended


def _priority(request: SyncRequest) -> int:
    """Return the priority: requests of users run before those of rules."""
    return 1 if request.is_automatic else 0


def _queue_positions() -> Select[int, int | None, int | None]:
    """Select the user's other active requests, the position that is served now, and the organization's last position.

    A request is active while it has open jobs. Jobs that wait for an unavailable registry do not count: their retries
    would lock the user out for as long as they last.
    """
    active = select(func.count(SyncJobRow.request_id.distinct())).where(
        SyncJobRow.operator_id == bindparam("user"),
        SyncJobRow.request_id != bindparam("request"),
        SyncJobRow.priority == 0,
        is_open(),
        SyncJobRow.failures == 0,
    )
    waiting = (SyncJobRow.status == JobStatus.WAITING.value, QUEUED, SyncJobRow.priority == bindparam("priority"))
    served = select(func.min(SyncJobRow.fair_position)).where(*waiting)
    own = select(func.max(SyncJobRow.fair_position)).where(
        *waiting,
        SyncJobRow.source_region == bindparam("region"),
        SyncJobRow.namespace == bindparam("namespace"),
        is_open(),
    )
    return select(active.scalar_subquery(), served.scalar_subquery(), own.scalar_subquery())


def _insert(dialect: str) -> Insert:
    """Build an insert that takes shared values once, and all rows as one JSON document."""
    table: Any = SyncJobRow.__table__
    columns = table.c
    shared = {
        name: bindparam(f"given_{name}", type_=columns[name].type)
        for name in (
            "request_id",
            "rule_id",
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
            "trace_context",
        )
    }
    names = (
        *("tag", "status", "reason", "digest", "rewritten", "search_error", "fair_position"),
        *("blocked_by", "queued_behind"),
    )
    own = dict(json_rows("given_rows", {name: columns[name].type for name in names}, dialect=dialect))
    own["ended_at"] = case((own["status"].in_(OPEN), null()), else_=shared["created_at"])
    given = shared | own
    return insert(table).from_select(list(given), select(*given.values())).returning(columns.id, columns.tag)


# Statements that every request executes are built once.
_EXISTING_ORGANIZATIONS = (
    select(OrganizationRow.id)
    .where(OrganizationRow.id.in_(bindparam("organizations", expanding=True)))
    .with_for_update(read=True, key_share=True)
)
_QUEUE_POSITIONS = _queue_positions()
_INSERT = {dialect: _insert(dialect) for dialect in DIALECTS}
