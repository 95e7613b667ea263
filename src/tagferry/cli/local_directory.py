"""The accounts in the database of a configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tagferry.accounts.grants import Grants
from tagferry.accounts.model import Organization, Permission
from tagferry.app import ADMIN, DEFAULT_DOMAIN, Accounts, open_accounts
from tagferry.cli.directory import KeyItem, OrganizationItem, Quotas, UserItem, no_permission
from tagferry.db.tables import OrganizationPermissionRow
from tagferry.errors import NotFound
from tagferry.names import Namespace, RegionId
from tagferry.settings import Settings


@asynccontextmanager
async def open_local_directory(config: Path, *, needs_secrets: bool = False) -> AsyncIterator["LocalDirectory"]:
    """Open the database of a configuration; the argument is `open_accounts`'."""
    settings = Settings.load(config)
    async with open_accounts(settings, needs_secrets=needs_secrets) as accounts:
        yield LocalDirectory(accounts, settings)


class LocalDirectory:
    """A `Directory` in a database.

    Args:
        accounts: the services on the database.
        settings: the configuration, which has the regions.
    """

    def __init__(self, accounts: Accounts, settings: Settings) -> None:
        self._accounts = accounts
        self._settings = settings
        self._grants = Grants(accounts.database, on=OrganizationPermissionRow.organization_id)

    async def users(self) -> list[UserItem]:
        return [
            UserItem(
                name=user.name,
                domain=user.domain_name,
                is_admin=user.is_admin,
                enabled=user.enabled,
                description=user.description,
            )
            for user in await self._accounts.users.list_users()
        ]

    async def create_user(
        self, name: str, password: str, *, domain: str | None, is_admin: bool, description: str
    ) -> None:
        users = self._accounts.users
        await users.create(name, password, domain=domain or DEFAULT_DOMAIN, is_admin=is_admin, description=description)

    async def update_user(
        self, name: str, *, password: str | None = None, enabled: bool | None = None, is_admin: bool | None = None
    ) -> None:
        user = await self._accounts.users.find(name)
        await self._accounts.users.update(user.user_id, password=password, enabled=enabled, is_admin=is_admin)

    async def delete_user(self, name: str) -> None:
        user = await self._accounts.users.find(name)
        await self._accounts.users.delete(user.user_id)

    async def keys_of(self, user: str) -> list[KeyItem]:
        owner = await self._accounts.users.find(user)
        return [
            KeyItem(
                access_key=key.access_key,
                created_at=key.created_at,
                last_used_at=key.last_used_at,
                enabled=key.enabled,
                description=key.description,
            )
            for key in await self._accounts.keys.list_of(owner.user_id)
        ]

    async def create_key(self, user: str, description: str) -> tuple[str, str]:
        owner = await self._accounts.users.find(user)
        key = await self._accounts.keys.create(owner.user_id, description=description)
        return key.access_key, key.secret_key

    async def rotate_key(self, access_key: str) -> tuple[str, str]:
        old = await self._accounts.keys.show(access_key)
        key = await self._accounts.keys.create(old.user_id, description=old.description)
        return key.access_key, key.secret_key

    async def enable_key(self, access_key: str, *, enabled: bool) -> None:
        await self._accounts.keys.update(access_key, enabled=enabled)

    async def delete_key(self, access_key: str) -> None:
        await self._accounts.keys.delete(access_key)

    async def organizations(self, region: RegionId) -> list[OrganizationItem]:
        listed = await self._accounts.organizations.list_all(self._configured(region))
        return [OrganizationItem(name=one.name, creator=one.creator_name, created_at=one.created_at) for one in listed]

    async def create_organization(self, region: RegionId, name: Namespace, *, owner: str | None) -> None:
        self._configured(region)
        creator = await self._accounts.users.find(owner or ADMIN)
        await self._accounts.organizations.create(creator, region, name)

    async def delete_organization(self, region: RegionId, name: Namespace) -> None:
        await self._accounts.organizations.delete(self._configured(region), name)

    async def grants(self, region: RegionId, name: Namespace) -> list[tuple[str, int]]:
        organization = await self._organization(region, name)
        return [(one.user_name, int(one.permission)) for one in await self._grants.list_for(organization.id)]

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: int) -> None:
        await self._accounts.organizations.grant(self._configured(region), name, user, Permission(permission))

    async def revoke(self, region: RegionId, name: Namespace, user: str) -> None:
        organization = await self._organization(region, name)
        holder = await self._accounts.users.find(user)
        if all(one.user_id != holder.user_id for one in await self._grants.list_for(organization.id)):
            raise no_permission(region, name, user)
        await self._grants.remove(organization.id, [holder.user_id])

    async def quotas(self, region: RegionId, name: Namespace, changes: Quotas) -> Quotas:
        await self._accounts.quotas.set(self._configured(region), name, changes)
        limits = await self._accounts.quotas.limits(region, name)
        return {"bytes": limits.bytes, "repositories": limits.repositories, "uploads": limits.uploads}

    async def _organization(self, region: RegionId, name: Namespace) -> Organization:
        listed = await self._accounts.organizations.list_all(self._configured(region))
        found = next((one for one in listed if one.name == name), None)
        if found is None:
            raise NotFound("organization", name, where=f"in {region}")
        return found

    def _configured(self, region: RegionId) -> RegionId:
        if region not in self._settings.regions:
            raise NotFound("region", region, f"the configuration has {', '.join(self._settings.regions)}")
        return region
