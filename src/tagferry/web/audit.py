"""The audit log: one line for each request that may change something, and for each that was not authorized."""

import structlog

from tagferry import bounds
from tagferry.printable import printable

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REFUSED = frozenset({401, 403})
_UPLOADS = "/blobs/uploads/"

log = structlog.get_logger("tagferry.audit")


def bind_caller(caller: str) -> None:
    """Add the caller to the audit line and all log events of the current request."""
    structlog.contextvars.bind_contextvars(caller=caller)


def bind_subject(**subject: str) -> None:
    """Add the subject of the current request, if its path does not name it: `user` by name, `access_key` by id."""
    structlog.contextvars.bind_contextvars(**subject)


def record(*, method: str, path: str, status: int, region: str, address: str) -> None:
    """Write the audit line of a request, if it needs one. Blob uploads do not: the manifest's push is logged."""
    if status in _REFUSED or (method in _CHANGING and _UPLOADS not in path):
        path = printable(path, bounds.AUDITED_PATH_CHARACTERS)
        log.info("request", method=method, path=path, status=status, region=region, address=address)
