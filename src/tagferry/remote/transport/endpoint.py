"""A registry's address, credentials and connection settings."""

from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from tagferry.errors import Invalid
from tagferry.http.proxies import Proxies
from tagferry.http.urls import origin_of
from tagferry.remote.transport.credential_hosts import HostList, may_get_credentials
from tagferry.tls import ClientTls

if TYPE_CHECKING:
    from pathlib import Path


class Credentials(NamedTuple):
    """The caller's credentials: a user with a password, or an OAuth2 refresh token ("identity token")."""

    username: str = ""
    password: str = ""
    identity_token: str | None = None

    def __repr__(self) -> str:
        # Without the secrets.
        return f"Credentials(username={self.username!r})"


class CredentialSource(Protocol):
    """The source of one registry's credentials. They may depend on the repository, and change."""

    @property
    def origin(self) -> str:
        """The name of the credentials in messages, such as `user "robot"`."""
        ...

    async def find(self, repository: str) -> Credentials | None:
        """Return the credentials for a repository (for the registry as a whole if empty), or None for anonymous.

        Raises:
            Unavailable: they cannot be obtained now.
            Refused: they cannot be obtained at all.
        """
        ...

    async def renew(self, repository: str, refused: Credentials | None) -> Credentials | None:
        """Return new credentials after some were refused; the same ones if there are no newer ones.

        Raises:
            Unavailable, Refused: as for `find`.
        """
        ...


class FixedCredentials(NamedTuple):
    """Fixed credentials for all repositories of a registry."""

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


class Endpoint:
    """A registry's address and connection settings.

    Attributes:
        name: the registry's name in messages; unique in the process.
        url: `https://host[:port]` or `http://host[:port]`, with neither path nor query.
        credentials: the credentials or their source; None for anonymous.
        ca_file: PEM file of authorities to trust in addition to the system's.
        more_ca_files: more such files.
        ca_only: trust only the authorities in these files.
        insecure_skip_verify: accept any TLS certificate.
        client_certificate: PEM file of the certificate to present to the registry's host and its token server.
        client_key: PEM file of its key.
        proxy: the URL of a proxy for all requests, including redirected ones; `none` for no proxy; None to use the
            environment.
        token_hosts: other hosts that may receive the credentials as token servers, and may have any address.
        redirect_hosts: hosts to which the registry may redirect, whatever their addresses are.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds without a transferred byte after which a request fails.
        min_bytes_per_second: minimum rate of a body, measured over `read_timeout` seconds of waiting; 0 for none.
        request_timeout: seconds that a whole request may take, unless it carries a blob.
        max_connections: maximum number of concurrent requests; uploads have as many slots of their own, because an
            upload may wait for a download from the same registry.
        chunk_size: bytes per part of an upload to a registry that does not accept whole blobs.
    """

    # Not a data class: generating this method would lengthen the start of every copy.
    def __init__(
        self,
        *,
        name: str,
        url: str,
        credentials: Credentials | CredentialSource | None = None,
        ca_file: "Path | None" = None,
        more_ca_files: "tuple[Path, ...]" = (),
        ca_only: bool = False,
        insecure_skip_verify: bool = False,
        client_certificate: "Path | None" = None,
        client_key: "Path | None" = None,
        proxy: str | None = None,
        token_hosts: tuple[str, ...] = (),
        redirect_hosts: tuple[str, ...] = (),
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        min_bytes_per_second: int = 1024,
        request_timeout: float = 120.0,
        max_connections: int = 64,
        chunk_size: int = 16 * 1024 * 1024,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("url", "must have the form https://host[:port]", url)
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise Invalid("url", "must hold no path, query or credentials", f"{parts.scheme}://{parts.hostname}")
        if max_connections < 1:
            raise Invalid("max_connections", "must be at least 1", max_connections)
        self.name = name
        self.url = url
        self.credentials = credentials
        self.ca_file = ca_file
        self.more_ca_files = more_ca_files
        self.ca_only = ca_only
        self.insecure_skip_verify = insecure_skip_verify
        self.client_certificate = client_certificate
        self.client_key = client_key
        self.proxy = proxy
        self.token_hosts = token_hosts
        self.redirect_hosts = redirect_hosts
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.min_bytes_per_second = min_bytes_per_second
        self.request_timeout = request_timeout
        self.max_connections = max_connections
        self.chunk_size = chunk_size

    @property
    def credential_source(self) -> CredentialSource:
        """The source of the credentials."""
        held = self.credentials
        return FixedCredentials(held) if held is None or isinstance(held, Credentials) else held

    def may_get_credentials(self, url: str) -> bool:
        """Return whether a token server at this URL may receive the credentials, and be quoted."""
        return may_get_credentials(origin_of(self.url), origin_of(url), HostList(self.token_hosts))

    def names_token_server(self, url: str) -> bool:
        """Return whether the configuration names a token server at this URL."""
        return HostList(self.token_hosts).covers(origin_of(url)) and self.may_get_credentials(url)

    @property
    def tls(self) -> ClientTls:
        """Its TLS settings."""
        return ClientTls(
            ca_file=self.ca_file,
            more_ca_files=self.more_ca_files,
            ca_only=self.ca_only,
            skip_verify=self.insecure_skip_verify,
            certificate=self.client_certificate,
            key=self.client_key,
        )

    def check(self) -> None:
        """Raise Invalid if a file or a proxy is unusable; names the setting or the environment variable."""
        self.tls.check()
        Proxies(self.proxy).find(origin_of(self.url))
