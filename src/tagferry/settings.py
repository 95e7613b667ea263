"""Settings: one TOML file, and environment variables `TAGFERRY_…` that win over it. Frozen once read.

Nested settings are named with two underscores in the environment: `TAGFERRY_SYNC__TAG_LIMIT=50`.
"""

import tomllib
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
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from tagferry import setting_rules
from tagferry.errors import Invalid, NotFound
from tagferry.names import RegionId
from tagferry.setting_rules import EMBEDDED

_POLL_SECONDS = 60.0
_YEAR_MINUTES = 366 * 24 * 60.0


def _check_authorities(ca_file: Path | None, *, only: bool) -> None:
    if only and ca_file is None:
        raise ValueError("needs ca_file where ca_only is true")


def _refusal(error: ErrorDetails) -> Invalid:
    """Name the setting and the rule, and the value where that cannot be, or hold, a secret."""
    field = ".".join(str(part) for part in error["loc"] if part != "[key]") or "settings"
    value = error["input"]
    tells = isinstance(value, str | int | float) and error["type"] != "extra_forbidden" and "@" not in str(value)
    if any(secret in field for secret in ("password", "secret", "token", "database_url", "webhooks")):
        tells = False
    return Invalid(field, error["msg"].removeprefix("Value error, "), value if tells else None)


def _expanded(value: Any) -> Any:
    """A path with the home folder filled in."""
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise ValueError(f"must not begin with the home folder of an unknown user ({error})") from None


def _located(model: type[BaseModel], section: Any, folder: Path) -> Any:
    """A section of the file in which relative paths are relative to the file's folder."""
    if not isinstance(section, dict):
        return section
    located = dict(section)
    for name, field in model.model_fields.items():
        is_path = field.annotation is Path or Path in get_args(field.annotation)
        if is_path and isinstance(value := located.get(name), str) and value and not value.startswith("~"):
            located[name] = folder / value
    return located


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    _expand_paths = field_validator("*")(_expanded)


class AcceptsSettings(_Frozen):
    """What a region takes as the target of a synchronization; by default every image, bit-identically."""

    platforms: tuple[Annotated[str, AfterValidator(setting_rules.platform)], ...] = ()
    """The only platforms that it takes, as `linux/amd64` or `linux/arm/v7`; none means all."""
    format: Literal["oci", "docker"] | None = None
    """The only format of manifests that it takes, where it does not take both."""
    attestations: bool = True
    """Accept BuildKit's build attestations. If false, images are copied without them, under a new digest of their
    index, whatever `rewrite` says; nothing else changes."""
    foreign_layers: bool = False
    """Copy non-distributable layers too, where the source's registry holds them, instead of leaving them where their
    `urls` point."""
    rewrite: bool = False
    """Make what the region does not take into something that it takes, under new digests, instead of refusing it."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.rewrite and not self.platforms and self.format is None:
            raise ValueError("has nothing to rewrite for without platforms or format")
        return self


class RegionSettings(_Frozen):
    """A region: where its registry is, and, if this process serves it, on which address."""

    listen: Annotated[str, AfterValidator(setting_rules.address)] | None = None
    """HOST:PORT on which this process serves the region's APIs; without it the region is only a target."""
    registry: Annotated[str, AfterValidator(setting_rules.registry)] = EMBEDDED
    """`embedded`, or the registry's URL; `docker.io` for Docker Hub."""
    public_url: Annotated[str, AfterValidator(setting_rules.http_url)] | None = None
    """The URL under which clients reach `listen`, where it is not that address itself."""
    hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
    """Further names, as HOST or HOST:PORT, under which clients reach `listen`, such as a load balancer's. Signatures
    for any other `Host` are refused."""
    username: str | None = None
    password: SecretStr | None = None
    docker_config: Path | None = None
    """docker's `config.json`, or podman's `auth.json`, with the credentials, instead of `username` and `password`. It
    is read again when it changes; its credential helpers are called again when credentials are refused."""
    ca_file: Path | None = None
    """PEM file with authorities to trust for the registry, and where it redirects to, in addition to the system's."""
    ca_only: bool = False
    """Trust the authorities in `ca_file` alone."""
    insecure_skip_verify: bool = False
    """Do not verify the registry's TLS certificate."""
    client_certificate: Path | None = None
    """PEM file with the certificate for mutual TLS, sent to the registry's host and its token server."""
    client_key: Path | None = None
    """PEM file with the key of `client_certificate`, not encrypted."""
    proxy: Annotated[str, AfterValidator(setting_rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for all requests to the registry, or `none`; by default the environment decides."""
    token_hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
    """Hosts of other domains that receive the registry's credentials as its token servers, as HOST or HOST:PORT. The
    registry's own host, and with https the hosts of its domain, need not be listed."""
    redirect_hosts: tuple[Annotated[str, AfterValidator(setting_rules.host)], ...] = ()
    """Hosts at private, link-local or loopback addresses to which a registry at a public address may redirect."""
    max_connections: PositiveInt = 64
    """Requests at the same time; a registry that throttles gets fewer."""
    request_seconds: PositiveFloat = 120.0
    """How long a request may take as a whole, unless it carries a blob."""
    silence_seconds: PositiveFloat = 60.0
    """How long a request, or a blob on its way, may stand still before it is tried again."""
    min_bytes_per_second: int = Field(1024, ge=0)
    """Minimum rate of a blob's transfer, measured over `silence_seconds` of waiting for the registry; a slower transfer
    is tried again. 0 means no minimum. Waiting for `bytes_per_second` or the other registry does not count."""
    bytes_per_second: PositiveInt | None = None
    """The bandwidth that synchronizations from and to this region may use together; without it there is no limit."""
    jobs_in_flight: PositiveInt | None = None
    """Tags on their way to this region at once, of all workers together; without it there is no limit."""
    jobs_per_minute: PositiveInt | None = None
    """Tags whose copy to this region may begin within a minute, of all workers together."""
    accepts: AcceptsSettings = AcceptsSettings()
    """What it takes as a target."""
    poll_seconds: float | None = Field(None, ge=0)
    """How long after a look at the tags of a repository with a rule for automatic synchronization the next one
    follows; 0 means never. By default a registry elsewhere is looked at every 60 seconds, and the embedded one never,
    since it tells itself what is pushed."""
    notifications_token: SecretStr | None = Field(None, min_length=16)
    """The bearer token with which the region's registry may tell of pushes at `POST /notifications`."""
    organizations: Literal["managed", "open"] = "managed"
    """Who governs the region's organizations. `managed`: tagferry, so that only those created in it exist. `open`: the
    registry; administrators may use any that it has, and let others into one by putting it on record."""
    placeholder_repository: Annotated[str, AfterValidator(setting_rules.repository_name)] | None = None
    """ORG/REPO that a literal `{namespace}/{repository}` in a path stands for, as the vendor's samples send it."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.listen is None and self.registry == EMBEDDED:
            raise ValueError('needs listen = "HOST:PORT" to serve it, or registry = "https://…" to reach it')
        if (self.username is None) != (self.password is None):
            raise ValueError("needs username and password together")
        if self.username is not None and self.docker_config is not None:
            raise ValueError("takes either username and password or docker_config, not both")
        if self.notifications_token is not None and self.listen is None:
            raise ValueError('needs listen = "HOST:PORT" to take notifications there, or no notifications_token')
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("needs tls_certificate and tls_key together")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("needs client_certificate and client_key together")
        _check_authorities(self.ca_file, only=self.ca_only)
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether the registry is tagferry's own."""
        return self.registry == EMBEDDED

    @property
    def poll_interval(self) -> float | None:
        """Seconds from one look at a repository to the next; None where there is none."""
        if self.poll_seconds is None:
            return None if self.is_embedded else _POLL_SECONDS
        return self.poll_seconds or None

    @property
    def url(self) -> str:
        """The address of the region's registry, as clients see it."""
        if not self.is_embedded:
            return self.registry
        return self.public_url or self.listening_url

    @property
    def listening_url(self) -> str:
        """The address that this process listens on for the region."""
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{self.listen}"


class SyncSettings(_Frozen):
    """How synchronizations run and how long their callers wait."""

    tag_limit: PositiveInt = 500
    """Tags that one request may name."""
    wait_seconds: float = Field(55.0, ge=0)
    """How long `sync_images` waits for its tags; the SDKs give up after 60 to 120 seconds."""
    max_wait_seconds: float = Field(600.0, ge=0)
    """The longest wait that a caller may ask for with `Prefer: wait=N`."""
    tag_seconds: float | None = Field(None, gt=0)
    """How long one tag's copy may take once it runs; without it there is no limit."""
    request_seconds: float | None = Field(None, gt=0)
    """How long the tags of a request may take, waiting included; a request may ask for less."""
    retry_minutes: float = Field(15.0, ge=0, le=_YEAR_MINUTES)
    """How long to retry a tag while a registry is unavailable, from its first failure on; 0 means one attempt."""
    automatic_retry_minutes: float = Field(24 * 60.0, ge=0, le=_YEAR_MINUTES)
    """The same for tags that a rule synchronizes."""
    tags_in_flight: PositiveInt = 32
    """Tags that are copied at once in one process. Copies that make no progress take at most half of these slots."""
    blobs_in_flight: PositiveInt = 32
    """Blobs in flight at once from one region to another, in one process."""
    jobs_in_flight: PositiveInt | None = None
    """Tags whose copies run at once in all processes together; without it each fills its own places."""
    drain_seconds: float = Field(20.0, ge=0)
    """How long a process that is told to stop lets copies under way come to their end; the rest go on elsewhere."""
    history_days: float = Field(30.0, gt=0)
    """How long the records of jobs are kept after their end, and those of what retention policies deleted."""
    attachments: Annotated[Literal[True, False, "required"], BeforeValidator(setting_rules.flag)] = True
    """Copy signatures, attestations and bills of materials with their images. With `required`, an image fails if the
    source cannot be searched for them or one of them cannot be copied."""
    blob_locations: PositiveInt = 1_000_000
    """How many places the database remembers from which a registry can take a blob that it has already."""
    verify: Literal["copied", "all", "off"] = "copied"
    """`copied`: before a tag is written, the target is asked for everything below it that was not just sent; `all`:
    the same for tags that are in place already; `off`: what the target says while it is written to is believed."""
    splice: bool = True
    """Whether large blobs between registries without TLS pass through the kernel only, on Linux, where the target has
    shown that it verifies what it is sent; otherwise every byte is verified here too."""
    active_requests: PositiveInt = 64
    """Requests of one user that may be in flight at once; more are answered with 429."""


class RetentionSettings(_Frozen):
    """How retention policies are carried out."""

    interval_hours: PositiveFloat = 24.0
    """How long after a policy was carried out the next time is due."""
    tags_per_run: PositiveInt = 100
    """Tags that one run of a policy deletes at most. The rest follow in runs an hour apart."""
    settling_minutes: float = Field(60.0, ge=0)
    """Minutes for which nothing is deleted by its age after the clock jumped, or after more than an hour without a
    running process."""


class QuotaSettings(_Frozen):
    """Default quotas; 0 means unlimited. `tagferry org quota` sets those of a single organization."""

    organizations: int = Field(100, ge=0)
    """Organizations that one user may create in a region. Administrators are not limited."""
    repositories: int = Field(10_000, ge=0)
    """Repositories of an organization."""
    bytes: int = Field(0, ge=0)
    """Bytes of an organization's images in an embedded region. A blob counts once for each repository that holds it."""
    uploads: int = Field(1_000, ge=0)
    """Open upload sessions of an organization in an embedded region."""


class LimitSettings(_Frozen):
    """What the management API accepts."""

    body_bytes: PositiveInt = 1024 * 1024
    """Bytes of the body of a request to the management API."""
    token_hours: float = Field(24.0, gt=0)
    """Lifetime of an IAM token."""
    login_hours: float = Field(6.0, gt=0, le=24)
    """Lifetime of a login secret, unless the call that creates it asks for another one."""
    registry_token_minutes: float = Field(30.0, ge=1, le=60)
    """Lifetime of an embedded registry's token. Clients request a new one by themselves."""
    failed_attempts: PositiveInt = 5
    """Failed authentications from one address after which a name or key is locked for `lock_seconds`."""
    lock_seconds: float = Field(300.0, ge=0)
    """Duration of such a lock, from the last failure."""
    connections: PositiveInt = 4096
    """Connections to all listeners of a process. A low limit of file descriptors reduces it."""
    connections_per_address: PositiveInt = 1024
    """Connections from one address, or one IPv6 network of /64; at most half of `connections`."""
    requests: PositiveInt = 128
    """Requests that a process works on at once. Requests that wait for their client, for a synchronization or for a
    remote registry do not count."""
    head_seconds: PositiveFloat = 30.0
    """Time for each of a TLS handshake, the start of the first request, and a request's head."""
    stall_seconds: PositiveFloat = 60.0
    """Time after which a client that sends a body, or reads an answer, more slowly than `TRANSFER_RATE` is cut off."""
    keep_alive_seconds: PositiveFloat = 75.0
    """Time for which a connection may wait for its next request."""
    disk_reserve: NonNegativeInt | None = None
    """Bytes of an embedded registry's disk that pushes and synchronizations leave free, for the database, logs and
    deletions. By default a twentieth of the disk, at most 1 GiB."""
    scrub_days: float = Field(30.0, ge=0)
    """Days in which everything that an embedded registry stores is read and verified once; 0 turns this off."""
    answer_seconds: PositiveFloat = 30.0
    """Time for which a request to the management API waits for registries, such as for a list of a remote region. A
    change continues after the answer, 504. `sync_images` waits for as long as its caller asks."""


class WebhookSettings(_Frozen):
    """What triggers call: those that meet all that is said here of them. Nobody else can name an address."""

    url: Annotated[str, AfterValidator(setting_rules.webhook_url)]
    """Where it is; redirects are not followed."""
    secret: SecretStr | None = Field(None, min_length=16)
    """What its calls are signed with."""
    ca_file: Path | None = None
    """PEM file with authorities to trust for it, in addition to the system's."""
    ca_only: bool = False
    """Trust the authorities in `ca_file` alone."""
    proxy: Annotated[str, AfterValidator(setting_rules.proxy)] | None = Field(None, repr=False)
    """The URL of the proxy for its calls, or `none`; by default the environment decides."""
    seconds: float = Field(10.0, gt=0, le=300)
    """How long a call may take."""
    attempts: int = Field(30, ge=1, le=100)
    """How often a call is made at most; the pauses between grow from one second to ten minutes."""
    trigger_mode: Literal["cce", "cci"] = "cce"
    """Of which mode a trigger must be; one of the mode `cci` names no cluster."""
    cluster_id: str | None = Field(None, min_length=1)
    """Which cluster a trigger must name by its id."""
    cluster_name: str | None = Field(None, min_length=1)
    """Which cluster a trigger must name by its name."""
    organizations: tuple[Annotated[str, AfterValidator(setting_rules.organization)], ...] = ()
    """Those whose triggers may call it; none means all."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        _check_authorities(self.ca_file, only=self.ca_only)
        named = self.cluster_id is not None or self.cluster_name is not None
        if self.trigger_mode == "cce" and not named:
            raise ValueError("needs cluster_id or cluster_name")
        if self.trigger_mode == "cci" and named:
            raise ValueError("takes no cluster where trigger_mode is cci")
        return self


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="TAGFERRY_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    _expand_paths = field_validator("*")(_expanded)

    data_dir: Path = Path("tagferry-data")
    """Where the embedded registries, the default database and the key file live; relative to the file's folder."""
    database_url: str = Field("", repr=False)
    """SQLAlchemy URL; empty means an SQLite file in `data_dir`."""
    secret_key: SecretStr | None = None
    """Fernet keys, comma-separated, newest first, to encrypt secrets at rest; otherwise a file in `data_dir`."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_log: Path | None = None
    """A file for lines of JSON that tell who did what, which the log tells too; relative to the file's folder."""
    metrics_listen: Annotated[str, AfterValidator(setting_rules.address)] | None = None
    """HOST:PORT on which `/metrics` is served in the format of Prometheus, without authentication: use a loopback or an
    internal address. Not served by default."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(setting_rules.network)], ...] = ()
    """Addresses or networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are used."""
    regions: dict[Annotated[str, AfterValidator(setting_rules.region_id)], RegionSettings]
    sync: SyncSettings = SyncSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    quotas: QuotaSettings = QuotaSettings()
    webhooks: tuple[WebhookSettings, ...] = ()
    """What triggers call; of several that a trigger meets the first one is called."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over what is given in code, which is what the file says."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file and the environment.

        Raises:
            NotFound: there is no such file.
            Invalid: names the setting and the rule that it breaks.
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
        document = _located(cls, document, folder)
        if isinstance(regions := document.get("regions"), dict):
            document["regions"] = {name: _located(RegionSettings, region, folder) for name, region in regions.items()}
        if isinstance(webhooks := document.get("webhooks"), list):
            document["webhooks"] = [_located(WebhookSettings, webhook, folder) for webhook in webhooks]
        return cls.parse(document)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self:
        """Check a document of settings; raises Invalid naming the setting and the rule."""
        try:
            settings = cls(**document)
        except SettingsError as error:
            raise Invalid("environment", f"must hold JSON where a setting has parts ({error})") from None
        except ValidationError as errors:
            raise _refusal(errors.errors(include_url=False)[0]) from None
        if not settings.regions:
            raise Invalid("regions", "must name at least one region")
        return settings

    @property
    def served_regions(self) -> dict[RegionId, RegionSettings]:
        """The regions that this process serves."""
        return {RegionId(name): region for name, region in self.regions.items() if region.listen}

    @property
    def effective_database_url(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'tagferry.db'}"

    @property
    def has_shared_database(self) -> bool:
        """Whether several processes may work on the database."""
        return not self.effective_database_url.startswith("sqlite")
