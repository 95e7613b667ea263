"""Fixtures for all tests."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.dev import plain_traceback

from tagferry import events
from tagferry.db.engine import Database
from tests.support import debian_image, programs
from tests.support.postgres import PostgresServer, postgres_server

# The tests of the console in a browser need what only `make test-console` installs.
collect_ignore = [] if find_spec("playwright") else ["browser"]

# The command line's tables are as wide as this says when the first of its modules is loaded, in whichever test that is.
os.environ["COLUMNS"] = "200"

# Machines differ in speed: a slow example says nothing about the behaviour under test. Whatever else hypothesis
# has chosen for this environment, as repeatable runs under CI, is kept.
settings.register_profile("unhurried", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("unhurried")

# A shell starts commands in the background with SIGINT ignored, which the programs under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


structlog.configure(
    # Commands that run in this process print their results to standard output.
    logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    # The default renders an unexpected error with all local variables, which takes seconds.
    processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(exception_formatter=plain_traceback)],
)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a command that runs in this process sets up: its stream is closed when the test ends.

    Events that are logged once a minute are logged again.
    """
    events._logged.clear()
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**configured)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Give the path of a program by its name; skips the test, or fails it in CI, where it is missing."""
    return programs.require_program


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> debian_image.DebianImage:
    """A real image of two platforms, downloaded and built once a session."""
    return debian_image.build(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for all tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a PostgreSQL database with all tables and nothing in them, to be copied."""
    name = postgres.new_database()

    async def migrate() -> None:
        database = Database(postgres.url(name))
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    return name
