"""Repositories shared with other domains, on behalf of users."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from tagferry.accounts.access import AccessControl, today
from tagferry.accounts.model import Caller, Permission
from tagferry.accounts.shares import Share, Shares
from tagferry.errors import Invalid
from tagferry.inventory.repositories import RepositoryInventory
from tagferry.names import RepositoryName
from tagferry.regions import Region

FOREVER = "forever"
"""The deadline of a share without end, in SWR's terms."""


class ShareInventory:
    """The shares of repositories, for callers of every API.

    Changes raise NotFound for a repository or a domain that does not exist, and Denied for callers who cannot manage
    the repository.

    Args:
        access: authorizes the caller.
        repositories: the repositories.
        shares: stores the shares.
    """

    def __init__(self, *, access: AccessControl, repositories: RepositoryInventory, shares: Shares) -> None:
        self._access = access
        self._repositories = repositories
        self._shares = shares

    async def visible(self, caller: Caller, region: Region, name: RepositoryName) -> Sequence[Share]:
        """Return the shares of a repository, expired ones too. Guests see only that with their own domain."""
        access = await self._access.require(caller, region.id, name, Permission.READ)
        record = await self._repositories.find_record(region, name)
        shares = await self._shares.list_of(record.id) if record else []
        return [share for share in shares if not access.is_guest or share.domain_name == caller.domain_name]

    async def create(
        self,
        caller: Caller,
        region: Region,
        name: RepositoryName,
        domain: str,
        *,
        deadline: datetime | None,
        description: str,
    ) -> None:
        """Share a repository with a domain; raises Conflict if it is shared already."""
        record = await self._record(caller, region, name)
        await self._shares.create(caller, record, domain, deadline=deadline, description=description)

    async def update(
        self,
        caller: Caller,
        region: Region,
        name: RepositoryName,
        domain: str,
        *,
        deadline: datetime | None,
        description: str | None,
    ) -> None:
        """Change a share's deadline, and its description unless None."""
        record = await self._record(caller, region, name)
        await self._shares.update(record, domain, deadline=deadline, description=description)

    async def delete(self, caller: Caller, region: Region, name: RepositoryName, domain: str) -> None:
        """Stop sharing a repository with a domain."""
        await self._shares.delete(await self._record(caller, region, name), domain)

    async def _record(self, caller: Caller, region: Region, name: RepositoryName) -> int:
        return await self._repositories.record_to_change(caller, region, name, Permission.MANAGE)


def parse_deadline(text: str) -> datetime | None:
    """Parse the last day of a share, None for `forever`; raises Invalid."""
    if text == FOREVER:
        return None
    rule = f"must be {FOREVER}, or a date in UTC from today on, such as 2027-12-31 or 2027-12-31T00:00:00Z"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z)?", text, re.ASCII):
        raise Invalid("deadline", rule, text)
    try:
        deadline = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise Invalid("deadline", rule, text) from None
    if deadline < today():
        raise Invalid("deadline", rule, text)
    return deadline
