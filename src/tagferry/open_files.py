"""The files and sockets that this process may have open at once."""

import resource
import sys


def raise_limit() -> int:
    """Raise the limit to the maximum that the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # Some systems enforce a lower limit than the one they report.
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def share(parts: int) -> int:
    """Return the number of files in one of so many equal parts of the current limit, at least one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft // parts)
