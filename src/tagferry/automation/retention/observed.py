"""Observations of a repository's tags, which retention keeps between runs.

The embedded registry reports when a tag was pushed. Other registries do not: there, a tag's age counts from the run
that first saw it point to its digest, so it may be deleted later than its rule says, but never earlier. The image of a
digest is immutable and is read once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from tagferry.automation.retention.rules import ObservedTag
from tagferry.catalog import describe_tags
from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.facts import Image
from tagferry.catalog.listings import listings_of
from tagferry.concurrency import bounded_gather
from tagferry.db.engine import Database
from tagferry.db.tables import RetentionTagRow
from tagferry.eventual import Progress
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore, TagRecord
from tagferry.oci.referrer_tags import is_referrer_tag

_READ_AT_ONCE = 8
_LISTED_AT_ONCE = 128
"""Tags of an embedded registry that are read in a few turns of a thread."""
_LOADED_AT_ONCE = 1000
_WRITTEN_AT_ONCE = 500
_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""The value in the database if it is not known when an image was built."""
_PAGE = (
    select(
        RetentionTagRow.tag,
        RetentionTagRow.digest,
        RetentionTagRow.pushed_at,
        RetentionTagRow.built_at,
        RetentionTagRow.is_attached_artifact,
    )
    .where(RetentionTagRow.policy_id == bindparam("policy"), RetentionTagRow.tag > bindparam("after"))
    .order_by(RetentionTagRow.tag)
    .limit(_LOADED_AT_ONCE)
)


async def observe(
    store: ImageStore,
    name: RepositoryName,
    known: Mapping[Tag, ObservedTag],
    *,
    now: datetime,
    progress: Progress | None = None,
) -> dict[TagRecord, ObservedTag]:
    """Observe the tags of a repository; those with a missing or invalid manifest are left out.

    Args:
        store: the registry of the repository.
        name: the repository.
        known: the tags as the last run observed them.
        now: the time of this run.
        progress: counts the tags that were observed, for callers that wait.

    Raises:
        NotFound: of the kind `repository`.
    """
    progress = progress or Progress()
    seen, news = {}, []
    records = await store.describe_tags(name)
    for record in records:
        before = known.get(record.tag)
        if before is not None and before.digest == record.digest:
            seen[record] = replace(before, pushed_at=record.updated or before.pushed_at)
        else:
            news.append(record)

    progress.done, progress.total = len(seen), len(records)

    async def read(part: Sequence[TagRecord]) -> None:
        images = await _images(store, name, part)
        seen.update({record: _observed(record, image, now) for record, image in images.items()})
        progress.done += len(part)

    if listings_of(store) is None:
        await bounded_gather([[record] for record in news], read, limit=_READ_AT_ONCE)
    else:
        for start in range(0, len(news), _LISTED_AT_ONCE):
            await read(news[start : start + _LISTED_AT_ONCE])
    return seen


async def _images(store: ImageStore, name: RepositoryName, records: Sequence[TagRecord]) -> dict[TagRecord, Image]:
    """Return the images of tags. Rules do not apply to damaged tags, and such a tag does not affect the others."""
    reader = BoundedReader(store)
    found = await describe_tags(store, name, records, reader=reader)
    if len(records) > 1 and reader.has_skipped:
        # What one read of many has left out may be readable alone.
        found = [one for record in records for one in await describe_tags(store, name, [record])]
    by_tag = {record.tag: record for record in records}
    return {by_tag[one.tag]: one.image for one in found if one.image is not None}


def _observed(record: TagRecord, image: Image, now: datetime) -> ObservedTag:
    return ObservedTag(
        digest=record.digest,
        pushed_at=record.updated or now,
        built_at=image.built,
        is_attached_artifact=image.is_referrer or is_referrer_tag(record.tag),
    )


class ObservedTags:
    """Stores the tags that policies have observed.

    Args:
        database: stores them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, policy_id: int) -> dict[Tag, ObservedTag]:
        """Return the tags that a policy's last run observed."""
        found: dict[Tag, ObservedTag] = {}
        after = ""
        # In parts, so that other requests get their turn.
        while rows := await self._database.rows(_PAGE, {"policy": policy_id, "after": after}):
            found |= {Tag(row.tag): _observed_tag(row) for row in rows}
            after = rows[-1].tag
        return found

    async def keep(
        self, policy_id: int, known: Mapping[Tag, ObservedTag], seen: Mapping[TagRecord, ObservedTag]
    ) -> None:
        """Replace the known tags of a policy by those seen now; does nothing if the policy was deleted."""
        present = {record.tag: observed for record, observed in seen.items()}
        outdated = [tag for tag, observed in known.items() if present.get(tag) != observed]
        changed = [_row(policy_id, tag, one) for tag, one in present.items() if known.get(tag) != one]
        if not outdated and not changed:
            return
        mine = RetentionTagRow.policy_id == policy_id
        try:
            async with self._database.write() as session:
                for start in range(0, len(outdated), _WRITTEN_AT_ONCE):
                    gone = RetentionTagRow.tag.in_(outdated[start : start + _WRITTEN_AT_ONCE])
                    await session.execute(delete(RetentionTagRow).where(mine, gone))
                for start in range(0, len(changed), _WRITTEN_AT_ONCE):
                    await session.execute(insert(RetentionTagRow), changed[start : start + _WRITTEN_AT_ONCE])
        except IntegrityError:
            return


def _observed_tag(row: Any) -> ObservedTag:
    built_at = None if row.built_at == _UNKNOWN else row.built_at
    return ObservedTag(Digest(row.digest), row.pushed_at, built_at, row.is_attached_artifact)


def _row(policy_id: int, tag: Tag, observed: ObservedTag) -> dict[str, Any]:
    return {
        "policy_id": policy_id,
        "tag": tag,
        "digest": observed.digest,
        "pushed_at": observed.pushed_at,
        "built_at": observed.built_at or _UNKNOWN,
        "is_attached_artifact": observed.is_attached_artifact,
    }
