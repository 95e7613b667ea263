"""Conditions that select the rows of some repositories."""

from collections.abc import Collection, Iterator

from sqlalchemy import ColumnElement, and_

from tagferry.db.tables import RepositoryDownloadsRow, RepositoryRow
from tagferry.names import RegionId, RepositoryName

_NAMES = 100


def rows_of(
    row: type[RepositoryRow | RepositoryDownloadsRow], region: RegionId, names: Collection[RepositoryName]
) -> Iterator[tuple[frozenset[RepositoryName], ColumnElement[bool]]]:
    """Yield a part of these repositories, and a condition that selects their rows.

    It may select others, too: those with the name of one of these in the organization of another one. A statement for
    each organization would be exact, but a list of many organizations would wait for many statements.
    """
    left = sorted(set(names))
    for start in range(0, len(left), _NAMES):
        part = frozenset(left[start : start + _NAMES])
        condition = and_(
            row.region == region,
            row.namespace.in_({name.unchecked_namespace for name in part}),
            row.name.in_({name.unchecked_repository for name in part}),
        )
        yield part, condition
