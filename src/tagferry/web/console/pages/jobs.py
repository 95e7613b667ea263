"""Jobs of all repositories: a list with filters, and actions on several at once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.responses import Response

from tagferry import bounds
from tagferry.errors import Invalid
from tagferry.sync.job_service import JobResult
from tagferry.sync.jobs.model import SyncJob
from tagferry.web.console.commands import Command
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.formats import machine_time
from tagferry.web.console.forms import Failure
from tagferry.web.console.jobs import JOBS, SPANS, STATES, TIMES, JobQuery, live_parameters
from tagferry.web.console.paths import own_path
from tagferry.web.console.translation import translatable

_ROWS = 50
_SIZES = (_ROWS, bounds.JOBS_SELECTED)
_ID_DIGITS = 18


@dataclass(frozen=True, slots=True)
class JobsPage:
    """The view of the list of jobs.

    Attributes:
        query: the filter.
        states: the states to choose from: address, value and word.
        changeable: the ids of those that the caller may cancel or retry.
        rows: jobs on a page.
        is_partial: whether the search ended before the page was full, and continues on the next page.
        live: the address of the stream of changes.
    """

    query: JobQuery
    jobs: Sequence[SyncJob]
    changeable: Collection[int]
    states: Sequence[tuple[str, str, str]]
    spans: Sequence[tuple[str, str]]
    regions: Sequence[tuple[str, str]]
    rows: int
    here: str
    next: str
    first: str
    is_partial: bool
    live: str
    commands: tuple[Command, ...]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ResultsPage:
    """The view of the results of selected jobs.

    Attributes:
        is_retry: whether they were to be retried; otherwise cancelled.
        results: what became of each.
        back: the list that they were selected in.
    """

    is_retry: bool
    results: Sequence[JobResult]
    back: str

    @property
    def done(self) -> int:
        """The number of jobs on which the action had an effect."""
        return sum(result.is_done for result in self.results)


async def show(context: PageContext) -> Response:
    """Show a page of the list."""
    query = JobQuery.of(context)
    rows = _rows(context.query("rows"))
    try:
        marker = _marker(context.query("marker"))
        found = await context.services.jobs.page(context.caller, query.filter(), limit=rows, marker=marker)
    except Invalid as error:
        failure = Failure.of(error, namespace="repository", region="repository")
        view = _view(context, query, (), (), rows, marker=None, next_marker=None, failure=failure)
        return context.render("jobs.html", view, status=failure.status)
    actions = await context.services.jobs.actions(context.caller, found.jobs)
    changeable = {job_id for job_id, one in actions.items() if one.can_cancel or one.can_retry}
    view = _view(context, query, found.jobs, changeable, rows, marker=marker, next_marker=found.marker)
    return context.render("jobs.html", view)


async def act(context: PageContext) -> Response:
    """Cancel or retry the selected jobs."""
    form = await context.form()
    back = own_path(form.text("next")) if form.text("next") else JOBS
    ids = [_id(text) for text in form.all("job")]
    if not ids:
        return context.redirect(back, notice=translatable("Select jobs first."))
    match form.text("action"):
        case "cancel":
            results = await context.services.jobs.cancel(context.caller, ids)
            done, is_retry = translatable("Jobs cancelled: %(n)s."), False
        case "retry":
            results = await context.services.jobs.retry(
                context.caller, ids, request_id=context.request_id, override=form.is_checked("override")
            )
            done, is_retry = translatable("Jobs retried: %(n)s."), True
        case other:
            raise Invalid("action", "must be cancel or retry", other)
    if all(result.is_done for result in results):
        if is_retry and len(results) == 1 and results[0].started is not None:
            return context.redirect(f"{JOBS}/{results[0].started}", notice=done, n=1)
        return context.redirect(back, notice=done, n=len(results))
    return context.render("jobs_results.html", ResultsPage(is_retry, results, back))


def _view(
    context: PageContext,
    query: JobQuery,
    jobs: Sequence[SyncJob],
    changeable: Collection[int],
    rows: int,
    *,
    marker: int | None,
    next_marker: int | None,
    failure: Failure | None = None,
) -> JobsPage:
    size = {"rows": str(rows)} if rows != _ROWS else {}
    newest = str(jobs[0].id) if jobs else "0"
    live = ""
    if failure is None:
        # New jobs belong to the first page only.
        live = live_parameters(jobs, after=newest, **query.terms()) if marker is None else live_parameters(jobs)
    return JobsPage(
        query=query,
        jobs=jobs,
        changeable=changeable,
        states=[(query.address(state=value, **size), value, word) for value, word, _ in STATES],
        spans=SPANS,
        regions=[(region.id, region.id) for region in context.services.regions],
        rows=rows,
        here=query.address(**size, **({"marker": str(marker)} if marker is not None else {})),
        next=query.address(**size, marker=str(next_marker)) if next_marker is not None else "",
        first=query.address(**size) if marker is not None else "",
        is_partial=next_marker is not None and len(jobs) < rows,
        live=live,
        commands=_commands(context, query),
        failure=failure,
    )


def _commands(context: PageContext, query: JobQuery) -> tuple[Command, ...]:
    namespace, _, name = query.repository.partition("/")
    options = [query.repository] if name else ["--org", namespace] if namespace else []
    if query.to:
        options += ["--to", query.to]
    if query.by:
        options += ["--by", query.by]
    if query.since:
        options += ["--since", query.since]
    statuses = ",".join(sorted(status.value for value, _, found in STATES if value == query.state for status in found))
    if statuses:
        options += ["--status", statuses]
    terms = {
        "status": statuses,
        "namespace": namespace,
        "repository": name if query.region or not name else f"{name}*",
        "region": query.region,
        "remote_region": query.to,
        "operator": query.by,
        "request": query.request,
        "since": machine_time(datetime.now(UTC) - TIMES[query.since]) if query.since in TIMES else "",
    }
    return (
        Command.of("CLI", "tagferry", "job", "list", *options),
        Command.api("GET", context.address(f"{context.base_url}/v2/manage/sync_jobs", **terms)),
    )


def _rows(text: str) -> int:
    return next((size for size in _SIZES if str(size) == text), _ROWS)


def _marker(text: str) -> int | None:
    return _id(text, "marker") if text else None


def _id(text: str, field: str = "job") -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS and int(text) > 0):
        raise Invalid(field, "must be the id of a job", text)
    return int(text)


routes = (page(JOBS, show), page(JOBS, act, methods=("POST",)))
