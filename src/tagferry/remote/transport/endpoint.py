"""Where a registry is and how to talk to it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tagferry.errors import Invalid
from tagferry.http.proxies import Proxies
from tagferry.http.urls import origin_of
from tagferry.remote.transport.credential_hosts import HostList, may_get_credentials
from tagferry.tls import ClientTls

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What proves who is calling: a user with a password, or an OAuth2 refresh token ("identity token")."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Where the credentials of one registry come from. They may depend on the repository, and change."""

    @property
    def origin(self) -> str:
        """The name of the credentials in messages, such as `user "robot"`."""
        ...

    async def find(self, repository: str) -> Credentials | None:
        """Return the credentials for a repository (for the registry as a whole if empty), or None for anonymous.

        Raises:
            Unavailable: they cannot be had now.
            Refused: they cannot be had at all.
        """
        ...

    async def renew(self, repository: str, refused: Credentials | None) -> Credentials | None:
        """Return the credentials after some were refused; the same ones if there are no newer ones.

        Raises:
            Unavailable, Refused: as for `find`.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedCredentials:
    """Credentials that count for every repository of a registry and do not change."""

    credentials: Credentials | None

    @property
    def origin(self) -> str:
        if self.credentials is None:
            return "anonymous user"
        name = self.credentials.username
        return f'user "{name}"' if name else "identity token"

    async def find(self, repository: str) -> Credentials | None:
        return self.credentials

    async def renew(self, repository: str, refused: Credentials | None) -> Credentials | None:
        return self.credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A registry's address and the terms on which it is used.

    Attributes:
        name: what to call the registry to a person; unique in the process.
        url: `https://host[:port]` or `http://host[:port]`, with neither path nor query.
        credentials: what is sent to the registry, or where that comes from; None to call anonymously.
        ca_file: PEM file with authorities to trust in addition to the system's.
        ca_only: trust those in `ca_file` alone.
        insecure_skip_verify: take any TLS certificate.
        client_certificate: PEM file with the certificate that the registry's host and its token server may see.
        client_key: PEM file with its key.
        proxy: the URL of a proxy for everything, also where the registry leads elsewhere; `none` for no proxy; None
            for what the environment says.
        token_hosts: other hosts that may get the credentials as token servers, and may be at any address.
        redirect_hosts: hosts to which the registry may lead whatever their addresses are.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds without a byte moving after which a request is given up.
        min_bytes_per_second: the slowest rate of a body while it is waited for, measured over `read_timeout` seconds; 0
            for none.
        request_timeout: seconds that a request may take as a whole, unless it carries a blob.
        max_connections: requests at the same time; uploads have as many again of their own, because an upload may
            wait for a download from the same registry.
        chunk_size: bytes of one part of an upload to a registry that does not take a blob in one piece.
    """

    name: str
    url: str
    credentials: Credentials | CredentialSource | None = None
    ca_file: "Path | None" = None
    ca_only: bool = False
    insecure_skip_verify: bool = False
    client_certificate: "Path | None" = None
    client_key: "Path | None" = None
    proxy: str | None = field(default=None, repr=False)
    token_hosts: tuple[str, ...] = ()
    redirect_hosts: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    min_bytes_per_second: int = 1024
    request_timeout: float = 120.0
    max_connections: int = 64
    chunk_size: int = 16 * 1024 * 1024

    @property
    def credential_source(self) -> CredentialSource:
        """Where the credentials come from."""
        held = self.credentials
        return FixedCredentials(held) if held is None or isinstance(held, Credentials) else held

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("url", "must have the form https://host[:port]", self.url)
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise Invalid("url", "must hold no path, query or credentials", f"{parts.scheme}://{parts.hostname}")
        if self.max_connections < 1:
            raise Invalid("max_connections", "must be at least 1", self.max_connections)

    def may_get_credentials(self, url: str) -> bool:
        """Return whether a token server at this URL may get the credentials, and be quoted."""
        return may_get_credentials(origin_of(self.url), origin_of(url), HostList(self.token_hosts))

    def names_token_server(self, url: str) -> bool:
        """Return whether the configuration itself names a token server at this URL."""
        return HostList(self.token_hosts).covers(origin_of(url)) and self.may_get_credentials(url)

    @property
    def tls(self) -> ClientTls:
        """Whom to trust, and what to show, where it is reached over TLS."""
        return ClientTls(
            ca_file=self.ca_file,
            ca_only=self.ca_only,
            skip_verify=self.insecure_skip_verify,
            certificate=self.client_certificate,
            key=self.client_key,
        )

    def check(self) -> None:
        """Raise Invalid where a file or a proxy is of no use; names the setting or the environment's variable."""
        self.tls.check()
        Proxies(self.proxy).find(origin_of(self.url))
