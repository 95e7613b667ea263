"""The roles of the table of permissions in a running tagferry, and what its use cases need."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from tagferry.accounts.model import Caller, Permission
from tagferry.app import DEFAULT_DOMAIN
from tagferry.automation.rules.store import Rule, RuleSpec
from tagferry.db.tables import SyncJobRow
from tagferry.names import Namespace, RegionId, RepositoryName, RepositoryRef, Tag
from tests.support import images
from tests.support.browser import Browser
from tests.support.deployment import NORTH, SOUTH, TEAM, Answer, Deployment, deployed, name_in
from tests.support.job_rows import job_row
from tests.support.permissions import ADMINISTRATOR, ANONYMOUS, ROLES

MIRROR = Namespace("mirror")
APP = name_in("team")
SOURCE = RepositoryRef.of(NORTH, APP)
SAMPLE = images.image()
LEVELS = {"reader": Permission.READ, "editor": Permission.EDIT, "manager": Permission.MANAGE}
_NO_USER = "0" * 32
_JSON = {"Content-Type": "application/json"}
_LATER = datetime(2999, 1, 1, tzinfo=UTC)


@dataclass
class Roles:
    """A deployment with a user for each role, who is signed in to the console and to the API.

    `app` of the organization `team` is the repository of all use cases. In the south, `mirror` is the organization that
    it is synchronized to, and `team` that of the first steps. Everyone has the same permissions in all of them. The
    repository has a tag, a trigger, a rule, a policy and a share.
    """

    ferry: Deployment
    browsers: dict[str, Browser] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: count(1))

    def password(self, role: str) -> str:
        """Return the password of a role's user."""
        return self.ferry.admin.password if role == ADMINISTRATOR else f"password of {role}"

    def user(self, role: str) -> str:
        """Return the name of a role's user."""
        return self.ferry.admin.name if role == ADMINISTRATOR else role

    async def own(self, role: str) -> str:
        """Return the id of a role's user."""
        return _NO_USER if role == ANONYMOUS else (await self.caller(self.user(role))).user_id

    async def caller(self, name: str = "") -> Caller:
        """Return a user, by default the administrator."""
        return await self.ferry.app.accounts.users.find(name or self.ferry.admin.name)

    async def enter(self, role: str) -> None:
        """Sign in, to the API and to the console."""
        browser = self.browsers[role] = Browser(self.ferry.urls[NORTH])
        if role != ANONYMOUS:
            self.tokens[role] = await self.ferry.token(user=self.user(role), password=self.password(role))
            page = await browser.sign_in(self.user(role), self.password(role))
            assert page.status == 200, page.text

    async def ask(self, role: str, method: str, path: str, body: Any = None, region: str = NORTH) -> Answer:
        """Send a request to the API."""
        token = self.tokens.get(role)
        headers = {**_JSON, **({"X-Auth-Token": token} if token else {})}
        return await self.ferry.http(method, path, region=RegionId(region), body=body, headers=headers)

    async def make(self, method: str, path: str, body: Any = None, region: str = NORTH) -> Answer:
        """Send a request to the API as the administrator, which must succeed."""
        answer = await self.ask(ADMINISTRATOR, method, path, body, region)
        assert answer.status < 300, (path, answer.content)
        return answer

    async def prepare(self, what: str, role: str) -> dict[str, Any]:
        """Make what a use case needs; returns the values of its request."""
        number = next(self._numbers)
        values = {
            "organization": TEAM,
            "repository": "app",
            "name": f"new-{number}",
            "own": await self.own(role),
            "password": self.password(role),
        }
        made = await _PREPARATIONS[what](self, role, number) if what else {}
        return {**values, **made}

    async def repository(self, region: RegionId, name: RepositoryName) -> None:
        """Create a repository, with the permissions on it and the share."""
        path = f"/v2/manage/namespaces/{name.namespace}"
        await self.make(
            "POST",
            f"{path}/repos",
            {"repository": name.repository, "is_public": False, "category": "other", "description": ""},
            region,
        )
        for level, permission in LEVELS.items():
            grant = {"user_id": await self.own(f"repository-{level}"), "user_name": "", "auth": int(permission)}
            await self.make("POST", f"{path}/repos/{name.repository}/access", [grant], region)

    async def rule(self, *, is_on: bool = True) -> Rule:
        """Create the rule, or make it the administrator's again."""
        spec = RuleSpec(await self.caller(), SOURCE, SOUTH, MIRROR, override=False, sync_auto=is_on)
        return await self.ferry.app.services.console.rules.put(spec)

    async def job(self, **columns: Any) -> int:
        """Record a job from the repository to the other organization."""
        access, caller = self.ferry.app.services.console.access, await self.caller()
        source = await access.require_organization(caller, NORTH, TEAM, Permission.READ)
        target = await access.require_organization(caller, SOUTH, MIRROR, Permission.READ)
        assert source is not None
        assert target is not None
        row = job_row(
            repository="app",
            target_namespace=MIRROR,
            source_organization_id=source.id,
            target_organization_id=target.id,
            **columns,
        )
        async with self.ferry.app.services.console.sync._jobs._database.write() as session:
            made = await session.execute(insert(SyncJobRow).values(**row).returning(SyncJobRow.id))
            return int(made.scalar_one())

    async def someone(self, number: int, *, domain: str = DEFAULT_DOMAIN) -> str:
        """Create a user without permissions; returns the id."""
        return (await self.ferry.app.accounts.users.create(f"user-{number}", "a good password", domain=domain)).user_id


async def _tag(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    tag = Tag(f"v{number}.0")
    await images.push(roles.ferry.store(NORTH), APP, SAMPLE, tag)
    return {"tag": tag}


async def _repository(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    await roles.repository(NORTH, RepositoryName(f"team/made-{number}"))
    return {"repository": f"made-{number}"}


async def _organization(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    name = Namespace(f"made-{number}")
    await roles.ferry.organization(NORTH, name)
    for level, permission in LEVELS.items():
        await roles.ferry.grant(level, NORTH, name, permission)
    return {"organization": name}


async def _user(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    return {"user": await roles.someone(number)}


async def _member(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    user = await roles.someone(number)
    await roles.ferry.grant(f"user-{number}", NORTH, TEAM, Permission.READ)
    return {"user": user}


async def _repository_member(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    grant = {"user_id": await roles.someone(number), "user_name": "", "auth": 1}
    await roles.make("POST", "/v2/manage/namespaces/team/repos/app/access", [grant])
    return {"user": grant["user_id"]}


async def _domain(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    await roles.someone(number, domain=f"domain-{number}")
    return {"domain": f"domain-{number}"}


async def _share(roles: Roles, role: str, number: int) -> dict[str, Any]:
    made = await _domain(roles, role, number)
    share = {"access_domain": made["domain"], "permit": "read", "deadline": "forever", "description": ""}
    await roles.make("POST", "/v2/manage/namespaces/team/repositories/app/access-domains", share)
    return made


async def _no_policy(roles: Roles, _role: str, _number: int) -> dict[str, Any]:
    found = await roles.make("GET", "/v2/manage/namespaces/team/repos/app/retentions")
    for policy in found.document:
        await roles.make("DELETE", f"/v2/manage/namespaces/team/repos/app/retentions/{policy['id']}")
    return {}


async def _policy(roles: Roles, role: str, number: int) -> dict[str, Any]:
    await _no_policy(roles, role, number)
    rule = {"template": "tag_rule", "params": {"num": "100"}, "tag_selectors": []}
    body = {"algorithm": "or", "rules": [rule]}
    made = await roles.make("POST", "/v2/manage/namespaces/team/repos/app/retentions", body)
    return {"policy": made.document["id"]}


async def _trigger(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    await roles.make("POST", "/v2/manage/namespaces/team/repos/app/triggers", trigger(f"t{number}"))
    return {"trigger": f"t{number}"}


async def _rule(roles: Roles, _role: str, _number: int) -> dict[str, Any]:
    return {"rule": (await roles.rule()).id}


async def _paused_rule(roles: Roles, _role: str, _number: int) -> dict[str, Any]:
    return {"rule": (await roles.rule(is_on=False)).id}


async def _no_rule(roles: Roles, _role: str, _number: int) -> dict[str, Any]:
    await roles.rule()
    await roles.ferry.app.services.console.rules.delete(await roles.caller(), SOURCE, SOUTH, MIRROR)
    return {}


async def _failed_job(roles: Roles, _role: str, _number: int) -> dict[str, Any]:
    return {"job": await roles.job(tag="v1", status="failed", reason="it failed", ended_at=datetime.now(UTC))}


async def _open_job(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    await images.push(roles.ferry.store(NORTH), APP, SAMPLE, Tag(f"held-{number}"))
    return {"job": await roles.job(tag=f"held-{number}", status="waiting", next_attempt_at=_LATER)}


async def _password(roles: Roles, role: str, _number: int) -> dict[str, Any]:
    if role != ANONYMOUS:
        await roles.ferry.app.accounts.users.update(await roles.own(role), password=roles.password(role))
        await roles.enter(role)
        await roles.enter(ADMINISTRATOR)
    return {}


async def _no_keys(roles: Roles, role: str, _number: int) -> dict[str, Any]:
    keys = roles.ferry.app.accounts.keys
    for key in await keys.list_of(await roles.own(role)) if role != ANONYMOUS else ():
        await keys.delete(key.access_key)
    return {}


async def _own_key(roles: Roles, role: str, number: int) -> dict[str, Any]:
    await _no_keys(roles, role, number)
    if role == ANONYMOUS:
        return {"key": "NONE"}
    return {"key": (await roles.ferry.app.accounts.keys.create(await roles.own(role))).access_key}


async def _key(roles: Roles, _role: str, number: int) -> dict[str, Any]:
    user = await roles.someone(number)
    return {"user": user, "key": (await roles.ferry.app.accounts.keys.create(user)).access_key}


_PREPARATIONS: dict[str, Callable[[Roles, str, int], Awaitable[dict[str, Any]]]] = {
    "tag": _tag,
    "repository": _repository,
    "organization": _organization,
    "user": _user,
    "member": _member,
    "repository member": _repository_member,
    "domain": _domain,
    "share": _share,
    "no policy": _no_policy,
    "policy": _policy,
    "trigger": _trigger,
    "rule": _rule,
    "paused rule": _paused_rule,
    "no rule": _no_rule,
    "failed job": _failed_job,
    "open job": _open_job,
    "password": _password,
    "no keys": _no_keys,
    "own key": _own_key,
    "key": _key,
}


def trigger(name: str) -> dict[str, str]:
    """Return the body that creates a trigger of the configured webhook."""
    return {
        "name": name,
        "action": "update",
        "trigger_type": "all",
        "condition": ".*",
        "trigger_mode": "cce",
        "cluster_id": "",
        "cluster_name": "production",
        "cluster_ns": "default",
        "app_type": "deployments",
        "application": "shop",
        "container": "",
        "enable": "false",
    }


@asynccontextmanager
async def with_roles(directory: Path, webhook: str = "http://127.0.0.1:9/hook") -> AsyncIterator[Roles]:
    """Run tagferry with a user for each role."""
    webhooks = [{"url": webhook, "cluster_name": "production"}]
    async with deployed(directory, webhooks=webhooks) as ferry:
        roles = Roles(ferry)
        await roles.enter(ADMINISTRATOR)
        for role in ROLES.keys() - {ADMINISTRATOR, ANONYMOUS}:
            domain = {"guest": "partners", "stranger": "strangers"}.get(role, DEFAULT_DOMAIN)
            await ferry.user(role, domain=domain)
        await ferry.organization(SOUTH, MIRROR)
        for level, permission in LEVELS.items():
            for region, name in ((NORTH, TEAM), (SOUTH, TEAM), (SOUTH, MIRROR)):
                await ferry.grant(level, region, name, permission)
        await roles.repository(NORTH, APP)
        await roles.repository(SOUTH, APP)
        await roles.repository(SOUTH, RepositoryName("mirror/app"))
        share = {"access_domain": "partners", "permit": "read", "deadline": "forever", "description": ""}
        await roles.make("POST", "/v2/manage/namespaces/team/repositories/app/access-domains", share)
        await images.push(ferry.store(NORTH), APP, SAMPLE, Tag("v1"))
        await roles.make("POST", "/v2/manage/namespaces/team/repos/app/triggers", trigger("deploy"))
        for what in ("rule", "policy", "failed job", "open job"):
            await roles.prepare(what, ADMINISTRATOR)
        for role in ROLES.keys() - {ADMINISTRATOR}:
            await roles.enter(role)
        yield roles
