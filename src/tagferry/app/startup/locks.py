"""Find other processes that use the data of this installation, as a start does when it locks it."""

import re
import socket
from collections.abc import Collection, Iterator

from tagferry.app.regions import registry_root
from tagferry.app.startup.problem import Problem, problem_of
from tagferry.coordination.single_process import database_in_use, is_in_use
from tagferry.db.url import parse_url
from tagferry.errors import Invalid
from tagferry.registry.storage.lock import lock_holder, root_in_use
from tagferry.settings import Settings

_HOLDER = re.compile(r"process (\d+) on (.+)")


def check_locks(settings: Settings, *, own: Collection[int]) -> list[Problem]:
    """Find processes that hold the locks of embedded registries or of an SQLite database.

    Args:
        settings: the configuration.
        own: the ids of the processes of this installation that are to be replaced; they may hold the locks.
    """
    problems = list(_check_registries(settings, own))
    # The process that holds both locks is named by that of a registry.
    if not problems and not own and (file := _sqlite_file(settings)) is not None and is_in_use(file):
        problems.append(problem_of("database", database_in_use(file)))
    return problems


def _check_registries(settings: Settings, own: Collection[int]) -> Iterator[Problem]:
    for name, region in settings.regions.items():
        if not region.is_embedded:
            continue
        root = registry_root(settings, name)
        if (holder := lock_holder(root)) is not None and not _is_own(holder, own):
            yield problem_of(f"region {name}", root_in_use(root, holder))


def _is_own(holder: str, own: Collection[int]) -> bool:
    found = _HOLDER.fullmatch(holder)
    return found is not None and found[2] == socket.gethostname() and int(found[1]) in own


def _sqlite_file(settings: Settings) -> str | None:
    try:
        url = parse_url(settings.effective_database_url)
    except Invalid:
        # The check of the database explains what is wrong with it.
        return None
    return url.database if url.get_backend_name() == "sqlite" else None
