"""The exit codes of all commands, in one place (docs/cli.md). Every start imports this, so it imports nothing."""

OK = 0
FAILED = 1
USAGE = 2
TAG_FAILED = 3
CONFLICT = 4
TIMED_OUT = 5
UNREACHABLE = 6
DENIED = 7
WOULD_COPY = 10
INTERRUPTED = 130
"""The code that shells use for a program ended by Ctrl-C."""

MEANINGS = {
    OK: "success: everything is done, or up to date",
    FAILED: "any other failure, such as a name that does not exist",
    USAGE: "wrong usage: an unknown command or option, or an invalid value",
    TAG_FAILED: "a tag failed or is behind, or several failed for different reasons",
    CONFLICT: "a conflict: the target has another image under the tag, or a name exists already or is in use",
    TIMED_OUT: "timed out",
    UNREACHABLE: "the server or a registry cannot be reached, or cannot answer",
    DENIED: "the server or a registry denied access",
    WOULD_COPY: "a dry run with --exit-code found something to copy",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""The meaning of each code, for the help."""

_OF_STATUSES = {
    **dict.fromkeys((400, 405, 411, 413, 414, 415, 422), USAGE),
    **dict.fromkeys((401, 403), DENIED),
    **dict.fromkeys((408, 504), TIMED_OUT),
    **dict.fromkeys((409, 412), CONFLICT),
    **dict.fromkeys((429, 502, 503), UNREACHABLE),
}
_OF_JOBS = {"success": OK, "existed": CONFLICT, "timeout": TIMED_OUT}
_REGISTRY_FAILED = "5000021"
"""The end of the error code with which a server reports that a registry failed."""


def of_error(error: Exception) -> int:
    """Return the code of a command that ends with this error."""
    from tagferry import errors
    from tagferry.cli.server_error import ServerError, ServerUnreachable
    from tagferry.cli.usage import is_as_typed

    match error:
        case ServerError(code=code) if code.endswith(_REGISTRY_FAILED):
            return UNREACHABLE
        case ServerError(status=status):
            return _OF_STATUSES.get(status, FAILED)
        case errors.Misused():
            return USAGE
        case errors.Invalid(field=field) if is_as_typed(field):
            return USAGE
        case errors.Conflict():
            return CONFLICT
        case errors.Expired():
            return TIMED_OUT
        case ServerUnreachable():
            return UNREACHABLE
        case errors.Denied() | errors.Unauthenticated() | errors.Refused():
            return DENIED
    return FAILED


def of_registry_error(error: Exception, *, otherwise: int = TAG_FAILED) -> int:
    """Return the code for an error of a registry.

    Args:
        error: the error.
        otherwise: the code of errors without one of their own.
    """
    from tagferry import errors

    # A disk or a database that is not available belongs to this installation: there is nothing else to reach.
    is_own = isinstance(error, errors.StorageUnavailable | errors.DatabaseUnavailable | errors.Expired)
    if isinstance(error, errors.Unavailable | errors.Throttled) and not is_own:
        return UNREACHABLE
    code = of_error(error)
    return otherwise if code == FAILED else code


def of_job(status: str) -> int:
    """Return the code for a sync job that ended with this status."""
    return _OF_JOBS.get(status, TAG_FAILED)


def combined(codes: list[int], *, mixed: int = TAG_FAILED) -> int:
    """Return the code of a command with several results: that of the failed ones if it is the same for all of them.

    Args:
        codes: the codes of the results.
        mixed: the code if they failed for different reasons.
    """
    failed = set(codes) - {OK}
    if not failed:
        return OK
    return failed.pop() if len(failed) == 1 else mixed


def described() -> str:
    """Return the table of the codes, for the help."""
    lines = (f"  {code:<10}{meaning}" for code, meaning in MEANINGS.items())
    return "Exit codes:\n" + "\n".join(lines) + "\n"
