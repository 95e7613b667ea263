"""Compare the tags of a repository with its copies in other regions and organizations."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tagferry import bounds
from tagferry.accounts.access import Access, AccessControl
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.repositories import Repositories
from tagferry.comparison.reading import Content, RepositoryReader, Unknown
from tagferry.comparison.records import CopyRecords, SourceScope
from tagferry.concurrency import gather
from tagferry.errors import Denied, Invalid, NotFound
from tagferry.names import Digest, Namespace, RegionId, RepositoryRef, Tag
from tagferry.regions import Regions

_SECONDS = 3.0
"""Seconds that a registry may take for its list of tags, and then for the digests of a page."""
_AT_ONCE = 200
"""Tags that are compared before it is decided whether the page is full."""
_INLINE = 5000
"""Tags that are sorted on the event loop, which takes some milliseconds."""


class TagState(StrEnum):
    """A tag at a target, compared with the source."""

    SAME = "same"
    """It points to the same image."""
    CONVERTED = "converted"
    """It points to what a job made of the source's image, because the target accepts another form."""
    DIFFERENT = "different"
    """It points to another image."""
    MISSING = "missing"
    """Only the source has it."""
    EXTRA = "extra"
    """Only the target has it."""
    ABSENT = "absent"
    """Neither has it, but another target."""
    UNKNOWN = "unknown"
    """The source or the target could not be read."""

    @property
    def is_behind(self) -> bool:
        """True if a synchronization would change the target, or would with `override`."""
        return self in (TagState.DIFFERENT, TagState.MISSING)

    @property
    def is_settled(self) -> bool:
        """True if the target has what the source has."""
        return self in (TagState.SAME, TagState.CONVERTED, TagState.ABSENT)


@dataclass(frozen=True, slots=True)
class TargetTag:
    """A tag at one target.

    Attributes:
        digest: what it points to, if that is known.
        reason: why its state is unknown.
    """

    state: TagState
    digest: Digest | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ComparedTag:
    """A tag at the source and at all targets.

    Attributes:
        digest: what it points to at the source; None if it does not exist there or cannot be read.
        reason: why it cannot be read at the source.
        targets: the same tag at each target of the comparison, in their order.
    """

    tag: Tag
    digest: Digest | None
    reason: str
    targets: tuple[TargetTag, ...]

    @property
    def is_settled(self) -> bool:
        """True if all targets have what the source has."""
        return all(one.state.is_settled for one in self.targets)


@dataclass(frozen=True, slots=True)
class ComparedRepository:
    """A repository of a comparison.

    Attributes:
        reason: why its tags cannot be listed; empty if they can.
        exists: whether its registry has it; True if that is unknown.
    """

    reference: RepositoryRef
    reason: str = ""
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """A page of a comparison.

    Attributes:
        next_after: the tag after which the next page begins; None on the last page. A page may have fewer tags than
            requested, or none, and still not be the last one.
        left_out: the number of further targets, above the limit of one comparison.
    """

    source: ComparedRepository
    targets: tuple[ComparedRepository, ...]
    tags: tuple[ComparedTag, ...]
    next_after: Tag | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class TargetChoice:
    """The targets that a caller asks for: a region, or one of its organizations."""

    region: RegionId
    namespace: Namespace | None = None

    @classmethod
    def parse(cls, text: str, *, field: str) -> "TargetChoice":
        """Parse `REGION` or `REGION/ORGANIZATION`; raises InvalidName."""
        region, separator, namespace = text.partition("/")
        return cls(RegionId(region, field=field), Namespace(namespace, field=field) if separator else None)

    def selects(self, reference: RepositoryRef) -> bool:
        """Return whether a repository is in this region and organization."""
        return reference.region == self.region and self.namespace in (None, reference.namespace)


@dataclass(frozen=True, slots=True)
class ComparisonQuery:
    """The tags and targets of a comparison.

    Attributes:
        part: a part of the tags' names.
        after: only tags after this one, in lexical order.
        only_differences: leave out tags that all targets have as the source has them.
        choices: only these targets; empty for all that are known.
    """

    limit: int
    part: str = ""
    after: Tag | None = None
    only_differences: bool = False
    choices: tuple[TargetChoice, ...] = ()


class ComparisonService:
    """Compares a repository with its copies, as far as the caller may read them.

    The copies are the repositories of the same name in other regions, and the targets of its rules and newest jobs.

    Args:
        regions: the configured regions.
        access: authorizes the caller.
        repositories: the recorded repositories.
        records: the records of jobs and rules.
        seconds: how long a registry may take for its list, and then for a page's digests.
    """

    def __init__(
        self,
        *,
        regions: Regions,
        access: AccessControl,
        repositories: Repositories,
        records: CopyRecords,
        seconds: float = _SECONDS,
    ) -> None:
        self._regions = regions
        self._access = access
        self._repositories = repositories
        self._records = records
        self._seconds = seconds

    async def compare(self, caller: Caller, source: RepositoryRef, query: ComparisonQuery) -> Comparison:
        """Return a page of the comparison of a repository with its copies.

        Raises:
            Denied: the caller may not read the repository, or a target that the query names.
            NotFound: the organization or the repository does not exist, or that of a target that the query names.
            Invalid: the query names an unknown region, or the repository itself.
        """
        access = await self._access.require(caller, source.region, source.name, Permission.READ)
        targets, wanted = await self._targets(caller, source, access, query.choices)
        readers = [self._reader(source), *map(self._reader, targets[: bounds.COMPARED_REPOSITORIES])]
        await gather(*(reader.list_tags() for reader in readers))
        readers = [
            readers[0],
            *(one for one in readers[1:] if one.exists or one.reference in wanted),
        ]
        if not any(reader.tags or reader.failure for reader in readers):
            await self._require_record(source)
        tags, next_after = await self._page(readers, query)
        return Comparison(
            source=_shown(readers[0]),
            targets=tuple(map(_shown, readers[1:])),
            tags=tuple(tags),
            next_after=next_after,
            left_out=max(0, len(targets) - bounds.COMPARED_REPOSITORIES),
        )

    async def _targets(
        self, caller: Caller, source: RepositoryRef, access: Access, choices: Sequence[TargetChoice]
    ) -> tuple[list[RepositoryRef], set[RepositoryRef]]:
        """Return the readable targets, and those of them that are shown even if they do not exist yet."""
        for choice in choices:
            if choice.region not in self._regions:
                known = ", ".join(region.id for region in self._regions)
                raise Invalid("to", f"must name one of the known regions ({known})", str(choice.region))
            if (choice.region, choice.namespace) == (source.region, source.namespace):
                raise Invalid("to", "must not name the repository itself", f"{source.region}/{source.namespace}")
        scope = SourceScope(
            source,
            organization_id=access.owner.id if access.owner is not None else None,
            domain_id=caller.domain_id if access.is_guest else None,
        )
        expected = [one for one in await self._records.targets(scope) if one.region in self._regions]
        named = [_named(source, choice) for choice in choices]
        same_name = [RepositoryRef(region.id, source.namespace, source.repository) for region in self._regions]
        wanted = dict.fromkeys([*expected, *named, *same_name])
        wanted.pop(source, None)
        if choices:
            wanted = {one: None for one in wanted if any(choice.selects(one) for choice in choices)}
        readable = [one for one in wanted if await self._may_read(caller, one)]
        for choice, one in zip(choices, named, strict=True):
            if not any(choice.selects(found) for found in readable):
                await self._access.require(caller, one.region, one.name, Permission.READ)
        return readable, {*expected, *named}

    async def _may_read(self, caller: Caller, reference: RepositoryRef) -> bool:
        try:
            await self._access.require(caller, reference.region, reference.name, Permission.READ)
        except (Denied, NotFound):
            return False
        return True

    def _reader(self, reference: RepositoryRef) -> RepositoryReader:
        return RepositoryReader(reference, self._regions[reference.region].store, seconds=self._seconds)

    async def _require_record(self, source: RepositoryRef) -> None:
        if await self._repositories.find(source.region, source.name) is None:
            raise NotFound("repository", source.name)

    async def _page(
        self, readers: Sequence[RepositoryReader], query: ComparisonQuery
    ) -> tuple[list[ComparedTag], Tag | None]:
        """Compare tags until the page is full, or the requests that one comparison may make are used up."""
        ordered = await _ordered(readers, query)
        remote = sum(not reader.is_local for reader in readers)
        left = bounds.COMPARED_DIGESTS // remote if remote else len(ordered)
        until = asyncio.get_running_loop().time() + self._seconds
        shown: list[ComparedTag] = []
        position = 0
        while position < len(ordered):
            size = min(_AT_ONCE, max(1, left - position), len(ordered) - position)
            if not query.only_differences:
                size = min(size, query.limit - len(shown))
            chunk = ordered[position : position + size]
            position += size
            shown += await self._compared(readers, chunk, only_differences=query.only_differences)
            if len(shown) >= query.limit or position >= left or asyncio.get_running_loop().time() > until:
                break
        if len(shown) > query.limit:
            shown = shown[: query.limit]
            return shown, shown[-1].tag
        return shown, ordered[position - 1] if 0 < position < len(ordered) else None

    async def _compared(
        self, readers: Sequence[RepositoryReader], tags: Sequence[Tag], *, only_differences: bool
    ) -> list[ComparedTag]:
        contents: dict[int, dict[Tag, Content]] = {}

        async def read(index: int, reader: RepositoryReader) -> None:
            contents[index] = await reader.contents(tags)

        await gather(*(read(index, reader) for index, reader in enumerate(readers)))
        source = contents.pop(0)
        targets = []
        for index, found in sorted(contents.items()):
            differing = [tag for tag in tags if _state(source[tag], found[tag]) is TagState.DIFFERENT]
            reference = readers[index].reference
            conversions = await self._records.conversions(reference, differing) if differing else set()
            targets.append({tag: _target_tag(tag, source[tag], found[tag], conversions) for tag in tags})
        compared = [_compared_tag(tag, source[tag], [target[tag] for target in targets]) for tag in tags]
        return [one for one in compared if not only_differences or not one.is_settled or one.reason]


def _named(source: RepositoryRef, choice: TargetChoice) -> RepositoryRef:
    return RepositoryRef(choice.region, choice.namespace or source.namespace, source.repository)


def _shown(reader: RepositoryReader) -> ComparedRepository:
    reason = reader.failure.reason if reader.failure is not None else ""
    return ComparedRepository(reader.reference, reason, exists=reader.exists)


async def _ordered(readers: Iterable[RepositoryReader], query: ComparisonQuery) -> list[Tag]:
    """Return the tags of all repositories that the query asks for, in lexical order."""
    lists = [reader.tags for reader in readers]

    def work() -> list[Tag]:
        tags: set[Tag] = set().union(*lists)
        return sorted(tag for tag in tags if query.part in tag and (query.after is None or tag > query.after))

    is_long = sum(map(len, lists)) > _INLINE
    return await asyncio.to_thread(work) if is_long else work()


def _state(source: Content, target: Content) -> TagState:
    if isinstance(source, Unknown) or isinstance(target, Unknown):
        return TagState.UNKNOWN
    if source is None:
        return TagState.ABSENT if target is None else TagState.EXTRA
    if target is None:
        return TagState.MISSING
    return TagState.SAME if source == target else TagState.DIFFERENT


def _target_tag(
    tag: Tag, source: Content, target: Content, conversions: Collection[tuple[Tag, Digest, Digest]]
) -> TargetTag:
    state = _state(source, target)
    if isinstance(target, Unknown):
        return TargetTag(state, reason=target.reason)
    if isinstance(source, Unknown):
        return TargetTag(state, target, f"the source is unknown: {source.reason}")
    if source is not None and target is not None and (tag, source, target) in conversions:
        state = TagState.CONVERTED
    return TargetTag(state, target)


def _compared_tag(tag: Tag, source: Content, targets: Sequence[TargetTag]) -> ComparedTag:
    reason = source.reason if isinstance(source, Unknown) else ""
    return ComparedTag(tag, None if isinstance(source, Unknown) else source, reason, tuple(targets))
