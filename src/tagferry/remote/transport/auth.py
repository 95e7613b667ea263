"""Turns a registry's challenge into an Authorization header; the caller sends the HTTP requests.

Sources: RFC 9110 section 11, the distribution project's "Token Authentication", and decision 19.
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from tagferry.errors import Refused, TagferryError, Unavailable
from tagferry.remote.transport.challenges import Challenge, supported_challenge
from tagferry.remote.transport.endpoint import Credentials, Endpoint
from tagferry.remote.transport.scopes import actions_of, missing_scopes, repository_of
from tagferry.remote.transport.shared_attempt import SharedAttempt
from tagferry.remote.transport.tokens import TokenRequest, Tokens, basic

_BASIC = Challenge("basic")
_READ, _WRITE = frozenset({"pull"}), "pull,push"
_RECHALLENGE_SECONDS = 5.0
"""Minimum seconds between requests for a new challenge while a token server refuses."""
_MAX_REPOSITORIES = 4096
"""Maximum number of repositories whose role is remembered."""
_MAX_EXTRA_SCOPES, _MAX_SCOPE_CHARACTERS = 8, 512
"""Scopes that a registry may require in addition to a request's own, and their maximum length."""


class Refusal(NamedTuple):
    """A response that may mean that the registry has not authenticated the caller.

    Attributes:
        status: 401, 403 or 404.
        offered: its `WWW-Authenticate` headers.
        scopes: the scopes that the request needs.
        sent: the Authorization of the request.
        rounds: how often the request has been sent.
    """

    status: int
    offered: list[str]
    scopes: tuple[str, ...]
    sent: str | None
    rounds: int = 1


class Authenticator:
    """A registry's authentication scheme and its tokens.

    Args:
        endpoint: the registry and its credentials.
        exchange: sends a token request: see `Tokens`.
        probe: requests the registry's challenge (by `GET /v2/` without an Authorization, or by the tags of a repository
            if one is given), and returns the `WWW-Authenticate` headers of a 401; an empty list for any other response.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        exchange: Callable[[TokenRequest], Awaitable[bytes]],
        probe: Callable[[str], Awaitable[list[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identities = 0
        self._endpoint = endpoint
        self._source = endpoint.credential_source
        self._tokens = Tokens(endpoint, exchange, clock)
        self._probe = probe
        self._probing = SharedAttempt()
        self._is_probed = False
        self._is_presumed = False
        self._is_repository_probed = False
        self._clock = clock
        self._rechallenging = SharedAttempt()
        self._rechallenged_at = -math.inf
        self._challenge: Challenge | None = None
        self._last_challenge: Challenge | None = None
        self._extra_scopes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._write_repositories: dict[str, None] = {}
        self._read_only: dict[str, None] = {}

    @property
    def identities(self) -> int:
        """Count the changes of the identity under which requests are sent, or of its permissions.

        What was read before the last change may look different after it.
        """
        return self._identities + self._tokens.renewals

    @property
    def sends_password(self) -> bool:
        """True if the registry asked for a user and a password with each request, not for a token."""
        return self._challenge is not None and self._challenge.scheme == "basic" and not self._is_presumed

    def expect_writes(self, repository: str) -> None:
        """Include write access to a repository in all later token requests for it."""
        if repository not in self._write_repositories:
            _remember(self._write_repositories, repository)

    def expects_writes(self, repository: str) -> bool:
        """Return whether a repository is written to."""
        return repository in self._write_repositories

    async def authorization(self, scopes: tuple[str, ...]) -> str | None:
        """Return the Authorization for a request that needs these scopes, or None to send none.

        Raises:
            Unavailable: the token server or the source of the credentials cannot be reached.
            Refused: the token server refuses the credentials, or they cannot be obtained.
        """
        credentials = await self._source.find(repository_of(scopes))
        challenge = await self._find_challenge(credentials)
        if challenge is None:
            return None
        if challenge.scheme == "basic" and credentials is not None and not credentials.username:
            challenge = await self._rechallenge(challenge, repository_of(scopes))
        return await self._authorize(challenge, scopes, credentials)

    async def _authorize(
        self, challenge: Challenge | None, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> str | None:
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return self._basic(credentials) if credentials is not None else None
        return await self._bearer(challenge, scopes, credentials)

    async def send_password(self) -> bool:
        """Send the configured password from now on if the registry has sent no challenge; return False if it has."""
        if self._challenge is not None:
            return False
        return self._presume_basic(Refusal(401, [], (), None), await self._source.find(""))

    async def reconsider(self, refusal: Refusal) -> bool:
        """Process a response that may mean that the registry has not authenticated the caller.

        Returns:
            Whether the same request with a new `authorization` may get a different response.

        Raises:
            Refused: the response is not reliable, and these credentials cannot get a reliable one.
        """
        repository = repository_of(refusal.scopes)
        credentials = await self._source.find(repository)
        challenge = supported_challenge(refusal.offered, f"{self._endpoint.url}/v2/") if refusal.status == 401 else None
        if challenge is not None:
            return await self._challenged(challenge, refusal, credentials)
        if refusal.sent is None:
            return self._presume_basic(refusal, credentials)
        if not self._is_current(refusal.sent, credentials):
            return True
        if refusal.status == 401:
            # The registry refuses this scheme and offers no other, so its challenge is requested again.
            self._forget()
        if await self._renewed(refusal, credentials) or self._narrow(refusal.scopes):
            return True
        return (
            self._is_presumed and refusal.sent.startswith("Basic ") and await self._repository_uses_tokens(repository)
        )

    async def _repository_uses_tokens(self, repository: str) -> bool:
        """Return whether a registry that sent no challenge, and refused a password, requires tokens for reading.

        Some registries serve nothing at `/v2/`, and refuse writes without a challenge.
        """

        def asks_for_tokens() -> bool:
            return self._challenge is not None and self._challenge.scheme == "bearer"

        def is_settled() -> bool | None:
            return True if self._is_repository_probed or asks_for_tokens() else None

        async def ask() -> bool:
            await self._ask_for_challenge(repository)
            # A challenge that was found and then forgotten is requested again.
            self._is_repository_probed = not asks_for_tokens()
            return True

        if repository:
            await self._probing.run(is_settled, ask)
        return asks_for_tokens()

    async def _find_challenge(self, credentials: Credentials | None) -> Challenge | None:
        """Return the registry's challenge; if there are credentials, it is requested once, before anything else."""
        if self._challenge is None and credentials is not None and not self._is_probed:
            await self._probing.run(
                lambda: self._is_probed or self._challenge is not None or None, self._ask_for_challenge
            )
        return self._challenge

    async def _ask_for_challenge(self, repository: str = "") -> bool:
        """Request the challenge of the registry, or of a repository; return whether there was one."""
        offered = await self._probe(repository)
        self._is_probed = True
        challenge = supported_challenge(offered, f"{self._endpoint.url}/v2/")
        if challenge is not None:
            self._adopt(challenge)
        return challenge is not None

    def _adopt(self, challenge: Challenge, *, is_presumed: bool = False) -> None:
        self._is_presumed = is_presumed
        if not challenge.is_same_as(self._challenge):
            self._challenge = challenge
        if not challenge.is_same_as(self._last_challenge):
            self._identities += 1
            self._last_challenge = challenge

    def _forget(self) -> None:
        self._challenge = None
        self._is_probed = False

    async def _challenged(self, challenge: Challenge, refusal: Refusal, credentials: Credentials | None) -> bool:
        is_new = not challenge.is_same_as(self._challenge)
        self._adopt(challenge)
        if challenge.scheme == "basic":
            if credentials is None:
                return False
            return refusal.sent != self._basic(credentials) or await self._renewed(refusal, credentials)
        is_current = refusal.sent is None or self._is_current(refusal.sent, credentials)
        is_wider = self._widen(refusal.scopes, challenge.scopes)
        if refusal.sent is not None:
            self._tokens.forget(refusal.sent.removeprefix("Bearer "))
        # A refused token may have been an old one; the second one was issued for this request.
        if is_new or is_wider or not is_current or refusal.rounds == 1:
            return True
        return await self._renewed(refusal, credentials) or self._narrow(refusal.scopes)

    def _is_current(self, sent: str, credentials: Credentials | None) -> bool:
        """Return whether this Authorization is current; another request may have renewed it in the meantime."""
        scheme, _, value = sent.partition(" ")
        if scheme == "Basic":
            return credentials is not None and sent == basic(credentials)
        return self._tokens.holds(value, credentials)

    def _presume_basic(self, refusal: Refusal, credentials: Credentials | None) -> bool:
        """Send the credentials without a challenge if the response to an anonymous request is not reliable."""
        if credentials is None:
            return False
        if self._challenge is not None:
            # Another request has learned the registry's challenge in the meantime.
            return True
        if not credentials.username:
            if refusal.status != 404:
                return False
            raise Refused(
                f"registry {self._endpoint.name} sends no authentication challenge, so an identity token cannot be"
                " used, and what it reports as missing may only be hidden; configure a username and a password"
            )
        self._adopt(_BASIC, is_presumed=True)
        return True

    async def _renewed(self, refusal: Refusal, credentials: Credentials | None) -> bool:
        return await self._renew(refusal.scopes, credentials) != credentials

    async def _renew(self, scopes: tuple[str, ...], refused: Credentials | None) -> Credentials | None:
        renewed = await self._source.renew(repository_of(scopes), refused)
        if renewed != refused:
            self._identities += 1
            self._read_only.clear()
        return renewed

    def _basic(self, credentials: Credentials) -> str:
        if not credentials.username:
            raise Refused(
                f"registry {self._endpoint.name} requires a username and a password;"
                " only an identity token is configured"
            )
        return basic(credentials)

    async def _bearer(
        self, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> str | None:
        requested = self._token_scopes(scopes)
        try:
            return f"Bearer {await self._tokens.get(challenge, requested, credentials)}"
        except Unavailable as failure:
            return await self._bearer_after_outage(failure, challenge, scopes, credentials)
        except Refused as refusal:
            return await self._bearer_after_refusal(refusal, challenge, scopes, credentials)

    async def _bearer_after_outage(
        self, failure: Unavailable, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> str | None:
        """Check whether the registry's token server has moved; raise the failure if not."""
        if failure.retry_after is not None:
            # The token server responds, and says when to retry.
            if self._challenge is challenge:
                self._forget()
            raise failure
        try:
            known = await self._rechallenge(challenge, repository_of(scopes))
        except TagferryError:
            self._forget()
            raise failure from None
        if known is None or known.is_same_as(challenge):
            raise failure
        if known.scheme == "basic":
            return self._basic(credentials) if credentials is not None else None
        return f"Bearer {await self._tokens.get(known, self._token_scopes(scopes), credentials)}"

    async def _rechallenge(self, failed: Challenge, repository: str) -> Challenge | None:
        """Request the challenge again, unless that was done recently, because no token can be obtained with this one.

        Returns:
            The current challenge; None if neither the registry nor the repository sends one.
        """

        def settled() -> bool | None:
            is_recent = self._clock() - self._rechallenged_at < _RECHALLENGE_SECONDS
            return True if is_recent or not failed.is_same_as(self._challenge) else None

        async def ask() -> bool:
            self._rechallenged_at = self._clock()
            is_named = await self._ask_for_challenge()
            if not is_named and repository:
                is_named = await self._ask_for_challenge(repository)
            if not is_named and failed.is_same_as(self._challenge):
                self._challenge = None
            return True

        await self._rechallenging.run(settled, ask)
        return self._challenge

    async def _bearer_after_refusal(
        self, refusal: Refused, challenge: Challenge, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> str | None:
        """Try newer credentials, fewer permissions and another challenge, in this order."""
        renewed = await self._renew(scopes, credentials)
        if renewed != credentials:
            try:
                return f"Bearer {await self._tokens.get(challenge, self._token_scopes(scopes), renewed)}"
            except Refused as second:
                refusal = second
        if self._narrow(scopes):
            try:
                return f"Bearer {await self._tokens.get(challenge, self._token_scopes(scopes), renewed)}"
            except Refused:
                self._read_only.pop(repository_of(scopes), None)
        if self._extra_scopes.pop(scopes, None):
            # The scopes that the registry requires may be the ones that are refused.
            try:
                return f"Bearer {await self._tokens.get(challenge, self._token_scopes(scopes), renewed)}"
            except Refused as third:
                refusal = third
        known = await self._rechallenge(challenge, repository_of(scopes))
        if known is None or known.is_same_as(challenge):
            raise refusal
        if known.scheme == "basic":
            return self._basic(renewed) if renewed is not None else None
        return f"Bearer {await self._tokens.get(known, self._token_scopes(scopes), renewed)}"

    def _token_scopes(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the scopes to request: those needed now, those the registry requires, and those needed later."""
        return (*map(self._for_role, scopes), *self._extra_scopes.get(scopes, ()))

    def _for_role(self, scope: str) -> str:
        repository = repository_of((scope,))
        if repository in self._write_repositories and repository not in self._read_only and actions_of(scope) == _READ:
            return f"repository:{repository}:{_WRITE}"
        return scope

    def _narrow(self, scopes: tuple[str, ...]) -> bool:
        """Request only the needed scopes from now on; return whether that changes anything."""
        wider = [scope for scope in scopes if self._for_role(scope) != scope]
        for scope in wider:
            _remember(self._read_only, repository_of((scope,)))
        if not wider and scopes and actions_of(scopes[0]) == _READ:
            # The wider scope was not the reason.
            self._read_only.pop(repository_of(scopes), None)
        return bool(wider)

    def _widen(self, scopes: tuple[str, ...], required: Iterable[str]) -> bool:
        held = self._token_scopes(scopes)
        before = self._extra_scopes.get(scopes, ())
        missing = [one for one in missing_scopes(held, required) if len(one) <= _MAX_SCOPE_CHARACTERS]
        missing = missing[: _MAX_EXTRA_SCOPES - len(before)]
        if not missing:
            return False
        while scopes not in self._extra_scopes and len(self._extra_scopes) >= _MAX_REPOSITORIES:
            del self._extra_scopes[next(iter(self._extra_scopes))]
        self._extra_scopes[scopes] = (*before, *missing)
        return True


def _remember(repositories: dict[str, None], repository: str) -> None:
    if len(repositories) >= _MAX_REPOSITORIES:
        del repositories[next(iter(repositories))]
    repositories[repository] = None
