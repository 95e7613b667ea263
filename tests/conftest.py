"""What every test may ask for."""

from collections.abc import Callable

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.dev import plain_traceback

from tests.support import debian_image, programs

# Machines differ in speed: a slow example says nothing about the behaviour under test. Whatever else hypothesis
# has chosen for this environment, as repeatable runs under CI, is kept.
settings.register_profile("unhurried", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("unhurried")


structlog.configure(
    # The default renders an unexpected error with all local variables, which takes seconds.
    processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(exception_formatter=plain_traceback)]
)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Give the path of a program by its name; skips the test, or fails it in CI, where it is missing."""
    return programs.require_program


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> debian_image.DebianImage:
    """A real image of two platforms, downloaded and built once a session."""
    return debian_image.build(tmp_path_factory.mktemp("debian"))
