"""Changes that end a permission or a credential, made by a process of their own.

`python -m tests.support.revocations DATABASE_URL SECRET_KEY` reads a line for each change: `prepare KIND NUMBER` or
`revoke KIND NUMBER`. It answers each with a line when the change is committed: how a client shows its credential.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Self

from sqlalchemy import text

from tagferry.accounts.grants import Grant, Grants
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey, Caller, Organization, Permission
from tagferry.accounts.organizations import Organizations
from tagferry.accounts.repositories import Repositories, RepositoryMetadata
from tagferry.accounts.shares import Shares
from tagferry.accounts.temporary import TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.db.tables import DomainRow, OrganizationPermissionRow, RepositoryPermissionRow, UserRow
from tagferry.names import Namespace, RegionId, RepositoryName
from tagferry.signing import login_password
from tests.support.processes import tied

REGION = RegionId("north")
PASSWORD = "correct horse"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shown:
    """A client's credential, and what it wants to do.

    Attributes:
        authorization: the Authorization header for the registry; empty for an anonymous client.
        key: an access key and its secret, to sign a request to the management API instead.
        token: an IAM token for the management API instead.
        security_token: of a temporary key.
        action: the action in the repository.
    """

    repository: str
    authorization: str = ""
    key: tuple[str, str] | None = None
    security_token: str | None = None
    token: str = ""
    action: str = "pull"


class Changes:
    """Makes the changes. Each has a user, an access key, an organization and a repository of its own."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.users = Users(database, vault)
        self.keys = AccessKeys(database, vault)
        self.tokens = Tokens(database, lifetime=timedelta(hours=1))
        self.temporary = TemporaryCredentials(self.users, vault)
        self.organizations = Organizations(database)
        self.repositories = Repositories(database)
        self.shares = Shares(database)
        self.grants = Grants(database, on=OrganizationPermissionRow.organization_id)
        self.repository_grants = Grants(database, on=RepositoryPermissionRow.repository_id)
        self._vault = vault
        self._hashed = ""
        self._owner: Caller | None = None

    async def start(self) -> None:
        """Create the owner of all organizations."""
        self._hashed = await self._vault.hash_password(PASSWORD)
        self._owner = await self._user("owner", domain="owners")

    async def prepare(self, kind: str, number: int) -> Shown:
        """Create everything that a change of this kind needs, and return how the client shows its credential."""
        assert self._owner is not None
        user = await self._user(f"u{number}", domain=f"d{number}")
        organization = await self.organizations.create(self._owner, REGION, Namespace(f"o{number}"))
        name = RepositoryName(f"o{number}/app")
        return await KINDS[kind].prepare(self, _Case(self._owner, user, organization, name))

    async def revoke(self, kind: str, number: int) -> None:
        """Make the change."""
        assert self._owner is not None
        user = await self.users.find(f"u{number}")
        (organization,) = [each for each in await self.organizations.list_all(REGION) if each.name == f"o{number}"]
        await KINDS[kind].revoke(self, _Case(self._owner, user, organization, RepositoryName(f"o{number}/app")))

    async def _user(self, name: str, *, domain: str) -> Caller:
        """Record a user without hashing the password again, which is slow on purpose."""
        async with self.database.write() as session:
            session.add(DomainRow(id=domain, name=domain))
            await session.flush()
            session.add(
                UserRow(
                    id=name,
                    domain_id=domain,
                    name=name,
                    password_hash=self._hashed,
                    is_admin=False,
                    created_at=datetime.now(UTC),
                )
            )
        return await self.users.find(name)


@dataclass(frozen=True)
class _Case:
    owner: Caller
    user: Caller
    organization: Organization
    name: RepositoryName


@dataclass(frozen=True)
class Kind:
    """A kind of change: what it needs, and the change itself."""

    prepare: Callable[[Changes, _Case], Awaitable[Shown]]
    revoke: Callable[[Changes, _Case], Awaitable[object]]


def _basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


async def _grant(changes: Changes, case: _Case, permission: Permission = Permission.READ) -> None:
    await changes.grants.add(case.organization.id, [Grant(case.user.user_id, "", permission)])


async def _key(changes: Changes, case: _Case) -> AccessKey:
    await _grant(changes, case)
    return await changes.keys.create(case.user.user_id)


async def _only_key(changes: Changes, case: _Case) -> str:
    (record,) = await changes.keys.list_of(case.user.user_id)
    return record.access_key


async def _by_key_caller(changes: Changes, case: _Case) -> Caller:
    found = await changes.keys.by_key((await _key(changes, case)).access_key)
    assert found is not None
    return found[0]


async def _with_password(changes: Changes, case: _Case) -> Shown:
    await _grant(changes, case)
    return Shown(case.name, _basic(case.user.name, PASSWORD))


async def _with_bearer(changes: Changes, case: _Case) -> Shown:
    await _grant(changes, case)
    return await _bearer(changes, case, case.user)


async def _bearer(changes: Changes, case: _Case, caller: Caller) -> Shown:
    scopes = [f"repository:{case.name}:pull,push"]
    made = await changes.temporary.create_registry_token(caller, timedelta(hours=1), region=REGION, scopes=scopes)
    return Shown(case.name, f"Bearer {made.value}")


async def _with_bearer_of_key(changes: Changes, case: _Case) -> Shown:
    return await _bearer(changes, case, await _by_key_caller(changes, case))


async def _with_derived_password(changes: Changes, case: _Case) -> Shown:
    key = await _key(changes, case)
    password = login_password(key.access_key, key.secret_key)
    return Shown(case.name, _basic(f"{REGION}@{key.access_key}", password))


async def _with_login_secret(changes: Changes, case: _Case) -> Shown:
    made = await changes.temporary.create_login(await _by_key_caller(changes, case), timedelta(hours=1))
    return Shown(case.name, _basic(f"{REGION}@{made.access_key}", made.password))


async def _with_signature(changes: Changes, case: _Case) -> Shown:
    key = await _key(changes, case)
    return Shown(case.name, key=(key.access_key, key.secret_key))


async def _with_temporary_key(changes: Changes, case: _Case) -> Shown:
    made = await changes.temporary.create_key(await _by_key_caller(changes, case), timedelta(hours=1))
    return Shown(case.name, key=(made.access_key, made.secret_key), security_token=made.security_token)


async def _with_token(changes: Changes, case: _Case) -> Shown:
    await _grant(changes, case)
    return Shown(case.name, token=(await changes.tokens.issue(case.user)).value)


async def _with_token_of_key(changes: Changes, case: _Case) -> Shown:
    return Shown(case.name, token=(await changes.tokens.issue(await _by_key_caller(changes, case))).value)


async def _with_bearer_of_token(changes: Changes, case: _Case) -> Shown:
    await _grant(changes, case)
    caller = await changes.tokens.owner((await changes.tokens.issue(case.user)).value)
    assert caller is not None
    return await _bearer(changes, case, caller)


async def _to_push(changes: Changes, case: _Case) -> Shown:
    await _grant(changes, case, Permission.EDIT)
    return Shown(case.name, (await _bearer(changes, case, case.user)).authorization, action="push")


async def _by_own_permission(changes: Changes, case: _Case) -> Shown:
    record = await changes.repositories.create(case.owner, REGION, case.name, RepositoryMetadata(is_public=False))
    await changes.repository_grants.add(record.id, [Grant(case.user.user_id, "", Permission.READ)])
    return await _bearer(changes, case, case.user)


async def _shared(changes: Changes, case: _Case) -> Shown:
    record = await changes.repositories.create(case.owner, REGION, case.name, RepositoryMetadata(is_public=False))
    await changes.shares.create(case.owner, record.id, case.user.domain_name, deadline=None, description="")
    return await _bearer(changes, case, case.user)


async def _public(changes: Changes, case: _Case) -> Shown:
    await changes.repositories.create(case.owner, REGION, case.name, RepositoryMetadata(is_public=True))
    return Shown(case.name)


async def _as_administrator(changes: Changes, case: _Case) -> Shown:
    # Without another one, the last administrator could not become an ordinary user.
    await changes.users.update(case.owner.user_id, is_admin=True)
    await changes.users.update(case.user.user_id, is_admin=True)
    return await _bearer(changes, case, case.user)


async def _revoke_tokens(changes: Changes, case: _Case) -> None:
    async with changes.database.write() as session:
        await session.execute(text("DELETE FROM tokens WHERE user_id = :user"), {"user": case.user.user_id})


async def _repository(changes: Changes, case: _Case) -> int:
    record = await changes.repositories.find(REGION, case.name)
    assert record is not None
    return record.id


async def _delete_by_hand(changes: Changes, case: _Case) -> None:
    async with changes.database.write() as session:
        await session.execute(text("DELETE FROM users WHERE id = :user"), {"user": case.user.user_id})


async def _disable_key(changes: Changes, case: _Case) -> None:
    await changes.keys.update(await _only_key(changes, case), enabled=False)


async def _delete_key(changes: Changes, case: _Case) -> None:
    await changes.keys.delete(await _only_key(changes, case))


async def _change_password(changes: Changes, case: _Case) -> None:
    await changes.users.update(case.user.user_id, password="another horse")


async def _disable_user(changes: Changes, case: _Case) -> None:
    await changes.users.update(case.user.user_id, enabled=False)


async def _delete_user(changes: Changes, case: _Case) -> None:
    await changes.users.delete(case.user.user_id)


async def _withdraw_repository_permission(changes: Changes, case: _Case) -> None:
    await changes.repository_grants.remove(await _repository(changes, case), [case.user.user_id])


async def _withdraw_share(changes: Changes, case: _Case) -> None:
    await changes.shares.delete(await _repository(changes, case), case.user.domain_name)


async def _end_share(changes: Changes, case: _Case) -> None:
    ended = datetime.now(UTC) - timedelta(days=2)
    await changes.shares.update(
        await _repository(changes, case), case.user.domain_name, deadline=ended, description=None
    )


KINDS: Mapping[str, Kind] = {
    "a deleted user, by password": Kind(_with_password, _delete_user),
    "a deleted user, by token": Kind(_with_token, _delete_user),
    "a user deleted by hand": Kind(_with_bearer, _delete_by_hand),
    "a disabled user": Kind(_with_bearer, _disable_user),
    "a disabled user, by signature": Kind(_with_signature, _disable_user),
    "a changed password": Kind(_with_password, _change_password),
    "a changed password, by registry token": Kind(_with_bearer, _change_password),
    "a deleted key, by its password": Kind(_with_derived_password, _delete_key),
    "a deleted key, by login secret": Kind(_with_login_secret, _delete_key),
    "a deleted key, by temporary key": Kind(_with_temporary_key, _delete_key),
    "a disabled key, by signature": Kind(_with_signature, _disable_key),
    "a disabled key, by registry token": Kind(_with_bearer_of_key, _disable_key),
    "a disabled key, by its token": Kind(_with_token_of_key, _disable_key),
    "a revoked token": Kind(_with_token, _revoke_tokens),
    "a revoked token, by its registry token": Kind(_with_bearer_of_token, _revoke_tokens),
    "a lowered permission": Kind(
        _to_push,
        lambda changes, case: changes.grants.change(
            case.organization.id, [Grant(case.user.user_id, "", Permission.READ)]
        ),
    ),
    "a removed permission": Kind(
        _with_bearer, lambda changes, case: changes.grants.remove(case.organization.id, [case.user.user_id])
    ),
    "a removed permission in the repository": Kind(_by_own_permission, _withdraw_repository_permission),
    "a deleted organization": Kind(
        _with_bearer, lambda changes, case: changes.organizations.delete(REGION, case.organization.name)
    ),
    "a deleted repository that was public": Kind(
        _public, lambda changes, case: changes.repositories.delete(REGION, case.name)
    ),
    "a repository made private": Kind(
        _public,
        lambda changes, case: changes.repositories.update(REGION, case.name, RepositoryMetadata(is_public=False)),
    ),
    "a withdrawn share": Kind(_shared, _withdraw_share),
    "a share that ended": Kind(_shared, _end_share),
    "an administrator no more": Kind(
        _as_administrator, lambda changes, case: changes.users.update(case.user.user_id, is_admin=False)
    ),
}
"""The kinds of changes, by a name for people."""


class OtherProcess:
    """The process that makes the changes, as its parent sees it."""

    def __init__(self, process: "Popen[str]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, url: str, secret_key: str) -> Iterator[Self]:
        """Start it on a migrated database."""
        command = [sys.executable, "-m", "tests.support.revocations", url, secret_key]
        process = Popen(tied(command), stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)
        try:
            yield cls(process)
        finally:
            process.kill()
            process.communicate()

    async def prepare(self, kind: str, number: int) -> Shown:
        """Have it prepare a change."""
        answer = json.loads(await self._ask("prepare", kind, number))
        return Shown(**answer | {"key": tuple(answer["key"]) if answer["key"] else None})

    async def revoke(self, kind: str, number: int) -> None:
        """Have it make a change; returns when it is committed."""
        await self._ask("revoke", kind, number)

    async def _ask(self, *what: object) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(what) + "\n")
        stdin.flush()
        answer = await asyncio.to_thread(stdout.readline)
        assert answer, "the other process has failed"
        return answer


async def _serve(url: str, secret_key: str) -> None:
    database = Database(url)
    changes = Changes(database, Vault([secret_key]))
    await changes.start()
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, kind, number = json.loads(line)
        if what == "prepare":
            answer = asdict(await changes.prepare(kind, number))
        else:
            await changes.revoke(kind, number)
            answer = {}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await changes.keys.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
