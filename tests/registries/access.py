"""The authentication of an in-memory registry: none, Basic, or tokens of its own token server.

Sources: the distribution project's "Token Authentication" and its OAuth2 form; RFC 9110, section 11.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal
from urllib.parse import parse_qs

from tests.registries.contents import Ask
from tests.support.scripted_registry import Reply, error, said

_SHORT_LIVED = 3

Actions = frozenset[str]
Grants = Callable[[str, Actions], Actions]
"""Returns which of the requested actions in a repository are granted."""


def grant_all(repository: str, wanted: Actions) -> Actions:
    """Grant everything."""
    return wanted


@dataclass(frozen=True, kw_only=True)
class Access:
    """The authentication that a registry requires.

    Attributes:
        scheme: the required authentication scheme.
        username: the user that the registry knows; anonymous requests are refused.
        password: its password.
        refresh_token: an OAuth2 refresh token ("identity token") that is accepted instead.
        realm: the token server's path.
        realm_elsewhere: whether the token server is on the registry's second host.
        service: as the challenge names it.
        anonymous: whether the token server issues tokens for pull without credentials.
        basic_challenge: the challenge of the scheme `basic`.
        challenge_actions: whether the challenge names the actions that are needed.
        uses: the number of requests for which each of the first three tokens is valid; None means without limit.
        tag_list_action: the action that a list of tags needs.
    """

    scheme: Literal["open", "basic", "bearer"] = "bearer"
    username: str = "robot"
    password: str = "s3cret"
    refresh_token: str = ""
    realm: str = "/token"
    realm_elsewhere: bool = False
    service: str = "registry"
    anonymous: bool = False
    basic_challenge: str = 'Basic realm="registry"'
    challenge_actions: bool = True
    uses: int | None = None
    tag_list_action: str = "pull"


@dataclass
class _Token:
    granted: set[tuple[str, str]]
    uses: int | None


class TokenServer:
    """Authenticates the requests to one registry.

    Attributes:
        url: the address of the token server's host.
        grants: which actions in a repository a user gets.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.url = ""
        self.grants: Grants = grant_all
        self._tokens: dict[str, _Token] = {}
        self._numbers = count(1)

    def is_token_request(self, ask: Ask) -> bool:
        """Return whether a request is for a token."""
        access = self.access
        return access.scheme == "bearer" and ask.path == access.realm and ask.elsewhere == access.realm_elsewhere

    def refusal(self, ask: Ask) -> Reply | None:
        """Return the response to a request that is not authorized; None if it is."""
        shown = ask.headers.get("Authorization", "")
        if self.access.scheme == "open":
            return None
        if self.access.scheme == "basic":
            return None if shown == self._basic() else _unauthorized(self.access.basic_challenge)
        needed = self._needed(ask)
        token = self._tokens.get(shown.removeprefix("Bearer "))
        if token is not None and needed <= token.granted and token.uses != 0:
            token.uses = None if token.uses is None else token.uses - 1
            return None
        return _unauthorized(self._challenge(ask, needed))

    def give(self, ask: Ask) -> Reply:
        """Answer a request for a token."""
        form = parse_qs(ask.body.decode() if ask.method == "POST" else ask.query)
        if ask.method == "POST":
            is_known = bool(self.access.refresh_token) and form.get("refresh_token") == [self.access.refresh_token]
        else:
            shown = ask.headers.get("Authorization")
            is_known = shown == self._basic() or (shown is None and self.access.anonymous)
        if not is_known:
            return error(401, "UNAUTHORIZED", "the user or the password is wrong")
        is_anonymous = ask.method == "GET" and "Authorization" not in ask.headers
        granted: set[tuple[str, str]] = set()
        for scope in " ".join(form.get("scope", [])).split():
            resource, _, actions = scope.rpartition(":")
            wanted = frozenset(actions.split(","))
            wanted &= {"pull"} if is_anonymous else wanted
            granted |= {(resource, action) for action in self.grants(resource.partition(":")[2], wanted)}
        number = next(self._numbers)
        value = f"token-{number}"
        self._tokens[value] = _Token(granted, self.access.uses if number <= _SHORT_LIVED else None)
        return said({"token": value, "access_token": value, "expires_in": 300})

    def expire_all(self) -> None:
        """Revoke every token that was issued so far."""
        self._tokens.clear()

    def _needed(self, ask: Ask) -> set[tuple[str, str]]:
        if ask.path == "/v2/_catalog":
            return {("registry:catalog", "*")}
        if not ask.repository:
            return set()
        actions = {"pull"} if ask.reads else {"delete"} if ask.method == "DELETE" else {"pull", "push"}
        if ask.kind == "blobs/uploads":
            actions = {"pull", "push"}
        if ask.kind == "tags":
            actions = {self.access.tag_list_action}
        return {(f"repository:{ask.repository}", action) for action in actions}

    def _challenge(self, ask: Ask, needed: set[tuple[str, str]]) -> str:
        parts = [f'realm="{self.url}{self.access.realm}"', f'service="{self.access.service}"']
        if needed:
            resource = next(iter(needed))[0]
            actions = ",".join(sorted(action for _, action in needed)) if self.access.challenge_actions else ""
            parts.append(f'scope="{resource}:{actions}"')
        return f"Bearer {','.join(parts)}"

    def _basic(self) -> str:
        pair = f"{self.access.username}:{self.access.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _unauthorized(challenge: str) -> Reply:
    return error(401, "UNAUTHORIZED", "authentication required", headers={"WWW-Authenticate": challenge})
