"""Expiring credentials: registry login secrets, registry tokens, and access keys with a security token.

None of them is stored. The vault's keys seal a credential's content into the credential itself, so that others can
neither read nor forge it, and a leaked database contains none. Each derives from a permanent access key or from the
user's password. It ends with that key or password, with the user, with the IAM token that it was obtained with, or
when it expires, whichever comes first. It is not accepted while the user or the key is disabled.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tagferry import bounds
from tagferry.accounts.keys import random_key
from tagferry.accounts.model import Caller, LoginSecret, RegistryBearer, RegistryToken, TemporaryKey
from tagferry.accounts.tokens import MAX_CLOCK_SKEW, utc_now
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.errors import Invalid, Unauthenticated
from tagferry.names import RegionId

MIN_LIFETIME, MAX_LIFETIME = timedelta(minutes=15), timedelta(hours=24)
"""The shortest and longest lifetimes of login secrets and temporary access keys.

Source: SWR API reference, CreateSecret; IAM API reference, CreateTemporaryAccessKeyByToken.
"""

PREFIX = "HST"
"""The prefix of temporary access keys; a permanent one may have it by chance."""

_LOGIN, _KEY, _REGISTRY, _REFRESH = "login", "key", "registry", "refresh"
_LOGIN_API, _KEY_API = "POST /v2/manage/utils/secret", "POST /v3.0/OS-CREDENTIAL/securitytokens"


def parse_lifetime(field: str, seconds: int) -> timedelta:
    """Return the lifetime requested in a field; raises Invalid."""
    shortest, longest = int(MIN_LIFETIME.total_seconds()), int(MAX_LIFETIME.total_seconds())
    if not shortest <= seconds <= longest:
        raise Invalid(field, f"must be {shortest} to {longest} seconds", seconds)
    return timedelta(seconds=seconds)


class TemporaryCredentials:
    """Creates and recognizes expiring credentials; each kind is accepted only as that kind."""

    def __init__(self, users: Users, vault: Vault, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._users = users
        self._vault = vault
        self._clock = clock
        self._unsealed: OrderedDict[bytes, dict[str, Any]] = OrderedDict()

    async def create_login(self, caller: Caller, lifetime: timedelta) -> LoginSecret:
        """Create a secret to log into the registry; it ends with the caller's own credential.

        Raises:
            Unauthenticated: the user or the caller's credential was deleted or disabled.
        """
        made = random_key(PREFIX)
        expires_at = self._end(caller, lifetime)
        sealed = await self._seal(caller, expires_at, {"kind": _LOGIN, "access": made.access_key})
        return LoginSecret(access_key=made.access_key, password=sealed, expires_at=expires_at)

    async def create_key(self, caller: Caller, lifetime: timedelta) -> TemporaryKey:
        """Create an access key with a security token; it ends with the caller's own credential.

        Raises:
            Unauthenticated: the user or the caller's credential was deleted or disabled.
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
        """Create a token for a region's embedded registry; it ends with the caller's own credential.

        Args:
            caller: None for an anonymous token.
            lifetime: its maximum lifetime.
            region: the only region that accepts it.
            scopes: its maximum scopes; the permissions of its owner are checked when it is used.
            is_refreshable: also create a refresh token, if there is a caller.

        Raises:
            Unauthenticated: the user or the caller's credential was deleted.
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
        """Return the bearer of a region's registry token.

        Returns:
            None if it is not such a token, or if the user or credential that it derives from was deleted.

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
        """Return the caller who may get registry tokens by this refresh token; otherwise as `by_registry_token`."""
        document = self._unseal(_REFRESH, token)
        if document is None or document["region"] != region:
            return None
        self._require_time_left(document, "the refresh token has expired; log in again")
        return await self._owner(document)

    async def by_login(self, access_key: str, password: str) -> Caller | None:
        """Return the owner of a login secret, or None if it is not one; raises Unauthenticated if it has expired."""
        document = self._unseal(_LOGIN, password, access_key)
        if document is None:
            return None
        self._require_time_left(document, f"the login {access_key} has expired; get a new one by {_LOGIN_API}")
        return await self._owner(document)

    async def by_key(self, access_key: str, security_token: str) -> tuple[Caller, str] | None:
        """Return the owner of a temporary access key, and the key's secret.

        Returns:
            None if the security token does not match the key, or if what it derives from was deleted or disabled.

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
        """Return when a new credential expires: not after the caller's own, which could else be renewed forever."""
        end = self._clock() + lifetime
        return end if caller.credential.expires_at is None else min(end, caller.credential.expires_at)

    async def _seal(self, caller: Caller, expires_at: datetime | None, document: dict[str, Any]) -> str:
        owner = await self._users.by_credential(caller.user_id, caller.credential.access_key, caller.credential.token)
        if owner is None or caller.credential.version not in ("", owner.credential.version):
            raise Unauthenticated("the user, or the access key or password used, was deleted or disabled")
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
        document = self._document(sealed)
        if document is None or document.get("kind") != kind or document.get("access") != access_key:
            return None
        return document

    def _document(self, sealed: str) -> dict[str, Any] | None:
        """Return the content of a credential, which is remembered if it is authentic: that remains so."""
        if len(sealed) > bounds.SEALED_BYTES:
            return None
        key = hashlib.sha256(sealed.encode("utf-8", "surrogatepass")).digest()
        if (known := self._unsealed.get(key)) is not None:
            self._unsealed.move_to_end(key)
            return known
        document = self._vault.unseal(sealed)
        if document is not None:
            self._unsealed[key] = document
            if len(self._unsealed) > bounds.REMEMBERED_SEALS:
                self._unsealed.popitem(last=False)
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
