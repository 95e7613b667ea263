"""The audit log: one line for each request that may change something, and for each that was not authorized.

The same requests get a record in the database, if it keeps them (`tagferry.audit`).
"""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.types import Scope

from tagferry import bounds
from tagferry.audit.model import AuditRecord
from tagferry.audit.trail import AuditTrail
from tagferry.printable import printable
from tagferry.web.operations import operation_of

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REFUSED = frozenset({401, 403})
_UPLOADS = "/blobs/uploads/"
_MANAGED = "/v2/manage/"

log = structlog.get_logger("tagferry.audit")


@dataclass(slots=True)
class _Bound:
    """Facts about the current request that its scope lacks."""

    user: str = ""
    access_key: str = ""
    operation: str = ""
    organization: str = ""
    repository: str = ""
    subject_user: str = ""
    subject_key: str = ""


_current: ContextVar[_Bound | None] = ContextVar("audited request", default=None)


def begin() -> None:
    """Begin a request. What is bound from here on belongs to it."""
    _current.set(_Bound())


def bind_caller(caller: str, access_key: str | None = None) -> None:
    """Add the caller to the audit line and all log events of the current request, as `user`.

    Args:
        caller: the caller's name.
        access_key: the permanent access key that authenticated the caller, for the audit record.
    """
    structlog.contextvars.bind_contextvars(user=caller)
    if (bound := _current.get()) is not None:
        bound.user, bound.access_key = caller, access_key or ""


def bind_subject(*, user: str = "", access_key: str = "") -> None:
    """Add the subject of the current request, if its path does not name it: a user by name, an access key by id."""
    subject = {"subject_user": user, "subject_key": access_key}
    structlog.contextvars.bind_contextvars(**{name: value for name, value in subject.items() if value})
    if (bound := _current.get()) is not None:
        bound.subject_user, bound.subject_key = user or bound.subject_user, access_key or bound.subject_key


def caller_name() -> str:
    """Return the name of the caller of the current request; empty if it is not known."""
    bound = _current.get()
    return bound.user if bound is not None else ""


def bind_record(*, operation: str = "", organization: str = "", repository: str = "") -> None:
    """Add to the audit record of the current request what its path does not name.

    Args:
        operation: the operation in words.
        organization: the organization.
        repository: the repository with its organization.
    """
    if (bound := _current.get()) is not None:
        bound.operation = operation or bound.operation
        bound.organization = organization or bound.organization
        bound.repository = repository or bound.repository


def record(*, scope: Scope, status: int, region: str, address: str, trail: AuditTrail | None = None) -> None:
    """Write the audit line of a request, if it needs one, and its record.

    Blob uploads do not: the manifest's push is logged.
    """
    method, path = scope["method"], scope["path"]
    if status not in _REFUSED and (method not in _CHANGING or _UPLOADS in path):
        return
    shown = printable(path, bounds.AUDITED_PATH_CHARACTERS)
    log.info("request", method=method, path=shown, status=status, region=region, address=address)
    if trail is None or _is_challenge(scope, status):
        return
    bound, named = _current.get() or _Bound(), operation_of(method, path[: bounds.AUDITED_PATH_CHARACTERS])
    trail.add(
        AuditRecord(
            occurred_at=datetime.now(UTC),
            user=bound.user,
            access_key=bound.access_key,
            method=method,
            path=shown,
            status=status,
            region=region,
            address=address,
            request_id=scope["state"]["request_id"],
            operation=bound.operation or named.words,
            organization=bound.organization or named.organization,
            repository=bound.repository or named.repository,
            subject_user=bound.subject_user,
            subject_key=bound.subject_key,
        )
    )


def _is_challenge(scope: Scope, status: int) -> bool:
    """Return whether this is the challenge that every client of the registry gets before it authenticates."""
    if status != 401 or not scope["path"].startswith("/v2/") or scope["path"].startswith(_MANAGED):
        return False
    return all(name != b"authorization" for name, _ in scope["headers"])
