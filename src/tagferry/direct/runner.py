"""Run copies without a server."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from tagferry.concurrency import bounded_gather
from tagferry.copy.bandwidth import BandwidthLimiter
from tagferry.copy.engine import CopyEngine, Limits
from tagferry.copy.held_content import HeldContent
from tagferry.copy.mount_sources import MountSources
from tagferry.copy.outcome import missing_at_source
from tagferry.copy.preflight import Verdict, absent
from tagferry.copy.progress import Progress
from tagferry.copy.referrers import Gaps
from tagferry.copy.rewrite import Acceptance, Rewrite
from tagferry.copy.route import Route
from tagferry.direct.references import LATEST, ImageReference, LayoutReference, parse_image
from tagferry.direct.results import CopyResult, Status
from tagferry.direct.stores import Stores, layout_key
from tagferry.direct.tasks import CopyTask
from tagferry.errors import InvalidName, Misused, NotFound, TagferryError, Untrusted, detached
from tagferry.http.faults import NO_TLS
from tagferry.names import Digest, Reference, Tag
from tagferry.oci.referrer_tags import is_referrer_tag

_TASKS_AT_ONCE = 16
_SETTING_HINT = r"; (if it [^;]*, )?set \[regions\.[^;]*"
_OPTIONS = {
    "or set sync.referrers to false": "or add --no-referrers",
    "; set ca_file to trust it, or have the server": "; have the server",
    "; set ca_file to trust it": "",
    "; set client_certificate and client_key": "; put client.cert and client.key into HOST of --certs-dir DIR",
}
"""The options of a copy in place of the server's settings, which errors name."""
_TRUST = "trust its authority with --ca-file FILE, or add --insecure HOST"
_HINTS = {
    NO_TLS: "for a registry without TLS, add --plain-http HOST",
    "requires a client certificate": "",
    "client certificate": "check client.cert and client.key in HOST of --certs-dir DIR",
    "unknown authority": _TRUST,
    "certificate is not trusted": _TRUST,
    ": certificate ": "correct it, or accept it as it is with --insecure HOST",
    ": 407 ": "write the user and the password into the URL of the proxy, http://USER:PASSWORD@HOST:PORT",
}
"""The advice for each reason of a failed connection; the first reason that matches counts."""
_LIST_SECONDS = 0.0005
"""Seconds to wait for the target's list of tags after the source's has arrived, for each request that it may save."""
_LONGEST_LIST_SECONDS = 0.2
"""The longest wait for that list."""


_NAMED = ("repository", "tag")
"""The kinds of content that only the source may lack."""


class CopyOptions(NamedTuple):
    """How images are copied.

    Attributes:
        override: whether different images under the same tags may be replaced.
        dry_run: whether to write nothing.
        jobs: tags, and blobs, that are copied at once between two stores.
        bytes_per_second: the limit of all copies together; None for no limit.
        target_has_tags: whether the target repository is expected to have tags, so that it need not be asked. If it has
            none, that costs a request for each tag.
    """

    override: bool = True
    dry_run: bool = False
    jobs: int = 32
    bytes_per_second: float | None = None
    target_has_tags: bool = False


class _Image(NamedTuple):
    """An image to copy: the target's tag, and what it is at the source."""

    tag: Tag
    reference: Reference


class DirectCopier:
    """Runs the tasks of one command.

    Args:
        stores: the registries, layouts and archives.
        options: how images are copied.
        on_result: called with each result at once, but with copies to an archive only when it is written.

    Attributes:
        results: the finished copies.
        copies: the progress of each image being copied, or already copied.
        found: number of images to copy that are known by now.
    """

    def __init__(
        self, stores: Stores, options: CopyOptions, *, on_result: Callable[[CopyResult], None] = lambda _: None
    ) -> None:
        self._stores = stores
        self._options = options
        self._on_result = on_result
        self._held_content = HeldContent()
        self._mount_sources = MountSources()
        self._limiter = BandwidthLimiter(options.bytes_per_second) if options.bytes_per_second else None
        self._bandwidth: dict[str, BandwidthLimiter] = {}
        self._engines: dict[bool, CopyEngine] = {}
        self._unwritten: list[tuple[int, LayoutReference]] = []
        self.results: list[CopyResult] = []
        self.copies: list[Progress] = []
        self.found = 0

    async def run(self, tasks: Sequence[CopyTask]) -> list[CopyResult]:
        """Run all tasks, and return the results of all tags; the errors of copies are among them.

        Raises:
            Invalid: a file of the configuration cannot be used.
        """
        await bounded_gather(tasks, self._run, limit=_TASKS_AT_ONCE)
        if not self._options.dry_run:
            self._report_written(await self._stores.commit())
        return self.results

    async def _run(self, task: CopyTask) -> None:
        source, source_repository = self._stores.open(task.source)
        target, target_repository = self._stores.open(task.target, for_write=not self._options.dry_run)
        if self._limiter is not None:
            self._bandwidth[source.name] = self._limiter
        route = Route(source, source_repository, target, target_repository)
        try:
            checking = asyncio.ensure_future(self._is_empty(task, route))
            try:
                images = await self._images(task, route)
                await self._wait_for_list(checking, task, len(images))
                is_empty = checking.done() and checking.result()
            finally:
                checking.cancel()
                await asyncio.wait([checking])
        except TagferryError as error:
            self._report(_failed(task.source, task.target, error))
            return
        self.found += len(images)
        route = route._replace(references={one.tag: one.reference for one in images if one.reference != one.tag})
        handle = self._estimate if self._options.dry_run else partial(self._copy, is_absent=is_empty)
        await bounded_gather(images, partial(handle, task, route), limit=self._options.jobs)

    async def _wait_for_list(self, listing: "asyncio.Future[bool]", task: CopyTask, tags: int) -> None:
        """Wait for the target's list of tags, as long as it may save time.

        Meanwhile, connections begin for the requests after it. If there are some already, the requests need no list.
        """
        if listing.done():
            return
        is_first = self._stores.begin_connections(task.target, min(tags, self._options.jobs))
        seconds = _LONGEST_LIST_SECONDS if is_first else min(_LONGEST_LIST_SECONDS, _LIST_SECONDS * tags)
        await asyncio.wait([listing], timeout=seconds)

    async def _is_empty(self, task: CopyTask, route: Route) -> bool:
        """Return whether the target repository has no tags, so that none needs a request of its own.

        Requested only while the source lists its tags, so that it takes hardly any time. A registry that hides a
        repository from readers may be wrong about it; with `override`, that costs only requests.
        """
        if self._options.target_has_tags or not self._options.override:
            return False
        if task.selection is None or not task.selection.needs_list:
            return False
        return await route.target.list_tags_within(route.target_repository, 1) == frozenset()

    async def _images(self, task: CopyTask, route: Route) -> list[_Image]:
        """Return the images of a task; raises errors of the source."""
        selection = task.selection
        if selection is None:
            return [await self._image(task)]
        existing: list[Tag] = []
        if selection.needs_list:
            asked_at = time.monotonic()
            existing = [tag async for tag in route.source.list_tags(route.source_repository)]
            self._engine(task).add_tags(route.source, route.source_repository, existing, asked_at=asked_at)
            # Referrers are copied with their images, and written in the form that the target supports.
            existing = [tag for tag in existing if not is_referrer_tag(tag)]
        images = [_Image(tag, tag) for tag in selection.of(existing)]
        if not images:
            found = "none of its tags is selected" if existing else "it has no tags"
            raise TagferryError(f"nothing to copy from {task.source}: {found}")
        return images

    async def _image(self, task: CopyTask) -> _Image:
        source, target = task.source, task.target
        tag: Tag | None
        if isinstance(source, LayoutReference):
            reference: Reference
            if source.digest is not None:
                # A missing one is reported by the layout, which knows its own name.
                await self._stores.open_layout(source).get_manifest(self._stores.open(source)[1], source.digest)
                reference, tag = source.digest, _tag_of(source.name)
            else:
                entry = await self._stores.open_layout(source).find(source.name)
                reference, tag = entry.descriptor.digest, entry.tag or _tag_of(source.name)
        else:
            reference = source.digest or source.tag or LATEST
            tag = source.tag or (LATEST if source.digest is None else None)
        try:
            tag = target.tag or tag
        except InvalidName as error:
            raise Misused("TARGET", f"must have a tag as its name; it {error.rule}", str(target)) from None
        if tag is None:
            raise Misused("TARGET", "must have a tag, because SOURCE has none", str(target))
        return _Image(tag, reference)

    async def _copy(self, task: CopyTask, route: Route, image: _Image, *, is_absent: bool) -> None:
        source, target = _named(task.source, image.reference), task.target.tagged(image.tag)
        started_at, progress = time.monotonic(), Progress()
        self.copies.append(progress)
        try:
            selected = await _with_platforms(task, route, image.tag)
            outcome = await self._engine(task).copy(
                selected,
                image.tag,
                override=self._options.override,
                finding=absent(selected, image.tag) if is_absent else None,
                progress=progress,
                is_last=lambda _: True,
            )
        except TagferryError as error:
            self._report(_failed(source, target, error))
            return
        notes = _Notes(outcome.gaps, outcome.rewritten)
        size, seconds = progress.timeline.uploaded.size, time.monotonic() - started_at
        status = _STATUSES[outcome.verdict]
        result = _result(source, target, status, outcome.digest, notes, size=size, seconds=seconds)
        if isinstance(target, LayoutReference) and target.is_archive:
            self._unwritten.append((len(self.results), target))
            self.results.append(result)
        else:
            self._report(result)

    async def _estimate(self, task: CopyTask, route: Route, image: _Image) -> None:
        """Report what `_copy` would do."""
        source, target = _named(task.source, image.reference), task.target.tagged(image.tag)
        override = self._options.override
        try:
            selected = await _with_platforms(task, route, image.tag)
            found = await self._engine(task).estimate_all(selected, [image.tag], override=override)
            estimate = found[image.tag]
            if isinstance(estimate, TagferryError):
                raise estimate
            if estimate.verdict is Verdict.MISSING:
                raise missing_at_source(selected, image.tag)
        except TagferryError as error:
            self._report(_failed(source, target, error))
            return
        notes = _Notes(estimate.gaps, estimate.rewritten)
        is_copy = estimate.verdict is Verdict.COPY
        status: Status = "to_copy" if is_copy else _STATUSES[estimate.verdict]
        digest = estimate.source if is_copy else estimate.target
        self._report(_result(source, target, status, digest, notes, size=estimate.to_copy))

    def _engine(self, task: CopyTask) -> CopyEngine:
        """Return the engine of all tasks with the same referrers setting; content is shared by all."""
        if task.referrers not in self._engines:
            self._engines[task.referrers] = CopyEngine(
                Limits(tags=self._options.jobs, blobs=self._options.jobs),
                held_content=self._held_content,
                mount_sources=self._mount_sources,
                referrers=task.referrers,
                bandwidth=self._bandwidth,
            )
        return self._engines[task.referrers]

    def _report_written(self, errors: Mapping[str, TagferryError]) -> None:
        """Report the copies to archives, which have failed if their archive was not written."""
        for position, target in self._unwritten:
            result = self.results[position]
            error = errors.get(layout_key(target))
            if error is not None and result.is_ok:
                failed = result._replace(status="failed", digest=None, reason=error.message, error=detached(error))
                self.results[position] = failed
            self._on_result(self.results[position])
        self._unwritten.clear()

    def _report(self, result: CopyResult) -> None:
        self.results.append(result)
        self._on_result(result)


class _Notes(NamedTuple):
    """The content that a copy may lack."""

    gaps: Gaps
    rewritten: Rewrite | None


_STATUSES: dict[Verdict, Status] = {
    Verdict.COPY: "copied",
    Verdict.UP_TO_DATE: "up_to_date",
    Verdict.BLOCKED: "existed",
    Verdict.MISSING: "failed",
}


async def _with_platforms(task: CopyTask, route: Route, tag: Tag) -> Route:
    """Return the route of an image of which only the platforms of the task are copied."""
    if not task.platforms:
        return route
    # Imported here: most copies are of all platforms.
    from tagferry.direct.platforms import select_platforms

    digest = await select_platforms(route, tag, task.platforms)
    if digest is None:
        return route._replace(accepts=Acceptance(platforms=task.platforms, rewrite=True))
    return route._replace(references={**route.references, tag: digest})


def _result(
    source: str,
    target: ImageReference,
    status: Status,
    digest: Digest | None,
    notes: _Notes,
    *,
    size: int = 0,
    seconds: float = 0.0,
) -> CopyResult:
    reasons = []
    if status == "existed":
        reasons.append("the target has another image under this tag, and --no-override keeps it")
    if notes.gaps.search_error:
        reasons.append(f"referrers may be missing: {notes.gaps.search_error}")
    reasons += (
        f"{name} was not copied: {_without_settings(reason)}" for name, reason in notes.gaps.left_behind.items()
    )
    rewritten = notes.rewritten.left_behind if notes.rewritten else ()
    return CopyResult(
        source=source,
        target=str(target),
        status=status,
        digest=digest,
        size=size,
        seconds=seconds,
        reason="; ".join(reasons),
        left_behind=(*rewritten, *notes.gaps.left_behind),
    )


def _failed(source: ImageReference | str, target: ImageReference, error: TagferryError) -> CopyResult:
    message = error.message
    if isinstance(error, NotFound) and error.kind in _NAMED and not isinstance(source, LayoutReference):
        # The engine's error names no registry, and the target may have an image of the same name.
        message = NotFound(error.kind, str(source), error.hint).message
    reason = f"{_without_settings(message)}{_hint(error)}"
    return CopyResult(source=str(source), target=str(target), status="failed", reason=reason, error=detached(error))


def _without_settings(message: str) -> str:
    """Return a message without hints to settings of the server, which a copy without one does not read."""
    for setting, option in _OPTIONS.items():
        message = message.replace(setting, option)
    return re.sub(_SETTING_HINT, "", message)


def _hint(error: TagferryError) -> str:
    """Return the advice after an error of TLS or of a proxy; empty if there is none."""
    if not isinstance(error, Untrusted) and NO_TLS not in error.message:
        return ""
    hint = next((hint for reason, hint in _HINTS.items() if reason in error.message), "")
    return f"; {hint}" if hint else ""


def _named(source: ImageReference, reference: Reference) -> str:
    """Return the name of an image of the source."""
    if source.digest is not None or (isinstance(source, LayoutReference) and source.name):
        return str(source)
    if isinstance(reference, Tag):
        return str(source.tagged(reference))
    return f"{source.without_image}@{reference}"


def _tag_of(name: str) -> Tag | None:
    """Return a name of a layout as a tag, or the tag in a full name such as `docker.io/library/alpine:3.20`."""
    try:
        return Tag(name)
    except InvalidName:
        pass
    try:
        return parse_image(f"docker://{name}", field="name").tag if name else None
    except InvalidName:
        return None
