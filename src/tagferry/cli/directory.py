"""Users, access keys, organizations and permissions, wherever they are: in a database or behind an API."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tagferry.cli.site import Site
from tagferry.cli.usage import LIST_ORGANIZATIONS, LIST_USERS, naming
from tagferry.errors import NotFound
from tagferry.names import Namespace, RegionId

PERMISSIONS = {"read": 1, "edit": 3, "manage": 7}
"""The permissions by name, with SWR's numbers."""
_FIELDS = {
    "user name": "NAME",
    "user.name": "NAME",
    "description": "--description",
    "domain": "--domain",
    "namespace": "REGION/ORG",
}
"""The arguments and options that databases and servers call by other names."""
_HINTS = {"user": LIST_USERS, "organization": LIST_ORGANIZATIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserItem:
    """A user."""

    name: str
    domain: str
    is_admin: bool
    enabled: bool
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {
            "name": self.name,
            "domain": self.domain,
            "isAdministrator": self.is_admin,
            "enabled": self.enabled,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyItem:
    """An access key, without its secret."""

    access_key: str
    created_at: datetime
    last_used_at: datetime | None
    enabled: bool
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return {
            "accessKey": self.access_key,
            "createdAt": self.created_at.isoformat(),
            "lastUsedAt": self.last_used_at.isoformat() if self.last_used_at is not None else None,
            "enabled": self.enabled,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationItem:
    """An organization.

    Attributes:
        created_at: when it was created; None if the API does not say.
    """

    name: str
    creator: str
    created_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        created_at = self.created_at.isoformat() if self.created_at is not None else None
        return {"name": self.name, "creator": self.creator, "createdAt": created_at}


Quotas = dict[str, int | None]
"""The limits of an organization by kind: `bytes`, `repositories` and `uploads`; None for no limit."""


class Directory(Protocol):
    """The accounts of an installation. Users and keys are named; NotFound is raised for those that do not exist."""

    async def users(self) -> list[UserItem]:
        """Return the users by name."""
        ...

    async def create_user(
        self, name: str, password: str, *, domain: str | None, is_admin: bool, description: str
    ) -> None:
        """Create a user; without a domain, in that of the installation or the caller."""
        ...

    async def update_user(
        self, name: str, *, password: str | None = None, enabled: bool | None = None, is_admin: bool | None = None
    ) -> None:
        """Change the given fields of a user."""
        ...

    async def delete_user(self, name: str) -> None:
        """Delete a user with its keys."""
        ...

    async def keys_of(self, user: str) -> list[KeyItem]:
        """Return the access keys of a user, oldest first."""
        ...

    async def create_key(self, user: str, description: str) -> tuple[str, str]:
        """Create an access key; return it with its secret."""
        ...

    async def rotate_key(self, access_key: str) -> tuple[str, str]:
        """Create another access key with the same user and description; return it with its secret."""
        ...

    async def enable_key(self, access_key: str, *, enabled: bool) -> None:
        """Enable or disable an access key."""
        ...

    async def delete_key(self, access_key: str) -> None:
        """Delete an access key."""
        ...

    async def organizations(self, region: RegionId) -> list[OrganizationItem]:
        """Return the organizations of a region by name."""
        ...

    async def create_organization(self, region: RegionId, name: Namespace, *, owner: str | None) -> None:
        """Create an organization; without an owner, that of the administrator or the caller."""
        ...

    async def delete_organization(self, region: RegionId, name: Namespace) -> None:
        """Delete an organization."""
        ...

    async def grants(self, region: RegionId, name: Namespace) -> list[tuple[str, int]]:
        """Return the users with a permission in an organization, in the order in which they got it."""
        ...

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: int) -> None:
        """Set a user's permission in an organization."""
        ...

    async def revoke(self, region: RegionId, name: Namespace, user: str) -> None:
        """Revoke a user's permission in an organization."""
        ...

    async def quotas(self, region: RegionId, name: Namespace, changes: Quotas) -> Quotas:
        """Set the given quotas of an organization; return all of them."""
        ...


@contextmanager
def _hinting() -> Iterator[None]:
    """Say how to list what exists, if something does not."""
    try:
        yield
    except NotFound as error:
        if error.hint or error.kind not in _HINTS:
            raise
        raise NotFound(error.kind, error.name, _HINTS[error.kind], where=error.where) from None


def no_permission(region: RegionId, name: Namespace, user: str) -> NotFound:
    """Return the error for a user without a permission in an organization."""
    return NotFound("permission", "", where=f'of the user "{user}" in {region}/{name}')


@asynccontextmanager
async def directory_of(site: Site, *, needs_secrets: bool = False) -> AsyncIterator[Directory]:
    """Open the accounts of an installation. Errors name arguments and options as they are typed.

    Args:
        site: the installation.
        needs_secrets: whether a database must be one whose secrets the configuration can decrypt.
    """
    with naming(_FIELDS), _hinting():
        if site.is_remote:
            from tagferry.cli.remote_directory import RemoteDirectory

            async with site.client() as client:
                yield RemoteDirectory(client)
        else:
            from tagferry.cli.local_directory import open_local_directory

            async with open_local_directory(site.config, needs_secrets=needs_secrets) as directory:
                yield directory
