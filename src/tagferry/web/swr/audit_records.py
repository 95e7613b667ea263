"""The list of audit records, an extension of tagferry for administrators."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from tagferry.audit.model import AuditPage, AuditQuery, Position
from tagferry.errors import Invalid
from tagferry.web.operations import NAMES
from tagferry.web.response_models import CamelCaseModel, Time
from tagferry.web.swr.context import RequestContext, SwrContext

_METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET", "HEAD")

router = APIRouter(tags=["administration"])


class AuditRecordItem(CamelCaseModel):
    """A request that may have changed something, or that was refused. Texts are empty if there is nothing to say."""

    id: int
    occurred_at: Time
    user: str = Field(description="The caller; empty for an anonymous request.")
    access_key: str = Field(description="The caller's access key; empty for a password, or a token of it.")
    method: str
    operation: str = Field(description='The operation in words, such as "synchronize images".')
    path: str = Field(description="The path, up to 1,000 characters of it.")
    status: int
    is_refused: bool = Field(
        serialization_alias="refused", description="True for 401 and 403: not authenticated, or not authorized."
    )
    region: str = Field(description="The region whose address received the request.")
    address: str = Field(description="The client's address; empty for requests of several addresses.")
    request_id: str
    organization: str
    repository: str = Field(description="The repository with its organization.")
    subject_user: str = Field(description="The user that the request is about.")
    subject_key: str = Field(description="The access key that the request is about.")
    times: int = Field(description="How many requests this record counts; more than 1 for anonymous ones only.")


class AuditRecordList(CamelCaseModel):
    """The response of ListAuditRecords, newest first."""

    records: list[AuditRecordItem]
    next: Annotated[str | None, Field(description="The `marker` of the next page; null on the last page.")]


@router.get("/v2/manage/audit-records", operation_id="ListAuditRecords")
async def list_audit_records(
    context: RequestContext,
    user: Annotated[str, Query(description="The caller's name.")] = "",
    organization: str = "",
    repository: Annotated[str, Query(description="A repository with its organization, such as `team/app`.")] = "",
    method: str = "",
    operation: Annotated[str, Query(description="The operation in words.")] = "",
    refused: Annotated[bool, Query(description="Only requests that were refused (401, 403).")] = False,
    since: Annotated[str, Query(description="The earliest time, in ISO 8601.")] = "",
    until: Annotated[str, Query(description="The time before which the requests occurred, in ISO 8601.")] = "",
    marker: Annotated[str, Query(description="The `next` of the page before this one.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditRecordList:
    """List the audit records of all regions, newest first. Only administrators may. An extension of tagferry.

    400 if there are none because the user, the organization, the method or the operation does not exist.
    """
    query = AuditQuery(
        user=user,
        organization=organization,
        repository=repository,
        method=method.upper(),
        operation=operation,
        refused=refused,
        since=_time("since", since),
        until=_time("until", until),
        after=Position.parse(marker) if marker else None,
        limit=limit,
    )
    page = await context.services.audit.search(context.caller, query)
    if not page.records and not marker:
        await _require_known(query, context)
    return _listed(page)


def _listed(page: AuditPage) -> AuditRecordList:
    records = [AuditRecordItem.model_validate(record) for record in page.records]
    return AuditRecordList(records=records, next=None if page.next is None else str(page.next))


async def _require_known(query: AuditQuery, context: SwrContext) -> None:
    """Raise Invalid if a query for which there are no records names something unknown."""
    if query.method and query.method not in _METHODS:
        raise Invalid("method", f"must be one of {', '.join(_METHODS)}", query.method)
    log = context.services.audit
    if query.operation and query.operation not in NAMES and not await log.has_operation(query.operation):
        similar = get_close_matches(query.operation, NAMES, n=1)
        hint = f', such as "{similar[0]}"' if similar else ""
        raise Invalid("operation", f"must be an operation in words{hint}", query.operation)
    # The registry of an open region may have organizations that are not recorded.
    await log.require_known(query, with_organizations=not context.services.access.open_regions)


def _time(name: str, text: str) -> datetime | None:
    """Parse a time; without a time zone it is in UTC. Raises Invalid."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(name, "must be a time in ISO 8601, such as 2024-05-06T07:08:09Z", text) from None
