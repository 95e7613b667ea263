"""Who did what: a line for every request that may change something, and for each that its caller may not make."""

import structlog

from tagferry import bounds
from tagferry.printable import printable

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REFUSED = frozenset({401, 403})
_UPLOADS = "/blobs/uploads/"

log = structlog.get_logger("tagferry.audit")


def bind_caller(caller: str) -> None:
    """Tell who makes the request that is being served, for its audit line and whatever else is logged of it."""
    structlog.contextvars.bind_contextvars(caller=caller)


def bind_subject(**what: str) -> None:
    """Tell whom or what the request is about, where its path does not: `user` by name, `access_key` by id."""
    structlog.contextvars.bind_contextvars(**what)


def record(*, method: str, path: str, status: int, region: str, address: str) -> None:
    """Write a request's line, if it needs one: what is uploaded shows when a manifest refers to it."""
    if status in _REFUSED or (method in _CHANGING and _UPLOADS not in path):
        path = printable(path, bounds.AUDITED_PATH_CHARACTERS)
        log.info("request", method=method, path=path, status=status, region=region, address=address)
