"""The referrers of a manifest, from the registry's API or from the referrers tag.

Distribution-spec 1.1, "Listing Referrers", "Referrers Tag Schema" and "Pushing Manifests with Subject".

A copy can do without the API: after any error, the tag is used. If the API may exist nevertheless (after a refusal or a
temporary fault), the result counts as incomplete.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakValueDictionary

from tagferry import bounds
from tagferry.errors import (
    Conflict,
    Incomplete,
    Invalid,
    NotFound,
    Refused,
    TagferryError,
    Unavailable,
    Unsupported,
    detached,
)
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import OCI_INDEX, Descriptor, Manifest, parse_manifest
from tagferry.oci.referrer_index import index_with_referrer
from tagferry.oci.referrer_tags import referrers_tag
from tagferry.remote.capabilities import REFERRERS_API, LearnedCapabilities
from tagferry.remote.manifests import Manifests
from tagferry.remote.transport.pagination import EndlessList, has_next_page, list_too_long, not_a_list, pages
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import pull_scope

_OF_THE_SUBJECT = frozenset({"NAME_UNKNOWN", "MANIFEST_UNKNOWN", "MANIFEST_INVALID", "NOT_FOUND"})
"""Error codes of registries with the API, for an unknown repository or subject."""
_PERMANENT = frozenset({*range(200, 500), 501}) - {408, 425, 429}
"""All statuses that a retry would not change."""
_MAX_REPEATED_PAGES = 3
"""Consecutive pages without a new entry after which a list counts as endless."""
_BATCH = 256
"""Entries that are parsed before other tasks run."""
_REFUSED_SECONDS = 60.0
"""Seconds for which a repository's referrers are not requested after a refusal, and not retried after a fault."""
_ABSENT_SECONDS = 3600.0
"""Seconds for which the API is not requested after a response that may also be due to maintenance."""


class _Listed(NamedTuple):
    """The result of the API.

    Attributes:
        entries: None if it listed nothing, so that the tag is used.
        fault: why there may be more.
    """

    entries: list[Descriptor] | None
    fault: TagferryError | None = None


class Referrers:
    """The referrers at one registry.

    Args:
        transport: the registry.
        manifests: its manifests.
        learned: its capabilities.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        manifests: Manifests,
        learned: LearnedCapabilities,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._manifests = manifests
        self._learned = learned
        self._clock = clock
        self._probing = asyncio.Lock()
        self._is_probed = False
        self._refusals: dict[RepositoryName, tuple[float, TagferryError]] = {}
        self._no_retry_until = 0.0
        self._absent_until = 0.0
        self._locks: WeakValueDictionary[tuple[RepositoryName, Digest], asyncio.Lock] = WeakValueDictionary()

    async def find(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, tags: Collection[Tag] | None
    ) -> list[Descriptor]:
        """See `ImageStore.list_referrers`."""
        entries, fault = await self._from_api_if_any(repository, digest, artifact_type)
        if entries is None:
            try:
                entries = await self._from_tag(repository, digest, tags)
            except NotFound as error:
                entries, fault = [], fault or error
        # Filtered here in any case, since a registry may ignore the filter.
        wanted = [entry for entry in entries if artifact_type in (None, entry.artifact_type)]
        if fault is not None:
            raise Incomplete(fault, wanted)
        return wanted

    async def add(self, repository: RepositoryName, referrer: Manifest) -> None:
        """Add a manifest to the index under its subject's referrers tag.

        Callers in this process exclude each other; the specification has no way to exclude other processes.

        Raises:
            Conflict: of the kind `referrers tag`; that tag points to something else.
        """
        subject = referrer.subject
        if subject is None:
            return
        tag = referrers_tag(subject.digest)
        self._transport.expect_writes(repository)
        async with self._lock(repository, subject.digest):
            try:
                current = await self._manifest_at(repository, tag)
            except (Unsupported, Invalid) as error:
                raise self._tag_conflict(repository, tag, referrer, error.message) from error
            index = current if _is_index_of(current, subject.digest) else None
            # A registry that parses such a tag as a digest returns the subject itself, and the index does no harm
            # there.
            if current is not None and index is None and current.digest != subject.digest:
                raise self._tag_conflict(repository, tag, referrer, f"it points to {current.digest}")
            if index and any(child.digest == referrer.digest for child in index.listed):
                return
            raw = index_with_referrer(index, referrer)
            await self._manifests.put(repository, await parse_manifest(raw, OCI_INDEX), tag)

    def _tag_conflict(self, repository: RepositoryName, tag: Tag, referrer: Manifest, what: str) -> Conflict:
        return Conflict(
            "referrers tag",
            f"registry {self._transport.name} does not list referrers, and the tag {repository}:{tag}, under which "
            f"{referrer.digest} has to be listed instead, is not an index of referrers ({what}); delete that tag "
            "there, or set sync.referrers to false",
        )

    def _lock(self, repository: RepositoryName, digest: Digest) -> asyncio.Lock:
        lock = self._locks.get((repository, digest))
        if lock is None:
            lock = self._locks[repository, digest] = asyncio.Lock()
        return lock

    async def _from_api_if_any(self, repository: RepositoryName, digest: Digest, artifact_type: str | None) -> _Listed:
        if await self._has_api() is None and not self._is_probed:
            # The first request shows whether the API exists, so all others wait for it.
            async with self._probing:
                if await self._has_api() is None and not self._is_probed:
                    try:
                        return await self._from_api(repository, digest, artifact_type)
                    finally:
                        self._is_probed = True
        if await self._has_api() is False or self._clock() < self._absent_until:
            return _Listed(None)
        refused_until, refusal = self._refusals.get(repository, (0.0, None))
        if refusal is not None and self._clock() < refused_until:
            return _Listed(None, refusal)
        return await self._from_api(repository, digest, artifact_type)

    async def _has_api(self) -> bool | None:
        return (await self._learned.known()).lists_referrers

    async def _from_api(self, repository: RepositoryName, digest: Digest, artifact_type: str | None) -> _Listed:
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        call = Call(
            method="GET",
            task=f"list the referrers of {repository}@{digest}",
            url=f"/v2/{repository}/referrers/{digest}{query}",
            scopes=(pull_scope(repository),),
            headers={"Accept": OCI_INDEX},
            accept=_PERMANENT,
        )
        listed: dict[Descriptor, None] = {}
        unreadable: TagferryError | None = None
        repeated = read = 0
        try:
            async for page in pages(
                self._transport,
                call,
                fetch=self._ask,
                max_pages=bounds.REFERRER_PAGES,
                max_bytes=bounds.REFERRER_LIST_BYTES,
                bound="referrer_list_bytes",
            ):
                entries = _entries(page)
                if entries is None:
                    return await self._interpret(repository, call, page, list(listed))
                await self._learn_api_exists()
                before = len(listed)
                for number, entry in enumerate(entries):
                    if number % _BATCH == _BATCH - 1:
                        await asyncio.sleep(0)
                    try:
                        listed.setdefault(Descriptor.from_json(entry))
                    except Invalid as error:
                        unreadable = Unavailable(f"{not_a_list(self._transport, call, page)}: {error.message}")
                    read += 1
                    if read > bounds.LISTED_REFERRERS:
                        raise list_too_long(
                            self._transport,
                            call,
                            f"more than {bounds.LISTED_REFERRERS} entries",
                            bound="listed_referrers",
                        )
                repeated = 0 if len(listed) > before else repeated + 1
                if repeated > _MAX_REPEATED_PAGES and has_next_page(page):
                    raise EndlessList(f"registry {self._transport.name} repeated its pages when asked to {call.task}")
        except (Refused, EndlessList) as refusal:
            # A list with endless pages is not requested again at once either: each time costs a hundred requests.
            return await self._refused(repository, refusal, list(listed))
        except TagferryError as fault:
            if isinstance(fault, Unavailable):
                self._no_retry_until = self._clock() + _REFUSED_SECONDS
            return _Listed(list(listed) or None, fault)
        return _Listed(list(listed), unreadable)

    async def _ask(self, call: Call) -> Answer:
        """Send a request, and repeat it after an unexpected response, which may be that of a proxy.

        Raises:
            Unavailable: two unexpected responses differ.
        """
        first = await self._fetch(call)
        if _is_conclusive(first):
            return first
        first.release()
        second = await self._fetch(call)
        if _is_conclusive(second) or (first.status, first.media_type) == (second.status, second.media_type):
            return second
        raise Unavailable(str(self._failure(call, second)))

    async def _fetch(self, call: Call) -> Answer:
        """Send a request; if it is redirected to a target that does not respond, return the redirect."""
        answer = await self._transport.fetch(call, once=self._clock() < self._no_retry_until)
        location = answer.headers.get("Location")
        if not 300 <= answer.status < 400 or not location:
            return answer
        is_api = "/referrers/" in location.partition("?")[0]
        accept = _PERMANENT if is_api else frozenset({200})
        try:
            url = self._transport.resolve(location, answer.url)
            return await self._transport.fetch(call._replace(url=url, redirects=True, accept=accept), once=True)
        except TagferryError as error:
            if is_api:
                # The API exists, but not here, and every further request would cost another attempt to connect.
                raise Refused(f"registry {self._transport.name} redirects to {call.task}: {error.message}") from error
            return answer

    async def _interpret(
        self, repository: RepositoryName, call: Call, page: Answer, listed: list[Descriptor]
    ) -> _Listed:
        """Interpret a response that is not a list of referrers."""
        failure = self._failure(call, page)
        # Harbor before 2.8 returns 401 without a challenge for unknown paths.
        if page.status == 403 or (page.status == 401 and page.headers.get("WWW-Authenticate")):
            return await self._refused(repository, failure, listed)
        if page.status in (400, 404) and page.code in _OF_THE_SUBJECT:
            return _Listed(listed or None)
        if listed or await self._has_api():
            # The API exists, so only this request failed; 404 means that the subject is unknown.
            return _Listed(listed or None, None if page.status == 404 else failure)
        if page.status == 404:
            await self._learned.learn(lists_referrers=False)
        else:
            await self._learned.mark_unavailable(REFERRERS_API, failure.message)
            self._absent_until = self._clock() + _ABSENT_SECONDS
        return _Listed(None)

    def _failure(self, call: Call, page: Answer) -> TagferryError:
        is_list_missing = page.status == 200
        return not_a_list(self._transport, call, page) if is_list_missing else self._transport.failure(call, page)

    async def _learn_api_exists(self) -> None:
        await self._learned.learn(lists_referrers=True)
        if self._absent_until:
            self._absent_until = 0.0
            await self._learned.mark_available(REFERRERS_API)

    async def _refused(self, repository: RepositoryName, refusal: TagferryError, listed: list[Descriptor]) -> _Listed:
        """Record that the API is refused for a repository; other repositories may be accessible."""
        await self._learned.mark_unavailable(REFERRERS_API, refusal.message)
        now = self._clock()
        self._refusals = {name: one for name, one in self._refusals.items() if now < one[0]}
        self._refusals[repository] = now + _REFUSED_SECONDS, detached(refusal)
        return _Listed(listed or None, refusal)

    async def _from_tag(
        self, repository: RepositoryName, digest: Digest, tags: Collection[Tag] | None
    ) -> list[Descriptor]:
        tag = referrers_tag(digest)
        if tags is not None and tag not in tags:
            return []
        current = await self._manifest_at(repository, tag)
        if current is None and tags is not None:
            raise NotFound("tag", f"{repository}:{tag}", f"registry {self._transport.name} lists it")
        # A manifest that is not an index means that there are no referrers (distribution-spec 1.1, "Listing
        # Referrers").
        return list(current.listed) if current is not None and _is_index_of(current, digest) else []

    async def _manifest_at(self, repository: RepositoryName, tag: Tag) -> Manifest | None:
        try:
            return await self._manifests.get(repository, tag)
        except NotFound:
            return None


def _entries(page: Answer) -> list[Any] | None:
    """Return the entries of a list of referrers; None if the response is not one."""
    entries = page.document.get("manifests")
    is_index = page.document.get("mediaType") in (None, "", OCI_INDEX)
    return entries if page.status == 200 and isinstance(entries, list) and is_index else None


def _is_conclusive(page: Answer) -> bool:
    """Return whether a response is as specified for registries with or without the API (distribution-spec 1.1)."""
    return page.status == 404 or page.code in _OF_THE_SUBJECT or _entries(page) is not None


def _is_index_of(manifest: Manifest | None, subject: Digest) -> bool:
    """Return whether this may be the index of a subject's referrers; a registry may return the subject instead."""
    return manifest is not None and manifest.media_type == OCI_INDEX and manifest.digest != subject
