"""All checks of an installation on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from tagferry.app.startup.addresses import Bound, bound_addresses
from tagferry.app.startup.database import check_database
from tagferry.app.startup.environment import check_environment
from tagferry.app.startup.files import check_files
from tagferry.app.startup.folders import check_folders, check_reserves
from tagferry.app.startup.locks import check_locks
from tagferry.app.startup.problem import Problem, refuse
from tagferry.settings import Settings


async def check_site(settings: Settings, *, serves: bool) -> list[Problem]:
    """Check everything that a start depends on, without starting or changing anything.

    Args:
        settings: the configuration.
        serves: whether the process is to serve its regions, and not only to copy.
    """
    problems = _check(settings, serves=serves)
    found: list[Problem] = []
    own: set[int] = set()
    # The database in a directory that cannot be used has the same problem.
    if settings.database_url or not any(problem.subject == "data_dir" for problem in problems):
        found, own = await check_database(settings, serves=serves)
    with bound_addresses(settings, serves=serves, own=own) as (_, unusable):
        # A server that is about to be replaced uses one of these addresses. A worker has none.
        is_own = not serves or any(problem.severity == "note" for problem in unusable)
        held = check_locks(settings, own=own if is_own else ())
        # The key is checked without a database, too.
        return list(dict.fromkeys([*problems, *found, *unusable, *held]))


@contextmanager
def ready_to_start(settings: Settings, *, serves: bool) -> Iterator[Bound]:
    """Check everything but the database, which is checked when it is opened. Return the sockets of all listeners.

    They are in the order of the served regions; the one for metrics is the last.

    Raises:
        StartRefused: there are errors. Warnings are logged.
    """
    with bound_addresses(settings, serves=serves) as (bound, unusable):
        refuse([*_check(settings, serves=serves), *unusable])
        yield bound


def _check(settings: Settings, *, serves: bool) -> list[Problem]:
    folders = check_folders(settings)
    problems = [*check_environment(), *check_files(settings, serves=serves), *folders]
    # A disk to which nothing can be written is named once.
    named = {problem.subject for problem in folders}
    problems += [problem for problem in check_reserves(settings) if problem.subject not in named]
    if serves and not settings.served_regions:
        problems.append(
            Problem("regions", "no region has an address to listen on", 'set listen = "HOST:PORT" in one', "warning")
        )
    if not serves and not settings.has_shared_database:
        rule = "must name a PostgreSQL database; with SQLite, run only tagferry serve"
        problems.append(Problem("database", f"database_url {rule}"))
    return problems
