"""Sends requests with authorization: to the registry, its token server, and hosts that it redirects to."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import NamedTuple

from tagferry import bounds
from tagferry.errors import Refused, TagferryError, Unavailable, Unsupported
from tagferry.http.connection import Stream
from tagferry.http.response import Response
from tagferry.http.urls import Origin, host_of, origin_of, redacted
from tagferry.remote.transport.auth import Authenticator, Refusal
from tagferry.remote.transport.call import Call, Reauthorized
from tagferry.remote.transport.challenges import supported_challenge
from tagferry.remote.transport.endpoint import Endpoint, FixedCredentials
from tagferry.remote.transport.rate import MAX_HOSTS
from tagferry.remote.transport.response import Answer, NotAuthenticated, failure
from tagferry.remote.transport.scopes import actions_of, repository_of
from tagferry.remote.transport.tokens import TokenRequest, Tokens

ROOT = "/v2/"
"""The path that shows whether a registry exists, and how it authenticates callers."""
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEPING_METHOD = frozenset({307, 308})
_UNAUTHORIZED = frozenset({401, 403, 404})
"""The statuses that registries return to unauthenticated callers."""
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_MAX_ROUNDS = 4
"""Maximum number of times a request is sent: for the first challenge, an expired token, renewed credentials, a narrower
scope."""


class Sender(NamedTuple):
    """The functions that send requests.

    Attributes:
        follow: sends a request to a URL with an Authorization, which only the URL's own host receives, and follows
            redirects.
        send: sends a request to a URL with headers, and returns a redirect unchanged.
        read: reads a response; raises the error for a status that the request does not accept.
        resolve: makes a Location absolute, given the URL that named it.
        is_own: returns whether a URL is the registry's own.
        wait_for_rate: waits until another request may be sent under a slot that is held.
        display_name: returns the registry's name in messages about a response from a URL.
    """

    follow: Callable[[Call, str, str | None], Awaitable[Response]]
    send: Callable[[Call, str, Mapping[str, str]], Awaitable[Response]]
    read: Callable[[Call, Response], Awaitable[Answer]]
    resolve: Callable[[str, str], str]
    is_own: Callable[[str], bool]
    wait_for_rate: Callable[[], Awaitable[None]]
    display_name: Callable[[str], str]


class AuthorizedSender:
    """Sends requests as the configured user.

    Args:
        endpoint: the registry and its credentials.
        sender: sends the requests.
    """

    def __init__(self, endpoint: Endpoint, sender: Sender) -> None:
        self._endpoint = endpoint
        self._sender = sender
        self._auth = Authenticator(endpoint, self._exchange, self._probe)
        self._anonymous_tokens: dict[Origin, Tokens] = {}

    @property
    def identity(self) -> int:
        """See `ImageStore.identity`."""
        return self._auth.identities

    def expect_writes(self, repository: str) -> None:
        """Include write access to a repository in all later token requests for it."""
        self._auth.expect_writes(repository)

    def expects_writes(self, repository: str) -> bool:
        """Return whether a repository is written to."""
        return self._auth.expects_writes(repository)

    def with_permission_hint(self, call: Call, error: TagferryError) -> TagferryError:
        """Add the permission that the request needs, or what is wrong, to the configured user's refusal."""
        repository = repository_of(call.scopes)
        if not isinstance(error, Refused) or not repository or self._endpoint.credentials is None:
            return error
        needed = " and ".join(sorted(actions_of(call.scopes[0])))
        who = self._endpoint.credential_source.origin
        if isinstance(error, NotAuthenticated) and self._auth.sends_password:
            return NotAuthenticated(f"{error.message}; it does not accept the {who}: check the name and the password")
        kind = NotAuthenticated if isinstance(error, NotAuthenticated) else Refused
        return kind(f'{error.message}; the {who} needs permission to {needed} in "{repository}"')

    async def user(self, repository: str) -> str:
        """Return the name of the user for a repository, as it appears in messages."""
        return FixedCredentials(await self._endpoint.credential_source.find(repository)).origin

    async def sign_in(self) -> None:
        """Authenticate without another request.

        Some registries refuse `GET /v2/` to everyone, or allow it to everyone. So a token is sufficient proof, and a
        password is sent even without a challenge.

        Raises:
            Refused: the credentials are not accepted, or required and not configured.
            Unsupported: the host is a web site, not a registry.
        """
        accepted = frozenset({200, 401, 403, 404, 405, 501})
        call = Call(method="GET", task="authenticate its user", url=ROOT, accept=accepted, redirects=True)
        response = await self.send(call)
        if await self._auth.send_password():
            response.close()
            response = await self.send(call)
        answer = await self._sender.read(call, response)
        if answer.status == 200 and answer.media_type == "text/html":
            raise Unsupported(f"registry {self._endpoint.name} answered with a web page when asked to {call.task}")
        display_name = await self._auth.authorization(())
        if answer.status != 200 and not (display_name or "").startswith("Bearer "):
            raise failure(self._sender.display_name(answer.url), call.task, answer)

    async def send(self, call: Call) -> Response:
        """Send as the configured user, and again with another authorization if the response calls for it."""
        url = self._sender.resolve(call.url, "")
        if not self._sender.is_own(url):
            return await self._send_anonymously(call, await self._sender.follow(call, url, None))
        for rounds in count(1):
            sent = await self._auth.authorization(call.scopes)
            response = await self._sender.follow(call, url, sent)
            if not self._sender.is_own(response.url):
                return await self._send_anonymously(call, response)
            is_known = response.status == 404 and sent is not None
            if response.status not in _UNAUTHORIZED or is_known or rounds == _MAX_ROUNDS:
                return response
            offered = response.headers.every("WWW-Authenticate")
            refusal = Refusal(response.status, offered, call.scopes, sent, rounds)
            try:
                should_retry = await self._auth.reconsider(refusal)
            except TagferryError:
                response.close()
                raise
            if not should_retry:
                if offered and sent is None and response.status == 401:
                    response.close()
                    display_name = self._sender.display_name(response.url)
                    raise Refused(
                        f"registry {display_name} requires credentials to {call.task}, and none are configured"
                    )
                return response
            response.close()
            if call.is_guarded:
                raise Reauthorized(f"registry {self._endpoint.name} required a new authorization to {call.task}")
            if isinstance(call.body, Stream) and call.body.has_begun:
                raise Unavailable(
                    f"registry {self._endpoint.name} required a new authorization in the middle of the request to "
                    f"{call.task}"
                )
            await self._sender.wait_for_rate()
        raise AssertionError("the last round returns")

    async def _send_anonymously(self, call: Call, response: Response) -> Response:
        """Answer the challenge of a host that a request was redirected to, with an anonymous token.

        The credentials are for the registry itself and are never sent elsewhere.
        """
        if response.status != 401 or isinstance(call.body, Stream):
            return response
        challenge = supported_challenge(response.headers.every("WWW-Authenticate"), response.url)
        if challenge is None:
            return response
        response.close()
        if challenge.scheme == "basic":
            host, own = host_of(response.url), host_of(self._endpoint.url)
            raise Refused(
                f"registry {self._endpoint.name} redirected to {host}, which requires a username and a password of its"
                f" own when asked to {call.task}; the configured credentials are only sent to {own}"
            )
        token = await self._anonymous_tokens_of(origin_of(response.url)).get(challenge, challenge.scopes, None)
        return await self._sender.follow(call, response.url, f"Bearer {token}")

    def _anonymous_tokens_of(self, origin: Origin) -> Tokens:
        """Return the tokens for one host; they are never sent to another host, whatever token server it names."""
        if origin not in self._anonymous_tokens:
            while len(self._anonymous_tokens) >= MAX_HOSTS:
                del self._anonymous_tokens[next(iter(self._anonymous_tokens))]
            self._anonymous_tokens[origin] = Tokens(self._endpoint, partial(self._exchange, is_anonymous=True))
        return self._anonymous_tokens[origin]

    async def _probe(self, repository: str) -> list[str]:
        """Request the challenge of the registry or of a repository; raise Unavailable after a temporary error."""
        await self._sender.wait_for_rate()
        url = f"/v2/{repository}/tags/list?n=1" if repository else ROOT
        call = Call(method="GET", task="send its authentication challenge", url=url, redirects=True)
        response = await self._sender.follow(call, self._sender.resolve(call.url, ""), None)
        if response.status in _TEMPORARY:
            await self._sender.read(call, response)
        response.close()
        is_challenged = response.status == 401 and self._sender.is_own(response.url)
        return response.headers.every("WWW-Authenticate") if is_challenged else []

    async def _exchange(self, request: TokenRequest, *, is_anonymous: bool = False) -> bytes:
        """Send a token request, without a slot, because the request that needs the token holds one."""
        url, method, body = request.url.partition("#")[0], request.method, request.body
        task = f"issue a token at {redacted(url)}"
        for _ in range(MAX_REDIRECTS + 1):
            is_named = not is_anonymous and origin_of(url) == origin_of(request.url)
            call = Call(
                method=method, task=task, url=url, body=body, limit=bounds.TOKEN_RESPONSE_BYTES, is_for_token=is_named
            )
            if self._sender.is_own(url):
                await self._sender.wait_for_rate()
            response = await self._sender.send(call, url, request.headers)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not location:
                return (await self._sender.read(call, response)).body
            response.close()
            if method == "POST" and response.status not in _KEEPING_METHOD:
                raise Unsupported(f"registry {self._endpoint.name} redirected the request to {task} to another page")
            target = self._sender.resolve(location, url)
            if request.is_secret and not self._may_get_secret(target, request.url):
                raise Refused(self._withheld_secret(target, task))
            url = target
        raise Unavailable(
            f"registry {self._endpoint.name} redirected more than {MAX_REDIRECTS} times when asked to {task}"
        )

    def _may_get_secret(self, url: str, realm: str) -> bool:
        """Return whether a token server's redirect may receive the credentials: below its own host, over TLS."""
        if self._sender.is_own(url) or self._endpoint.names_token_server(url):
            return True
        named, target = origin_of(realm), origin_of(url)
        return target == named or (target[0] == "https" and f".{target[1]}".endswith(f".{named[1]}"))

    def _withheld_secret(self, url: str, task: str) -> str:
        name = self._endpoint.name
        if not url.startswith("https:"):
            return f"registry {name} redirected the credentials to a URL without TLS when asked to {task}"
        return (
            f"registry {name} redirected to {host_of(url)}, which may not receive the credentials, when asked to {task}"
        )
