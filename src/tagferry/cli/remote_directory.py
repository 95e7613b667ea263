"""The accounts of a server, through IAM and the management API."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from tagferry.cli.client import ManagementClient
from tagferry.cli.directory import KeyItem, OrganizationItem, Quotas, UserItem, no_permission
from tagferry.cli.server_error import ServerError, ServerUnreachable
from tagferry.errors import Invalid, NotFound, Unsupported
from tagferry.names import Namespace, RegionId

_USERS = "/v3/users"
_KEYS = "/v3.0/OS-CREDENTIAL/credentials"
_ORGANIZATIONS = "/v2/manage/namespaces"
_DENIED, _NOT_FOUND, _CONFLICT = 403, 404, 409
_UNLIMITED = -1
_QUOTAS = {"storage": "bytes", "repository": "repositories", "upload": "uploads"}
"""The kinds of quotas by their names in the API."""


class RemoteDirectory:
    """A `Directory` of a server.

    Args:
        client: a client of one of the server's regions, whose organizations it can change.
    """

    def __init__(self, client: ManagementClient) -> None:
        self._client = client

    async def users(self) -> list[UserItem]:
        listed = await self._list(_USERS, "users")
        admins = {user["id"] for user in await self._list(f"{await self._admin_group()}/users", "users")}
        domains = {one["id"]: one["name"] for one in await self._list("/v3/domains", "domains")}
        return [
            UserItem(
                name=user["name"],
                domain=domains.get(user["domain_id"], user["domain_id"]),
                is_admin=user["id"] in admins,
                enabled=user["enabled"],
                description=user["description"],
            )
            for user in listed
        ]

    async def create_user(
        self, name: str, password: str, *, domain: str | None, is_admin: bool, description: str
    ) -> None:
        wanted = {"name": name, "password": password, "description": description}
        if domain is not None:
            wanted["domain_id"] = await self._domain_id(domain)
        made = await self._client.request("POST", _USERS, body={"user": wanted})
        if is_admin:
            await self._client.request("PUT", f"{await self._admin_group()}/users/{_id(made, 'user')}")

    async def update_user(
        self, name: str, *, password: str | None = None, enabled: bool | None = None, is_admin: bool | None = None
    ) -> None:
        user_id = await self._user_id(name)
        given = {"password": password, "enabled": enabled}
        changes = {field: value for field, value in given.items() if value is not None}
        if changes:
            await self._client.request("PATCH", f"{_USERS}/{user_id}", body={"user": changes})
        if is_admin is not None:
            member = f"{await self._admin_group()}/users/{user_id}"
            await self._client.request("PUT" if is_admin else "DELETE", member)

    async def delete_user(self, name: str) -> None:
        await self._client.request("DELETE", f"{_USERS}/{await self._user_id(name)}")

    async def keys_of(self, user: str) -> list[KeyItem]:
        listed = await self._list(_KEYS, "credentials", user_id=await self._user_id(user))
        # Only the operation for one key returns its last use.
        return [_key(await self._key(key["access"])) for key in listed]

    async def create_key(self, user: str, description: str) -> tuple[str, str]:
        return await self._create_key(await self._user_id(user), description)

    async def rotate_key(self, access_key: str) -> tuple[str, str]:
        old = await self._key(access_key)
        return await self._create_key(old["user_id"], old["description"])

    async def enable_key(self, access_key: str, *, enabled: bool) -> None:
        change = {"credential": {"status": "active" if enabled else "inactive"}}
        await self._client.request("PUT", f"{_KEYS}/{_part(access_key)}", body=change)

    async def delete_key(self, access_key: str) -> None:
        await self._client.request("DELETE", f"{_KEYS}/{_part(access_key)}")

    async def organizations(self, region: RegionId) -> list[OrganizationItem]:
        await self._require_region(region)
        listed = await self._list(_ORGANIZATIONS, "namespaces")
        return [OrganizationItem(name=one["name"], creator=one["creator_name"], created_at=None) for one in listed]

    async def create_organization(self, region: RegionId, name: Namespace, *, owner: str | None) -> None:
        if owner is not None:
            raise Invalid("--owner", "cannot be used with a server, where you are the owner; grant the permission then")
        await self._require_region(region)
        await self._client.create_organization(name)

    async def delete_organization(self, region: RegionId, name: Namespace) -> None:
        await self._require_region(region)
        await self._client.request("DELETE", f"{_ORGANIZATIONS}/{name}")

    async def grants(self, region: RegionId, name: Namespace) -> list[tuple[str, int]]:
        shown = await self._auths(region, name)
        # The caller's permission is the effective one: that of an administrator need not be granted.
        return [(one["user_name"], one["auth"]) for one in (shown["self_auth"], *shown["others_auths"])]

    async def grant(self, region: RegionId, name: Namespace, user: str, permission: int) -> None:
        await self._require_region(region)
        path = f"{_ORGANIZATIONS}/{name}/access"
        wanted = [{"user_id": await self._user_id(user), "user_name": user, "auth": permission}]
        try:
            await self._client.request("POST", path, body=wanted)
        except ServerError as error:
            if error.status != _CONFLICT:
                raise
            await self._client.request("PATCH", path, body=wanted)

    async def revoke(self, region: RegionId, name: Namespace, user: str) -> None:
        await self._auths(region, name)
        user_id = await self._user_id(user)
        try:
            await self._client.request("DELETE", f"{_ORGANIZATIONS}/{name}/access", body=[user_id])
        except ServerError as error:
            if error.status != _NOT_FOUND:
                raise
            raise no_permission(region, name, user) from None

    async def quotas(self, region: RegionId, name: Namespace, changes: Quotas) -> Quotas:
        if changes:
            raise Unsupported("the API cannot set quotas; run tagferry org quota where the configuration is")
        await self._require_region(region)
        listed = await self._list(f"/v2/manage/projects/{region}/quotas", "quotas", namespace=name)
        limits = {_QUOTAS[one["quota_key"]]: one["quota_limit"] for one in listed if one["quota_key"] in _QUOTAS}
        return {kind: None if limit == _UNLIMITED else limit for kind, limit in limits.items()}

    async def _auths(self, region: RegionId, name: Namespace) -> dict[str, Any]:
        """Return the permissions in an organization: the caller's own, and those of others."""
        await self._require_region(region)
        shown: dict[str, Any] = await self._client.request("GET", f"{_ORGANIZATIONS}/{name}/access")
        return shown

    async def _require_region(self, region: RegionId) -> None:
        """Check that the server's address is that of a region, since its API changes only that one."""
        endpoints = await self._list("/v3/endpoints", "endpoints")
        own = endpoints[0]["region_id"] if endpoints else ""
        if own != region:
            rule = f'must be the address of the region "{region}": it is that of "{own}"'
            raise Invalid("--endpoint", rule)

    async def _user_id(self, name: str) -> str:
        """Return the id of a user. Users who are not administrators find only themselves."""
        try:
            found = await self._list(_USERS, "users", name=name)
        except ServerError as error:
            if error.status != _DENIED:
                raise
            key = await self._key(self._client.access_key)
            own = await self._client.request("GET", f"{_USERS}/{key['user_id']}")
            if own["user"]["name"] != name:
                raise
            found = [own["user"]]
        if not found:
            raise NotFound("user", name)
        return str(found[0]["id"])

    async def _domain_id(self, name: str) -> str:
        found = await self._list("/v3/domains", "domains", name=name)
        if not found:
            hint = "the API creates users in existing domains only; create the first one where the configuration is"
            raise NotFound("domain", name, hint)
        return str(found[0]["id"])

    async def _admin_group(self) -> str:
        """Return the path of the group of the administrators."""
        (group,) = await self._list("/v3/groups", "groups", name="admin")
        return f"/v3/groups/{group['id']}"

    async def _key(self, access_key: str) -> dict[str, Any]:
        shown = await self._client.request("GET", f"{_KEYS}/{_part(access_key)}")
        key: dict[str, Any] = shown["credential"]
        return key

    async def _create_key(self, user_id: str, description: str) -> tuple[str, str]:
        wanted = {"credential": {"user_id": user_id, "description": description}}
        made = (await self._client.request("POST", _KEYS, body=wanted))["credential"]
        return made["access"], made["secret"]

    async def _list(self, path: str, field: str, **query: str) -> list[dict[str, Any]]:
        document = await self._client.request("GET", path, query=query)
        if not isinstance(document, dict) or not isinstance(document.get(field), list):
            raise ServerUnreachable(f"the server did not return a list of {field}; check that it is a tagferry region")
        listed: list[dict[str, Any]] = document[field]
        return listed


def _key(shown: dict[str, Any]) -> KeyItem:
    used = shown.get("last_use_time")
    return KeyItem(
        access_key=shown["access"],
        created_at=datetime.fromisoformat(shown["create_time"]),
        last_used_at=datetime.fromisoformat(used) if used else None,
        enabled=shown["status"] == "active",
        description=shown["description"],
    )


def _id(document: Any, field: str) -> str:
    return str(document[field]["id"])


def _part(text: str) -> str:
    """Return a part of a path."""
    return quote(text, safe="~")
