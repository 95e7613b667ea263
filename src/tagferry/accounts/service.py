"""The use cases of users and access keys: administrators manage all of them, others their own."""

from collections.abc import Mapping
from typing import Any

from tagferry.accounts.authenticate import Authenticator
from tagferry.accounts.authorization import require_administrator, require_own, require_permanent_key
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey, Caller, KeyRecord, UserRecord
from tagferry.accounts.users import Users
from tagferry.errors import Invalid, NotFound

KEYS_OF_A_USER = 2
"""Access keys that a user may have, as in IAM."""


class AccountService:
    """Manages users and access keys on behalf of callers, with authorization.

    Args:
        users: stores the users.
        keys: stores the access keys.
        authenticator: verifies current passwords.
    """

    def __init__(self, users: Users, keys: AccessKeys, authenticator: Authenticator) -> None:
        self._users = users
        self._keys = keys
        self._authenticator = authenticator

    async def list_users(
        self,
        caller: Caller,
        *,
        domain_id: str | None = None,
        name: str | None = None,
        enabled: bool | None = None,
        prefix: str = "",
        after: str = "",
        limit: int | None = None,
    ) -> list[UserRecord]:
        """Return the users by name; raises Denied. The filters are those of `Users.list_users`."""
        require_administrator(caller)
        return await self._users.list_users(
            domain_id=domain_id, name=name, enabled=enabled, prefix=prefix, after=after, limit=limit
        )

    async def user(self, caller: Caller, user_id: str) -> UserRecord:
        """Return a user; raises Denied or NotFound."""
        require_own(user_id, caller)
        return await self._users.show(user_id)

    async def user_to_change(self, caller: Caller, user_id: str) -> UserRecord:
        """Return a user whom the caller may update and delete; raises Denied or NotFound."""
        require_administrator(caller)
        require_permanent_key(caller)
        return await self._users.show(user_id)

    async def create_user(
        self,
        caller: Caller,
        name: str,
        password: str | None,
        *,
        domain_id: str = "",
        enabled: bool = True,
        description: str = "",
        profile: Mapping[str, Any] | None = None,
    ) -> UserRecord:
        """Create a user, by default in the caller's domain.

        Args:
            caller: an administrator.
            name: unique among all domains.
            password: None for a user who cannot log in by password until one is set.
            domain_id: the user's domain.
            enabled: whether the user can authenticate.
            description: a description for people.
            profile: what clients store with the user.

        Raises:
            Denied: the caller is not an administrator.
            Invalid: the name, the password or the description breaks a rule.
            NotFound: the domain does not exist.
            Conflict: the user already exists.
        """
        require_administrator(caller)
        require_permanent_key(caller)
        domain = await self._users.domain_name(domain_id) if domain_id else caller.domain_name
        made = await self._users.create(
            name, password, domain=domain, enabled=enabled, description=description, profile=profile
        )
        return await self._users.show(made.user_id)

    async def update_user(
        self,
        caller: Caller,
        user_id: str,
        *,
        name: str | None = None,
        password: str | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        profile: Mapping[str, Any] | None = None,
    ) -> UserRecord:
        """Change the given fields of a user, all or none; raises Denied, and the errors of `Users.update`."""
        user = await self.user_to_change(caller, user_id)
        return await self._users.update(
            user.user_id, name=name, password=password, description=description, enabled=enabled, profile=profile
        )

    async def delete_user(self, caller: Caller, user_id: str) -> None:
        """Delete a user with its keys and tokens; raises Denied, NotFound, or Conflict for the last administrator."""
        user = await self.user_to_change(caller, user_id)
        await self._users.delete(user.user_id)

    async def change_password(self, caller: Caller, new: str, current: str, *, address: str) -> None:
        """Change the caller's own password, which revokes the tokens and sessions of the current one.

        Args:
            caller: the user.
            new: the new password.
            current: the current one.
            address: the client's address.

        Raises:
            Denied: the caller used a temporary access key.
            Unauthenticated: the current password is wrong.
            LoginThrottled: as in `Authenticator.by_password`.
            Invalid: the new password breaks a rule.
        """
        require_permanent_key(caller)
        await self._authenticator.by_password(caller.name, current, address=address)
        if new == current:
            raise Invalid("user.password", "must differ from the current password")
        await self._users.update(caller.user_id, password=new)

    async def keys_of(self, caller: Caller, user_id: str) -> list[KeyRecord]:
        """Return the access keys of a user, oldest first; raises Denied or NotFound."""
        user = await self.user(caller, user_id)
        return await self._keys.list_of(user.user_id)

    async def owner_of_new_key(self, caller: Caller, user_id: str) -> UserRecord:
        """Return the user for whom the caller may create an access key; raises Denied or NotFound."""
        require_own(user_id, caller)
        require_permanent_key(caller)
        return await self._users.show(user_id)

    async def create_key(self, caller: Caller, user_id: str, *, description: str = "") -> AccessKey:
        """Create an access key for a user; its secret is returned only here.

        Raises:
            Denied: the caller may not manage this user's keys.
            NotFound: the user does not exist.
            Invalid: the description breaks a rule.
            Conflict: the user has as many keys as allowed.
        """
        user = await self.owner_of_new_key(caller, user_id)
        return await self._keys.create(user.user_id, description=description, limit=KEYS_OF_A_USER)

    async def key(self, caller: Caller, access_key: str) -> KeyRecord:
        """Return an access key; raises NotFound also if the caller may not see it."""
        key = await self._keys.show(access_key)
        if key.user_id != caller.user_id and not caller.is_admin:
            raise NotFound("access key", access_key)
        return key

    async def update_key(
        self, caller: Caller, access_key: str, *, enabled: bool | None = None, description: str | None = None
    ) -> KeyRecord:
        """Change the given fields of an access key; raises Denied, NotFound or Invalid."""
        require_permanent_key(caller)
        key = await self.key(caller, access_key)
        return await self._keys.update(key.access_key, enabled=enabled, description=description)

    async def delete_key(self, caller: Caller, access_key: str) -> None:
        """Delete an access key, and what was issued for it; raises Denied or NotFound."""
        require_permanent_key(caller)
        key = await self.key(caller, access_key)
        await self._keys.delete(key.access_key)
