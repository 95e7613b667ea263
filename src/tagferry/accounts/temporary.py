"""Credentials that expire: secrets to log into the registry with, its tokens, and access keys with a security token.

Nothing of them is kept. What a credential says is sealed with the vault's keys into the credential itself, so that it
can be neither read nor made elsewhere, and a database that leaks holds none. Each goes back to a permanent access key
or to the user's password, and ends with it, with the user, with the IAM token that it was got by, or at its time,
whichever comes first. While the user or the key is disabled, it is no good.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tagferry.accounts.keys import random_key
from tagferry.accounts.model import Caller, LoginSecret, RegistryBearer, RegistryToken, TemporaryKey
from tagferry.accounts.tokens import MAX_CLOCK_SKEW, utc_now
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.errors import Invalid, Unauthenticated
from tagferry.names import RegionId

MIN_LIFETIME, MAX_LIFETIME = timedelta(minutes=15), timedelta(hours=24)
"""The lifetimes that a call may ask for, for login secrets as for temporary access keys.

Source: SWR API reference, CreateSecret; IAM API reference, CreateTemporaryAccessKeyByToken.
"""

PREFIX = "HST"
"""What the ids of temporary access keys begin with; a permanent one may by chance."""

_LOGIN, _KEY, _REGISTRY, _REFRESH = "login", "key", "registry", "refresh"
_LOGIN_API, _KEY_API = "POST /v2/manage/utils/secret", "POST /v3.0/OS-CREDENTIAL/securitytokens"


def parse_lifetime(field: str, seconds: int) -> timedelta:
    """The lifetime that a call asks for in a field; raises Invalid."""
    shortest, longest = int(MIN_LIFETIME.total_seconds()), int(MAX_LIFETIME.total_seconds())
    if not shortest <= seconds <= longest:
        raise Invalid(field, f"must be {shortest} to {longest} seconds", seconds)
    return timedelta(seconds=seconds)


class TemporaryCredentials:
    """Makes them and recognizes them; a credential of one kind is none of the other."""

    def __init__(self, users: Users, vault: Vault, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._users = users
        self._vault = vault
        self._clock = clock

    async def create_login(self, caller: Caller, lifetime: timedelta) -> LoginSecret:
        """Make a secret to log into the registry with; it ends with what the caller was known by.

        Raises:
            Unauthenticated: the user, or what it was known by, is gone or disabled by now.
        """
        made = random_key(PREFIX)
        expires_at = self._end(caller, lifetime)
        sealed = await self._seal(caller, expires_at, {"kind": _LOGIN, "access": made.access_key})
        return LoginSecret(access_key=made.access_key, password=sealed, expires_at=expires_at)

    async def create_key(self, caller: Caller, lifetime: timedelta) -> TemporaryKey:
        """Make an access key with a security token; it ends with what the caller was known by.

        Raises:
            Unauthenticated: the user, or what it was known by, is gone or disabled by now.
        """
        made = random_key(PREFIX)
        expires_at = self._end(caller, lifetime)
        sealed = await self._seal(
            caller, expires_at, {"kind": _KEY, "access": made.access_key, "secret": made.secret_key}
        )
        return TemporaryKey(
            access_key=made.access_key, secret_key=made.secret_key, security_token=sealed, expires_at=expires_at
        )

    async def create_registry_token(
        self,
        caller: Caller | None,
        lifetime: timedelta,
        *,
        region: RegionId,
        scopes: Sequence[str],
        is_refreshable: bool = False,
    ) -> RegistryToken:
        """Make a token for a region's embedded registry; it ends with what the caller was known by.

        Args:
            caller: None for somebody who did not say who it is.
            lifetime: how long it lasts.
            region: the only one that it is for.
            scopes: what it is good for at most; what its owner may do is asked when it is used.
            is_refreshable: make one to get more of them with, too, if there is a caller.

        Raises:
            Unauthenticated: the user, or what it was known by, is gone by now.
        """
        issued_at, refresh_token = self._clock(), None
        document: dict[str, Any] = {"kind": _REGISTRY, "region": region, "scopes": list(scopes)}
        if caller is None:
            expires_at = issued_at + lifetime
            sealed = self._vault.seal(document | {"issued": issued_at.timestamp(), "expires": expires_at.timestamp()})
        else:
            expires_at = self._end(caller, lifetime)
            sealed = await self._seal(caller, expires_at, document)
            if is_refreshable:
                refresh = {"kind": _REFRESH, "region": region}
                refresh_token = await self._seal(caller, caller.credential.expires_at, refresh)
        return RegistryToken(value=sealed, issued_at=issued_at, expires_at=expires_at, refresh_token=refresh_token)

    async def by_registry_token(self, token: str, region: RegionId) -> RegistryBearer | None:
        """Whoever a token of a region's registry stands for.

        Returns:
            None where it is no such token, or where what it goes back to is gone.

        Raises:
            Unauthenticated: it has expired.
        """
        document = self._unseal(_REGISTRY, token)
        if document is None or document["region"] != region:
            return None
        self._require_time_left(document, "the registry token has expired; get a new one")
        if "user" not in document:
            return RegistryBearer(None, tuple(document["scopes"]))
        caller = await self._owner(document)
        return RegistryBearer(caller, tuple(document["scopes"])) if caller is not None else None

    async def by_refresh_token(self, token: str, region: RegionId) -> Caller | None:
        """Whoever may get tokens of a region's registry by this one; else as `by_registry_token`."""
        document = self._unseal(_REFRESH, token)
        if document is None or document["region"] != region:
            return None
        self._require_time_left(document, "the refresh token has expired; log in again")
        return await self._owner(document)

    async def by_login(self, access_key: str, password: str) -> Caller | None:
        """Whoever this login secret stands for, or None where it is none; raises Unauthenticated where it expired."""
        document = self._unseal(_LOGIN, password, access_key)
        if document is None:
            return None
        self._require_time_left(document, f"the login {access_key} has expired; get a new one by {_LOGIN_API}")
        return await self._owner(document)

    async def by_key(self, access_key: str, security_token: str) -> tuple[Caller, str] | None:
        """Whoever a temporary access key stands for, with the key's secret.

        Returns:
            None where the security token is not this key's, or where what it goes back to is gone or disabled.

        Raises:
            Unauthenticated: it has expired.
        """
        document = self._unseal(_KEY, security_token, access_key)
        if document is None:
            return None
        self._require_time_left(
            document, f"the temporary access key {access_key} has expired; get a new one by {_KEY_API}"
        )
        caller = await self._owner(document)
        return (caller, document["secret"]) if caller is not None else None

    def _end(self, caller: Caller, lifetime: timedelta) -> datetime:
        """When a credential that this caller makes ends: one that expires could otherwise be renewed for ever."""
        end = self._clock() + lifetime
        return end if caller.credential.expires_at is None else min(end, caller.credential.expires_at)

    async def _seal(self, caller: Caller, expires_at: datetime | None, document: dict[str, Any]) -> str:
        owner = await self._users.by_credential(caller.user_id, caller.credential.access_key, caller.credential.token)
        if owner is None or caller.credential.version not in ("", owner.credential.version):
            raise Unauthenticated("the user, or the key or password that it showed, is gone or disabled by now")
        return self._vault.seal(
            document
            | {
                "user": caller.user_id,
                "root": caller.credential.access_key,
                "holds": owner.credential.version,
                "issued": self._clock().timestamp(),
                "expires": expires_at.timestamp() if expires_at is not None else None,
            }
            | ({"token": caller.credential.token} if caller.credential.token is not None else {})
        )

    def _unseal(self, kind: str, sealed: str, access_key: str | None = None) -> dict[str, Any] | None:
        document = self._vault.unseal(sealed)
        if document is None or document.get("kind") != kind or document.get("access") != access_key:
            return None
        return document

    def _require_time_left(self, document: dict[str, Any], message: str) -> None:
        now = self._clock()
        if document["expires"] is not None and now.timestamp() >= document["expires"]:
            raise Unauthenticated(message)
        if document.get("issued", 0) > (now + MAX_CLOCK_SKEW).timestamp():
            raise Unauthenticated("the credential was issued in the future by this server's clock; request a new one")

    async def _owner(self, document: dict[str, Any]) -> Caller | None:
        owner = await self._users.by_credential(document["user"], document["root"], document.get("token"))
        if owner is None or owner.credential.version != document["holds"]:
            return None
        expires = document["expires"]
        expires_at = datetime.fromtimestamp(expires, UTC) if expires is not None else None
        return replace(owner, credential=replace(owner.credential, expires_at=expires_at, is_temporary_key=True))
