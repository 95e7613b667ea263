"""Callers, accounts and credentials, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from tagferry.names import Namespace, RegionId, RepositoryName


class Permission(IntEnum):
    """A permission; the values are SWR's `auth`, and a higher one includes the lower ones."""

    READ = 1
    EDIT = 3
    MANAGE = 7


@dataclass(frozen=True, slots=True)
class Credential:
    """How a caller authenticated; credentials derived from it end with it.

    Attributes:
        access_key: the permanent access key from which it derives; None if it derives from the user's password.
        version: a string that changes with that key or password; empty if it was not looked up.
        expires_at: when it expires, if it does.
        is_temporary_key: whether it is a temporary access key.
        token: the hash of the IAM token used, or used to obtain it; None if there was none.
    """

    access_key: str | None = None
    version: str = ""
    expires_at: datetime | None = None
    is_temporary_key: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    user_id: str
    name: str
    domain_id: str
    domain_name: str
    is_admin: bool
    credential: Credential = field(default_factory=Credential, compare=False)


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, which users belong to."""

    domain_id: str
    name: str


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A stored user; one that is not enabled cannot authenticate.

    Attributes:
        profile: what clients store with the user, such as an e-mail address; it has no effect here.
    """

    user_id: str
    name: str
    domain_id: str
    domain_name: str
    is_admin: bool
    enabled: bool
    description: str
    profile: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization of a region, with the caller's permission in it."""

    id: int
    region: RegionId
    name: Namespace
    creator_id: str
    creator_name: str
    created_at: datetime
    permission: Permission


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """The metadata of a repository, whose images may not exist yet.

    Attributes:
        updated_at: when the metadata was last changed; pushes do not count.
    """

    id: int
    region: RegionId
    name: RepositoryName
    category: str
    description: str
    is_public: bool
    creator_id: str
    creator_name: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key with its secret, as returned on creation."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A stored access key, without its secret.

    Attributes:
        enabled: whether the key authenticates its user.
        last_used_at: may lag by some minutes; None if it was never used.
    """

    access_key: str
    user_id: str
    description: str
    enabled: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class TemporaryKey:
    """An access key that is valid only with its security token, and until it expires."""

    access_key: str
    secret_key: str
    security_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LoginSecret:
    """An expiring password for the embedded registries; the user name there is any text, `@`, and `access_key`."""

    access_key: str
    password: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RegistryToken:
    """A token for the embedded registry of one region.

    Attributes:
        refresh_token: a token to obtain further ones, if requested.
    """

    value: str
    issued_at: datetime
    expires_at: datetime
    refresh_token: str | None


@dataclass(frozen=True, slots=True)
class RegistryBearer:
    """The bearer of a token for a region's embedded registry.

    Attributes:
        caller: None if anonymous.
        scopes: the maximum scopes of the token, in the registry's syntax.
    """

    caller: Caller | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A stored IAM token.

    Attributes:
        methods: the authentication methods in IAM's terms, including those of the token that it was obtained with.
        project: the region of its project scope; None for the domain scope.
        is_scoped: False for a token without a project or domain scope.
    """

    owner: Caller
    methods: tuple[str, ...]
    project: RegionId | None
    is_scoped: bool
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """An issued IAM token; its value is returned only once."""

    value: str
    record: TokenRecord
