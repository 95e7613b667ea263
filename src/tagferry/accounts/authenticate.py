"""Authentication by signature, token, password, or registry login."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from tagferry import bounds, signing
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.lockout import Lockout
from tagferry.accounts.model import Caller, RegistryBearer
from tagferry.accounts.password_queue import PasswordQueue
from tagferry.accounts.signatures import UsedSignatures
from tagferry.accounts.temporary import PREFIX, TemporaryCredentials
from tagferry.accounts.tokens import Tokens
from tagferry.accounts.users import Users
from tagferry.addresses import client_source
from tagferry.errors import BadSignature, LoginThrottled, Unauthenticated
from tagferry.names import RegionId

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEMBER_SECONDS = 60.0
_REMEMBER_LIMIT = 1000


class Authenticator:
    """Authenticates callers for every API, with shared lockouts."""

    def __init__(
        self,
        users: Users,
        keys: AccessKeys,
        tokens: Tokens,
        temporary: TemporaryCredentials,
        lockout: Lockout,
        signatures: UsedSignatures | None = None,
    ) -> None:
        self._users = users
        self._keys = keys
        self._tokens = tokens
        self._temporary = temporary
        self._lockout = lockout
        self._signatures = signatures
        self._password_queue = PasswordQueue()
        self._recent = _RecentLogins()

    async def by_signature(
        self,
        request: signing.Request,
        authorization: str,
        *,
        address: str,
        read_body: Callable[[], Awaitable[bytes]] | None = None,
        check_host: Callable[[str | None], None] | None = None,
        connection: str = "",
    ) -> Caller:
        """Return the caller who signed a request.

        Args:
            request: the signed request, without its body.
            authorization: the `Authorization` header.
            address: the client's address.
            read_body: reads the body; called only once everything else has been checked.
            check_host: receives the signed host, or None if it is not signed; raises BadSignature if the signature is
                for another host.
            connection: a name that identifies the connection among the open ones.

        Raises:
            Unauthenticated: the header is malformed, or the key is temporary and has expired.
            BadSignature: the key is unknown, the security token does not match the key, or the signature is invalid or
                was already used for a change.
            LoginThrottled: the key is locked for this address after too many failures.
        """
        parsed = signing.Authorization.parse(authorization)
        # A header may contain any bytes; messages about it must be text.
        access_key = parsed.access_key.encode("ascii", "backslashreplace").decode()
        self._lockout.check(access_key, address, is_key=True)
        now = datetime.now(UTC)
        try:
            caller, secret_key = await self._by_key(access_key, request.header("x-security-token"))
            signing.check_head(request, parsed, now=now)
            if read_body is not None:
                request = replace(request, body=await read_body())
            signing.verify(request, parsed, secret_key, now=now)
        except BadSignature:
            self._lockout.failed(access_key, address, is_key=True)
            raise
        self._lockout.succeeded(access_key, address, is_key=True)
        if check_host is not None:
            check_host(request.header("host") if "host" in parsed.signed_headers else None)
        if self._signatures is not None and request.method not in _READING:
            signed_at = signing.date_of(request)
            await self._signatures.use(
                parsed.signature, user_id=caller.user_id, signed_at=signed_at, connection=connection
            )
        if not caller.credential.is_temporary_key:
            self._keys.used(access_key)
        return caller

    async def _by_key(self, access_key: str, security_token: str | None) -> tuple[Caller, str]:
        if security_token is not None:
            found = await self._temporary.by_key(access_key, security_token)
            if found is None:
                raise BadSignature(f"X-Security-Token does not match the key {access_key}, or is no longer valid")
            return found
        found = await self._keys.by_key(access_key)
        if found is None:
            hint = "; a temporary one needs its X-Security-Token" if access_key.startswith(PREFIX) else ""
            raise BadSignature(f"the access key {access_key} is unknown or disabled{hint}")
        return found

    async def by_secret_key(self, access_key: str, secret_key: str, *, address: str) -> Caller:
        """Return the owner of a permanent access key and its secret; raises Unauthenticated or LoginThrottled."""
        self._lockout.check(access_key, address, is_key=True)
        found = await self._keys.by_key(access_key)
        if found is None or not _same(found[1], secret_key):
            self._lockout.failed(access_key, address, is_key=True)
            raise Unauthenticated("the access key or its secret is wrong")
        self._lockout.succeeded(access_key, address, is_key=True)
        self._keys.used(access_key)
        return found[0]

    async def by_token(self, token: str) -> Caller:
        """Return the owner of a token; raises Unauthenticated."""
        caller = await self._tokens.owner(token)
        if caller is None:
            raise Unauthenticated(
                "X-Auth-Token is unknown, expired, or of a user or an access key that is disabled; "
                "get a new one by POST /v3/auth/tokens"
            )
        return caller

    async def by_user_id(self, user_id: str, password: str, *, address: str) -> Caller:
        """Return the user with this id and password, as `by_password` does; the failures of both count together."""
        name = await self._users.name_of(user_id)
        try:
            # Names contain no colon, so an id that does not exist cannot match a user's name.
            return await self.by_password(name or f"id:{user_id}", password, address=address)
        except LoginThrottled as error:
            raise LoginThrottled(
                f"the user {user_id} is locked after too many failed authentications; "
                f"try again in {error.retry_after:.0f} s",
                retry_after=error.retry_after,
            ) from None

    async def by_password(self, name: str, password: str, *, address: str) -> Caller:
        """Return the user with this name and password.

        Verifying a password is slow on purpose. A verified one is accepted for a minute without another verification,
        as long as it remains the user's password.

        Raises:
            Unauthenticated: the name or the password is wrong.
            LoginThrottled: the name is locked for this address after too many failures, or too many logins are waiting.
        """
        self._lockout.check(name, address)
        if (known := await self._still_right(name, password)) is not None:
            return known
        async with self._password_queue.slot(client_source(address), is_suspect=self._lockout.is_suspect(address)):
            # Concurrent guesses pass the first check together, but are verified one after another.
            self._lockout.check(name, address)
            caller = await self._users.by_password(name, password)
            if caller is None:
                self._lockout.failed(name, address)
        if caller is None:
            raise Unauthenticated("the user name or the password is wrong")
        self._lockout.succeeded(name, address)
        self._recent.put(name, password, caller)
        return caller

    async def by_login(self, username: str, password: str, *, address: str) -> Caller:
        """Return the caller of a registry login: a user name, or `region@AK` with a login secret or derived password.

        Args:
            username: the claimed name.
            password: the password or secret.
            address: the client's address.

        Raises:
            Unauthenticated: the login is invalid.
            LoginThrottled: as in `by_password`.
        """
        if "@" not in username:
            return await self.by_password(username, password, address=address)
        access_key = username.rpartition("@")[2]
        self._lockout.check(access_key, address, is_key=True)
        if (temporary := await self._temporary.by_login(access_key, password)) is not None:
            self._lockout.succeeded(access_key, address, is_key=True)
            return temporary
        return await self._by_derived_password(access_key, password, address=address)

    async def by_registry_token(self, token: str, region: RegionId) -> RegistryBearer:
        """Return the bearer of a region's registry token; raises Unauthenticated."""
        found = await self._temporary.by_registry_token(token, region)
        if found is None:
            raise Unauthenticated("the registry token is invalid for this registry or no longer valid; get a new one")
        return found

    async def by_refresh_token(self, token: str, region: RegionId) -> Caller:
        """Return the caller who may get registry tokens by this refresh token; raises Unauthenticated."""
        caller = await self._temporary.by_refresh_token(token, region)
        if caller is None:
            raise Unauthenticated("the refresh token is invalid for this registry or no longer valid; log in again")
        return caller

    async def _still_right(self, name: str, password: str) -> Caller | None:
        """Return the user if this password was verified recently; None if it has to be verified."""
        before = self._recent.get(name, password)
        if before is None:
            return None
        now = await self._users.by_credential(before.user_id, None)
        is_same = now is not None and (now.name, now.credential.version) == (before.name, before.credential.version)
        return now if is_same else None

    async def _by_derived_password(self, access_key: str, password: str, *, address: str) -> Caller:
        found = await self._keys.by_key(access_key)
        if found is not None:
            caller, secret_key = found
            expected = signing.login_password(access_key, secret_key)
            if _same(expected, password):
                self._lockout.succeeded(access_key, address, is_key=True)
                self._keys.used(access_key)
                return caller
        self._lockout.failed(access_key, address, is_key=True)
        raise Unauthenticated("the access key or its login password is wrong")


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass"))


class _RecentLogins:
    """Recently verified logins, keyed by a hash that is useless outside this process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._logins: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def get(self, name: str, password: str) -> Caller | None:
        if not self._logins or len(password) > bounds.PASSWORD_CHARACTERS:
            return None
        found = self._logins.get(self._hash(name, password))
        if found is None or time.monotonic() > found[0]:
            return None
        return found[1]

    def put(self, name: str, password: str, caller: Caller) -> None:
        self._logins[self._hash(name, password)] = (time.monotonic() + _REMEMBER_SECONDS, caller)
        if len(self._logins) > _REMEMBER_LIMIT:
            self._logins.popitem(last=False)

    def _hash(self, name: str, password: str) -> bytes:
        content = f"{name}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, key=self._key, digest_size=32).digest()
