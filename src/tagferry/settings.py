"""Settings, read from a TOML file and from environment variables `TAGFERRY_…`, which take precedence.

The environment variable of a nested setting has two underscores: `TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST=50`.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from tagferry import setting_rules
from tagferry.errors import Invalid, NotFound
from tagferry.names import RegionId
from tagferry.setting_rules import EMBEDDED
from tagferry.setting_sources import ENVIRONMENT_DELIMITER, ENVIRONMENT_PREFIX, Key, MergedSettings, RenamedSetting

_POLL_SECONDS = 60.0
_YEAR_MINUTES = 366 * 24 * 60.0


def _check_authorities(ca_file: Path | None, *, only: bool) -> None:
    if only and ca_file is None:
        raise ValueError("requires ca_file if ca_only is true")


def _to_invalid(error: ErrorDetails, name_of: Callable[[Key], str]) -> Invalid:
    """Return an error that names the setting and the rule, and the value unless it may contain a secret."""
    key = tuple(str(part) for part in error["loc"] if part != "[key]")
    value = error["input"]
    is_public = isinstance(value, str | int | float) and error["type"] != "extra_forbidden" and "@" not in str(value)
    path = ".".join(key)
    if any(secret in path for secret in ("password", "secret", "token", "database_url", "webhooks")):
        is_public = False
    field = name_of(key) or "settings"
    return Invalid(field, error["msg"].removeprefix("Value error, "), value if is_public else None)


def _expand_home(value: Any) -> Any:
    """Expand `~` in a path; return other values unchanged."""
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ValueError(f"must not start with the home directory of an unknown user ({error})") from None


def _resolve_paths(model: type[BaseModel], section: Any, folder: Path) -> Any:
    """Return a section of the file with its relative paths resolved against the file's directory."""
    if not isinstance(section, dict):
        return section
    resolved = dict(section)
    for name, field in model.model_fields.items():
        is_path = field.annotation is Path or Path in get_args(field.annotation)
        if is_path and isinstance(value := resolved.get(name), str) and value and not value.startswith("~"):
            resolved[name] = folder / value
    return resolved


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    _expand_paths = field_validator("*")(_expand_home)


class AcceptsSettings(_Frozen):
    """The images that a region accepts as a target. By default, it accepts all images unchanged."""

    platforms: tuple[Annotated[str, AfterValidator(setting_rules.platform)], ...] = ()
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


class RegionSettings(_Frozen):
    """A region: its registry and, if this process serves the region, its listen address."""

    listen: Annotated[str, AfterValidator(setting_rules.address)] | None = None
    """The address HOST:PORT on which this process serves the region's APIs. Without it, the region is only a target."""
    registry: Annotated[str, AfterValidator(setting_rules.registry)] = EMBEDDED
    """`embedded`, or the registry's URL; `docker.io` for Docker Hub."""
    public_url: Annotated[str, AfterValidator(setting_rules.http_url)] | None = None
    """The URL that clients use for this region, if it differs from `listen`."""
    hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
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
    proxy: Annotated[str, AfterValidator(setting_rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for all requests to the registry, or `none`. By default, the environment variables apply."""
    token_hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
    """Token servers in other domains that may receive the registry's credentials, as HOST or HOST:PORT. The registry's
    own host and, with https, the hosts of its domain need not be listed."""
    redirect_hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
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
    placeholder_repository: Annotated[str, AfterValidator(setting_rules.repository_name)] | None = None
    """The repository ORG/REPO that replaces `{namespace}/{repository}` in a path, for the vendor's samples."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.listen is None and self.registry == EMBEDDED:
            raise ValueError('requires listen = "HOST:PORT" to serve it, or registry = "https://…" to reach it')
        if (self.username is None) != (self.password is None):
            raise ValueError("requires username and password together")
        if self.username is not None and self.docker_config is not None:
            raise ValueError("must have either username and password or docker_config, not both")
        if self.notifications_token is not None and self.listen is None:
            raise ValueError('requires listen = "HOST:PORT" to receive notifications, or no notifications_token')
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("requires tls_certificate and tls_key together")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("requires client_certificate and client_key together")
        _check_authorities(self.ca_file, only=self.ca_only)
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


class SyncSettings(_Frozen):
    """Synchronization: limits, timeouts and verification."""

    max_tags_per_request: PositiveInt = 500
    """Maximum number of tags in one request."""
    wait_seconds: float = Field(55.0, ge=0)
    """Time for which `sync_images` waits for its tags. The SDKs time out after 60 to 120 seconds."""
    max_wait_seconds: float = Field(600.0, ge=0)
    """Maximum wait that a caller can request with `Prefer: wait=N`."""
    tag_timeout_seconds: float | None = Field(None, gt=0)
    """Timeout of the copy of one tag, without queue time. By default, there is no limit."""
    request_timeout_seconds: float | None = Field(None, gt=0)
    """Timeout of the tags of a request, including queue time. A request can set a shorter one."""
    retry_minutes: float = Field(15.0, ge=0, le=_YEAR_MINUTES)
    """Time for which to retry a tag while a registry is unavailable, from its first failure; 0 means one attempt."""
    rule_retry_minutes: float = Field(24 * 60.0, ge=0, le=_YEAR_MINUTES)
    """The same for tags that a rule synchronizes."""
    max_concurrent_tags: PositiveInt = 32
    """Maximum number of tags that one process copies at once. Copies without progress use at most half of these
    slots."""
    max_concurrent_blobs: PositiveInt = 32
    """Maximum number of blobs that one process copies at once from one region to another."""
    max_concurrent_tags_total: PositiveInt | None = None
    """Maximum number of tags that all processes together copy at once. By default, only `max_concurrent_tags`
    applies."""
    drain_timeout_seconds: float = Field(20.0, ge=0)
    """Time for which a stopping process lets running copies finish. The others continue in another process."""
    history_days: float = Field(30.0, gt=0)
    """Time for which records of ended jobs and of tags deleted by retention policies are kept."""
    referrers: Annotated[Literal[True, False, "required"], BeforeValidator(setting_rules.flag)] = True
    """Copy signatures, attestations and SBOMs with their images. With `required`, an image fails if the source cannot
    be searched for them or one of them cannot be copied."""
    max_blob_locations: PositiveInt = 1_000_000
    """Maximum number of blob locations in the database. A blob is mounted from a known location instead of uploaded."""
    verify: Literal["copied", "all", "off"] = "copied"
    """Verification before a tag is written. `copied`: query the target for all content that was not just sent. `all`:
    also for tags that are up to date. `off`: trust the target's responses to uploads."""
    splice: bool = True
    """On Linux, copy large blobs between registries without TLS inside the kernel, if the target is known to verify
    uploads. Otherwise tagferry verifies every byte, too."""
    max_concurrent_requests_per_user: PositiveInt = 64
    """Maximum number of concurrent requests of one user; further ones get 429."""


class RetentionSettings(_Frozen):
    """The execution of retention policies."""

    interval_hours: PositiveFloat = 24.0
    """Interval between two runs of a policy."""
    max_deletions_per_run: PositiveInt = 100
    """Maximum number of tags that one run of a policy deletes. The rest follows in runs an hour apart."""
    clock_jump_pause_minutes: float = Field(60.0, ge=0)
    """Time without deletions by age after the clock jumped, or after no process ran for more than an hour."""


class QuotaSettings(_Frozen):
    """Default quotas; 0 means unlimited. `tagferry org quota` sets the quotas of a single organization."""

    organizations: int = Field(100, ge=0)
    """Organizations that one user can create in a region. Administrators are not limited."""
    repositories: int = Field(10_000, ge=0)
    """Repositories of an organization."""
    bytes: int = Field(0, ge=0)
    """Bytes of an organization's images in an embedded registry. A blob counts once in each repository that has it."""
    uploads: int = Field(1_000, ge=0)
    """Open upload sessions of an organization in an embedded registry."""


class LimitSettings(_Frozen):
    """Limits of the server."""

    body_bytes: PositiveInt = 1024 * 1024
    """Bytes of the body of a request to the management API."""
    token_lifetime_hours: float = Field(24.0, gt=0)
    """Lifetime of an IAM token."""
    login_secret_lifetime_hours: float = Field(6.0, gt=0, le=24)
    """Default lifetime of a login secret."""
    registry_token_lifetime_minutes: float = Field(30.0, ge=1, le=60)
    """Lifetime of an embedded registry's token. Clients renew it automatically."""
    lockout_failure_attempts: PositiveInt = 5
    """Failed authentications from one address after which a user name or access key is locked for
    `lockout_duration_seconds`."""
    lockout_duration_seconds: float = Field(300.0, ge=0)
    """Duration of such a lock, from the last failure."""
    connections: PositiveInt = 4096
    """Connections to all listeners of a process. A low limit of file descriptors reduces it."""
    connections_per_address: PositiveInt = 1024
    """Connections from one address, or one IPv6 /64 network; at most half of `connections`."""
    concurrent_requests: PositiveInt = 128
    """Requests in progress in one process. Requests that wait for their client, a synchronization or a remote registry
    do not count."""
    header_timeout_seconds: PositiveFloat = 30.0
    """Time for each of a TLS handshake, the start of the first request, and a request's head."""
    stall_timeout_seconds: PositiveFloat = 60.0
    """Time after which a client that sends a body or reads a response more slowly than `TRANSFER_RATE` is
    disconnected."""
    keep_alive_timeout_seconds: PositiveFloat = 75.0
    """Time for which a connection may wait for its next request."""
    disk_reserve_bytes: NonNegativeInt | None = None
    """Bytes of an embedded registry's disk that pushes and synchronizations leave free, for the database, logs and
    deletions. By default 5 % of the disk, at most 1 GiB."""
    scrub_interval_days: float = Field(30.0, ge=0)
    """Days in which all content of an embedded registry is read and verified once; 0 disables this."""
    response_timeout_seconds: PositiveFloat = 30.0
    """Time for which a request to the management API waits for registries, such as for a list of a remote region. Then
    it gets 504; a change continues. `sync_images` waits for as long as its caller requests."""


class WebhookSettings(_Frozen):
    """A webhook for triggers that match all of its conditions. Only the configuration can define its URL."""

    url: Annotated[str, AfterValidator(setting_rules.webhook_url)]
    """The URL to call. Redirects are not followed."""
    secret: SecretStr | None = Field(None, min_length=16)
    """The secret that signs the calls."""
    ca_file: Path | None = None
    """PEM file with certificate authorities to trust in addition to the system's."""
    ca_only: bool = False
    """Trust only the certificate authorities in `ca_file`."""
    proxy: Annotated[str, AfterValidator(setting_rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for the calls, or `none`. By default, the environment variables apply."""
    timeout_seconds: float = Field(10.0, gt=0, le=300)
    """Timeout of a call."""
    max_attempts: int = Field(30, ge=1, le=100)
    """Maximum number of attempts of a call. The pauses between them grow from one second to ten minutes."""
    trigger_mode: Literal["cce", "cci"] = "cce"
    """Condition: the trigger's mode. Triggers with the mode `cci` have no cluster."""
    cluster_id: str | None = Field(None, min_length=1)
    """Condition: the id of the trigger's cluster."""
    cluster_name: str | None = Field(None, min_length=1)
    """Condition: the name of the trigger's cluster."""
    organizations: tuple[Annotated[str, AfterValidator(setting_rules.organization)], ...] = ()
    """Condition: the organizations whose triggers may call the webhook; empty means all."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        _check_authorities(self.ca_file, only=self.ca_only)
        named = self.cluster_id is not None or self.cluster_name is not None
        if self.trigger_mode == "cce" and not named:
            raise ValueError("requires cluster_id or cluster_name")
        if self.trigger_mode == "cci" and named:
            raise ValueError("must not have a cluster if trigger_mode is cci")
        return self


class Settings(BaseSettings):
    """The configuration of a process."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
        nested_model_default_partial_update=True,
    )

    _expand_paths = field_validator("*")(_expand_home)

    data_dir: Path = Path("tagferry-data")
    """The directory of the embedded registries, the default database and the key file, relative to the configuration
    file."""
    database_url: str = Field("", repr=False)
    """The SQLAlchemy URL of the database. By default, an SQLite file in `data_dir`."""
    secret_key: SecretStr | None = None
    """Fernet keys that encrypt secrets at rest, comma-separated, newest first. By default, a file in `data_dir`."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_log: Path | None = None
    """A file for the audit log as JSON lines, in addition to the normal log; relative to the configuration file."""
    metrics_listen: Annotated[str, AfterValidator(setting_rules.address)] | None = None
    """The address HOST:PORT of `/metrics` for Prometheus, without authentication: use a loopback or internal address.
    By default, metrics are not served."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(setting_rules.network)], ...] = ()
    """Addresses or networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted."""
    regions: dict[Annotated[str, AfterValidator(setting_rules.region_id)], RegionSettings]
    sync: SyncSettings = SyncSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    quotas: QuotaSettings = QuotaSettings()
    webhooks: tuple[WebhookSettings, ...] = ()
    """The webhooks for triggers. A trigger calls the first one whose conditions it matches."""
    _renamed: tuple[RenamedSetting, ...] = PrivateAttr(())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Validate only the arguments: `parse` merges the environment into them."""
        return (init_settings,)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file and the environment.

        Raises:
            NotFound: the file does not exist.
            Invalid: a setting is invalid; names it and the rule.
        """
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise NotFound("configuration", str(path), "write one with: tagferry init") from None
        except OSError as error:
            raise Invalid(str(path), f"must be a file that can be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(str(path), f"must be TOML ({error})") from None
        document.setdefault("data_dir", "tagferry-data")
        folder = path.absolute().parent
        document = _resolve_paths(cls, document, folder)
        if isinstance(regions := document.get("regions"), dict):
            document["regions"] = {
                name: _resolve_paths(RegionSettings, region, folder) for name, region in regions.items()
            }
        if isinstance(webhooks := document.get("webhooks"), list):
            document["webhooks"] = [_resolve_paths(WebhookSettings, webhook, folder) for webhook in webhooks]
        return cls.parse(document)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Validate a document of settings; raises Invalid with the setting and the rule."""
        try:
            environment = EnvSettingsSource(cls)()
        except SettingsError as error:
            raise Invalid("environment", f"must have JSON in variables of settings with parts ({error})") from None
        merged = MergedSettings(document, environment)
        try:
            settings = cls(**merged.values)
        except ValidationError as errors:
            raise _to_invalid(errors.errors(include_url=False)[0], merged.name_of) from None
        settings._renamed = merged.renamed
        if not settings.regions:
            raise Invalid("regions", "must name at least one region")
        return settings

    @property
    def renamed(self) -> tuple[RenamedSetting, ...]:
        """The former keys that the configuration uses."""
        return self._renamed

    @property
    def served_regions(self) -> dict[RegionId, RegionSettings]:
        """The regions that this process serves."""
        return {RegionId(name): region for name, region in self.regions.items() if region.listen}

    @property
    def effective_database_url(self) -> str:
        """The URL of the database, by default that of the SQLite file."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'tagferry.db'}"

    @property
    def has_shared_database(self) -> bool:
        """True if several processes can share the database."""
        return not self.effective_database_url.startswith("sqlite")
