"""What retention knows of the tags that stand in a repository, and remembers from one look to the next.

A registry of tagferry's own tells when a tag was pushed. Others do not, so that there a tag's age counts from the look
at which it was first seen to point to its digest: it may go later than it should, and never earlier. What a digest
stands for does not change, so that it is read once.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from tagferry.automation.retention.rules import ObservedTag
from tagferry.catalog import describe_tags
from tagferry.catalog.contents import Image
from tagferry.concurrency import bounded_gather
from tagferry.db.engine import Database
from tagferry.db.tables import RetentionTagRow
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore, TagRecord
from tagferry.oci.referrer_tags import is_referrer_tag

_READ_AT_ONCE = 8
_WRITTEN_AT_ONCE = 500
_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""The value in the database if it is not known when an image was built."""


async def look(
    store: ImageStore, name: RepositoryName, known: Mapping[Tag, ObservedTag], *, now: datetime
) -> dict[TagRecord, ObservedTag]:
    """Look at a repository's tags; one whose manifest cannot be read, or is not understood, is passed over.

    Args:
        store: where the repository is.
        name: the repository.
        known: what was seen at the last look.
        now: when that is.

    Raises:
        NotFound: of the kind `repository`.
    """
    seen, news = {}, []
    for record in await store.describe_tags(name):
        before = known.get(record.tag)
        if before is not None and before.digest == record.digest:
            seen[record] = replace(before, pushed_at=record.updated or before.pushed_at)
        else:
            news.append(record)

    async def read(record: TagRecord) -> None:
        for details in await describe_tags(store, name, [record]):
            # What is damaged is not for a rule to judge, and keeps none from judging the rest.
            if details.image is not None:
                seen[record] = _sighting(record, details.image, now)

    await bounded_gather(news, read, limit=_READ_AT_ONCE)
    return seen


def _sighting(record: TagRecord, image: Image, now: datetime) -> ObservedTag:
    return ObservedTag(
        digest=record.digest,
        pushed_at=record.updated or now,
        built_at=image.built,
        is_attachment=image.is_referrer or is_referrer_tag(record.tag),
    )


class ObservedTags:
    """What policies remember of tags.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, policy_id: int) -> dict[Tag, ObservedTag]:
        """What a policy has seen at its last look."""
        async with self._database.read() as session:
            rows = await session.scalars(select(RetentionTagRow).where(RetentionTagRow.policy_id == policy_id))
            return {Tag(row.tag): _remembered(row) for row in rows}

    async def keep(
        self, policy_id: int, known: Mapping[Tag, ObservedTag], seen: Mapping[TagRecord, ObservedTag]
    ) -> None:
        """Remember what was seen instead of what was known; a policy that was deleted meanwhile remembers nothing."""
        present = {record.tag: sighting for record, sighting in seen.items()}
        outdated = [tag for tag, sighting in known.items() if present.get(tag) != sighting]
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


def _remembered(row: RetentionTagRow) -> ObservedTag:
    built_at = None if row.built_at == _UNKNOWN else row.built_at
    return ObservedTag(Digest(row.digest), row.pushed_at, built_at, row.is_attachment)


def _row(policy_id: int, tag: Tag, sighting: ObservedTag) -> dict[str, Any]:
    return {
        "policy_id": policy_id,
        "tag": tag,
        "digest": sighting.digest,
        "pushed_at": sighting.pushed_at,
        "built_at": sighting.built_at or _UNKNOWN,
        "is_attachment": sighting.is_attachment,
    }
