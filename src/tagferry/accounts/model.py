"""Who asks, what belongs to whom, and how much each may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from tagferry.names import Namespace, RegionId, RepositoryName


class Permission(IntEnum):
    """What a user may do in an organization; the values are SWR's `auth`, and a higher one includes the lower."""

    READ = 1
    EDIT = 3
    MANAGE = 7


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller was known by, so that what it makes from that ends with it.

    Attributes:
        access_key: the permanent access key that it goes back to; None where it is the user's password.
        version: a text that changes with that key or password; empty where it was not looked up.
        expires_at: when it ends by itself, if it does.
        is_temporary_key: whether it is a temporary access key.
        token: the hash of the IAM token that it is or was got by; None where there was none.
    """

    access_key: str | None = None
    version: str = ""
    expires_at: datetime | None = None
    is_temporary_key: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever was authenticated."""

    user_id: str
    name: str
    domain_id: str
    domain_name: str
    is_admin: bool
    credential: Credential = field(default_factory=Credential, compare=False)


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, to which users belong."""

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
    """An organization of a region, with what the asking caller may do in it."""

    id: int
    region: RegionId
    name: Namespace
    creator_id: str
    creator_name: str
    created_at: datetime
    permission: Permission


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """What is said of a repository of a region besides its images; the registry may have none of it yet.

    Attributes:
        updated_at: when something else was said of it last, whatever was pushed since.
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
    """An access key with its secret, as shown once when it is made."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An access key as it is on record, without its secret.

    Attributes:
        enabled: whether it lets its user in.
        last_used_at: may be some minutes behind; None where it has not been used.
    """

    access_key: str
    user_id: str
    description: str
    enabled: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class TemporaryKey:
    """An access key that is good only together with its security token, and only until it expires."""

    access_key: str
    secret_key: str
    security_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LoginSecret:
    """A password for the embedded registries that expires; the user name there is anything, `@`, and `access_key`."""

    access_key: str
    password: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RegistryToken:
    """A token for the embedded registry of one region.

    Attributes:
        refresh_token: gets more of them, if one was asked for.
    """

    value: str
    issued_at: datetime
    expires_at: datetime
    refresh_token: str | None


@dataclass(frozen=True, slots=True)
class RegistryBearer:
    """Whoever shows a token to a region's embedded registry.

    Attributes:
        caller: None for somebody who did not say who it is.
        scopes: what the token is good for at most, in the registry's words.
    """

    caller: Caller | None
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is on record of an IAM token.

    Attributes:
        methods: how the user was identified, in IAM's words, also for the token that it was got by.
        project: the region whose project it is for; None where it is for the domain.
        is_scoped: False where it is for neither a project nor the domain.
    """

    owner: Caller
    methods: tuple[str, ...]
    project: RegionId | None
    is_scoped: bool
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """An issued IAM token, whose value is shown once."""

    value: str
    record: TokenRecord
