"""The types of names, parsed once at the edge of the program.

Each type is a `str` whose value conforms to its grammar: `Namespace("a..b")` raises `InvalidName`, which names the
field, the violated rule and the value.

Sources: organization and repository by the SWR page "Manually Synchronizing Images", table 2; tag, digest and
the registry's `<name>` by the OCI distribution-spec 1.1, "Pulling manifests", and the image-spec's "Digests".
"""

import hashlib
import re
from typing import NamedTuple, Self

from tagferry.errors import InvalidName

_LOWER_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"
_DIGEST_HEX_LENGTH = {"sha256": 64, "sha512": 128}
DIGEST_ALGORITHMS = tuple(_DIGEST_HEX_LENGTH)
_NAMESPACE = re.compile(r"[a-z0-9]+(?:(?:[._-]|__)[a-z0-9]+)*")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._/-]|__)[a-z0-9]+)*")
_OCI_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_KNOWN_DIGEST = re.compile("|".join(f"{name}:[0-9a-f]{{{length}}}" for name, length in _DIGEST_HEX_LENGTH.items()))
_DIGEST = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Namespace(str):
    """An organization's name: the unit of ownership in a region, 1 to 64 characters."""

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "namespace") -> Self:
        if len(value) > 64 or not _NAMESPACE.fullmatch(value):
            _check_separated(value, field=field, longest=64, separators="._-")
        if not "a" <= value[0] <= "z":
            raise InvalidName(field, "must start with a lowercase letter", value)
        return super().__new__(cls, value)


class Repository(str):
    """An image repository's name inside its organization, 1 to 128 characters, with `/` between its parts."""

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "repository") -> Self:
        if len(value) > 128 or not _REPOSITORY.fullmatch(value):
            _check_separated(value, field=field, longest=128, separators="._-/")
        return super().__new__(cls, value)

    @classmethod
    def from_path(cls, segment: str) -> Self:
        """Parse a decoded URL path parameter, in which a dollar sign represents a slash."""
        return cls(segment.replace("$", "/"))


class RepositoryName(str):
    """The full name of a repository in a registry: the distribution-spec's `<name>`, organization first.

    The grammar is the distribution-spec's, which is wider than SWR's, because other registries have such names.
    `namespace` and `repository` apply SWR's rules.
    """

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "name") -> Self:
        if len(value) > 255:
            raise InvalidName(field, "must be at most 255 characters long", value)
        if not _OCI_NAME.fullmatch(value):
            rule = "must consist of lowercase letters and digits, separated by one of '/', '.', '_', '__' or '-'"
            raise InvalidName(field, rule, value)
        return super().__new__(cls, value)

    @classmethod
    def of(cls, namespace: Namespace, repository: Repository) -> Self:
        """Join an organization and a repository."""
        return cls(f"{namespace}/{repository}")

    @classmethod
    def from_path(cls, namespace: str, repository: str) -> Self:
        """Parse the name in a path of the management API; raises InvalidName for either part."""
        return cls.of(Namespace(namespace), Repository.from_path(repository))

    @property
    def namespace(self) -> Namespace:
        """The organization that owns this repository; raises InvalidName if it violates SWR's rules."""
        return Namespace(self.unchecked_namespace)

    @property
    def repository(self) -> Repository:
        """The name inside the organization; raises InvalidName if it is absent or violates SWR's rules."""
        return Repository(self.unchecked_repository)

    @property
    def unchecked_namespace(self) -> str:
        """The part before the first slash, which may violate SWR's rules."""
        return self.partition("/")[0]

    @property
    def unchecked_repository(self) -> str:
        """The part after the first slash, which may violate SWR's rules; empty if there is no slash."""
        return self.partition("/")[2]


class Tag(str):
    """A tag: 1 to 128 characters (OCI distribution-spec, "Pulling manifests")."""

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "tag") -> Self:
        if not 1 <= len(value) <= 128:
            raise InvalidName(field, "must be 1 to 128 characters long", value)
        if not _TAG.fullmatch(value):
            rule = (
                "must start with a letter, a digit or an underscore, and contain only letters, digits, '.', '_' and '-'"
            )
            raise InvalidName(field, rule, value)
        return super().__new__(cls, value)


class Digest(str):
    """A content digest, `algorithm:encoded`, of a supported algorithm: sha256 or sha512."""

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "digest") -> Self:
        if _KNOWN_DIGEST.fullmatch(value):
            return super().__new__(cls, value)
        if not _DIGEST.fullmatch(value):
            raise InvalidName(field, "must have the form algorithm:encoded", value)
        algorithm = value.partition(":")[0]
        if algorithm not in _DIGEST_HEX_LENGTH:
            raise InvalidName(field, "must use the algorithm sha256 or sha512", value)
        length = _DIGEST_HEX_LENGTH[algorithm]
        raise InvalidName(field, f"must be followed by {length} lowercase hexadecimal digits", value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Compute the digest of these bytes."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The lowercase hexadecimal part."""
        return self.partition(":")[2]


Reference = Tag | Digest
"""The tag or digest of a manifest."""


def parse_reference(value: str) -> Reference:
    """Parse the distribution-spec's `<reference>`: a digest if it contains a colon, else a tag."""
    return Digest(value) if ":" in value else Tag(value)


class RegionId(str):
    """A region's id, such as `cn-north-4`: 1 to 64 lowercase letters and digits, with single hyphens between."""

    __slots__ = ()

    def __new__(cls, value: str, *, field: str = "region") -> Self:
        if not 1 <= len(value) <= 64:
            raise InvalidName(field, "must be 1 to 64 characters long", value)
        if not _REGION.fullmatch(value):
            rule = "must consist of lowercase letters and digits with single hyphens between them"
            raise InvalidName(field, rule, value)
        return super().__new__(cls, value)


def _check_separated(value: str, *, field: str, longest: int, separators: str) -> None:
    """Apply the rules that organizations and repositories share, one by one, so that an error names the rule."""
    if not 1 <= len(value) <= longest:
        raise InvalidName(field, f"must be 1 to {longest} characters long", value)
    listed = ", ".join(f"'{separator}'" for separator in separators)
    if not set(value) <= set(_LOWER_ALPHANUMERIC + separators):
        raise InvalidName(field, f"may contain only lowercase letters, digits and {listed}", value)
    if value[0] in separators or value[-1] in separators:
        raise InvalidName(field, "must start and end with a lowercase letter or digit", value)
    for run in re.findall(rf"[{re.escape(separators)}]{{2,}}", value):
        if set(run) != {"_"}:
            raise InvalidName(field, f"must not have two of {listed} next to each other", value)
        if len(run) > 2:
            raise InvalidName(field, "must not have more than two consecutive underscores", value)


class RepositoryRef(NamedTuple):
    """A repository of a region."""

    region: RegionId
    namespace: Namespace
    repository: Repository

    @classmethod
    def of(cls, region: RegionId, name: RepositoryName) -> Self:
        """Return the repository with this name in a region's registry; raises InvalidName if SWR's rules forbid it."""
        return cls(region, name.namespace, name.repository)

    @property
    def name(self) -> RepositoryName:
        """Its name in its registry, `organization/repository`."""
        return RepositoryName.of(self.namespace, self.repository)

    def __str__(self) -> str:
        return f"{self.organization}/{self.repository}"

    @property
    def organization(self) -> str:
        """Its region and organization, `region/organization`."""
        return organization_of(self.region, self.namespace)


def organization_of(region: str, namespace: str) -> str:
    """Return a region and an organization as one name, `region/organization`."""
    return f"{region}/{namespace}"
