"""Audit records, the filters of their list, and its pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from tagferry.errors import Invalid

_MARKER_RULE = "must be the `next` of a page of this list"
REFUSED = (401, 403)
"""The statuses of requests whose caller was not authenticated or not authorized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """A request that may have changed something, or that was refused.

    Attributes:
        occurred_at: when it was answered; of several requests, the last one.
        user: the caller; empty if the request was anonymous.
        access_key: the permanent access key that authenticated the caller; empty if it was a password or a token of it.
        operation: what was requested, in words; empty if the path belongs to no operation.
        path: the path, which may be shortened.
        status: the status of the response.
        region: the region whose address received the request.
        address: the client's address; empty if several addresses are counted together.
        organization: the organization that the request is about; empty if there is none.
        repository: the repository, with its organization.
        subject_user: the user that the request is about.
        subject_key: the access key that the request is about.
        times: how many requests this record counts.
    """

    occurred_at: datetime
    user: str = ""
    access_key: str = ""
    method: str
    operation: str = ""
    path: str
    status: int
    region: str
    address: str
    request_id: str
    organization: str = ""
    repository: str = ""
    subject_user: str = ""
    subject_key: str = ""
    times: int = 1
    id: int = 0

    @property
    def is_refused(self) -> bool:
        """True if the caller was not authenticated or not authorized."""
        return self.status in REFUSED


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a record in the list, which a new record does not change."""

    occurred_at: datetime
    id: int

    def __str__(self) -> str:
        microseconds = round(self.occurred_at.timestamp() * 1_000_000)
        return f"{microseconds}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse what `str` returns; raises Invalid."""
        time, _, number = text.partition("-")
        if not (_is_number(time) and _is_number(number)):
            raise Invalid("marker", _MARKER_RULE, text)
        seconds, microseconds = divmod(int(time), 1_000_000)
        try:
            moment = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            raise Invalid("marker", _MARKER_RULE, text) from None
        return cls(moment.replace(microsecond=microseconds), int(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """The filters of a list of audit records. Empty ones match all.

    Attributes:
        repository: a repository with its organization, such as `team/app`.
        refused: only the requests that were refused.
        since: the earliest time.
        until: the time before which the requests occurred.
        after: the position of the last record of the page before this one.
        limit: the maximum number of records.
    """

    user: str = ""
    organization: str = ""
    repository: str = ""
    method: str = ""
    operation: str = ""
    refused: bool = False
    since: datetime | None = None
    until: datetime | None = None
    after: Position | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the list, newest first.

    Attributes:
        next: the position to continue after; None on the last page.
    """

    records: Sequence[AuditRecord]
    next: Position | None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
