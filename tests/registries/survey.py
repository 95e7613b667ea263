"""Test one vendor's registry as source or as target with an image of each kind, and record the outcomes."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.route import Route
from tagferry.errors import TagferryError
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, Endpoint, RemoteStore, Retry
from tests.registries.access import Access
from tests.registries.contents import Repository
from tests.registries.samples import Sample, replacement, samples
from tests.registries.server import Registry, listening
from tests.registries.vendor import Vendor

PLAIN = "mirror/app"
"""The repository at the plain registry on the other side."""
ABSENT = "elsewhere/of/app"
NEW_REPOSITORY = "a repository that does not exist yet"
KEPT = "another image under a tag, without override"
REPLACED = "another image under a tag, with override"
IN_PLACE = "the same again"
ABSENT_TAG = "a tag that does not exist"


class Direction(StrEnum):
    """The role of the vendor's registry."""

    SOURCE = "source"
    TARGET = "target"


@dataclass
class Finding:
    """The outcomes of the images at one vendor's registry.

    Attributes:
        outcomes: `copied` or the reason of the failure, by test.
        met: the triggered behaviors.
        leaks: requests with credentials to a host that is not the registry.
        again: the requests of a second sync of the same images to both registries, without those for tokens.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    leaks: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


def expected(vendor: Vendor, direction: Direction) -> dict[str, str]:
    """Return the expected outcomes: `copied`, or a pattern of the reason."""
    copied = {sample.name: "copied" for sample in samples()}
    if direction is Direction.SOURCE:
        return {**copied, IN_PLACE: "up to date", ABSENT_TAG: "does not exist"}
    refuses = vendor.refuses
    if refuses.push:
        return dict.fromkeys([*copied, NEW_REPOSITORY, REPLACED], refuses.push)
    return {
        **copied,
        IN_PLACE: "up to date",
        KEPT: "blocked",
        NEW_REPOSITORY: refuses.new_repository or "copied",
        REPLACED: refuses.replacement or "copied",
    }


def is_as_expected(outcome: str, pattern: str) -> bool:
    """Return whether an outcome is the expected one."""
    if pattern in ("copied", "up to date", "blocked"):
        return outcome == pattern
    return outcome != "copied" and re.search(pattern, outcome) is not None


async def try_vendor(vendor: Vendor, direction: Direction, *, anonymously: bool = False) -> Finding:
    """Synchronize everything from or to a vendor's registry, optionally without credentials."""
    finding = Finding()
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(listening(vendor.registry(anonymous=anonymously)))
        plain = await stack.enter_async_context(listening(Registry()))
        at_vendor = await stack.enter_async_context(store_at(registry, vendor))
        at_plain = await stack.enter_async_context(store_at(plain))
        is_source = direction is Direction.SOURCE
        source, target = (registry, plain) if is_source else (plain, registry)
        names = (vendor.repository, PLAIN) if is_source else (PLAIN, vendor.repository)
        stores = (at_vendor, at_plain) if is_source else (at_plain, at_vendor)
        route = Route(stores[0], RepositoryName(names[0]), stores[1], RepositoryName(names[1]))
        tried = _Trial(route, source, target, finding)
        tried.fill_source(with_referrers_tags=_lacks_referrers(vendor) and is_source)
        if not is_source:
            _prepare_target(registry, vendor)
        await tried.copy_samples()
        if not vendor.refuses.push or is_source:
            await tried.copy_again([registry, plain])
        if is_source:
            await tried.copy_absent_tag()
        else:
            if not vendor.refuses.push:
                await tried.keep()
            await tried.replace()
            await tried.copy_to_new_repository()
    finding.met = set(registry.met)
    finding.leaks = [f"{ask.method} {ask.path}" for ask in registry.leaks]
    return finding


class _Trial:
    """The steps of one test."""

    def __init__(self, route: Route, source: Registry, target: Registry, finding: Finding) -> None:
        self._route = route
        self._source = source
        self._target = target
        self._finding = finding
        self._engine = CopyEngine()
        self._samples = samples()

    def fill_source(self, *, with_referrers_tags: bool) -> None:
        """Store the images at the source."""
        repository = self._source.contents.repositories.setdefault(self._route.source_repository, Repository())
        for sample in self._samples:
            sample.store(repository)
            if with_referrers_tags:
                sample.store_referrers_tag(repository)

    async def copy_samples(self) -> None:
        """Copy all images at once, as one request does."""
        outcomes = await asyncio.gather(*(self._copy(sample) for sample in self._samples))
        for sample, outcome in zip(self._samples, outcomes, strict=True):
            self._finding.outcomes[sample.name] = outcome

    async def copy_again(self, registries: list[Registry]) -> None:
        """Copy all of them a second time, which must transfer nothing."""
        before = [len(registry.asked) for registry in registries]
        outcomes = await asyncio.gather(*(self._verdict(sample.tag) for sample in self._samples))
        self._finding.outcomes[IN_PLACE] = ", ".join(sorted(set(outcomes)))
        for registry, start in zip(registries, before, strict=True):
            self._finding.again += [f"{ask.method} {ask.path}" for ask in registry.asked[start:] if ask.kind]

    async def copy_absent_tag(self) -> None:
        """Copy a tag that the source does not have."""
        self._finding.outcomes[ABSENT_TAG] = await self._verdict(Tag("absent"))

    async def keep(self) -> None:
        """Copy another image over the first one, without `override`."""
        first = self._samples[0]
        repository = self._source.contents.repositories[self._route.source_repository]
        replacement(first).store(repository)
        self._finding.outcomes[KEPT] = await self._verdict(first.tag)
        if found := first.differences(self._target.contents.find(self._route.target_repository)):
            self._finding.outcomes[KEPT] = f"changed: {', '.join(found)}"

    async def replace(self) -> None:
        """Copy another image over the first one."""
        other = replacement(self._samples[0])
        other.store(self._source.contents.repositories[self._route.source_repository])
        self._finding.outcomes[REPLACED] = await self._copy(other, override=True)

    async def copy_to_new_repository(self) -> None:
        """Copy to a repository that does not exist."""
        self._route = self._route._replace(target_repository=RepositoryName(ABSENT))
        self._finding.outcomes[NEW_REPOSITORY] = await self._copy(self._samples[1])

    async def _copy(self, sample: Sample, *, override: bool = False) -> str:
        outcome = await self._verdict(sample.tag, override=override)
        if outcome != "copied":
            return outcome
        found = sample.differences(self._target.contents.find(self._route.target_repository))
        return f"copied, but at the target are missing: {', '.join(found)}" if found else "copied"

    async def _verdict(self, tag: Tag, *, override: bool = False) -> str:
        try:
            outcome = await self._engine.copy(self._route, tag, override=override)
        except TagferryError as failure:
            return failure.message
        return "copied" if outcome.verdict is Verdict.COPY else outcome.verdict.value


def _lacks_referrers(vendor: Vendor) -> bool:
    return any("referrers" in behavior.name for behavior in vendor.behaviors)


def _prepare_target(registry: Registry, vendor: Vendor) -> None:
    if vendor.refuses.new_repository or vendor.refuses.push:
        registry.contents.repositories[vendor.repository] = Repository()


@asynccontextmanager
async def store_at(
    registry: Registry, vendor: Vendor | None = None, *, access: Access | None = None
) -> AsyncIterator[RemoteStore]:
    """Return a store at a registry, with its credentials or those of another access."""
    access = access or registry.tokens.access
    credentials = None
    if access.refresh_token and not access.anonymous:
        credentials = Credentials(identity_token=access.refresh_token)
    elif access.scheme != "open" and not access.anonymous:
        credentials = Credentials(username=access.username, password=access.password)
    name = vendor.page if vendor else "plain"
    store = RemoteStore(
        Endpoint(name=name, url=registry.url, credentials=credentials, token_hosts=registry.token_hosts),
        retry=Retry(base_delay=0.01, attempts=4),
    )
    try:
        yield store
    finally:
        await store.close()
