"""Other registries as regions: programs on loopback, and the configuration for tagferry and skopeo."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop.programs import DISTRIBUTION, built, crane_registry
from tests.support.certificates import Authority
from tests.support.docker_registry import PASSWORD, USERNAME, docker_registry
from tests.support.nginx import nginx
from tests.support.token_server import TokenServer, token_server

_LOGIN = {"username": USERNAME, "password": PASSWORD}
_CREDENTIALS = ("--creds", f"{USERNAME}:{PASSWORD}")


@dataclass(frozen=True)
class Running:
    """A running registry.

    Attributes:
        settings: those of a region with this registry.
        skopeo: the options of `skopeo inspect` for it.
        tokens: its token server, if it has one.
    """

    settings: dict[str, Any]
    skopeo: Sequence[str] = field(default=("--tls-verify=false",))
    tokens: TokenServer | None = None

    @property
    def host(self) -> str:
        """HOST:PORT."""
        url: str = self.settings["registry"]
        return url.partition("://")[2]


Opening = Callable[[Path], AbstractAsyncContextManager[Running]]
"""Runs a registry with its files in a folder."""


@asynccontextmanager
async def _crane(folder: Path) -> AsyncIterator[Running]:
    with crane_registry() as url:
        yield Running({"registry": url})


@asynccontextmanager
async def _distribution(folder: Path) -> AsyncIterator[Running]:
    with docker_registry(folder, program=built(DISTRIBUTION)) as registry:
        yield Running({"registry": registry.url})


def _behind_nginx(*, login: bool = False, clients: bool = False) -> Opening:
    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Running]:
        authority = Authority()
        trusted = authority.write(folder / "ca.crt")
        server = authority.issue(folder / "server.pem", "127.0.0.1")
        settings: dict[str, Any] = {"ca_file": str(trusted), **(_LOGIN if login else {})}
        if clients:
            # skopeo looks for these names beside the authority's.
            shown = authority.issue(folder / "client.cert", name="client")
            (folder / "client.key").write_bytes(shown.read_bytes())
            settings |= {"client_certificate": str(shown), "client_key": str(folder / "client.key")}
        with ExitStack() as stack:
            registry = stack.enter_context(docker_registry(folder, auth=login))
            url = stack.enter_context(nginx(folder, registry.url, server, clients=trusted if clients else None))
            certificates = ("--cert-dir", str(folder), *(_CREDENTIALS if login else ()))
            yield Running(settings | {"registry": url}, certificates)

    return opened


@asynccontextmanager
async def with_tokens(folder: Path) -> AsyncIterator[Running]:
    """Run docker-registry with token authentication."""
    async with token_server(folder) as tokens:
        with docker_registry(folder, auth=tokens) as registry:
            settings = {"registry": registry.url, **_LOGIN}
            yield Running(settings, ("--tls-verify=false", *_CREDENTIALS), tokens)


REGISTRIES: dict[str, Opening] = {
    "crane's registry": _crane,
    "distribution 3": _distribution,
    "docker-registry behind nginx": _behind_nginx(),
    "docker-registry with htpasswd behind nginx": _behind_nginx(login=True),
    "docker-registry behind nginx with client certificates": _behind_nginx(clients=True),
    "docker-registry with a token server": with_tokens,
}
