"""Terraform's resources as its provider for Huawei Cloud has them: what each sends, and what it reads back.

Each resource is modeled by its requests and the fields of its state. The facts are those of the provider's source
(huaweicloud/terraform-provider-huaweicloud, `huaweicloud/services/swr` and `services/iam`, with chnsz/golangsdk).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tests.support.deployment import NORTH, Answer, Deployment

State = dict[str, Any]
Config = Mapping[str, Any]

_AUTH = {"Manage": 7, "Write": 3, "Read": 1}
_PERMISSION = {value: name for name, value in _AUTH.items()}


@dataclass(frozen=True)
class Provider:
    """The provider's connection, with a token of an administrator."""

    ferry: Deployment
    token: str
    domain_id: str

    async def call(self, method: str, path: str, body: Any = None, *, status: int) -> Answer:
        """A request that must succeed with this status, as the provider insists on one."""
        answer = await self.request(method, path, body)
        assert answer.status == status, (method, path, answer.content)
        return answer

    async def read(self, path: str) -> Any:
        """Return the document at the path, or None if it does not exist."""
        answer = await self.request("GET", path)
        if answer.status == 404:
            return None
        assert answer.status == 200, (path, answer.content)
        return answer.document

    async def request(self, method: str, path: str, body: Any = None) -> Answer:
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        return await self.ferry.http(method, path, region=NORTH, body=body, headers=headers)


class Resource(Protocol):
    """One type of resource.

    Attributes:
        defaults: the fields that a configuration may leave out, with what the provider compares then.
    """

    defaults: ClassVar[State]

    async def create(self, provider: Provider, config: Config) -> str:
        """Make it; returns its id."""
        ...

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        """Return the state, or None if the resource does not exist. It uses only what an import knows."""
        ...

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None: ...

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None: ...


def _given(**fields: Any) -> dict[str, Any]:
    """A body without what golangsdk leaves out of it: empty texts."""
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _repository(config: Config, collection: str = "repos") -> str:
    name = config["repository"].replace("/", "$")
    return f"/v2/manage/namespaces/{config['organization']}/{collection}/{name}"


class Organization:
    """huaweicloud_swr_organization."""

    defaults: ClassVar[State] = {}

    async def create(self, provider: Provider, config: Config) -> str:
        await provider.call("POST", "/v2/manage/namespaces", {"namespace": config["name"]}, status=201)
        return str(config["name"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"/v2/manage/namespaces/{resource_id}")
        return found and {
            "name": found["name"],
            "creator": found["creator_name"],
            "permission": _PERMISSION[found["auth"]],
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        raise AssertionError("every field of it makes a new one")

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"/v2/manage/namespaces/{resource_id}", status=204)


class Permissions:
    """huaweicloud_swr_organization_permissions and huaweicloud_swr_image_permissions."""

    defaults: ClassVar[State] = {}

    def _path(self, config: Config) -> str:
        return f"/v2/manage/namespaces/{config['organization']}/access"

    async def create(self, provider: Provider, config: Config) -> str:
        users = []
        for user in config["users"]:
            found = await provider.read(f"/v3.0/OS-USER/users/{user['user_id']}")
            auth = _AUTH[user["permission"]]
            users.append({"user_id": user["user_id"], "user_name": found["user"]["name"], "auth": auth})
        await provider.call("POST", self._path(config), users, status=201)
        return "/".join(filter(None, (config["organization"], config.get("repository"))))

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        organization, _, repository = resource_id.partition("/")
        where = {"organization": organization} | ({"repository": repository} if repository else {})
        found = await provider.read(self._path(where))
        return found and {
            "organization": organization,
            **({"repository": found["name"]} if repository else {"creator": found["creator_name"]}),
            "users": [
                {"user_id": one["user_id"], "permission": _PERMISSION[one["auth"]]} for one in found["others_auths"]
            ],
            "self_permission": found["self_auth"],
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        await self.delete(provider, old, resource_id)
        await self.create(provider, new)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", self._path(config), [one["user_id"] for one in config["users"]], status=204)


class ImagePermissions(Permissions):
    """huaweicloud_swr_image_permissions."""

    def _path(self, config: Config) -> str:
        return f"{_repository(config)}/access"


class Repository:
    """huaweicloud_swr_repository; its id is its name, and its organization is known of an import."""

    defaults: ClassVar[State] = {"category": "", "description": "", "is_public": False}

    def _body(self, config: Config) -> dict[str, Any]:
        said = _given(category=config.get("category"), description=config.get("description"))
        return {**said, "is_public": config.get("is_public", False)}

    def _path(self, config: Config, name: str) -> str:
        return _repository({"organization": config["organization"], "repository": name})

    async def create(self, provider: Provider, config: Config) -> str:
        path = f"/v2/manage/namespaces/{config['organization']}/repos"
        await provider.call("POST", path, {"repository": config["name"], **self._body(config)}, status=201)
        return str(config["name"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(self._path(config, resource_id))
        fields = "name", "description", "category", "is_public", "path", "internal_path", "num_images", "size", "id"
        return found and {"organization": config["organization"], **{field: found[field] for field in fields}}

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        await provider.call("PATCH", self._path(new, resource_id), self._body(new), status=201)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", self._path(config, resource_id), status=204)


class Sharing:
    """huaweicloud_swr_repository_sharing; its id is the domain's name."""

    defaults: ClassVar[State] = {"description": "", "permission": "pull"}

    def _path(self, config: Config, domain: str = "") -> str:
        return f"{_repository(config, 'repositories')}/access-domains" + (f"/{domain}" if domain else "")

    def _deadline(self, config: Config) -> str:
        return "forever" if config["deadline"] == "forever" else f"{config['deadline']}T00:00:00Z"

    async def create(self, provider: Provider, config: Config) -> str:
        body = _given(
            access_domain=config["sharing_account"],
            permit="read",
            deadline=self._deadline(config),
            description=config.get("description"),
        )
        await provider.call("POST", self._path(config), body, status=201)
        return str(config["sharing_account"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(self._path(config, resource_id))
        if found is None or not found["exist"]:
            return None
        return {
            "organization": found["namespace"],
            "repository": found["repository"],
            "sharing_account": found["access_domain"],
            "description": found["description"],
            "deadline": found["deadline"] if found["deadline"] == "forever" else found["deadline"][:10],
            "permission": {"read": "pull"}[found["permit"]],
            "status": found["status"],
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        body = {"permit": "read", "deadline": self._deadline(new), "description": new.get("description", "")}
        await provider.call("PATCH", self._path(new, resource_id), body, status=201)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", self._path(config, resource_id), status=204)


class RetentionPolicy:
    """huaweicloud_swr_image_retention_policy."""

    defaults: ClassVar[State] = {"tag_selectors": []}

    def _body(self, config: Config) -> dict[str, Any]:
        unit = "days" if config["type"] == "date_rule" else "num"
        rule = {
            "template": config["type"],
            "params": {unit: str(config["number"])},
            "tag_selectors": config.get("tag_selectors", []),
        }
        return {"algorithm": "or", "rules": [rule]}

    async def create(self, provider: Provider, config: Config) -> str:
        answer = await provider.call("POST", f"{_repository(config)}/retentions", self._body(config), status=201)
        return str(answer.document["id"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"{_repository(config)}/retentions/{resource_id}")
        if found is None or not found["rules"]:
            return None
        rule = found["rules"][0]
        return {
            "organization": config["organization"],
            "repository": config["repository"],
            "type": rule["template"],
            "number": int(rule["params"]["days" if rule["template"] == "date_rule" else "num"]),
            "tag_selectors": [{"kind": one["kind"], "pattern": one["pattern"]} for one in rule["tag_selectors"]],
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        path = f"{_repository(new)}/retentions/{resource_id}"
        await provider.call("PATCH", path, self._body(new), status=201)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"{_repository(config)}/retentions/{resource_id}", status=200)


class Trigger:
    """huaweicloud_swr_image_trigger; its id is its name."""

    defaults: ClassVar[State] = {}
    _fields: ClassVar[dict[str, str]] = {
        "name": "name",
        "workload_type": "app_type",
        "workload_name": "application",
        "cluster_id": "cluster_id",
        "cluster_name": "cluster_name",
        "namespace": "cluster_ns",
        "condition_type": "trigger_type",
        "condition_value": "condition",
        "container": "container",
        "type": "trigger_mode",
    }

    async def create(self, provider: Provider, config: Config) -> str:
        body = _given(**{sent: config.get(field) for field, sent in self._fields.items()})
        body |= {"action": "update", "enable": config.get("enabled", "true")}
        await provider.call("POST", f"{_repository(config)}/triggers", body, status=201)
        return str(config["name"])

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        found = await provider.read(f"{_repository(config)}/triggers/{resource_id}")
        return found and {
            "organization": config["organization"],
            "repository": config["repository"],
            **{field: found[sent] for field, sent in self._fields.items()},
            "enabled": found["enable"],
            "created_at": found["created_at"],
            "creator_name": found["creator_name"],
        }

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        body = {"enable": new["enabled"]}
        await provider.call("PATCH", f"{_repository(new)}/triggers/{resource_id}", body, status=201)

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"{_repository(config)}/triggers/{resource_id}", status=204)


class AutoSync:
    """huaweicloud_swr_image_auto_sync."""

    defaults: ClassVar[State] = {}

    def _body(self, config: Config) -> dict[str, Any]:
        return {"remoteRegionId": config["target_region"], "remoteNamespace": config["target_organization"]}

    async def create(self, provider: Provider, config: Config) -> str:
        given = {"override": True} if config.get("override") else {}
        body = {**self._body(config), "syncAuto": True, **given}
        await provider.call("POST", f"{_repository(config)}/sync_repo", body, status=200)
        return "/".join(
            config[field] for field in ("organization", "repository", "target_region", "target_organization")
        )

    async def read(self, provider: Provider, config: Config, resource_id: str) -> State | None:
        organization, repository, *target = resource_id.split("/")
        found = await provider.read(
            f"{_repository({'organization': organization, 'repository': repository})}/sync_repo"
        )
        for one in found or []:
            if [one["remoteRegionId"], one["remoteNamespace"]] == target:
                return {
                    "organization": one["namespace"],
                    "repository": one["repoName"],
                    "override": one["override"],
                    "target_region": target[0],
                    "target_organization": target[1],
                    "created_at": one["createdAt"],
                }
        return None

    async def update(self, provider: Provider, old: Config, new: Config, resource_id: str) -> None:
        raise AssertionError("every field of it makes a new one")

    async def delete(self, provider: Provider, config: Config, resource_id: str) -> None:
        await provider.call("DELETE", f"{_repository(config)}/sync_repo", self._body(config), status=200)
