"""Tokens from token servers, kept until shortly before they expire.

Sources: the distribution project's "Token Authentication" and its OAuth2 form.
"""

import base64
import copy
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import urlencode, urlsplit
from weakref import WeakValueDictionary

from tagferry import bounds
from tagferry.errors import NotFound, Refused, TagferryError, Unavailable, Unsupported
from tagferry.http.urls import LONGEST_HOST, PORTS, host_of, origin_of, redacted
from tagferry.remote.transport.challenges import Challenge
from tagferry.remote.transport.endpoint import Credentials, Endpoint
from tagferry.remote.transport.shared_attempt import SharedAttempt

DEFAULT_LIFETIME = 60.0
"""Lifetime in seconds of a token whose server does not state one (Token Authentication, "expires_in")."""
REFUSED_SECONDS = 3.0
"""Seconds for which a refusal is reused for the same request, so that wrong passwords do not lock an account."""
KEPT_SECONDS = 600.0
"""Seconds for which an expired token is remembered, to distinguish a renewal from a first token."""
_MAX_LIFETIME = 24 * 3600.0
"""Maximum lifetime in seconds, whatever the token server says."""
_MAX_TOKENS = 4096
"""Maximum number of tokens per registry."""
_CLIENT = "tagferry"
_TOKEN_USER = "<token>"  # noqa: S105 - the user of an identity token in docker's files


class TokenRequest(NamedTuple):
    """A request to a token server.

    Attributes:
        is_secret: whether it carries credentials, which must not be sent in clear.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    is_secret: bool = False

    def __repr__(self) -> str:
        # Without the secrets.
        return f"TokenRequest({self.method} {self.url})"


class _Key(NamedTuple):
    realm: str
    service: str
    scopes: tuple[str, ...]
    credentials: Credentials | None


class _Token:
    def __init__(self, value: str, *, good_until: float) -> None:
        self.value = value
        self.good_until = good_until


class Tokens:
    """The tokens for one registry.

    Args:
        endpoint: the registry.
        exchange: sends a token request and returns the response body. Raises Unavailable for temporary faults, NotFound
            or Unsupported if the server does not support the request, Refused or Invalid if it refuses it.
        clock: monotonic seconds.

    Attributes:
        renewals: the number of tokens that replaced an expired or refused one. A newer token may grant more than the
            older one, even for the same scopes.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        exchange: Callable[[TokenRequest], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.renewals = 0
        self._endpoint = endpoint
        self._exchange = exchange
        self._clock = clock
        self._tokens: dict[_Key, _Token] = {}
        self._refusals: dict[_Key, tuple[float, Refused]] = {}
        self._attempts: WeakValueDictionary[_Key, SharedAttempt] = WeakValueDictionary()
        self._rotated: dict[tuple[str, Credentials], str] = {}

    async def get(self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None) -> str:
        """Return a token for these scopes.

        Raises:
            Unavailable: the token server cannot be reached, or is overloaded.
            Refused: it refuses the credentials, or they would be sent in clear.
        """
        key = _Key(challenge.realm, challenge.service, scopes, credentials)
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._attempts[key] = SharedAttempt()
        return await attempt.run(lambda: self._current(key), lambda: self._renew(key))

    def holds(self, value: str, credentials: Credentials | None) -> bool:
        """Return whether a token was issued for these credentials and is still current."""
        now = self._clock()
        return any(
            token.value == value and token.good_until > now and key.credentials == credentials
            for key, token in self._tokens.items()
        )

    def forget(self, value: str) -> None:
        """Discard a token that a registry refused."""
        refused_at = self._clock()
        for key, token in self._tokens.items():
            if token.value == value:
                self._tokens[key] = _Token(value, good_until=min(token.good_until, refused_at))

    def _current(self, key: _Key) -> str | None:
        token = self._tokens.get(key)
        return token.value if token is not None and token.good_until > self._clock() else None

    async def _renew(self, key: _Key) -> str:
        self._drop_stale()
        token = await self._obtain(key)
        if key in self._tokens:
            self.renewals += 1
        self._tokens[key] = token
        return token.value

    def _drop_stale(self) -> None:
        now = self._clock()
        self._tokens = {key: token for key, token in self._tokens.items() if token.good_until > now - KEPT_SECONDS}
        while len(self._tokens) >= _MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if refusal[0] > now}

    async def _obtain(self, key: _Key) -> _Token:
        refused_until, refusal = self._refusals.get(key, (0.0, None))
        if refusal is not None and refused_until > self._clock():
            raise copy.copy(refusal)
        realm = self._token_url(key)
        try:
            document = await self._request(realm, key)
        except Unavailable:
            raise
        except TagferryError as failure:
            # The refused token may be a rotated one; the configured refresh token is tried next.
            if key.credentials is not None:
                self._rotated.pop((key.realm, key.credentials), None)
            refusal = failure if isinstance(failure, Refused) else Refused(failure.message)
            self._refusals[key] = (self._clock() + REFUSED_SECONDS, refusal)
            raise refusal from failure
        return self._read(document, realm, key)

    async def _request(self, realm: str, key: _Key) -> dict[str, Any]:
        credentials = key.credentials
        if credentials is not None and credentials.identity_token:
            try:
                return _parse(await self._exchange(self._post(realm, key, credentials)), realm)
            except (NotFound, Unsupported):
                # Servers without the OAuth2 form accept the identity token as a password, as docker sends it.
                pass
        try:
            return _parse(await self._exchange(_get(realm, key)), realm)
        except Unsupported:
            if credentials is None or credentials.identity_token:
                raise
            # Some servers support only the OAuth2 form.
            return _parse(await self._exchange(self._post(realm, key, credentials)), realm)

    def _post(self, realm: str, key: _Key, credentials: Credentials) -> TokenRequest:
        if credentials.identity_token:
            grant = {
                "grant_type": "refresh_token",
                "access_type": "offline",
                "refresh_token": self._rotated.get((key.realm, credentials), credentials.identity_token),
            }
        else:
            grant = {"grant_type": "password", "username": credentials.username, "password": credentials.password}
        form = {
            **grant,
            "client_id": _CLIENT,
            **({"service": key.service} if key.service else {}),
            "scope": " ".join(key.scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest(method="POST", url=realm, headers=headers, body=urlencode(form).encode(), is_secret=True)

    def _token_url(self, key: _Key) -> str:
        """Return the token server's URL; raise Refused if it may not receive the credentials, or only in clear."""
        name = self._endpoint.name
        try:
            parts, own = urlsplit(key.realm), urlsplit(self._endpoint.url)
            if parts.scheme in PORTS and parts.hostname:
                origin_of(key.realm)
            _ = parts.port
        except ValueError:
            raise Refused(f"registry {name} names a token server with an invalid URL") from None
        is_usable = parts.scheme == "https" or (parts.scheme == "http" and own.scheme == "http")
        if parts.hostname == own.hostname and not is_usable:
            # A registry behind a proxy that terminates TLS may name itself with http, and Nexus has named itself null.
            return parts._replace(scheme=own.scheme, netloc=own.netloc).geturl()
        if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.hostname) > LONGEST_HOST:
            raise Refused(f'the realm of registry {name} must be an http or https URL: got "{key.realm[:120]}"')
        if key.credentials is not None and parts.scheme == "http" and own.scheme == "https":
            raise Refused(
                f"registry {name} names the token server {redacted(key.realm)}, which may not receive the credentials "
                "without TLS"
            )
        if key.credentials is not None and not self._endpoint.may_get_credentials(key.realm):
            host = host_of(key.realm)
            raise Refused(
                f"registry {name} names {host} as its token server, which may not receive the credentials; to allow "
                f'it, add "{host}" to token_hosts of its region'
            )
        return key.realm

    def _read(self, document: dict[str, Any], realm: str, key: _Key) -> _Token:
        value = document.get("token") or document.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise Unavailable(f"the token server {redacted(realm)} returned no token")
        if len(value) > bounds.REGISTRY_TOKEN_CHARACTERS:
            raise Unavailable(
                f"the token server {redacted(realm)} returned a token of more than "
                f"{bounds.REGISTRY_TOKEN_CHARACTERS} characters"
            )
        rotated = document.get("refresh_token")
        if key.credentials is not None and key.credentials.identity_token and _is_refresh_token(rotated):
            # The refresh token belongs to the token server that issued it, and is sent to no other.
            self._rotated[key.realm, key.credentials] = rotated
        lifetime = _lifetime(document)
        # Tokens are renewed early, so that they do not expire in transit.
        return _Token(value, good_until=self._clock() + lifetime - min(10.0, lifetime / 4))


def _is_refresh_token(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= bounds.REGISTRY_TOKEN_CHARACTERS


def basic(credentials: Credentials) -> str:
    """Return the Authorization for a user with a password, or with an identity token as the password."""
    secret = credentials.identity_token or credentials.password
    pair = f"{credentials.username or _TOKEN_USER}:{secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _get(realm: str, key: _Key) -> TokenRequest:
    named = [("service", key.service)] if key.service else []
    query = urlencode([*named, *(("scope", scope) for scope in key.scopes)])
    realm = realm.partition("#")[0]
    url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
    headers = {"Authorization": basic(key.credentials)} if key.credentials is not None else {}
    return TokenRequest(method="GET", url=url, headers=headers, is_secret=bool(headers))


def _parse(answer: bytes, realm: str) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unavailable(f"the token server {redacted(realm)} did not return a JSON object")
    return document


def _lifetime(document: Mapping[str, Any]) -> float:
    """Return the remaining seconds of a token's lifetime."""
    try:
        lifetime = float(document.get("expires_in") or 0)
    except (TypeError, ValueError, OverflowError):
        lifetime = 0.0
    if not 0 < lifetime < float("inf"):
        lifetime = DEFAULT_LIFETIME
    lifetime = min(lifetime, _MAX_LIFETIME)
    try:
        issued = datetime.fromisoformat(str(document.get("issued_at")))
        age = (datetime.now(UTC) - (issued if issued.tzinfo else issued.replace(tzinfo=UTC))).total_seconds()
    except (ValueError, OverflowError):
        return lifetime
    # An age outside the lifetime means that the clocks differ, not that the token is invalid.
    return lifetime - age if 0 < age < lifetime else lifetime
