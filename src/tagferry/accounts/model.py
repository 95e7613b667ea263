"""Who asks, what belongs to whom, and how much each may do."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from tagferry.names import Namespace, RegionId


class Permission(IntEnum):
    """What a user may do in an organization; the values are SWR's `auth`, and a higher one includes the lower."""

    READ = 1
    EDIT = 3
    MANAGE = 7


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever was authenticated."""

    user_id: str
    name: str
    domain_id: str
    domain_name: str
    is_admin: bool


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
class AccessKey:
    """An access key with its secret, as shown once when it is made."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Token:
    """An issued IAM token, shown once."""

    value: str
    issued_at: datetime
    expires_at: datetime
