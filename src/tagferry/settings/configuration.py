"""The whole configuration: its top-level settings, its file and its environment variables."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
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

from tagferry.errors import Invalid, NotFound
from tagferry.names import RegionId
from tagferry.settings import rules
from tagferry.settings.audit import AuditSettings
from tagferry.settings.health import HealthSettings
from tagferry.settings.limits import LimitSettings
from tagferry.settings.quotas import QuotaSettings
from tagferry.settings.regions import RegionSettings
from tagferry.settings.retention import RetentionSettings
from tagferry.settings.section import expand_home
from tagferry.settings.sources import (
    ENVIRONMENT_DELIMITER,
    ENVIRONMENT_PREFIX,
    Key,
    MergedSettings,
    RenamedSetting,
)
from tagferry.settings.sync import SyncSettings
from tagferry.settings.webhooks import WebhookSettings


def _to_invalid(error: Mapping[str, Any], name_of: Callable[[Key], str]) -> Invalid:
    """Return an error that names the setting and the rule, and the value unless it may contain a secret."""
    key = tuple(str(part) for part in error["loc"] if part != "[key]")
    value = error["input"]
    is_public = isinstance(value, str | int | float) and "@" not in str(value)
    path = ".".join(key)
    if any(secret in path for secret in ("password", "secret", "token", "database_url", "webhooks")):
        is_public = False
    field = name_of(key) or "settings"
    if error["type"] == "extra_forbidden":
        return Invalid(field, f"is an unknown setting{_suggestion(key)}")
    return Invalid(field, error["msg"].removeprefix("Value error, "), value if is_public else None)


def _suggestion(key: Key) -> str:
    """Return a hint with the setting of the same section whose name is similar to an unknown one; empty if none is."""
    import difflib

    section: type[BaseModel] = Settings
    for part in key[:-1]:
        # Other parts are ids of regions and indexes of lists.
        if (field := section.model_fields.get(part)) is not None:
            section = next(_sections(field.annotation), section)
    similar = difflib.get_close_matches(key[-1], section.model_fields, n=1)
    return f'; did you mean "{similar[0]}"?' if similar else ""


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


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
    audit_log: Path | None = None
    """A file for the audit log as JSON lines, in addition to the normal log; relative to the configuration file."""
    metrics_listen: Annotated[str, AfterValidator(rules.address)] | None = None
    """The address HOST:PORT of `/metrics` for Prometheus, without authentication: use a loopback or internal address.
    By default, metrics are not served."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(rules.network)], ...] = ()
    """Addresses or networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted."""
    regions: dict[Annotated[str, AfterValidator(rules.region_id)], RegionSettings]
    sync: SyncSettings = SyncSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    quotas: QuotaSettings = QuotaSettings()
    audit: AuditSettings = AuditSettings()
    health: HealthSettings = HealthSettings()
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
            found = errors.errors(include_url=False)
            # A misspelled key says more than the mandatory one that is missing because of it.
            first = next((error for error in found if error["type"] == "extra_forbidden"), found[0])
            raise _to_invalid(first, merged.name_of) from None
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
        return self.database_url or f"sqlite:///{self.data_dir / 'tagferry.db'}"

    @property
    def has_shared_database(self) -> bool:
        """True if several processes can share the database."""
        return not self.effective_database_url.startswith("sqlite")
