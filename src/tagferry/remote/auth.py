"""From a registry's challenge to an Authorization header; the HTTP exchange itself is the caller's.

Sources: RFC 9110 section 11 for challenges, the distribution project's "Token Authentication" and its OAuth2 form.
"""

import asyncio
import base64
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit
from weakref import WeakValueDictionary

from tagferry.errors import Invalid, Refused, Unavailable
from tagferry.remote.endpoint import Endpoint

DEFAULT_LIFETIME = 60.0
"""Seconds that a token lives where its server does not tell (Token Authentication, "expires_in")."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's name for a word
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers; the scheme and the parameters' names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What to send to a token server; its redirects must not be followed."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    good_until: float


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers; each may hold several challenges. What cannot be read is left out."""
    return [challenge for header in headers for challenge in _challenges(header)]


def _challenges(header: str) -> Iterable[Challenge]:
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter[2], parameter[3]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(parameter[1].lower(), value)
            position = parameter.end()
        yield Challenge(scheme[1].lower(), parameters)


class Authenticator:
    """Knows how a registry wants to be asked, and keeps the tokens it was given.

    Args:
        endpoint: the registry and its credentials.
        exchange: sends a token request and returns the answer's body.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        exchange: Callable[[TokenRequest], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._exchange = exchange
        self._clock = clock
        self._known: Challenge | None = None
        self._wider: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._tokens: dict[tuple[str, str, str], _Token] = {}
        self._flights: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def authorization(self, scopes: tuple[str, ...]) -> str | None:
        """The header's value for a request that needs these scopes; None while the registry has asked for none."""
        if self._known is None:
            return None
        if self._known.scheme == "basic":
            return self._basic()
        return f"Bearer {await self._token(self._known, self._wider.get(scopes, scopes))}"

    def learn(self, headers: Iterable[str], scopes: tuple[str, ...], refused: str | None) -> bool:
        """Take in the challenge that came with a 401.

        Args:
            headers: the answer's `WWW-Authenticate` headers.
            scopes: what the request needs.
            refused: the Authorization that the request was sent with.

        Returns:
            Whether a request with a new authorization may succeed.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
        if (bearer := offered.get("bearer")) and bearer.parameters.get("realm"):
            self._known = bearer
            self._widen(scopes, bearer.parameters.get("scope", ""))
            self._forget(refused)
            return True
        if "basic" in offered:
            self._known = offered["basic"]
            return self._endpoint.credentials is not None and refused != self._basic()
        return False

    def _widen(self, scopes: tuple[str, ...], asked: str) -> None:
        held = self._wider.get(scopes, scopes)
        missing = [scope for scope in asked.split() if not any(_covers(ours, scope) for ours in held)]
        if missing and len(self._wider) < 1024:
            self._wider[scopes] = (*held, *missing)

    def _forget(self, refused: str | None) -> None:
        self._tokens = {key: token for key, token in self._tokens.items() if f"Bearer {token.value}" != refused}

    def _basic(self) -> str:
        credentials = self._endpoint.credentials
        if credentials is None or not credentials.username:
            raise Refused(f"registry {self._endpoint.name} asks for a user and a password; none is configured")
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> str:
        key = (challenge.parameters["realm"], challenge.parameters.get("service", ""), " ".join(scopes))
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.Lock()
        async with flight:
            token = self._tokens.get(key)
            if token is None or token.good_until <= self._clock():
                token = await self._obtain(*key)
                self._drop_stale()
                self._tokens[key] = token
            return token.value

    def _drop_stale(self) -> None:
        now = self._clock()
        self._tokens = {key: token for key, token in self._tokens.items() if token.good_until > now}

    async def _obtain(self, realm: str, service: str, scope: str) -> _Token:
        realm = self._checked(realm)
        answer = await self._exchange(self._request(realm, service, scope))
        return _read_token(answer, realm, now=self._clock())

    def _checked(self, realm: str) -> str:
        """Where to ask for tokens; raises Invalid, and Refused where the credentials would be sent in clear."""
        parts, own = urlsplit(realm), urlsplit(self._endpoint.url)
        if (parts.scheme, parts.hostname, own.scheme) == ("http", own.hostname, "https"):
            # A registry behind a proxy that ends TLS may call itself http.
            return parts._replace(scheme="https", netloc=own.netloc).geturl()
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("realm", f"of registry {self._endpoint.name} must be an http or https URL", realm)
        secret = self._endpoint.credentials is not None
        if secret and parts.scheme == "http" and self._endpoint.url.startswith("https:"):
            raise Refused(
                f"registry {self._endpoint.name} asks to send the credentials in clear to {realm}, which is refused"
            )
        return realm

    def _request(self, realm: str, service: str, scope: str) -> TokenRequest:
        named = [("service", service)] if service else []
        credentials = self._endpoint.credentials
        if credentials is not None and credentials.identity_token:
            grant = [("grant_type", "refresh_token"), ("client_id", "tagferry")]
            form = [*grant, *named, ("scope", scope), ("refresh_token", credentials.identity_token)]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return TokenRequest(method="POST", url=realm, headers=headers, body=urlencode(form).encode())
        query = urlencode([*named, *(("scope", one) for one in scope.split())])
        separator = "&" if "?" in realm else "?"
        url = f"{realm}{separator}{query}" if query else realm
        headers = {"Authorization": self._basic()} if credentials is not None else {}
        return TokenRequest(method="GET", url=url, headers=headers)


def _read_token(answer: bytes, realm: str, *, now: float) -> _Token:
    try:
        document = json.loads(answer)
    except ValueError:
        raise Unavailable(f"the token server {realm} did not answer with JSON") from None
    found = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
    if not isinstance(found, str):
        raise Unavailable(f"the token server {realm} answered without a token")
    told = document.get("expires_in")
    lifetime = float(told) if isinstance(told, int | float) and told > 0 else DEFAULT_LIFETIME
    # Renewed a little early, so that it does not run out between here and the registry.
    return _Token(found, good_until=now + lifetime - min(10.0, lifetime / 4))


def _covers(ours: str, asked: str) -> bool:
    """Whether a scope `type:name:action,action` grants all that another one asks for."""
    resource, _, actions = ours.rpartition(":")
    wanted, _, wanted_actions = asked.rpartition(":")
    return resource == wanted and set(wanted_actions.split(",")) <= set(actions.split(","))
