"""Terraform's resources of IAM; see `tests.support.terraform`."""

from typing import Any, ClassVar

from tests.support.terraform import Config, Provider, State

_USERS = "/v3.0/OS-USER/users"
_KEYS = "/v3.0/OS-CREDENTIAL/credentials"


class User:
    """huaweicloud_identity_user."""

    defaults: ClassVar[State] = {
        "description": "",
        "email": "",
        "phone": "",
        "country_code": "",
        "external_identity_id": "",
        "enabled": True,
        "pwd_reset": True,
    }
    _fields: ClassVar[dict[str, str]] = {
        "name": "name",
        "description": "description",
        "email": "email",
        "phone": "phone",
        "country_code": "areacode",
        "access_type": "access_mode",
        "external_identity_id": "xuser_id",
        "external_identity_type": "xuser_type",
        "enabled": "enabled",
        "pwd_reset": "pwd_status",
        "password": "password",
    }

    async def create(self, provider: Provider, config: Config) -> str:
        given = {"enabled": True, "pwd_reset": True, **config}
        body = {sent: given[field] for field, sent in self._fields.items() if given.get(field, "") != ""}
        user = {**body, "domain_id": provider.domain_id}
        answer = await provider.call("POST", _USERS, {"user": user}, status=201)
        return str(answer.document["user"]["id"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"{_USERS}/{resource_id}")
        if found is None:
            return None
        user = found["user"]
        state = {field: user[sent] for field, sent in self._fields.items() if field != "password"}
        return {**state, "create_time": user["create_time"]}

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        changed = {field: value for field, value in new.items() if value != old.get(field)}
        body = {self._fields[field]: value for field, value in changed.items()}
        await provider.call("PUT", f"{_USERS}/{resource_id}", {"user": body}, status=200)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"/v3/users/{resource_id}", status=204)


class Key:
    """huaweicloud_identity_access_key."""

    defaults: ClassVar[State] = {"description": "", "status": "active"}

    async def create(self, provider: Provider, config: Config) -> str:
        body: dict[str, Any] = {"user_id": config["user_id"]}
        if config.get("description"):
            body["description"] = config["description"]
        answer = await provider.call("POST", _KEYS, {"credential": body}, status=201)
        return str(answer.document["credential"]["access"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"{_KEYS}/{resource_id}")
        return found and {
            field: found["credential"][field] for field in ("user_id", "description", "status", "create_time")
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        body = {field: new[field] for field in ("description", "status") if new.get(field)}
        await provider.call("PUT", f"{_KEYS}/{resource_id}", {"credential": body}, status=200)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"{_KEYS}/{resource_id}", status=204)


class GroupMembership:
    """huaweicloud_identity_group_membership; its id is the group's, and the users are compared in any order."""

    defaults: ClassVar[State] = {}

    def _path(self, config: Config, user_id: str) -> str:
        return f"/v3/groups/{config['group']}/users/{user_id}"

    async def create(self, provider: Provider, config: Config) -> str:
        for user_id in config["users"]:
            await provider.call("PUT", self._path(config, user_id), status=204)
        return str(config["group"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"/v3/groups/{resource_id}/users")
        members = {user["id"] for user in found["users"]} & set(config["users"])
        return {"group": resource_id, "users": sorted(members)} if members else None

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        for user_id in set(old["users"]) - set(new["users"]):
            await provider.call("DELETE", self._path(old, user_id), status=204)
        for user_id in set(new["users"]) - set(old["users"]):
            await provider.call("PUT", self._path(new, user_id), status=204)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        for user_id in config["users"]:
            await provider.call("DELETE", self._path(config, user_id), status=204)
