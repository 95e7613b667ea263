"""Audit records: who did what. For administrators."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from tagferry.audit.model import AuditQuery, AuditRecord, Position
from tagferry.errors import Invalid
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.operations import OPERATIONS
from tagferry.web.console.states import AUDIT_DONE, AUDIT_FAILED, AUDIT_REFUSED, State

_PATH = "/console/audit"
_SHOWN = 50
_FILTERS = ("user", "organization", "repository", "operation", "since", "until")


@dataclass(frozen=True, slots=True)
class Shown:
    """A record with the state that its status means."""

    record: AuditRecord
    state: State


@dataclass(frozen=True, slots=True)
class AuditPage:
    """The view of the list of audit records.

    Attributes:
        filters: the values of the filters by their names.
        refused: whether only refused requests are shown.
        all_address: the address with the same filters for all requests.
        refused_address: the address for refused ones.
        operations: the operations that can be chosen.
        next: the address of the next page; "" at the end.
        first: that of the first page; "" on it.
        commands: the same by the command line and the API.
    """

    records: tuple[Shown, ...]
    filters: dict[str, str]
    refused: bool
    all_address: str
    refused_address: str
    operations: tuple[str, ...]
    next: str
    first: str
    commands: tuple[Command, ...]

    @property
    def is_filtered(self) -> bool:
        """True if the records are not all."""
        return self.refused or any(self.filters.values())


async def show(context: PageContext) -> Response:
    """Show the records that match the filters, newest first."""
    filters = {name: context.query(name) for name in _FILTERS}
    refused, marker = context.query("refused") == "true", context.query("marker")
    query = AuditQuery(
        user=filters["user"],
        organization=filters["organization"],
        repository=filters["repository"],
        operation=filters["operation"],
        refused=refused,
        since=_day("since", filters["since"]),
        until=_day("until", filters["until"], after=True),
        after=Position.parse(marker) if marker else None,
        limit=_SHOWN,
    )
    found = await context.services.audit.search(context.caller, query)
    chosen = {**filters, "refused": "true" if refused else ""}
    view = AuditPage(
        records=tuple(Shown(record, _state(record)) for record in found.records),
        filters=filters,
        refused=refused,
        all_address=context.address(_PATH, **filters),
        refused_address=context.address(_PATH, **{**filters, "refused": "true"}),
        operations=OPERATIONS,
        next=context.address(_PATH, **chosen, marker=str(found.next)) if found.next is not None else "",
        first=context.address(_PATH, **chosen) if marker else "",
        commands=_commands(query),
    )
    return context.render("audit.html", view)


def _state(record: AuditRecord) -> State:
    if record.is_refused:
        return AUDIT_REFUSED
    return AUDIT_FAILED if record.status >= 400 else AUDIT_DONE


def _day(name: str, text: str, *, after: bool = False) -> datetime | None:
    """Return the start of a day in UTC, or of the day after it; raises Invalid."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return day + timedelta(days=1) if after else day
    except (ValueError, OverflowError):
        raise Invalid(name, "must be a date such as 2024-05-06", text) from None


def _commands(query: AuditQuery) -> tuple[Command, ...]:
    terms = {
        "user": query.user,
        "organization": query.organization,
        "repository": query.repository,
        "operation": query.operation,
        "since": query.since.isoformat() if query.since else "",
        "until": query.until.isoformat() if query.until else "",
    }
    given = {name: value for name, value in terms.items() if value}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    flags = ["--refused"] if query.refused else []
    parameters = urlencode({**given, **({"refused": "true"} if query.refused else {})})
    return (
        Command.of("CLI", "tagferry", "audit", "list", *options, *flags),
        Command("API", f"GET /v2/manage/audit-records{'?' if parameters else ''}{parameters}"),
    )


routes = (page(_PATH, show),)
