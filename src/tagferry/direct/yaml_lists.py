"""The YAML of regsync and of `skopeo sync`, where its meaning is that of a copy by tagferry.

Keys that would change what is copied and have no counterpart are refused by their names. Keys that only say when or how
fast to copy are ignored, and reported.

Sources: regclient, docs/regsync.md; skopeo-sync(1), "YAML file content".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tagferry.direct.platforms import parse_platform
from tagferry.direct.references import RegistryReference, parse_image
from tagferry.direct.tasks import CopyList, CopyTask, TagSelection
from tagferry.errors import Invalid, InvalidName
from tagferry.names import Tag
from tagferry.patterns import Pattern
from tagferry.remote import Credentials

_WHEN = frozenset(
    {"interval", "schedule", "ratelimit", "parallel", "fastCheck", "cacheCount", "cacheTime", "userAgent", "blobLimit"}
)
"""Keys of regsync that say when or how fast to copy."""
_REGSYNC_ENTRY = frozenset({"source", "target", "type", "tags", "platform", "platforms", "referrers", "digestTags"})
_REGSYNC_CREDENTIALS = frozenset({"registry", "user", "pass", "tls"})
_SPEED = frozenset({"reqPerSec", "reqConcurrent", "blobChunk", "blobMax", "credExpire", "apiOpts"})
_SKOPEO_REGISTRY = frozenset({"images", "images-by-tag-regex", "credentials", "tls-verify"})
_TLS = ("enabled", "disabled", "insecure")


def parse_yaml(text: str, *, name: str, target: str | None) -> CopyList:
    """Parse a YAML list; the arguments and errors are those of `parse_list`."""
    try:
        document = yaml.load(text, Loader=_loader())  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise Invalid(name, f"must be YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise Invalid(name, "must not be nested that deeply") from None
    if not isinstance(document, dict):
        raise Invalid(name, "must be a list of regsync or of skopeo sync")
    if "sync" in document and "version" in document:
        if target is not None:
            raise Invalid("TARGET", f"must be omitted, because {name} names its targets", target)
        return _Regsync(name, document).parse()
    if target is None:
        raise Invalid("TARGET", f"is required, because {name} names only sources")
    return _Skopeo(name, document, target).parse()


def _loader() -> Any:
    """Return a loader that keeps numbers, dates and booleans as they are written, since they may be tags.

    skopeo and regsync read them in the same way. A tag `1.10` is not the number 1.1, and `010` is not 8.
    """

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers = {  # noqa: RUF012 - the name is PyYAML's
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


@dataclass
class _Regsync:
    """A configuration of regsync."""

    name: str
    document: dict[str, Any]
    plain_http: set[str] = field(default_factory=set)
    insecure: set[str] = field(default_factory=set)
    credentials: dict[str, Credentials] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def parse(self) -> CopyList:
        version = self.document["version"]
        if str(version) != "1":
            raise Invalid(f"{self.name}: version", "must be 1", version)
        known = {"version", "creds", "defaults", "sync"}
        self._check_keys("", {key: one for key, one in self.document.items() if not str(key).startswith("x-")}, known)
        for path, entry in self._entries("creds"):
            self._read_credentials(path, entry)
        defaults = _mapping(self._path("defaults"), self.document.get("defaults") or {})
        self._check_keys("defaults.", defaults, _REGSYNC_ENTRY - {"source", "target", "type", "tags"}, _WHEN)
        tasks = [self._task(path, {**defaults, **entry}, entry) for path, entry in self._entries("sync")]
        return CopyList(
            tuple(tasks),
            plain_http=frozenset(self.plain_http),
            insecure=frozenset(self.insecure),
            credentials=self.credentials,
            ignored=tuple(dict.fromkeys(self.ignored)),
        )

    def _entries(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        listed = self.document.get(key) or []
        if not isinstance(listed, list):
            raise Invalid(self._path(key), "must be a list", listed)
        for number, entry in enumerate(listed):
            path = f"{key}[{number}]"
            yield path, _mapping(self._path(path), entry)

    def _read_credentials(self, path: str, entry: dict[str, Any]) -> None:
        self._check_keys(f"{path}.", entry, _REGSYNC_CREDENTIALS, _SPEED)
        registry = self._text(f"{path}.registry", entry.get("registry"))
        # The path only makes it a reference; docker.io has several names.
        reference = parse_image(f"{registry}/x/x", field=self._path(f"{path}.registry"))
        host = reference.host if isinstance(reference, RegistryReference) else registry
        tls = entry.get("tls", "enabled")
        if tls not in _TLS:
            raise Invalid(self._path(f"{path}.tls"), f"must be one of {', '.join(_TLS)}", tls)
        {"disabled": self.plain_http, "insecure": self.insecure}.get(tls, set()).add(host)
        if "user" in entry or "pass" in entry:
            self.credentials[host] = Credentials(
                username=self._text(f"{path}.user", entry.get("user")),
                password=self._text(f"{path}.pass", entry.get("pass"), is_secret=True),
            )

    def _task(self, path: str, entry: dict[str, Any], own: dict[str, Any]) -> CopyTask:
        self._check_keys(f"{path}.", own, _REGSYNC_ENTRY, _WHEN)
        kind = entry.get("type")
        if kind not in ("image", "repository"):
            raise Invalid(
                self._path(f"{path}.type"), "must be image or repository; other types are not supported", kind
            )
        source, target = (
            parse_image(self._text(f"{path}.{key}", entry.get(key)), field=self._path(f"{path}.{key}"))
            for key in ("source", "target")
        )
        if entry.get("platform"):
            platforms = [self._text(f"{path}.platform", entry["platform"])]
        else:
            platforms = list(self._texts(f"{path}.platforms", entry.get("platforms")))
        selection = None
        if kind == "repository":
            tags = _mapping(self._path(f"{path}.tags"), entry.get("tags") or {})
            self._check_keys(f"{path}.tags.", tags, {"allow", "deny"})
            selection = TagSelection(
                patterns=tuple(self._patterns(f"{path}.tags.allow", tags.get("allow"))),
                excluded=tuple(self._patterns(f"{path}.tags.deny", tags.get("deny"))),
            )
        elif entry.get("tags"):
            raise Invalid(self._path(f"{path}.tags"), "has no meaning for the type image")
        return CopyTask(
            source,
            target,
            selection,
            platforms=tuple(
                dict.fromkeys(parse_platform(one, field=self._path(f"{path}.platforms")) for one in platforms)
            ),
            referrers=_boolean(self._path(f"{path}.referrers"), entry.get("referrers")) is not False,
        )

    def _patterns(self, path: str, listed: Any) -> Iterator[Pattern]:
        for number, one in enumerate(self._texts(path, listed)):
            yield Pattern(one, field=self._path(f"{path}[{number}]"))

    def _texts(self, path: str, listed: Any) -> Iterator[str]:
        if not isinstance(listed, list | None):
            raise Invalid(self._path(path), "must be a list", listed)
        for number, one in enumerate(listed or []):
            yield self._text(f"{path}[{number}]", one)

    def _text(self, path: str, value: Any, *, is_secret: bool = False) -> str:
        text = _text(self._path(path), value, is_secret=is_secret)
        if "{{" in text:
            raise Invalid(self._path(path), "must not be a template", None if is_secret else text)
        return text

    def _check_keys(
        self, prefix: str, entry: Mapping[str, Any], known: Any, ignored: frozenset[str] = frozenset()
    ) -> None:
        for key in entry:
            if key in ignored:
                self.ignored.append(f"{prefix}{key}")
            elif key not in known:
                raise Invalid(self._path(f"{prefix}{key}"), "is not supported by tagferry copy")

    def _path(self, path: str) -> str:
        return f"{self.name}: {path}"


@dataclass
class _Skopeo:
    """A list of sources of `skopeo sync`, by registry."""

    name: str
    document: dict[str, Any]
    target: str
    insecure: set[str] = field(default_factory=set)
    credentials: dict[str, Credentials] = field(default_factory=dict)

    def parse(self) -> CopyList:
        tasks = [task for host, content in self.document.items() for task in self._registry(str(host), content)]
        return CopyList(tuple(tasks), insecure=frozenset(self.insecure), credentials=self.credentials)

    def _registry(self, host: str, content: Any) -> Iterator[CopyTask]:
        path = f"{self.name}: {host}"
        content = _mapping(path, content)
        for key in content:
            if key not in _SKOPEO_REGISTRY:
                raise Invalid(f"{path}.{key}", "is not supported by tagferry copy")
        reference = parse_image(f"{host}/x/x", field=path)
        if not isinstance(reference, RegistryReference):
            raise Invalid(path, "must be the host of a registry", host)
        if _boolean(f"{path}.tls-verify", content.get("tls-verify")) is False:
            self.insecure.add(reference.host)
        if login := content.get("credentials"):
            login = _mapping(f"{path}.credentials", login)
            self.credentials[reference.host] = Credentials(
                username=_text(f"{path}.credentials.username", login.get("username")),
                password=_text(f"{path}.credentials.password", login.get("password"), is_secret=True),
            )
        for repository, tags in _mapping(f"{path}.images", content.get("images") or {}).items():
            yield self._task(host, str(repository), self._tags(f"{path}.images.{repository}", tags))
        patterns = _mapping(f"{path}.images-by-tag-regex", content.get("images-by-tag-regex") or {})
        for repository, pattern in patterns.items():
            field = f"{path}.images-by-tag-regex.{repository}"
            found = _Found(Pattern(_text(field, pattern), field=field))
            yield self._task(host, str(repository), TagSelection(patterns=(found,)))

    def _tags(self, path: str, tags: Any) -> TagSelection:
        if not isinstance(tags, list | None):
            raise Invalid(path, "must be a list of tags", tags)
        try:
            return TagSelection(tags=tuple(Tag(_text(path, tag)) for tag in tags or []))
        except InvalidName as error:
            raise Invalid(path, f"must list tags; {error.rule}", error.value) from None

    def _task(self, host: str, repository: str, selection: TagSelection) -> CopyTask:
        source = parse_image(f"{host}/{repository}", field=f"{self.name}: {host}.images")
        target = parse_image(f"{self.target.rstrip('/')}/{repository.rpartition('/')[2]}", field="TARGET")
        return CopyTask(source, target, selection)


@dataclass(frozen=True, slots=True)
class _Found:
    """A pattern that may match any part of a tag, as skopeo's do."""

    pattern: Pattern

    def matches(self, text: str) -> bool:
        return self.pattern.is_found_in(text)


def _mapping(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(path, "must be a mapping", value)
    return value


def _text(path: str, value: Any, *, is_secret: bool = False) -> str:
    if not isinstance(value, str):
        raise Invalid(path, "must be a string", None if is_secret else value)
    return value


def _boolean(path: str, value: Any) -> bool | None:
    """Return a boolean as YAML 1.1 writes it; None if there is none."""
    if value is None or isinstance(value, bool):
        return value
    found: bool | None = yaml.constructor.SafeConstructor.bool_values.get(str(value).lower())
    if found is None:
        raise Invalid(path, "must be true or false", value)
    return found
