"""The whole configuration: its top-level settings, its file and its environment variables."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from tagferry.errors import Invalid, Misconfigured, NotFound
from tagferry.file_faults import file_fault
from tagferry.names import RegionId
from tagferry.settings import rules
from tagferry.settings.audit import AuditSettings
from tagferry.settings.explanation import NO_REGION, explain, explain_syntax
from tagferry.settings.health import HealthSettings
from tagferry.settings.limits import LimitSettings
from tagferry.settings.quotas import QuotaSettings
from tagferry.settings.regions import RegionSettings
from tagferry.settings.retention import RetentionSettings
from tagferry.settings.section import expand_home
from tagferry.settings.sources import (
    ENVIRONMENT_DELIMITER,
    ENVIRONMENT_PREFIX,
    MergedSettings,
    RenamedSetting,
)
from tagferry.settings.sync import SyncSettings
from tagferry.settings.tracing import TracingSettings
from tagferry.settings.webhooks import WebhookSettings


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


def _read(path: Path) -> dict[str, Any]:
    """Read the file; raises as `Settings.load`."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise NotFound("configuration", str(path), _advice(path)) from None
    except OSError as error:
        raise Misconfigured([Invalid(str(path), f"{file_fault(error)}; name a file that this user may read")]) from None
    except UnicodeDecodeError:
        raise Misconfigured([Invalid(str(path), "is not text in UTF-8; save it in this encoding")]) from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured([explain_syntax(str(error), str(path))]) from None
    except RecursionError:
        raise Misconfigured(
            [Invalid(str(path), "is nested too deeply; close the brackets of its lists and sections")]
        ) from None


def _advice(path: Path) -> str:
    """Return what to do about a missing file: use the file of a similar name, or write one."""
    similar = difflib.get_close_matches(path.name, (file.name for file in path.parent.glob("*.toml")), n=1)
    if similar:
        return f'did you mean "{path.with_name(similar[0])}"?'
    return f"check its path, or write one with: tagferry init --config {path}"


def _environment(settings: type[BaseSettings]) -> dict[str, Any]:
    """Return the settings of the environment; raises Invalid."""
    try:
        return EnvSettingsSource(settings)()
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))
        variable = f"{ENVIRONMENT_PREFIX}{found[1].upper()}" if found else "environment variables"
        hint = f"; set single ones as {variable}{ENVIRONMENT_DELIMITER}…" if found else ""
        raise Invalid(variable, f"must be JSON, since it sets several settings{hint}") from None


class Settings(BaseSettings):
    """The configuration of a process."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
        nested_model_default_partial_update=True,
    )

    _expand_paths = field_validator("*")(expand_home)

    data_dir: Path = Path("tagferry-data")
    """The directory of the embedded registries, the default database and the key file, relative to the configuration
    file."""
    database_url: str = Field("", repr=False)
    """The SQLAlchemy URL of the database. By default, an SQLite file in `data_dir`."""
    secret_key: SecretStr | None = None
    """Fernet keys that encrypt secrets at rest, comma-separated, newest first. By default, a file in `data_dir`."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: Literal["off", "api", "all"] = "api"
    """The requests that the log has at their end: those to the APIs and the console, all (also pushes, pulls and
    probes), or none."""
    audit_log: Path | None = None
    """A file for the audit log as JSON lines, in addition to the normal log; relative to the configuration file."""
    metrics_listen: Annotated[str, AfterValidator(rules.address)] | None = None
    """The address HOST:PORT of `/metrics` for Prometheus, for example 127.0.0.1:9464. By default, metrics are not
    served, since two processes on a machine would need the same port."""
    metrics_token: SecretStr | None = Field(None, min_length=16)
    """The bearer token that `/metrics` requires. By default none."""
    metrics_token_file: Path | None = None
    """A file with that token, relative to the configuration file. It is read again when it changes."""
    metrics_by_repository: bool = False
    """Count ended jobs by repository, too. The names of the first 500 repositories are then in the metrics."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(rules.network)], ...] = ()
    """Addresses or networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted."""
    regions: dict[Annotated[str, AfterValidator(rules.region_id)], RegionSettings]
    sync: SyncSettings = SyncSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    quotas: QuotaSettings = QuotaSettings()
    audit: AuditSettings = AuditSettings()
    health: HealthSettings = HealthSettings()
    tracing: TracingSettings = TracingSettings()
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
            Misconfigured: the file cannot be read, or settings are invalid; names each and its rule.
        """
        document = _read(path)
        document.setdefault("data_dir", "tagferry-data")
        folder = path.absolute().parent
        document = _resolve_paths(cls, document, folder)
        if "tracing" in document:
            document["tracing"] = _resolve_paths(TracingSettings, document["tracing"], folder)
        if isinstance(regions := document.get("regions"), dict):
            document["regions"] = {
                name: _resolve_paths(RegionSettings, region, folder) for name, region in regions.items()
            }
        if isinstance(webhooks := document.get("webhooks"), list):
            document["webhooks"] = [_resolve_paths(WebhookSettings, webhook, folder) for webhook in webhooks]
        return cls.parse(document, path=str(path))

    @classmethod
    def parse(cls, document: dict[str, Any], *, path: str = "") -> Self:
        """Validate a document of settings.

        Args:
            document: the content of the file.
            path: the path of the file, for messages.

        Raises:
            Misconfigured: settings are invalid; names each and its rule.
        """
        try:
            merged = MergedSettings(document, _environment(cls), path=path)
        except Invalid as error:
            raise Misconfigured([error]) from None
        try:
            settings = cls(**merged.values)
        except ValidationError as errors:
            found = errors.errors(include_url=False)
            # A misspelled key says more than the mandatory one that is missing because of it.
            found.sort(key=lambda error: error["type"] != "extra_forbidden")
            raise Misconfigured([explain(error, cls, merged.name_of) for error in found]) from None
        settings._renamed = merged.renamed
        if not settings.regions:
            raise Misconfigured([Invalid(merged.name_of(("regions",)), NO_REGION)])
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
        return self.database_url or f"sqlite:///{self.data_dir / 'tagferry.db'}"

    @property
    def has_shared_database(self) -> bool:
        """True if several processes can share the database."""
        return not self.effective_database_url.startswith("sqlite")
