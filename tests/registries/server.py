"""An in-memory registry on loopback with configurable behaviors."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from tests.registries.access import Access, TokenServer
from tests.registries.contents import Ask, Contents, blob_reply
from tests.support.scripted_registry import Reply, error, send

if TYPE_CHECKING:
    Instead = Callable[["Registry", Ask], Reply | None]
    Afterwards = Callable[["Registry", Ask, Reply], Reply | None]


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """A difference of a registry from the specification, or a choice that the specification allows.

    Attributes:
        name: a short name, unique among all behaviors of a vendor.
        effect: what the registry does, as a sentence.
        source: the documentation or report.
        instead: answers a request instead of the registry, or returns None to leave it alone.
        afterwards: changes the registry's response, or returns None to leave it alone.
        before_login: whether `instead` comes before the request is authorized.
        refuses: whether the copy must fail with a reason, since there is no way around it.
        avoided: why tagferry never triggers it; empty if it does.
    """

    name: str
    effect: str
    source: str
    instead: "Instead | None" = None
    afterwards: "Afterwards | None" = None
    before_login: bool = False
    refuses: bool = False
    avoided: str = ""


class Registry:
    """A registry with its contents, its token server and a second host.

    The second host represents every other host to which a registry sends its clients: storage that accepts signed URLs
    and refuses any Authorization, a token server, a mirror, or a web site.

    Attributes:
        url: the address of the registry, once it listens.
        elsewhere: the address of the second host.
        contents: its repositories.
        tokens: its token server.
        asked: every request to either host, in the order of arrival.
        met: how often each behavior was triggered, by its name.
        leaks: requests with credentials to the second host.
    """

    def __init__(self, access: Access | None = None, behaviors: Collection[Behavior] = ()) -> None:
        self.url = ""
        self.elsewhere = ""
        self.contents = Contents()
        self.tokens = TokenServer(access or Access(scheme="open"))
        self.behaviors = tuple(behaviors)
        self.asked: list[Ask] = []
        self.met: Counter[str] = Counter()
        self.leaks: list[Ask] = []

    def answer(self, ask: Ask) -> Reply:
        """Answer one request with all the behaviors applied."""
        self.asked.append(ask)
        reply = self._instead(ask, before_login=True) or self._authorized(ask)
        for behavior in self.behaviors:
            if behavior.afterwards is not None and (changed := behavior.afterwards(self, ask, reply)):
                self.met[behavior.name] += 1
                reply = changed
        return reply

    @property
    def token_hosts(self) -> tuple[str, ...]:
        """Return the token server's host if it is another one, since the addresses of a test have no domain."""
        return (self.elsewhere.partition("://")[2],) if self.tokens.access.realm_elsewhere else ()

    def stored_elsewhere(self, ask: Ask) -> str:
        """Return the signed URL of a blob on the second host."""
        return f"{self.elsewhere}/storage/{ask.repository}/{ask.reference}?signature=abc%2Fdef%3D"

    def _authorized(self, ask: Ask) -> Reply:
        if self.tokens.is_token_request(ask):
            return self.tokens.give(ask)
        if ask.elsewhere:
            return self._elsewhere(ask)
        return self.tokens.refusal(ask) or self._instead(ask, before_login=False) or self.contents.answer(ask)

    def _instead(self, ask: Ask, *, before_login: bool) -> Reply | None:
        for behavior in self.behaviors:
            if behavior.instead is not None and behavior.before_login == before_login:
                reply = behavior.instead(self, ask)
                if reply is not None:
                    self.met[behavior.name] += 1
                    return reply
        return None

    def _elsewhere(self, ask: Ask) -> Reply:
        if "Authorization" in ask.headers:
            self.leaks.append(ask)
            return error(400, "INVALID_AUTHENTICATION", "only one authentication mechanism is allowed")
        if ask.path.startswith("/storage/"):
            name, _, digest = ask.path.removeprefix("/storage/").rpartition("/")
            repository = self.contents.find(name)
            content = repository.blobs.get(digest) if repository else None
            return error(404, "NO_SUCH_KEY") if content is None else blob_reply(ask, content)
        return self.contents.answer(ask)


@asynccontextmanager
async def listening(registry: Registry) -> AsyncIterator[Registry]:
    """Run a registry and its second host on free ports of two addresses of loopback."""
    async with AsyncExitStack() as stack:
        registry.url = await _listen(stack, registry, "127.0.0.1", elsewhere=False)
        registry.elsewhere = await _listen(stack, registry, "127.0.0.2", elsewhere=True)
        registry.tokens.url = registry.elsewhere if registry.tokens.access.realm_elsewhere else registry.url
        yield registry


async def _listen(stack: AsyncExitStack, registry: Registry, host: str, *, elsewhere: bool) -> str:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()
            ask = Ask(
                method=request.method,
                path=request.path,
                query=request.raw_path.partition("?")[2],
                headers=request.headers.copy(),
                body=body,
                elsewhere=elsewhere,
            )
            return await send(request, registry.answer(ask))
        except ConnectionError:
            # The client has disconnected, as it may.
            return web.StreamResponse()

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, 0).start()
    address, port = runner.addresses[0][:2]
    return f"http://{address}:{port}"
