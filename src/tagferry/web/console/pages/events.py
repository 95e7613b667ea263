"""Changes of jobs, sent to pages while they are open: the changed parts as HTML, by the ids of their elements."""

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.responses import Response, StreamingResponse

from tagferry import bounds
from tagferry.concurrency import LatestResult
from tagferry.errors import Invalid, Overloaded, TagferryError, Throttled
from tagferry.metrics import BOUND_REACHED
from tagferry.sync.jobs.all_jobs import JobPage as NewJobs
from tagferry.sync.jobs.live import Watch
from tagferry.sync.jobs.model import JobStatus, SyncJob
from tagferry.web.console.context import PageContext, page
from tagferry.web.console.environment import environment
from tagferry.web.console.jobs import EVENTS, JobPage, JobQuery, job_page
from tagferry.web.console.preferences import Preferences

_MESSAGE_SECONDS = 0.5
"""Seconds between messages of a stream."""
_HEARTBEAT_SECONDS = 15.0
"""Seconds between checks of the session and the permissions, and the longest silence."""
_STREAM_SECONDS = 300.0
"""Seconds until a stream ends; the browser then opens another one."""
_DETAILS_SECONDS = 2.0
"""Seconds between updates of the timeline of a running job."""
_NEWS_SECONDS = 2.0
"""Seconds between two looks of a stream for new jobs, of which many processes may start many."""
_LOOKS = 500
_RETRY_MILLISECONDS = 2000
_FULL_RETRY_MILLISECONDS = 30_000
_RENDERED = 2000
_NEW = 99
_ID_DIGITS = 18
_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LiveParts:
    """The view of the changed parts of a page: of a list's row, of a job's page, or the number of new jobs.

    Attributes:
        has_more: whether there are more new jobs than `new`.
        address: the list with the new jobs.
    """

    job: SyncJob | None = None
    page: JobPage | None = None
    new: int = 0
    has_more: bool = False
    address: str = ""


class Streams:
    """The open streams of this process, and what was rendered for them."""

    def __init__(self) -> None:
        self._of_user: Counter[str] = Counter()
        self._rendered: OrderedDict[tuple[object, ...], str] = OrderedDict()
        self._looks: OrderedDict[Hashable, LatestResult[NewJobs]] = OrderedDict()

    def require_room(self, user_id: str) -> None:
        """Require that another stream may be opened; raises Throttled and Overloaded."""
        if self._of_user[user_id] >= bounds.CONSOLE_STREAMS_OF_USER:
            BOUND_REACHED.labels(bound="console_streams_of_user").inc()
            raise Throttled("too many pages of this user are open; close some", retry_after=30.0)
        if self._of_user.total() >= bounds.CONSOLE_STREAMS:
            BOUND_REACHED.labels(bound="console_streams").inc()
            raise Overloaded("too many pages are open; reload this one to see changes", retry_after=30.0)

    @contextmanager
    def open(self, user_id: str) -> Iterator[None]:
        """Count a stream while it is open."""
        self._of_user[user_id] += 1
        try:
            yield
        finally:
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]

    def row(self, job: SyncJob, language: str) -> str:
        """Return the changed parts of a job's row, rendered once for all streams."""
        shown = (job.id, job.status, job.bytes_done, job.bytes_total, job.snapshot, job.reason, job.next_attempt_at)
        key = (language, *shown)
        found = self._rendered.get(key)
        if found is None:
            found = self._rendered[key] = _render(LiveParts(job=job), language)
            if len(self._rendered) > _RENDERED:
                self._rendered.popitem(last=False)
        return found

    async def new_jobs(self, key: Hashable, look: Callable[[], Awaitable[NewJobs]]) -> NewJobs:
        """Look for new jobs, once for all streams that look for the same at once."""
        latest = self._looks.get(key)
        if latest is None:
            latest = self._looks[key] = LatestResult(look)
            if len(self._looks) > _LOOKS:
                self._looks.popitem(last=False)
        return await latest.result()


_streams = Streams()


async def show(context: PageContext) -> Response:
    """Send the changes of jobs until the stream's time is over, the session ends, or the server stops."""
    jobs = await context.services.jobs.some(context.caller, _ids(context.query("jobs")))
    # Refuse an invalid filter here: after the answer has begun, nothing can be refused.
    JobQuery.of(context).filter()
    if context.services.live.closed.is_set():
        raise Overloaded("the server is shutting down", retry_after=5.0)
    _streams.require_room(context.caller.user_id)
    if context.request.method == "HEAD":
        return Response(media_type=_TYPE, headers=_HEADERS)
    context.request.scope["state"]["is_stream"] = True
    return StreamingResponse(_Stream(context, jobs).events(), media_type=_TYPE, headers=_HEADERS)


class _Stream:
    """One open page.

    Args:
        context: the request of the page for its changes.
        jobs: the jobs on the page that the caller may see.
    """

    def __init__(self, context: PageContext, jobs: Sequence[SyncJob]) -> None:
        self._context = context
        self._jobs = jobs
        self._language = Preferences.of(context.request).language
        self._details_due = 0.0
        self._shown: dict[int, JobStatus] = {job.id: job.status for job in jobs}
        self._has_details = bool(context.query("details"))
        after = context.query("after")
        self._after = int(after) if after.isdecimal() and len(after) <= _ID_DIGITS else None
        self._news_due = True
        self._news_at = 0.0

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events."""
        live = self._context.services.live
        try:
            # Others may have begun since this one was admitted.
            _streams.require_room(self._context.caller.user_id)
        except (Throttled, Overloaded):
            yield f"retry: {_FULL_RETRY_MILLISECONDS}\n\n"
            return
        with _streams.open(self._context.caller.user_id), self._context.waiting, live.watch(self._jobs) as watch:
            yield f"retry: {_RETRY_MILLISECONDS}\n\n"
            closing: asyncio.Task[Any] = asyncio.create_task(live.closed.wait())
            try:
                async for event in self._until_over(watch, closing):
                    yield event
            except TagferryError as error:
                # Such as a lost database. The browser opens another stream, whose answer can say so.
                log.info("a stream of changes ended early", reason=error.message)
            finally:
                closing.cancel()

    async def _until_over(self, watch: Watch, closing: asyncio.Task[Any]) -> AsyncIterator[str]:
        begin = time.monotonic()
        # After a restart, all browsers open their streams at once; spread what each of them does later.
        checked = begin - _HEARTBEAT_SECONDS * random.uniform(0.0, 1.0)  # noqa: S311
        end = begin + _STREAM_SECONDS * random.uniform(1.0, 1.2)  # noqa: S311
        changed, sent = list(self._jobs), ""
        while not closing.done() and time.monotonic() < end:
            if time.monotonic() >= checked + _HEARTBEAT_SECONDS:
                checked = time.monotonic()
                if (over := await self._is_over()) is not None:
                    yield f"event: {over}\ndata: \n\n"
                    return
                yield ": alive\n\n"
            html = await self._changed_parts(changed)
            # A message without a change would say that jobs of others have changed.
            if html and html != sent:
                sent = html
                yield _event(html)
                await asyncio.wait([closing], timeout=_MESSAGE_SECONDS)
            waiting: asyncio.Task[Any] = asyncio.create_task(watch.changes(seconds=self._pause(checked)))
            await asyncio.wait([waiting, closing], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                return
            changed, has_news = waiting.result()
            self._news_due = self._news_due or has_news

    def _pause(self, checked: float) -> float:
        """Return how long to wait for a change."""
        until = checked + _HEARTBEAT_SECONDS
        if self._has_details and any(not status.has_ended for status in self._shown.values()):
            until = min(until, max(self._details_due, time.monotonic() + _MESSAGE_SECONDS))
        if self._after is not None and self._news_due:
            until = min(until, self._news_at)
        return max(0.0, until - time.monotonic())

    async def _changed_parts(self, changed: Sequence[SyncJob]) -> str:
        # Without the progress that a worker of this process knows at this moment, so that a change is rendered once.
        jobs = [self._context.services.sync.with_waiting_reason(job) for job in changed]
        parts = [] if self._has_details else [_streams.row(job, self._language) for job in jobs]
        if self._has_details:
            parts += await self._details(jobs)
        if self._after is not None and self._news_due and time.monotonic() >= self._news_at:
            self._news_due, self._news_at = False, time.monotonic() + _NEWS_SECONDS
            parts.append(await self._new_jobs(self._after))
        return "".join(parts)

    async def _details(self, changed: Sequence[SyncJob]) -> list[str]:
        """Return the parts of a job's page if its state has changed, or if they are old."""
        now = time.monotonic()
        if not changed and all(status.has_ended for status in self._shown.values()):
            return []
        is_due = now >= self._details_due or any(job.status is not self._shown.get(job.id) for job in changed)
        if not is_due and not changed:
            return []
        self._details_due = now + _DETAILS_SECONDS
        parts = []
        for job_id in self._shown:
            details = await self._context.services.jobs.details(self._context.caller, job_id)
            self._shown[job_id] = details.job.status
            parts.append(_render(LiveParts(page=await job_page(self._context, details)), self._language))
        return parts

    async def _new_jobs(self, after: int) -> str:
        query, caller, jobs = JobQuery.of(self._context), self._context.caller, self._context.services.jobs
        found = await _streams.new_jobs(
            (caller.user_id, caller.is_admin, query, after),
            lambda: jobs.page(caller, query.filter(), limit=_NEW, after=after),
        )
        if not found.jobs:
            return ""
        parts = LiveParts(new=len(found.jobs), has_more=found.marker is not None, address=query.address())
        return _render(parts, self._language)

    async def _is_over(self) -> str | None:
        """Return the last event of the stream if the session has ended, or the caller may not see all jobs any more."""
        state = self._context.request.scope["state"]
        session = await self._context.services.tokens.session(state.get("session_value", ""))
        if session is None:
            return "ended"
        # The caller may be no administrator any more.
        state["caller"] = session.owner
        jobs = self._context.services.jobs
        seen = await jobs.count_readable(self._context.caller, [job.id for job in self._jobs])
        return None if seen == len(self._jobs) else "reload"


def _render(parts: LiveParts, language: str) -> str:
    return environment(language).get_template("live.html").render(view=parts).strip()


def _event(html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"event: parts\n{lines}\n"


def _ids(text: str) -> list[int]:
    ids = [part for part in text.split(",") if part]
    for part in ids:
        if not (part.isascii() and part.isdecimal() and len(part) <= _ID_DIGITS):
            raise Invalid("jobs", "must be ids of jobs, separated by ','", part)
    return list(dict.fromkeys(map(int, ids)))


routes = (page(EVENTS, show),)
