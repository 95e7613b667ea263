"""The challenges of `WWW-Authenticate` headers.

Sources: RFC 9110 section 11, and the distribution project's "Token Authentication".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urljoin

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's name for a word
_SCHEME = rf"[\s,]*({_TOKEN})(?=\s|,|$)"
_PARAMETER = rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))'
_MAX_CHALLENGES = 32
"""Maximum number of challenges that are read from one response."""
_UNREADABLE = r"[\s,]*[^,]+(?=,|$)"


class Challenge(NamedTuple):
    """One authentication scheme that a server accepts; the scheme and the parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = MappingProxyType({})

    @property
    def realm(self) -> str:
        """For `bearer`, the URL of the token server."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """For `bearer`, the name under which the token server knows the registry."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """For `bearer`, the scopes that the refused request needs."""
        return tuple(self.parameters.get("scope", "").split())

    def is_same_as(self, other: "Challenge | None") -> bool:
        """Return whether the other challenge requires the same authentication, apart from the scopes."""
        return other is not None and _server(self) == _server(other)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Parse `WWW-Authenticate` headers. Each may hold several challenges; unreadable parts are skipped."""
    return list(islice((challenge for header in headers for challenge in _challenges(header)), _MAX_CHALLENGES))


def supported_challenge(headers: Iterable[str], base: str) -> Challenge | None:
    """Choose the challenge to answer: `bearer` with a realm before `basic`; None if neither is offered.

    Args:
        headers: the `WWW-Authenticate` headers of one response.
        base: the URL that sent them, to which a relative realm is relative.
    """
    offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
    bearer = offered.get("bearer")
    if bearer is not None and bearer.realm:
        try:
            return Challenge("bearer", {**bearer.parameters, "realm": urljoin(base, bearer.realm.strip())})
        except ValueError:
            return bearer
    return offered.get("basic")


def _challenges(header: str) -> Iterator[Challenge]:
    one_scheme, one_parameter, unreadable = map(re.compile, (_SCHEME, _PARAMETER, _UNREADABLE))
    position = 0
    while position < len(header):
        scheme = one_scheme.match(header, position)
        if scheme is None:
            # The opaque data of Negotiate and NTLM has any form; the next challenge follows a comma.
            skipped = unreadable.match(header, position)
            if skipped is None:
                return
            position = skipped.end()
            continue
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := one_parameter.match(header, position):
            quoted, plain = parameter[2], parameter[3]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(parameter[1].lower(), value)
            position = parameter.end()
        yield Challenge(scheme[1].lower(), parameters)


def _server(challenge: Challenge) -> tuple[str, ...]:
    return (challenge.scheme, challenge.realm, challenge.service) if challenge.scheme == "bearer" else ("basic",)
