"""The sections `[regions.ID]`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, model_validator

from tagferry.settings import rules
from tagferry.settings.rules import EMBEDDED
from tagferry.settings.section import Section, check_authorities

_POLL_SECONDS = 60.0


class AcceptsSettings(Section):
    """The images that a region accepts as a target. By default, it accepts all images unchanged."""

    platforms: tuple[Annotated[str, AfterValidator(rules.platform)], ...] = ()
    """The accepted platforms, such as `linux/amd64` or `linux/arm/v7`; empty means all."""
    format: Literal["oci", "docker"] | None = None
    """The accepted format of manifests; by default both."""
    attestations: bool = True
    """Accept BuildKit's build attestations. If false, images are copied without them, whatever `rewrite` is. Only the
    digest of their index changes."""
    foreign_layers: bool = False
    """Copy non-distributable layers if the source registry has them. By default, they stay at their `urls`."""
    rewrite: bool = False
    """Convert images that the region does not accept, which changes their digests, instead of rejecting them."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.rewrite and not self.platforms and self.format is None:
            raise ValueError("requires platforms or format if rewrite is true")
        return self


class RegionSettings(Section):
    """A region: its registry and, if this process serves the region, its listen address."""

    listen: Annotated[str, AfterValidator(rules.address)] | None = None
    """The address HOST:PORT on which this process serves the region's APIs. Without it, the region is only a target."""
    registry: Annotated[str, AfterValidator(rules.registry)] = EMBEDDED
    """`embedded`, or the registry's URL; `docker.io` for Docker Hub."""
    public_url: Annotated[str, AfterValidator(rules.http_url)] | None = None
    """The URL that clients use for this region, if it differs from `listen`."""
    hosts: tuple[Annotated[str, AfterValidator(rules.host)], ...] = ()
    """Additional hosts, as HOST or HOST:PORT, that clients use for this region, such as a load balancer's. Requests
    signed for any other `Host` are rejected."""
    username: str | None = None
    password: SecretStr | None = None
    docker_config: Path | None = None
    """docker's `config.json` or podman's `auth.json` with the credentials, instead of `username` and `password`. The
    file is reloaded when it changes; its credential helpers run again when credentials are rejected."""
    ca_file: Path | None = None
    """PEM file with certificate authorities to trust, in addition to the system's, for the registry and the hosts that
    it redirects to."""
    ca_only: bool = False
    """Trust only the certificate authorities in `ca_file`."""
    insecure_skip_verify: bool = False
    """Do not verify the registry's TLS certificate."""
    client_certificate: Path | None = None
    """PEM file with the client certificate for mutual TLS, sent to the registry's host and its token server."""
    client_key: Path | None = None
    """PEM file with the unencrypted key of `client_certificate`."""
    proxy: Annotated[str, AfterValidator(rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for all requests to the registry, or `none`. By default, the environment variables apply."""
    token_hosts: tuple[Annotated[str, AfterValidator(rules.host)], ...] = ()
    """Token servers in other domains that may receive the registry's credentials, as HOST or HOST:PORT. The registry's
    own host and, with https, the hosts of its domain need not be listed."""
    redirect_hosts: tuple[Annotated[str, AfterValidator(rules.host)], ...] = ()
    """Hosts with private, link-local or loopback addresses that a registry with a public address may redirect to."""
    max_connections: PositiveInt = 64
    """Maximum number of concurrent requests to the registry. It is lowered for a registry that throttles."""
    request_timeout_seconds: PositiveFloat = 120.0
    """Timeout of a request, except for transfers of blobs."""
    stall_timeout_seconds: PositiveFloat = 60.0
    """Time without any progress after which a request or a blob's transfer is retried."""
    min_bytes_per_second: int = Field(1024, ge=0)
    """Minimum rate of a blob's transfer, averaged over `stall_timeout_seconds`; a slower transfer is retried. 0 means
    no minimum. Waits for `max_bytes_per_second` or the other registry do not count."""
    max_bytes_per_second: PositiveInt | None = None
    """Maximum bandwidth of all synchronizations from and to this region together. By default, there is no limit."""
    max_concurrent_tags: PositiveInt | None = None
    """Maximum number of tags that all workers together copy to this region at once. By default, there is no limit."""
    max_tags_per_minute: PositiveInt | None = None
    """Maximum number of copies to this region that all workers together start per minute."""
    accepts: AcceptsSettings = AcceptsSettings()
    """The images that the region accepts as a target."""
    poll_interval_seconds: float | None = Field(None, ge=0)
    """Interval at which the tags of repositories with rules or triggers are polled for changes; 0 means never. By
    default, remote registries are polled every 60 seconds. Embedded ones are not polled, since pushes are noticed."""
    notifications_token: SecretStr | None = Field(None, min_length=16)
    """The bearer token for notifications from the region's registry at `POST /notifications`."""
    organizations: Literal["managed", "open"] = "managed"
    """Where the region's organizations are managed. `managed`: in tagferry; only organizations created there exist.
    `open`: in the registry; administrators can use all of its organizations, and create one in tagferry to grant other
    users permissions in it."""
    placeholder_repository: Annotated[str, AfterValidator(rules.repository_name)] | None = None
    """The repository ORG/REPO that replaces `{namespace}/{repository}` in a path, for the vendor's samples."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.listen is None and self.registry == EMBEDDED:
            raise ValueError('requires listen = "HOST:PORT" to serve it, or registry = "https://…" to reach it')
        if (self.username is None) != (self.password is None):
            raise ValueError("requires username and password together; set or remove both")
        if self.username is not None and self.docker_config is not None:
            raise ValueError("must have either username and password or docker_config, not both")
        if self.notifications_token is not None and self.listen is None:
            raise ValueError('requires listen = "HOST:PORT" to receive notifications, or no notifications_token')
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("requires tls_certificate and tls_key together; set or remove both")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("requires client_certificate and client_key together; set or remove both")
        check_authorities(self.ca_file, only=self.ca_only)
        return self

    @property
    def is_embedded(self) -> bool:
        """True if the region has an embedded registry."""
        return self.registry == EMBEDDED

    @property
    def poll_interval(self) -> float | None:
        """Seconds between two polls of a repository, or None if the region is not polled."""
        if self.poll_interval_seconds is None:
            return None if self.is_embedded else _POLL_SECONDS
        return self.poll_interval_seconds or None

    @property
    def url(self) -> str:
        """The URL of the region's registry for clients."""
        if not self.is_embedded:
            return self.registry
        return self.public_url or self.listening_url

    @property
    def listening_url(self) -> str:
        """The URL of the region's listen address."""
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{self.listen}"
